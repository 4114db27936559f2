/* SPDX-License-Identifier: Apache-2.0 */
/*
 * program: the checks before an exec whose failure nobody would see: a static
 * program ignores LD_PRELOAD, and so does one that gains privileges.  Better to
 * say so than to run it without its limit.
 *
 * These follow the kernel's fs/exec.c, fs/binfmt_script.c, fs/binfmt_elf.c and
 * security/commoncap.c, and the C library's execvp(3).
 */
#define _GNU_SOURCE 1
#include "ctl/program.h"

#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#define SCRIPT_HEAD 256 /* BINPRM_BUF_SIZE */
#define SCRIPT_DEPTH 5  /* the kernel gives up with ELOOP */

#if UINTPTR_MAX > UINT32_MAX
#define OUR_CLASS ELFCLASS64
typedef Elf64_Ehdr our_ehdr;
typedef Elf64_Phdr our_phdr;
#else
#error "pagerd needs a 64-bit architecture"
#endif
#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#else
#error "pagerd knows x86-64 and aarch64"
#endif

/* Regular and executable for the effective user: 0 or -errno. */
static int executable(const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EACCES;
    return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

static int cannot_execute(const char *path, int err, struct complaint *why)
{
    struct stat st;

    if (!stat(path, &st) && S_ISDIR(st.st_mode))
        return complain(why, -EISDIR, "cannot execute %s: it is a directory", path);
    return complain(why, err, "cannot execute %s: %s", path, strerror(-err));
}

int program_find(const char *name, char ret_path[PATH_MAX], struct complaint *why)
{
    const char *path = getenv("PATH");
    char fallback[256], candidate[PATH_MAX];
    bool denied = false;
    int err;

    if (!*name)
        return complain(why, -ENOENT, "the program's name is empty: give one after `--`");
    if (strchr(name, '/')) {
        err = executable(name);
        if (err == -ENOENT || err == -ENOTDIR)
            return complain(why, -ENOENT, "there is no program %s", name);
        if (err)
            return cannot_execute(name, err, why);
        if (strlen(name) >= PATH_MAX)
            return cannot_execute(name, -ENAMETOOLONG, why);
        strcpy(ret_path, name);
        return 0;
    }
    if (!path) {
        if (!confstr(_CS_PATH, fallback, sizeof(fallback)))
            strcpy(fallback, "/bin:/usr/bin");
        path = fallback;
    }
    for (const char *dir = path, *end; dir; dir = *end ? end + 1 : NULL) {
        int len, n;

        end = strchrnul(dir, ':');
        len = (int)MIN(end - dir, (ptrdiff_t)PATH_MAX);
        n = snprintf(candidate, sizeof(candidate), "%.*s%s%s", len, dir, len ? "/" : "", name);
        if (n < 0 || (size_t)n >= sizeof(candidate))
            continue;
        err = executable(candidate);
        if (!err) {
            strcpy(ret_path, candidate);
            return 0;
        }
        if (err == -EACCES && !denied) {
            denied = true;
            strcpy(ret_path, candidate);
        }
    }
    if (denied)
        return cannot_execute(ret_path, -EACCES, why);
    return complain(why, -ENOENT, "there is no program %s in PATH", name);
}

/* Would exec of this file set AT_SECURE, so that LD_PRELOAD is ignored? */
static int check_privileges(int fd, const char *path, struct complaint *why)
{
    struct statvfs fs;
    struct stat st;
    const char *what = NULL;

    if (fstat(fd, &st) < 0 || fstatvfs(fd, &fs) < 0)
        return 0;
    if (fs.f_flag & ST_NOSUID || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
        return 0; /* then nothing is gained */
    if (st.st_mode & S_ISUID && st.st_uid != geteuid())
        what = "setuid";
    else if ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != getegid())
        what = "setgid";
    else if (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
        what = "a program with file capabilities";
    if (!what)
        return 0;
    return complain(why, -ENOEXEC,
                    "%s is %s, so the system ignores the preload library in it: run it as the user "
                    "it changes to, or without pagerctl",
                    path, what);
}

static int check_elf(int fd, const char *path, const unsigned char *head, size_t len,
                     struct complaint *why)
{
    our_ehdr eh;

    if (len > EI_CLASS && head[EI_CLASS] != OUR_CLASS)
        return complain(why, -ENOEXEC,
                        "%s is not a 64-bit program, and the preload library is: use a 64-bit "
                        "build of it",
                        path);
    if (len < sizeof(eh))
        return 0;
    memcpy(&eh, head, sizeof(eh));
    if (eh.e_machine != OUR_MACHINE)
        return complain(why, -ENOEXEC,
                        "%s is built for another machine, and the preload library is not: use a "
                        "build of it for this one",
                        path);
    if (eh.e_phentsize != sizeof(our_phdr))
        return 0;
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        our_phdr ph;

        if (pread(fd, &ph, sizeof(ph), (off_t)(eh.e_phoff + i * sizeof(ph))) != sizeof(ph))
            return 0;
        if (ph.p_type == PT_INTERP)
            return check_privileges(fd, path, why);
    }
    return complain(why, -ENOEXEC,
                    "%s is statically linked, so the preload library cannot get into it: use a "
                    "dynamically linked build of it",
                    path);
}

/* The interpreter named by "#!", as binfmt_script.c finds it. */
static bool script_interpreter(char *head, size_t len, char **ret)
{
    char *start = head + 2, *end = head + len;
    char *newline = memchr(head, '\n', len);

    if (newline)
        end = newline;
    while (start < end && (*start == ' ' || *start == '\t'))
        start++;
    *ret = start;
    while (start < end && *start && *start != ' ' && *start != '\t')
        start++;
    *start = '\0';
    return **ret;
}

static int check_depth(const char *path, unsigned depth, struct complaint *why)
{
    char head[SCRIPT_HEAD + 1];
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    char *interpreter;
    ssize_t len;

    if (fd < 0) {
        if (errno != EACCES)
            return 0;
        return complain(why, -ENOEXEC,
                        "%s is executable but not readable, so its memory is closed to other "
                        "processes: make it readable (chmod +r), or run it without pagerctl",
                        path);
    }
    len = read(fd, head, SCRIPT_HEAD);
    if (len < 0)
        return 0;
    head[len] = '\0';
    if (len >= SELFMAG && !memcmp(head, ELFMAG, SELFMAG))
        return check_elf(fd, path, (unsigned char *)head, (size_t)len, why);
    if (len >= 2 && head[0] == '#' && head[1] == '!') {
        if (depth >= SCRIPT_DEPTH || !script_interpreter(head, (size_t)len, &interpreter))
            return 0;
        return check_depth(interpreter, depth + 1, why);
    }
    /* Anything else is given to the shell by execvp(3). */
    return depth ? 0 : check_depth("/bin/sh", SCRIPT_DEPTH, why);
}

int program_check(const char *path, struct complaint *why)
{
    return check_depth(path, 0, why);
}
