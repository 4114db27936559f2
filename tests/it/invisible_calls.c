/* SPDX-License-Identifier: Apache-2.0 */
/* Observations of what the shim's own system calls could do to a program; see invisible.c. */
#define _GNU_SOURCE
#include "invisible.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a child locks a file, and executes another program: the lock stays ---- */

static bool keeps_lock(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int executed[2], go_on[2], status;
    char c;
    pid_t pid;

    CHECK(pipe2(executed, O_CLOEXEC) == 0 && pipe2(go_on, O_CLOEXEC) == 0);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        if (fcntl(fd, F_SETLK, &lock) < 0 || dup2(go_on[0], STDIN_FILENO) < 0)
            _exit(1);
        execl("/bin/cat", "cat", (char *)NULL);
        _exit(1);
    }
    close(executed[1]);
    CHECK(read(executed[0], &c, 1) == 0);
    CHECK(fcntl(fd, F_GETLK, &lock) == 0);
    close(go_on[1]);
    close(go_on[0]);
    close(executed[0]);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    return lock.l_type == F_WRLCK && lock.l_pid == pid;
}

static int see_locks(void)
{
    int fd = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    unsigned kept = 0;
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    CHECK(sched_setaffinity(0, sizeof(one), &one) == 0); /* so that they run one after the other */
    CHECK(fd >= 0);
    CHECK(fcntl(fd, F_SETFD, 0) == 0);
    for (unsigned i = 0; i < 40; i++)
        kept += keeps_lock(fd);
    printf("locks that an execve() kept: %u of 40\n", kept);
    return 0;
}

/* ---- a program that allows itself but few system calls, and is killed by any other ---- */

static void allow_few(void)
{
#define ALLOW(name)                                                                                \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 1),                                        \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    static struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(write),
        ALLOW(exit),
        ALLOW(exit_group),
        ALLOW(wait4),
        ALLOW(clone),
        ALLOW(set_robust_list),
        ALLOW(rt_sigprocmask),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
#undef ALLOW
    const struct sock_fprog prog = {sizeof(filter) / sizeof(filter[0]), filter};

    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
}

_Noreturn static void end_in_sandbox(unsigned way)
{
    int status = -1;
    pid_t pid;

    allow_few();
    if (way == 0)
        exit(3);
    if (way == 1)
        _exit(4);
    pid = fork();
    if (pid == 0)
        _exit(write(STDOUT_FILENO, "child\n", 6) == 6 ? 5 : 6);
    if ((way == 2 ? waitpid(pid, &status, 0) : wait(&status)) != pid)
        _exit(7);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 8);
}

static int see_sandbox(void)
{
    for (unsigned way = 0; way < 4; way++) {
        int status;
        pid_t pid;

        fflush(stdout);
        pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            end_in_sandbox(way);
        CHECK(waitpid(pid, &status, 0) == pid);
        printf("way %u: %s\n", way, describe_status(status));
    }
    return 0;
}

const struct observation call_observations[] = {
    {"locks", see_locks},
    {"sandbox", see_sandbox},
    {NULL, NULL},
};
