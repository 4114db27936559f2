/* SPDX-License-Identifier: Apache-2.0 */
/*
 * invisible NAME: prints what a program can observe of itself in one respect,
 * without pids and addresses, so that a run of it under pagerd can be compared
 * with one without (test-invisible.sh).  `invisible list` names them all.
 * This file: a program alone.  invisible_life.c: beginnings and ends.  invisible_calls.c: what the
 * shim's own system calls could do.
 */
#define _GNU_SOURCE
#include "invisible.h"

#include <ctype.h>
#include <dirent.h>
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
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

_Noreturn void die(const char *what)
{
    fprintf(stderr, "failed: %s (%s)\n", what, strerror(errno));
    exit(99);
}

unsigned char *make_memory(size_t bytes)
{
    uint64_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(p != MAP_FAILED);
    for (size_t i = 0; i < bytes / 8; i++)
        p[i] = i * 0x9e3779b97f4a7c15u;
    return (unsigned char *)p;
}

bool check_memory(const unsigned char *p, size_t bytes)
{
    const uint64_t *w = (const uint64_t *)(const void *)p;

    for (size_t i = 0; i < bytes / 8; i++)
        if (w[i] != i * 0x9e3779b97f4a7c15u)
            return false;
    return true;
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

bool until(int ms, bool (*fn)(void *), void *arg)
{
    int64_t deadline = now_ms() + ms;

    while (!fn(arg)) {
        if (now_ms() >= deadline)
            return false;
        poll(NULL, 0, 1);
    }
    return true;
}

/* Calls fn for every process whose parent is `program`, with its comm and state. */
static void each_child(pid_t program,
                       void (*fn)(pid_t pid, const char *comm, char state, void *arg), void *arg)
{
    DIR *proc = opendir("/proc");
    struct dirent *e;

    CHECK(proc);
    while ((e = readdir(proc))) {
        char path[300], line[400] = "", *open_paren, *close_paren;
        int parent = 0;
        char state = '?';
        FILE *f;

        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        snprintf(path, sizeof(path), "/proc/%s/stat", e->d_name);
        f = fopen(path, "re");
        if (!f)
            continue;
        if (fgets(line, sizeof(line), f) && (open_paren = strchr(line, '(')) &&
            (close_paren = strrchr(line, ')')) &&
            sscanf(close_paren + 1, " %c %d", &state, &parent) == 2 && parent == program) {
            *close_paren = '\0';
            fn(atoi(e->d_name), open_paren + 1, state, arg);
        }
        fclose(f);
    }
    closedir(proc);
}

static void find_agent(pid_t pid, const char *comm, char state, void *arg)
{
    if (strcmp(comm, "pagerd-agent") == 0 && state != 'Z' && state != 'X')
        *(pid_t *)arg = pid;
}

pid_t agent_of(pid_t program)
{
    pid_t pid = 0;

    each_child(program, find_agent, &pid);
    return pid;
}

static void count_zombie(pid_t pid, const char *comm, char state, void *arg)
{
    (void)pid, (void)comm;
    *(unsigned *)arg += state == 'Z';
}

unsigned zombies_of(pid_t program)
{
    unsigned n = 0;

    each_child(program, count_zombie, &n);
    return n;
}

/* ---- a program alone ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int see_tasks(void)
{
    DIR *d = opendir("/proc/self/task");
    unsigned n = 0;
    struct dirent *e;

    CHECK(d);
    while ((e = readdir(d)))
        n += e->d_name[0] != '.';
    closedir(d);
    printf("%u task(s)\n", n);
    return 0;
}

static int see_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    char *lines[256];
    unsigned n = 0;
    struct dirent *e;

    CHECK(d);
    while ((e = readdir(d)) && n < 256) {
        char to[64] = "";

        if (e->d_name[0] == '.' || atoi(e->d_name) == dirfd(d))
            continue;
        CHECK(readlinkat(dirfd(d), e->d_name, to, sizeof(to) - 1) >= 0);
        to[strcspn(to, "[")] = '\0'; /* pipe:[1234] */
        CHECK(asprintf(&lines[n++], "%s -> %.60s", e->d_name, to) > 0);
    }
    qsort(lines, n, sizeof(lines[0]), compare_names);
    for (unsigned i = 0; i < n; i++)
        puts(lines[i]);
    n = (unsigned)open("/dev/null", O_RDONLY);
    printf("next free: %d\n", (int)n == dirfd(d) + 1);
    close((int)n);
    closedir(d);
    return 0;
}

