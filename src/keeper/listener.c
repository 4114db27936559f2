/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener: the socket's place in the file system.
 *
 * 1. Who holds PATH.lock owns PATH: only he removes or makes it, so two
 *    daemons that start at once cannot remove each other's socket.
 * 2. The lock file may be removed by its holder only; who got the lock of a
 *    removed file starts again.
 */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "keeper/keeper_priv.h"

#define BACKLOG 1024

static int make_dir(const char *path, struct keeper_refusal *why)
{
    char copy[108];
    const char *dir;

    strcpy(copy, path);
    dir = dirname(copy);
    /* Only the last part: a longer path that is not there is more likely a slip. */
    if (mkdir(dir, geteuid() == 0 ? 0755 : 0700) < 0 && errno != EEXIST)
        return keeper_refuse(why, -errno,
                             "cannot make the socket's directory %s: %s; choose another one with "
                             "--socket",
                             dir, strerror(errno));
    return 0;
}

static void lock_path(const char *path, char *buf, size_t size)
{
    snprintf(buf, size, "%s.lock", path);
}

static int take_lock(const char *path, struct keeper_refusal *why)
{
    char name[128];

    lock_path(path, name, sizeof(name));
    for (;;) {
        int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
        struct stat st;

        if (fd < 0)
            return keeper_refuse(why, -errno,
                                 "cannot open %s: %s; choose another place with --socket", name,
                                 strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            int err = errno == EWOULDBLOCK ? -EADDRINUSE : -errno;

            fd_close(fd);
            return keeper_refuse(why, err,
                                 "another pagerd answers at %s: use that one, or choose another "
                                 "place with --socket",
                                 path);
        }
        if (!fstat(fd, &st) && st.st_nlink)
            return fd;
        fd_close(fd); /* its holder removed it on the way out */
    }
}

static void drop_lock(struct listener *l)
{
    char name[128];

    lock_path(l->path, name, sizeof(name));
    if (l->lock_fd >= 0)
        (void)unlink(name);
    l->lock_fd = fd_close(l->lock_fd);
}

/* A socket file that nobody listens at is a dead daemon's. */
static int remove_stale(const struct sockaddr_un *addr, struct keeper_refusal *why)
{
    const char *path = addr->sun_path;
    _cleanup_close_ int fd = -1;
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0
                               : keeper_refuse(why, -errno, "cannot look at %s: %s", path,
                                               strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return keeper_refuse(why, -EEXIST,
                             "%s is there and is no socket: choose another place with --socket",
                             path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return keeper_refuse(why, -errno, "cannot make a socket: %s", strerror(errno));
    if (!connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) || errno != ECONNREFUSED)
        return keeper_refuse(why, -EADDRINUSE,
                             "another pagerd answers at %s: use that one, or choose another place "
                             "with --socket",
                             path);
    if (unlink(path) < 0 && errno != ENOENT)
        return keeper_refuse(why, -errno, "cannot remove the stale socket %s: %s", path,
                             strerror(errno));
    return 0;
}

static int bind_and_listen(const struct sockaddr_un *addr, bool for_everyone, int *ret_fd)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask;
    int r;

    if (fd < 0)
        return -errno;
    mask = umask(0177);
    r = bind(fd, (const struct sockaddr *)addr, sizeof(*addr));
    umask(mask);
    if (r < 0)
        return -errno;
    /* Everyone may connect to the system's: SO_PEERCRED says whose domain it is. */
    if (for_everyone && chmod(addr->sun_path, 0666) < 0)
        return -errno;
    if (listen(fd, BACKLOG) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int listener_open(const char *path, bool for_everyone, bool remove_dir, struct listener *ret,
                  struct keeper_refusal *why)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct listener l = {.fd = -1, .lock_fd = -1, .remove_dir = remove_dir};
    int err;

    if (strlen(path) >= sizeof(addr.sun_path))
        return keeper_refuse(why, -ENAMETOOLONG,
                             "the socket path %.64s... is longer than a socket address can hold "
                             "(%zu bytes): choose a shorter one with --socket",
                             path, sizeof(addr.sun_path) - 1);
    strcpy(addr.sun_path, path);
    strcpy(l.path, path);
    err = make_dir(path, why);
    if (err)
        return err;
    l.lock_fd = take_lock(path, why);
    if (l.lock_fd < 0)
        return l.lock_fd;
    err = remove_stale(&addr, why);
    if (!err) {
        err = bind_and_listen(&addr, for_everyone, &l.fd);
        if (err)
            keeper_refuse(why, err, "cannot listen at %s: %s; choose another place with --socket",
                          path, strerror(-err));
    }
    if (err) {
        drop_lock(&l);
        return err;
    }
    *ret = l;
    return 0;
}

void listener_close(struct listener *l)
{
    if (l->fd < 0)
        return;
    l->fd = fd_close(l->fd);
    (void)unlink(l->path);
    drop_lock(l);
    if (l->remove_dir) {
        char copy[108];

        strcpy(copy, l->path);
        (void)rmdir(dirname(copy)); /* stays when somebody put something into it */
    }
}
