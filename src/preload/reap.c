/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wait(), waitpid(), wait3(), wait4() and waitid() of a program that collects
 * orphans: PID 1 of its pid namespace, or a child subreaper.  When a descendant
 * is killed, its agent becomes an orphan for a moment, with SIGCHLD as its exit
 * signal, and would be returned to a wait for any child.  Here it is looked at
 * first (WNOWAIT), and collected silently when it is an agent.
 *
 * In every other program, and for a wait for a named child or group (an agent
 * is its own session), the call goes straight on to the next definition.  So it does where a
 * seccomp filter of the program's own may kill it for what is done here.
 *
 * The wait for any child becomes "look, then wait for the one seen": another
 * thread may have collected it in between, then it looks again.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>

#include "agent/sys.h"
#include "preload/shim.h"

typedef pid_t wait4_fn(pid_t, int *, int, struct rusage *);
typedef int waitid_fn(idtype_t, id_t, siginfo_t *, int);

/* Libc's functions rather than the system calls: they are cancellation points. */
static wait4_fn *next_wait4;
static waitid_fn *next_waitid;

__attribute__((constructor)) static void find_next(void)
{
    int saved_errno = errno;

    if (!next_wait4)
        *(void **)&next_wait4 = dlsym(RTLD_NEXT, "wait4");
    if (!next_waitid)
        *(void **)&next_waitid = dlsym(RTLD_NEXT, "waitid");
    errno = saved_errno;
}

static bool collects_orphans(void)
{
    int subreaper = 0;

    if (!next_wait4 || !next_waitid)
        find_next(); /* a constructor that ran before ours waits for a child */
    if (shim.is_filtered)
        return false;
    return sys(getpid, 0, 0, 0, 0, 0, 0) == 1 ||
           (sys_prctl(PR_GET_CHILD_SUBREAPER, (long)&subreaper, 0) == 0 && subreaper);
}

/* "/proc/PID" NUL-terminated; returns its length. */
static size_t proc_path(char *out, uint32_t pid)
{
    static const char prefix[] = "/proc/";
    char digits[12];
    size_t n = 0, at = sizeof(prefix) - 1;

    memcpy(out, prefix, sizeof(prefix));
    do
        digits[n++] = (char)('0' + pid % 10);
    while ((pid /= 10));
    while (n)
        out[at++] = digits[--n];
    out[at] = '\0';
    return at;
}

/* Does /proc number processes as we do?  It may be another pid namespace's. */
static bool proc_is_ours(void)
{
    char link[16], path[32];
    size_t len = proc_path(path, (uint32_t)sys(getpid, 0, 0, 0, 0, 0, 0)) - strlen("/proc/");
    long r = sys(readlinkat, AT_FDCWD, "/proc/self", link, sizeof(link), 0, 0);

    return r == (long)len && memcmp(link, path + strlen("/proc/"), len) == 0;
}

/* Told by its name.  The descriptor is ours for three system calls. */
bool shim_is_dead_agent(const siginfo_t *info)
{
    static const char name[] = AGENT_NAME "\n";
    char path[32], comm[32];
    long fd, r;

    if (info->si_code != CLD_EXITED && info->si_code != CLD_KILLED && info->si_code != CLD_DUMPED)
        return false;
    if (!proc_is_ours())
        return false;
    memcpy(path + proc_path(path, (uint32_t)info->si_pid), "/comm", sizeof("/comm"));
    fd = sys(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
    if (fd < 0)
        return false;
    r = sys(read, fd, comm, sizeof(comm), 0, 0, 0);
    sys_close((int)fd);
    return r == sizeof(name) - 1 && memcmp(comm, name, sizeof(name) - 1) == 0;
}

/*
 * Looks for any child that `options` (of waitid) ask for, agents left out and
 * collected.  1: *ret_info is about one, which is still to be waited for; 0: none
 * (WNOHANG); -1: errno.
 */
static int look(int options, siginfo_t *ret_info)
{
    for (;;) {
        siginfo_t agent;

        ret_info->si_pid = 0;
        if (next_waitid(P_ALL, 0, ret_info, options | WNOWAIT) < 0)
            return -1;
        if (ret_info->si_pid == 0)
            return 0;
        if (!shim_is_dead_agent(ret_info))
            return 1;
        sys(waitid, P_PID, ret_info->si_pid, &agent, WEXITED | WNOHANG | __WALL, NULL, 0);
    }
}

SHIM_EXPORT pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
    const int kept = WNOHANG | WCONTINUED | __WNOTHREAD | __WALL | (int)__WCLONE;
    int saved_errno = errno;

    if (!collects_orphans() || pid != -1)
        return next_wait4(pid, status, options, usage);
    for (;;) {
        siginfo_t info;
        pid_t got;
        int r = look(WEXITED | (options & WUNTRACED ? WSTOPPED : 0) | (options & kept), &info);

        if (r <= 0)
            return r;
        got = next_wait4(info.si_pid, status, options | WNOHANG, usage);
        if (got > 0)
            return got;
        errno = saved_errno;
    }
}

SHIM_EXPORT int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
    int saved_errno = errno;

    if (!collects_orphans() || type != P_ALL || !(options & WEXITED))
        return next_waitid(type, id, info, options);
    for (;;) {
        siginfo_t seen, got;
        int r = look(options, &seen);

        if (r < 0)
            return -1;
        got.si_pid = 0;
        if (r > 0 && !(options & WNOWAIT))
            r = next_waitid(P_PID, (id_t)seen.si_pid, &got, options | WNOHANG) == 0 && got.si_pid;
        else
            got = seen;
        if (r == 0 && seen.si_pid != 0) {
            errno = saved_errno;
            continue;
        }
        if (info)
            *info = got;
        return 0;
    }
}

SHIM_EXPORT pid_t wait(int *status)
{
    return wait4(-1, status, 0, NULL);
}

SHIM_EXPORT pid_t waitpid(pid_t pid, int *status, int options)
{
    return wait4(pid, status, options, NULL);
}

SHIM_EXPORT pid_t wait3(int *status, int options, struct rusage *usage)
{
    return wait4(-1, status, options, usage);
}
