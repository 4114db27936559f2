/* SPDX-License-Identifier: Apache-2.0 */
/* Observations of how programs begin, replace each other and end; see invisible.c. */
#define _GNU_SOURCE
#include "invisible.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

_Noreturn void exec_self(const char *word, const char *more)
{
    char *argv[] = {(char *)"invisible", (char *)word, (char *)more, NULL};

    execv("/proc/self/exe", argv);
    die("execv");
}

pid_t start_self(const char *word, const char *more)
{
    pid_t pid;

    fflush(stdout);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        exec_self(word, more);
    return pid;
}

static bool paged(void)
{
    return getenv("PAGERD_SOCKET") != NULL;
}

/* ---- ends ---- */

static const char *const ENDS[] = {"return", "exit",  "_exit",   "_Exit",   "quick_exit",
                                   "abort",  "SIGKILL", "SIGSEGV", "SIGTERM", "raw"};

static int inner_end(const char *how)
{
    struct rlimit no_core = {0, 0};

    setrlimit(RLIMIT_CORE, &no_core);
    if (strcmp(how, "return") == 0)
        return 11;
    if (strcmp(how, "exit") == 0)
        exit(12);
    if (strcmp(how, "_exit") == 0)
        _exit(13);
    if (strcmp(how, "_Exit") == 0)
        _Exit(14);
    if (strcmp(how, "quick_exit") == 0)
        quick_exit(15);
    if (strcmp(how, "abort") == 0)
        abort();
    if (strcmp(how, "SIGKILL") == 0)
        raise(SIGKILL);
    if (strcmp(how, "SIGSEGV") == 0)
        raise(SIGSEGV);
    if (strcmp(how, "SIGTERM") == 0)
        raise(SIGTERM);
    if (strcmp(how, "raw") == 0)
        syscall(SYS_exit_group, 16);
    return 97;
}

static int see_exit_status(void)
{
    for (unsigned i = 0; i < sizeof(ENDS) / sizeof(ENDS[0]); i++) {
        int status;
        pid_t pid = start_self("inner-end", ENDS[i]);

        CHECK(waitpid(pid, &status, 0) == pid);
        printf("%s: %s\n", ENDS[i], describe_status(status));
    }
    return 0;
}

/* ---- programs that collect orphans ---- */

/*
 * Programs that are children of this one end in every way; each has an agent
 * that may outlive it, and is then ours.  Only the programs are to be seen.
 */
static void collect(void)
{
    unsigned nr = sizeof(ENDS) / sizeof(ENDS[0]), seen = 0, by_signal = 0;
    siginfo_t info;
    int status;

    for (unsigned i = 0; i < nr; i++)
        start_self("inner-end", ENDS[i]);
    while (wait(&status) > 0) {
        seen++;
        by_signal += WIFSIGNALED(status);
    }
    printf("wait: %u of %u, %u by signal, then %s\n", seen, nr, by_signal, strerror(errno));
    for (unsigned i = seen = 0; i < nr; i++)
        start_self("inner-end", ENDS[i]);
    while (waitid(P_ALL, 0, &info, WEXITED) == 0)
        seen += info.si_pid > 0;
    printf("waitid: %u of %u, then %s\n", seen, nr, strerror(errno));
    for (unsigned i = seen = 0; i < nr; i++)
        start_self("inner-end", ENDS[i]);
    for (;;) {
        int r = waitpid(-1, &status, WNOHANG);

        if (r < 0)
            break;
        seen += r > 0;
        if (r == 0)
            poll(NULL, 0, 1);
    }
    printf("waitpid(WNOHANG): %u of %u, then %s\n", seen, nr, strerror(errno));
    printf("zombies left: %u\n", zombies_of(getpid()));
}

/* A grandchild, orphaned by its parent's end, is another that is to be seen. */
static void collect_orphan(void)
{
    unsigned seen = 0;
    int status;

    start_self("inner-orphan", NULL);
    while (wait(&status) > 0)
        seen++;
    printf("child and orphan: %u seen\n", seen);
}

static int inner_orphan(void)
{
    start_self("inner-end", "SIGKILL");
    start_self("inner-end", "exit");
    raise(SIGKILL);
    return 97;
}

static int see_subreaper(void)
{
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    collect();
    collect_orphan();
    return 0;
}

static int inner_pid1(void)
{
    CHECK(getpid() == 1 && mount("proc", "/proc", "proc", 0, NULL) == 0);
    collect();
    collect_orphan();
    return 0;
}

static int see_pid1(void)
{
    int status;
    pid_t pid;

    if (unshare(CLONE_NEWPID | CLONE_NEWNS) ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
        printf("no pid namespace: %s\n", strerror(errno));
        return 0;
    }
    pid = start_self("inner-pid1", NULL);
    CHECK(waitpid(pid, &status, 0) == pid);
    printf("PID 1: %s\n", describe_status(status));
    return 0;
}

