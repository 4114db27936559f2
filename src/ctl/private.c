/* SPDX-License-Identifier: Apache-2.0 */
/*
 * private: the daemon must not be felt by who waits for pagerctl: it is in a
 * session of its own, holds none of the caller's descriptors (a harness waits
 * for the end of a pipe), signals or limits on descriptors, and its one word
 * to us comes through --ready-fd.
 */
#define _GNU_SOURCE 1
#include "ctl/private.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define READY_TIMEOUT_MS 20000
#define LEAVE_TIMEOUT_MS 500
#define READY_FD 3

static const struct {
    const char *env;
    const char *beside; /* in the build tree, beside pagerctl */
    const char *installed;
    const char *what;
} parts[] = {
    [PART_DAEMON] = {"PAGERD", "pagerd", PAGERD_DAEMON_PATH, "the daemon pagerd"},
    [PART_PRELOAD] = {"PAGERD_PRELOAD", ".libs/libpagerd-preload.so", PAGERD_PRELOAD_PATH,
                      "the preload library"},
};

int part_find(enum part part, char ret_path[PATH_MAX], struct complaint *why)
{
    const char *env = getenv(parts[part].env);
    char self[PATH_MAX];
    ssize_t len;

    if (env && *env) {
        if (!realpath(env, ret_path))
            return complain(why, -ENOENT, "%s=%s names no file: correct or unset %s",
                            parts[part].env, env, parts[part].env);
        return 0;
    }
    len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (len > 0) {
        char *slash, beside[PATH_MAX];

        self[len] = '\0';
        slash = strrchr(self, '/');
        if (slash && snprintf(beside, sizeof(beside), "%.*s/%s", (int)(slash - self), self,
                              parts[part].beside) < (int)sizeof(beside) &&
            realpath(beside, ret_path))
            return 0;
    }
    if (realpath(parts[part].installed, ret_path))
        return 0;
    return complain(why, -ENOENT, "%s is not at %s: install pagerd, or set %s to its path",
                    parts[part].what, parts[part].installed, parts[part].env);
}

static int make_dir(struct private_daemon *d, struct complaint *why)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    struct stat st;

    /* After su or sudo it may still be the other user's. */
    if (!base || *base != '/' || stat(base, &st) < 0 || st.st_uid != geteuid() ||
        strlen(base) > sizeof(d->dir) - sizeof("/pagerd-XXXXXX"))
        base = "/tmp";
    snprintf(d->dir, sizeof(d->dir), "%s/pagerd-XXXXXX", base);
    if (!mkdtemp(d->dir))
        return complain(why, -errno,
                        "cannot make a directory for a private daemon's socket in %s: %s", base,
                        strerror(errno));
    snprintf(d->socket, sizeof(d->socket), "%s/s", d->dir);
    return 0;
}

_Noreturn static void exec_daemon(const char *path, const char *socket_path, int ready_fd)
{
    char socket_option[LINK_PATH_MAX + 16], ready_option[32];
    int null_fd = open("/dev/null", O_RDWR);
    struct rlimit files;
    sigset_t none;

    if (null_fd < 0)
        _exit(CTL_RUN_NOT_FOUND);
    /* ready_fd may be among 0..2 when the caller had those closed. */
    ready_fd = fcntl(ready_fd, F_DUPFD, READY_FD + 1);
    null_fd = fcntl(null_fd, F_DUPFD, READY_FD + 1);
    if (ready_fd < 0 || null_fd < 0)
        _exit(CTL_RUN_NOT_FOUND);
    for (int fd = 0; fd < READY_FD; fd++)
        dup2(null_fd, fd);
    dup2(ready_fd, READY_FD);
    syscall(SYS_close_range, READY_FD + 1, ~0u, 0);

    (void)setsid();
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    /* What is meant for the program is not meant for the daemon. */
    unsetenv("LD_PRELOAD");
    unsetenv("PAGERD_SOCKET");
    unsetenv("PAGERD_GROUP");
    snprintf(socket_option, sizeof(socket_option), "--socket=%s", socket_path);
    snprintf(ready_option, sizeof(ready_option), "--ready-fd=%d", READY_FD);
    execl(path, "pagerd", "--private", socket_option, ready_option, (char *)NULL);
    dprintf(READY_FD, "cannot execute %s: %s\n", path, strerror(errno));
    _exit(CTL_RUN_NOT_FOUND);
}

/* "ok", or the daemon's sentence in *why. */
static int await_ready(int fd, struct complaint *why)
{
    char text[sizeof(why->text)];
    size_t len = 0;

    while (len < sizeof(text) - 1 && !memchr(text, '\n', len)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n;

        if (poll(&p, 1, READY_TIMEOUT_MS) == 0)
            return complain(why, -ETIMEDOUT,
                            "the private daemon does not get ready within %d s: start `pagerd` by "
                            "hand to see why",
                            READY_TIMEOUT_MS / 1000);
        n = read(fd, text + len, sizeof(text) - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    text[len] = '\0';
    text[strcspn(text, "\n")] = '\0';
    if (!strcmp(text, "ok"))
        return 0;
    if (!*text)
        return complain(why, -EPROTO,
                        "the private daemon ended before it was ready: start `pagerd` by hand to "
                        "see why");
    return complain(why, -EREMOTEIO, "%s", text);
}

int private_start(struct private_daemon *ret, struct complaint *why)
{
    struct private_daemon d = {0};
    char path[PATH_MAX];
    int pipe_fd[2], err;

    err = part_find(PART_DAEMON, path, why);
    if (err)
        return err;
    err = make_dir(&d, why);
    if (err)
        return err;
    if (pipe2(pipe_fd, O_CLOEXEC) < 0) {
        err = complain(why, -errno, "cannot make a pipe: %s", strerror(errno));
        (void)rmdir(d.dir);
        return err;
    }
    d.pid = fork();
    if (d.pid == 0)
        exec_daemon(path, d.socket, pipe_fd[1]);
    close(pipe_fd[1]);
    if (d.pid < 0)
        err = complain(why, -errno, "cannot start a private daemon: %s", strerror(errno));
    else
        err = await_ready(pipe_fd[0], why);
    close(pipe_fd[0]);
    if (err) {
        if (d.pid > 0) {
            (void)kill(d.pid, SIGKILL);
            (void)waitpid(d.pid, NULL, 0);
        }
        (void)unlink(d.socket);
        (void)rmdir(d.dir);
        return err;
    }
    *ret = d;
    return 0;
}

void private_leave(struct private_daemon *d)
{
    _cleanup_close_ int fd = d->pid > 0 ? (int)syscall(SYS_pidfd_open, d->pid, 0) : -1;
    struct pollfd p = {.fd = fd, .events = POLLIN};

    if (fd >= 0 && poll(&p, 1, LEAVE_TIMEOUT_MS) > 0)
        (void)waitpid(d->pid, NULL, 0);
    d->pid = 0;
}