static int see_state(void)
{
    char line[256], *fields[] = {(char *)"SigQ", (char *)"SigPnd", (char *)"ShdPnd",
                                 (char *)"SigBlk", (char *)"SigIgn", (char *)"SigCgt",
                                 (char *)"Threads", (char *)"NoNewPrivs", (char *)"Seccomp"};
    FILE *f = fopen("/proc/self/status", "re");
    char cwd[4096];

    CHECK(f);
    while (fgets(line, sizeof(line), f))
        for (unsigned i = 1; i < sizeof(fields) / sizeof(fields[0]); i++)
            if (strncmp(line, fields[i], strlen(fields[i])) == 0 && line[strlen(fields[i])] == ':')
                fputs(line, stdout);
    fclose(f);
    CHECK(getcwd(cwd, sizeof(cwd)));
    printf("errno %d, cwd %s, own group %d, own session %d\n", errno, cwd, getpgrp() == getpid(),
           getsid(0) == getpid());
    for (char **e = environ; *e; e++)
        if (strncmp(*e, "LD_PRELOAD=", 11) != 0 && strncmp(*e, "PAGERD_", 7) != 0 &&
            strncmp(*e, "_=", 2) != 0)
            puts(*e);
    return 0;
}

static int see_unshare(void)
{
    printf("unshare(CLONE_NEWUSER): %s\n", unshare(CLONE_NEWUSER) ? strerror(errno) : "done");
    return 0;
}

static int see_closefrom(void)
{
    unsigned char *p = make_memory(MEMORY_BYTES);

    closefrom(3);
    printf("memory after closefrom: %s\n", check_memory(p, MEMORY_BYTES) ? "right" : "WRONG");
    p[0]++;
    p[0]--;
    printf("again: %s\n", check_memory(p, MEMORY_BYTES) ? "right" : "WRONG");
    return 0;
}

static int see_mlockall(void)
{
    unsigned char *p = make_memory(8 << 20);
    int r = mlockall(MCL_CURRENT | MCL_FUTURE);

    printf("mlockall: %s\n", r ? strerror(errno) : "done");
    free(malloc(1 << 20));
    printf("memory: %s\n", check_memory(p, 8 << 20) ? "right" : "WRONG");
    return 0;
}

static int see_wait_nothing(void)
{
    siginfo_t info = {.si_pid = 0};
    int status, r;

    r = waitpid(-1, &status, WNOHANG);
    printf("waitpid(-1, WNOHANG): %d %s\n", r, strerror(errno));
    r = wait(&status);
    printf("wait(): %d %s\n", r, strerror(errno));
    r = waitid(P_ALL, 0, &info, WEXITED);
    printf("waitid(P_ALL): %d %s\n", r, strerror(errno));
    r = waitpid(0, &status, WNOHANG);
    printf("waitpid(0): %d %s\n", r, strerror(errno));
    return 0;
}

static volatile sig_atomic_t nr_sigchld;

static void on_sigchld(int signal)
{
    (void)signal;
    nr_sigchld++;
}

static int see_wait_loop(void)
{
    unsigned reaped = 0, sum = 0;
    int status;
    sigset_t chld, old;

    signal(SIGCHLD, on_sigchld);
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, &old);
    for (int i = 1; i <= 8; i++) {
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0)
            _exit(i);
    }
    while (wait(&status) > 0) {
        reaped++;
        sum += (unsigned)WEXITSTATUS(status);
    }
    printf("reaped %u, statuses' sum %u, then %s\n", reaped, sum, strerror(errno));
    sigprocmask(SIG_SETMASK, &old, NULL);
    printf("SIGCHLD seen: %s\n", nr_sigchld ? "yes" : "no");
    nr_sigchld = 0;
    if (fork() == 0)
        return 0; /* a child that ends by exit(), with the shim's destructor in it */
    CHECK(wait(&status) > 0);
    printf("SIGCHLD by one child: %d, status %d\n", (int)nr_sigchld, status);
    return 0;
}