/* ---- process groups ---- */

static int inner_sleep(void)
{
    unsigned char *p = make_memory(8 << 20);

    puts("up");
    fflush(stdout);
    for (;;) {
        pause();
        CHECK(check_memory(p, 8 << 20));
    }
}

static int see_process_group(void)
{
    int status, out[2], saved = dup(1);
    char byte;
    pid_t pid;

    CHECK(pipe2(out, O_CLOEXEC) == 0);
    dup2(out[1], 1);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        setpgid(0, 0);
        exec_self("inner-sleep", NULL);
    }
    dup2(saved, 1);
    close(saved);
    CHECK(read(out[0], &byte, 1) == 1); /* it runs, with its agent */
    printf("members: %s\n", kill(-pid, 0) ? strerror(errno) : "some");
    CHECK(kill(-pid, SIGSTOP) == 0 && waitpid(pid, &status, WUNTRACED) == pid);
    printf("SIGSTOP: %s\n", describe_status(status));
    CHECK(kill(-pid, SIGCONT) == 0 && waitpid(pid, &status, WCONTINUED) == pid);
    printf("SIGCONT: %s\n", describe_status(status));
    CHECK(kill(-pid, SIGKILL) == 0 && waitpid(-pid, &status, 0) == pid);
    printf("SIGKILL: %s\n", describe_status(status));
    printf("members: %s\n", kill(-pid, 0) ? strerror(errno) : "some");
    /* The pipe has no writer left: an agent that had kept it would keep us waiting. */
    close(out[1]);
    while (read(out[0], &byte, 1) > 0)
        ;
    puts("pipe: end of file");
    return 0;
}

/* A pipe's last writer closes it and lives on: the reader must notice at once. */
static int see_pipe(void)
{
    int status, in[2], out[2];
    struct pollfd p;
    char byte = 'x';
    pid_t pid;

    CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    fflush(stdout);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        exec_self("inner-pipe", NULL);
    }
    close(out[1]);
    p = (struct pollfd){out[0], POLLIN, 0};
    printf("closed pipe: %s\n", poll(&p, 1, 3000) == 1 ? "end of file" : "NO END OF FILE");
    CHECK(write(in[1], &byte, 1) == 1 && waitpid(pid, &status, 0) == pid);
    printf("its writer: %s\n", describe_status(status));
    return 0;
}

static int inner_pipe(void)
{
    char byte;

    close(1);
    CHECK(read(0, &byte, 1) == 1);
    return 17;
}

/* ---- exec ---- */

static bool no_zombie(void *arg)
{
    (void)arg;
    return zombies_of(getpid()) == 0;
}

static void *exec_in_thread(void *next)
{
    exec_self("inner-exec", next);
}

static int inner_exec(const char *left)
{
    unsigned char *p = make_memory(8 << 20);
    char next[16];
    int r;

    r = waitpid(-1, NULL, WNOHANG);
    printf("image %s: waitpid(-1): %d %s, ", left, r, strerror(errno));
    printf("memory %s, ", check_memory(p, 8 << 20) ? "right" : "WRONG");
    printf("zombies: %s\n", until(1000, no_zombie, NULL) ? "none" : "SOME");
    fflush(stdout);
    if (atoi(left) == 0)
        return 21;
    snprintf(next, sizeof(next), "%d", atoi(left) - 1);
    if (atoi(left) % 2) { /* by a thread that is not the main one */
        pthread_t t;

        CHECK(pthread_create(&t, NULL, exec_in_thread, next) == 0);
        for (;;)
            pause();
    }
    exec_self("inner-exec", next);
}

static int see_exec(void)
{
    int status;
    pid_t pid = start_self("inner-exec", "5");

    CHECK(waitpid(pid, &status, 0) == pid);
    printf("last image: %s\n", describe_status(status));
    execl("/nonexistent", "x", NULL);
    printf("exec that fails: %s, agent still there: %d\n", strerror(errno),
           !paged() || agent_of(getpid()) > 0);
    return 0;
}

static bool no_agent(void *pid)
{
    return agent_of(*(pid_t *)pid) == 0;
}

/* The static image has no shim: the agent of the one before must go by itself. */
static int see_exec_static(void)
{
    const char *program = getenv("INVISIBLE_STATIC");
    int status, in[2], out[2];
    char byte;
    pid_t pid;

    CHECK(program && pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    fflush(stdout);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        exec_self("inner-exec-static", program);
    }
    CHECK(read(out[0], &byte, 1) == 1); /* the static program speaks */
    printf("static program up: %c, agent gone in 100 ms: %d\n", byte, until(100, no_agent, &pid));
    CHECK(write(in[1], "x", 1) == 1 && waitpid(pid, &status, 0) == pid);
    printf("static program: %s\n", describe_status(status));
    return 0;
}

