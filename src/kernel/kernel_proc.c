/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon asks about processes: who ended, who is whose parent, who
 * shares memory with whom, and how much of it is resident.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "kernel/kernel.h"

int kproc_pidfd(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    return fd < 0 ? -errno : fd;
}

int kproc_pidfd_ended(int pidfd)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int r = poll(&p, 1, 0);

    return r < 0 ? -errno : r > 0;
}

int kproc_open(pid_t pid, const char *file)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* ppid; the other two may be NULL. */
static int parse_stat(const char *stat, char *ret_state, int *ret_threads)
{
    /* The command's name may hold anything, but its closing parenthesis is the last one. */
    const char *at = strrchr(stat, ')');
    char state;
    int ppid, threads;

    if (!at || sscanf(at + 1, " %c %d", &state, &ppid) != 2)
        return -EPROTO;
    if (ret_state)
        *ret_state = state;
    if (!ret_threads)
        return ppid;
    if (sscanf(at + 1, " %*c%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s %d", &threads) != 1)
        return -EPROTO;
    *ret_threads = threads;
    return ppid;
}

int kproc_parse_ppid(const char *stat)
{
    return parse_stat(stat, NULL, NULL);
}

int kproc_parse_threads(const char *stat)
{
    int threads, r = parse_stat(stat, NULL, &threads);

    return r < 0 ? r : threads;
}

/* Its text, or -errno. */
static int read_stat(pid_t pid, char text[512])
{
    _cleanup_close_ int fd = kproc_open(pid, "stat");

    if (fd < 0)
        return fd;
    ssize_t n = read(fd, text, 511);
    if (n < 0)
        return -errno;
    text[n] = 0;
    return 0;
}

int kproc_ppid(pid_t pid)
{
    char text[512];
    int r = read_stat(pid, text);

    return r < 0 ? r : kproc_parse_ppid(text);
}

int kproc_nr_threads(pid_t pid)
{
    char text[512];
    int r = read_stat(pid, text);

    return r < 0 ? r : kproc_parse_threads(text);
}

int kproc_state(pid_t pid)
{
    char text[512], state = 0;
    int r = read_stat(pid, text);

    if (r == 0)
        r = parse_stat(text, &state, NULL);
    return r < 0 ? r : state;
}

int kproc_memory(int statm_fd, uint64_t *ret_anon, uint64_t *ret_mapped)
{
    char text[128];
    unsigned long long size, resident, shared;
    ssize_t n = pread(statm_fd, text, sizeof(text) - 1, 0);

    if (n < 0)
        return -errno;
    text[n] = 0;
    if (n == 0 || sscanf(text, "%llu %llu %llu", &size, &resident, &shared) != 3)
        return -ESRCH;
    *ret_anon = (resident > shared ? resident - shared : 0) << PAGE_SHIFT;
    *ret_mapped = size << PAGE_SHIFT;
    return 0;
}

int kproc_anon_bytes(int statm_fd, uint64_t *ret)
{
    uint64_t mapped;

    return kproc_memory(statm_fd, ret, &mapped);
}

int kproc_anon_share(pid_t pid, uint64_t *ret)
{
    _cleanup_close_ int fd = kproc_open(pid, "smaps_rollup");
    char text[2048];
    unsigned long long kib;

    if (fd < 0)
        return fd;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    if (n < 0)
        return -errno;
    text[n] = 0;
    const char *at = strstr(text, "Pss_Anon:");
    if (!at || sscanf(at, "Pss_Anon: %llu", &kib) != 1)
        return -ESRCH; /* a zombie; or a kernel before 5.9 */
    *ret = kib << 10;
    return 0;
}

/* Has the task an address space?  A zombie and a kernel thread have none. */
static bool has_mm(pid_t tid)
{
    _cleanup_close_ int fd = kproc_open(tid, "statm");
    char text[64];

    return fd >= 0 && read(fd, text, sizeof(text)) > 1 && text[0] != '0';
}

int kproc_same_mm(pid_t a, pid_t b)
{
    long r = syscall(SYS_kcmp, a, b, KCMP_VM, 0, 0);

    if (r < 0)
        return -errno;
    /*
     * kcmp calls two tasks that have no address space the same.  Asked after
     * it: one that still has it now had it then.
     */
    return r == 0 && has_mm(a);
}

int kproc_any_thread_shares(pid_t tgid, pid_t agent)
{
    int shares = 0;
    char path[64];
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/task", tgid);
    dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? 0 : -errno;
    for (struct dirent *e; shares != 1 && (e = readdir(dir));) {
        pid_t tid = (pid_t)atoi(e->d_name);
        int r = tid > 0 ? kproc_same_mm(tid, agent) : 0;

        /* A thread that ended meanwhile shares nothing; any other failure leaves it open. */
        if (r == 1 || (r < 0 && r != -ESRCH))
            shares = r;
    }
    closedir(dir);
    /* With the agent gone "nobody shares with it" would say nothing about the program. */
    return shares == 0 && !has_mm(agent) ? -ESRCH : shares;
}

pid_t kproc_thread_with_memory(pid_t tgid)
{
    char path[64];
    pid_t found = 0;

    if (has_mm(tgid))
        return tgid;
    snprintf(path, sizeof(path), "/proc/%d/task", tgid);
    DIR *dir = opendir(path);
    if (!dir)
        return -errno;
    for (struct dirent *e; !found && (e = readdir(dir));) {
        pid_t tid = (pid_t)atoi(e->d_name);
        if (tid > 0 && has_mm(tid))
            found = tid;
    }
    closedir(dir);
    return found;
}

enum kproc_thp kproc_thp_mode(void)
{
    _cleanup_close_ int fd =
        open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC);
    char text[64];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    text[n > 0 ? n : 0] = 0;
    if (strstr(text, "[always]"))
        return THP_ALWAYS;
    return strstr(text, "[madvise]") ? THP_MADVISE : THP_NEVER;
}