static int see_vfork(void)
{
    unsigned char *p = make_memory(8 << 20);
    int status;
    pid_t pid = vfork();

    if (pid == 0)
        _exit(7); /* in the parent's memory: must not send the parent's agent away */
    CHECK(waitpid(pid, &status, 0) == pid);
    printf("vfork, _exit: %s\n", describe_status(status));
    printf("system(): %d\n", system("exit 3") >> 8);
    printf("memory: %s, agent as before: %d\n", check_memory(p, 8 << 20) ? "right" : "WRONG",
           !getenv("PAGERD_SOCKET") || agent_of(getpid()) > 0);
    return 0;
}

static pthread_t main_thread;
static unsigned char *shared_memory;

static void *outlive_main(void *arg)
{
    int r = pthread_join(main_thread, NULL);

    (void)arg;
    printf("joined the main thread: %s\n", r ? strerror(r) : "done");
    for (int i = 0; i < 3; i++)
        printf("memory: %s\n", check_memory(shared_memory, MEMORY_BYTES) ? "right" : "WRONG");
    exit(5);
}

static int see_pthread_exit(void)
{
    pthread_t t;

    setvbuf(stdout, NULL, _IOLBF, 0);
    shared_memory = make_memory(MEMORY_BYTES);
    main_thread = pthread_self();
    CHECK(pthread_create(&t, NULL, outlive_main, NULL) == 0);
    pthread_exit(NULL);
}

static int see_set_tid_address(void)
{
    static int word;
    unsigned char *p;

    printf("own tid: %d\n", syscall(SYS_set_tid_address, &word) == getpid());
    p = make_memory(MEMORY_BYTES);
    printf("memory: %s\n", check_memory(p, MEMORY_BYTES) ? "right" : "WRONG");
    return 4;
}

static int see_fork(void)
{
    unsigned char *p = make_memory(MEMORY_BYTES);
    int status;
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0) {
        bool right = check_memory(p, MEMORY_BYTES);

        memset(p, 1, MEMORY_BYTES / 2);
        exit(right ? 6 : 1);
    }
    p[1] = 9;
    CHECK(waitpid(pid, &status, 0) == pid);
    p[1] = 0;
    printf("child: %s; own memory: %s\n", describe_status(status),
           check_memory(p + 4096, 0) && ((uint64_t *)(void *)p)[77] == 77 * 0x9e3779b97f4a7c15u
               ? "right"
               : "WRONG");
    return 0;
}

static int cloned(void *arg)
{
    static int again;

    printf("cloned: %s, errno %d, memory %s\n", (const char *)arg, errno,
           check_memory(shared_memory, MEMORY_BYTES) ? "right" : "WRONG");
    see_wait_nothing();
    fflush(stdout);
    return 40 + again++;
}

static void see_clone_end(pid_t pid)
{
    int status;

    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    printf("%s\n", describe_status(status));
    fflush(stdout);
}