static int inner_exec_static(const char *program)
{
    make_memory(8 << 20);
    execl(program, "static", NULL);
    return 97;
}

/* ---- memory after the end ---- */

static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

/* The memory is free when the agent, its last user, is gone. */
static void measure_release(const char *how)
{
    int status, in[2], out[2], fd = -1;
    char byte;
    pid_t pid, agent;
    int64_t start;

    CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    fflush(stdout);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        exec_self("inner-release", how);
    }
    CHECK(read(out[0], &byte, 1) == 1);
    agent = agent_of(pid);
    if (agent)
        fd = (int)syscall(SYS_pidfd_open, agent, 0);
    start = now_us();
    CHECK(write(in[1], "x", 1) == 1);
    CHECK(waitpid(pid, &status, 0) == pid);
    if (fd >= 0) {
        struct pollfd p = {fd, POLLIN, 0};

        poll(&p, 1, 5000);
        close(fd);
    }
    start = now_us() - start;
    fprintf(stderr, "note: %s: all memory free after %d us\n", how, (int)start);
    printf("%s: %s, memory free within 100 ms: %d\n", how, describe_status(status),
           start <= 100000);
    close(in[0]), close(in[1]), close(out[0]), close(out[1]);
}

static int inner_release(const char *how)
{
    char byte;

    make_memory(MEMORY_BYTES);
    CHECK(write(1, "u", 1) == 1 && read(0, &byte, 1) == 1);
    return inner_end(how);
}

static int see_release(void)
{
    static const char *const hows[] = {"return", "_exit", "SIGKILL", "abort", "raw"};

    for (unsigned i = 0; i < sizeof(hows) / sizeof(hows[0]); i++)
        measure_release(hows[i]);
    return 0;
}

/* ---- what attaching costs ---- */

#define NR_STARTS 200

static int64_t time_true(bool bare)
{
    int64_t start = now_us();
    int status;
    pid_t pid = vfork();

    CHECK(pid >= 0);
    if (pid == 0) {
        static char *none[] = {NULL}, *argv[] = {(char *)"true", NULL};

        execve("/bin/true", argv, bare ? none : environ);
        _exit(127);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    return now_us() - start;
}

static int compare_us(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

/*
 * What a start costs more than a bare one, by the tenth percentile of each: what it is when
 * nobody else wants a processor.  Four processes have to run one after the other, so
 * the median tells of the machine: 0.52 to 0.60 ms on a quiet one, 1 to 4 ms at a load of 10
 * to 14 on two cores, where the tenth percentiles differ by 0.64 to 0.86 ms.
 */
static int see_attach_cost(void)
{
    const unsigned low = NR_STARTS / 10, middle = NR_STARTS / 2;
    int64_t bare[NR_STARTS], ours[NR_STARTS];

    for (unsigned i = 0; i < NR_STARTS; i++) {
        bare[i] = time_true(true);
        ours[i] = time_true(false);
    }
    qsort(bare, NR_STARTS, sizeof(bare[0]), compare_us);
    qsort(ours, NR_STARTS, sizeof(ours[0]), compare_us);
    fprintf(stderr, "note: /bin/true, %d times: %d us bare, %d us attached; medians %d and %d us\n",
            NR_STARTS, (int)bare[low], (int)ours[low], (int)bare[middle], (int)ours[middle]);
    printf("attaching costs at most 1 ms: %d\n", ours[low] - bare[low] <= 1000);
    return 0;
}

const struct observation life_observations[] = {
    {"exit-status", see_exit_status},
    {"subreaper", see_subreaper},
    {"pid1", see_pid1},
    {"process-group", see_process_group},
    {"pipe", see_pipe},
    {"exec", see_exec},
    {"exec-static", see_exec_static},
    {"release", see_release},
    {"attach-cost", see_attach_cost},
    {NULL, NULL},
};

int life_inner(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "", *more = argc > 2 ? argv[2] : NULL;

    if (strcmp(word, "inner-end") == 0 && more)
        return inner_end(more);
    if (strcmp(word, "inner-orphan") == 0)
        return inner_orphan();
    if (strcmp(word, "inner-pid1") == 0)
        return inner_pid1();
    if (strcmp(word, "inner-pipe") == 0)
        return inner_pipe();
    if (strcmp(word, "inner-sleep") == 0)
        return inner_sleep();
    if (strcmp(word, "inner-exec") == 0 && more)
        return inner_exec(more);
    if (strcmp(word, "inner-exec-static") == 0 && more)
        return inner_exec_static(more);
    if (strcmp(word, "inner-release") == 0 && more)
        return inner_release(more);
    return -1;
}
