/* SPDX-License-Identifier: Apache-2.0 */
/* statsfile: see statsfile.h. */
#define _GNU_SOURCE 1
#include "ctl/statsfile.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static int cannot_write(const char *name, int err, struct complaint *why)
{
    return complain(why, err, "cannot write the statistics to %s: %s", name, strerror(-err));
}

/* Absolute, links followed: the program's directory is not ours to change, but ours may go away. */
static int resolve(const char *name, bool exists, char path[PATH_MAX])
{
    char dir[PATH_MAX];
    const char *slash = strrchr(name, '/');
    int n;

    if (exists)
        return realpath(name, path) ? 0 : -errno;
    if (slash && !slash[1])
        return -EISDIR;
    n = snprintf(dir, sizeof(dir), "%.*s", slash ? (int)MAX(slash - name, (ptrdiff_t)1) : 1,
                 slash ? name : ".");
    if (n < 0 || (size_t)n >= sizeof(dir))
        return -ENAMETOOLONG;
    if (!realpath(dir, path))
        return -errno;
    n = (int)strlen(path);
    return snprintf(path + n, PATH_MAX - (size_t)n, "%s%s", path[n - 1] == '/' ? "" : "/",
                    slash ? slash + 1 : name) < PATH_MAX - n
               ? 0
               : -ENAMETOOLONG;
}

static int check_directory(const char *path)
{
    char dir[PATH_MAX + 1];

    strcpy(dir, path);
    strcpy(strrchr(dir, '/') + 1, "."); /* so that it has to be a directory */
    return faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

int statsfile_prepare(const char *name, struct statsfile *ret, struct complaint *why)
{
    struct stat st;
    bool exists;
    int err;

    if (!*name)
        return complain(why, -EINVAL, "--stats= is empty: give the name of a file");
    exists = !stat(name, &st);
    if (exists && S_ISDIR(st.st_mode))
        return cannot_write(name, -EISDIR, why);
    ret->name = name;
    ret->replace = !exists || S_ISREG(st.st_mode);
    if (!ret->replace) {
        /* By the name given: a pipe under /proc/self/fd has no other. */
        if (strlen(name) >= sizeof(ret->path))
            return cannot_write(name, -ENAMETOOLONG, why);
        strcpy(ret->path, name);
        return faccessat(AT_FDCWD, name, W_OK, AT_EACCESS) < 0 ? cannot_write(name, -errno, why)
                                                                : 0;
    }
    err = resolve(name, exists, ret->path);
    if (!err)
        err = check_directory(ret->path);
    return err ? cannot_write(name, err, why) : 0;
}

static int write_all(int fd, const char *text)
{
    for (size_t left = strlen(text); left;) {
        ssize_t n = write(fd, text, left);

        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        text += n;
        left -= (size_t)n;
    }
    return 0;
}

static int write_line(int fd, const char *text)
{
    int err = write_all(fd, text);

    return err ? err : write_all(fd, "\n");
}

int statsfile_write(const struct statsfile *f, const char *text, struct complaint *why)
{
    char tmp[PATH_MAX + 8];
    mode_t mask = umask(0);
    int fd, err;

    umask(mask);
    if (!f->replace) {
        fd = open(f->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
            return cannot_write(f->name, -errno, why);
        err = write_line(fd, text);
        fd_close(fd);
        return err ? cannot_write(f->name, err, why) : 0;
    }
    snprintf(tmp, sizeof(tmp), "%s.XXXXXX", f->path);
    fd = mkostemp(tmp, O_CLOEXEC);
    if (fd < 0)
        return cannot_write(f->name, -errno, why);
    err = write_line(fd, text);
    if (!err && fchmod(fd, 0666 & ~mask) < 0)
        err = -errno;
    if (close(fd) < 0 && !err)
        err = -errno;
    if (!err && rename(tmp, f->path) < 0)
        err = -errno;
    if (err)
        (void)unlink(tmp);
    return err ? cannot_write(f->name, err, why) : 0;
}