/* libc's functions, in whose place others stand: what they answer, and what their children see. */
static int see_clones(void)
{
    const size_t stack_bytes = 256 << 10;
    char *stack = mmap(NULL, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long r;
    pid_t pid;

    CHECK(stack != MAP_FAILED);
    stack += stack_bytes;
    shared_memory = make_memory(MEMORY_BYTES);
    errno = 0;
    r = syscall(SYS_getppid);
    printf("getppid: %d, errno %d\n", r == getppid(), errno);
    r = syscall(SYS_close, -1);
    printf("close: %ld, errno %d\n", r, errno);
    r = clone(NULL, stack, SIGCHLD, NULL);
    printf("clone: %ld, errno %d\n", r, errno);
    fflush(stdout);
    errno = 5;
    pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(cloned("by syscall()"));
    see_clone_end(pid);
    pid = _Fork();
    if (pid == 0)
        _exit(cloned("by _Fork()"));
    see_clone_end(pid);
    see_clone_end(clone(cloned, stack, SIGCHLD, "on a stack"));
    see_clone_end(clone(cloned, stack, SIGCHLD | CLONE_VM | CLONE_VFORK, "in our memory"));
    see_clone_end(clone(cloned, stack, SIGCHLD | CLONE_VM | CLONE_VFORK, "in our memory, again"));
    return 0;
}

/* What a forked child sees of itself, at once and when its agent has come. */
static void see_child(const char *who)
{
    sigset_t blocked;
    unsigned nr = 0;

    for (int i = 0; i < 2; i++) {
        printf("%s, %s:\n", who, i ? "later" : "at once");
        CHECK(sigprocmask(SIG_SETMASK, NULL, &blocked) == 0);
        for (int s = 1; s < 64; s++)
            nr += sigismember(&blocked, s) == 1;
        printf("errno %d, own group %d, %u signals blocked\n", errno, getpgrp() == getpid(), nr);
        see_tasks();
        see_descriptors();
        see_wait_nothing();
        errno = 0;
        poll(NULL, 0, i ? 0 : 50);
    }
}

static int see_children(void)
{
    unsigned char *p = make_memory(MEMORY_BYTES);
    int status;
    pid_t pid;

    fflush(stdout);
    errno = 0;
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        see_child("child");
        fflush(stdout);
        pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            see_child("grandchild");
            exit(check_memory(p, MEMORY_BYTES) ? 7 : 1);
        }
        CHECK(wait(&status) == pid);
        printf("grandchild: %s\n", describe_status(status));
        see_wait_nothing();
        exit(check_memory(p, MEMORY_BYTES) ? 8 : 1);
    }
    CHECK(wait(&status) == pid);
    printf("child: %s\n", describe_status(status));
    see_wait_nothing();
    return 0;
}

/* A child that is killed leaves its agent to who collects orphans: only children are to be seen. */
static int see_killed_children(void)
{
    unsigned seen = 0, waited = 0;
    int status;

    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0) {
            poll(NULL, 0, 60000);
            _exit(1);
        }
        poll(NULL, 0, 1 + i);
        CHECK(kill(pid, SIGKILL) == 0);
    }
    while (wait(&status) > 0)
        seen++;
    for (int i = 0; i < 20; i++) {
        poll(NULL, 0, 1);
        waited += waitpid(-1, &status, WNOHANG) > 0;
    }
    printf("%u children, then %u more\n", seen, waited);
    return 0;
}

const char *describe_status(int status)
{
    static char text[64];

    if (WIFEXITED(status))
        snprintf(text, sizeof(text), "exit %d", WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        snprintf(text, sizeof(text), "signal %d", WTERMSIG(status));
    else if (WIFSTOPPED(status))
        snprintf(text, sizeof(text), "stopped by %d", WSTOPSIG(status));
    else
        snprintf(text, sizeof(text), "%s", WIFCONTINUED(status) ? "continued" : "unknown");
    return text;
}

static const struct observation OBSERVATIONS[] = {
    {"tasks", see_tasks},
    {"descriptors", see_descriptors},
    {"state", see_state},
    {"unshare-newuser", see_unshare},
    {"closefrom", see_closefrom},
    {"mlockall", see_mlockall},
    {"wait-nothing", see_wait_nothing},
    {"wait-loop", see_wait_loop},
    {"vfork", see_vfork},
    {"fork", see_fork},
    {"clones", see_clones},
    {"children", see_children},
    {"killed-children", see_killed_children},
    {"main-pthread-exit", see_pthread_exit},
    {"set-tid-address", see_set_tid_address},
    {NULL, NULL},
};

int main(int argc, char **argv)
{
    const struct observation *lists[] = {OBSERVATIONS, life_observations, call_observations};
    int r = life_inner(argc, argv);

    if (r >= 0)
        return r;
    for (unsigned i = 0; argc == 2 && i < 3; i++)
        for (const struct observation *o = lists[i]; o->name; o++) {
            if (strcmp(argv[1], "list") == 0)
                puts(o->name);
            else if (strcmp(argv[1], o->name) == 0)
                return o->run();
        }
    return argc == 2 && strcmp(argv[1], "list") == 0 ? 0 : 98;
}
