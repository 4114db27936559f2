/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forks HOW MIB [SECONDS]: an ordinary program whose children go on with its memory.
 * Parent and children each know what every byte of theirs has to be, write to some
 * of it, and look at all of it again and again.  Status 0: all of it was right.
 *
 *   live      children that live as long as the program
 *   prefork   children that get their memory after the fork
 *   crowd     three times as many children, which look at their memory one after the other
 *   daemon    fork, setsid, fork: the grandchild works on
 *   raw       a child of clone(SIGCHLD) by an instruction of our own, of which nobody knows
 *   syscall   of the same by libc's syscall()
 *   clone     of libc's clone(), on a stack of its own
 *   _Fork     of libc's _Fork()
 *   thread    forked by a thread, while another one writes
 *   bare      the child closes all descriptors, changes its root and drops its privileges
 *   orphan    the parent ends first
 *   kill      children are killed at random moments
 *   exec      no memory; the time of fork, exec of /bin/true, wait: prints it
 *   exit      no memory; the time of fork, _exit, wait: prints it
 *   unshare   a child comes and goes; afterwards the parent looks at its memory again
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
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

#include "raw_clone.h"

#define PAGE 4096
#define WORDS (PAGE / 8)
#define NR_CHILDREN 4

static uint64_t *memory;
static uint32_t *version; /* of each page */
static size_t nr_pages;
static uint64_t seed;
static int64_t until_ns;

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "forks: pid %d: %s (%s)\n", getpid(), what, strerror(errno));
    _exit(1);
}
#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            die(#x);                                                                               \
    } while (0)

static int64_t clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= 0x7fb5d329728ea185u;
    x ^= x >> 27;
    x *= 0x81dadef4bc2dd44du;
    return x ^ x >> 33;
}

static uint64_t random_number(void)
{
    return mix(seed += 0x9e3779b97f4a7c15u);
}

static void write_page(size_t page)
{
    uint32_t v = ++version[page];

    for (size_t i = 0; i < WORDS; i++)
        memory[page * WORDS + i] = mix(page) + v * 0x100000001b3u + i;
}

static void verify_page(size_t page)
{
    for (size_t i = 0; i < WORDS; i++)
        if (memory[page * WORDS + i] != mix(page) + version[page] * 0x100000001b3u + i) {
            fprintf(stderr, "forks: pid %d: page %zu word %zu is %llx, version %u\n", getpid(), page,
                    i, (unsigned long long)memory[page * WORDS + i], version[page]);
            _exit(2);
        }
}

static void verify_all(void)
{
    for (size_t i = 0; i < nr_pages; i++)
        verify_page(i);
}

static void fill(size_t mib)
{
    nr_pages = mib << 8;
    version = calloc(nr_pages, sizeof(*version));
    memory = mmap(NULL, nr_pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(version && memory != MAP_FAILED);
    for (size_t i = 0; i < nr_pages; i++)
        write_page(i);
}

/* Looks at everything, writes to some of it, until the time is over; twice at least. */
static void work(void)
{
    seed = mix((uint64_t)clock_ns() ^ (uint64_t)syscall(SYS_getpid) << 40);
    verify_all();
    do {
        for (size_t i = 0; i < nr_pages / 8; i++) {
            size_t page = random_number() % nr_pages;
            if (random_number() % 2)
                verify_page(page);
            else
                write_page(page);
        }
        verify_all();
    } while (clock_ns() < until_ns);
}

static void wait_well(pid_t pid)
{
    int status;

    CHECK(waitpid(pid, &status, 0) == pid);
    if (status) {
        fprintf(stderr, "forks: child %d ended with status %#x\n", pid, (unsigned)status);
        _exit(3);
    }
}

static void live(size_t mib)
{
    pid_t child[NR_CHILDREN];

    fill(mib);
    for (unsigned i = 0; i < NR_CHILDREN; i++) {
        child[i] = fork();
        CHECK(child[i] >= 0);
        if (child[i] == 0) {
            work();
            exit(0);
        }
    }
    work();
    for (unsigned i = 0; i < NR_CHILDREN; i++)
        wait_well(child[i]);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

static void prefork(size_t mib)
{
    pid_t child[NR_CHILDREN];

    fill(mib / 4 ? mib / 4 : 1);
    for (unsigned i = 0; i < NR_CHILDREN; i++) {
        child[i] = fork();
        CHECK(child[i] >= 0);
        if (child[i] == 0) {
            verify_all();
            fill(mib / NR_CHILDREN ? mib / NR_CHILDREN : 1);
            work();
            _exit(0);
        }
    }
    for (unsigned i = 0; i < NR_CHILDREN; i++)
        wait_well(child[i]);
    verify_all();
}

/* All of them are there before the first one looks. */
static void crowd(size_t mib)
{
    pid_t child[3 * NR_CHILDREN];
    int go[3 * NR_CHILDREN][2];
    char word;

    fill(mib);
    for (unsigned i = 0; i < 3 * NR_CHILDREN; i++) {
        CHECK(pipe(go[i]) == 0);
        child[i] = fork();
        CHECK(child[i] >= 0);
        if (child[i] == 0) {
            CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
            CHECK(read(go[i][0], &word, 1) == 1);
            verify_all();
            _exit(0);
        }
    }
    for (unsigned i = 0; i < 3 * NR_CHILDREN; i++) {
        CHECK(write(go[i][1], "g", 1) == 1);
        wait_well(child[i]);
    }
    verify_all();
}

/* `how` the descendant that has the pipe's last writing end worked: 'y', and nothing more. */
static void expect_word(int fd)
{
    char word[2];

    CHECK(read(fd, word, 2) == 1 && word[0] == 'y');
    CHECK(read(fd, word, 1) == 0);
}

static void daemonize(size_t mib)
{
    int p[2];
    pid_t pid;

    fill(mib);
    CHECK(pipe(p) == 0);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(setsid() > 0);
        pid = fork();
        CHECK(pid >= 0);
        if (pid)
            _exit(0);
        work();
        CHECK(write(p[1], "y", 1) == 1);
        exit(0);
    }
    close(p[1]);
    wait_well(pid);
    work();
    expect_word(p[0]);
}

static int work_and_exit(void *unused)
{
    (void)unused;
    work();
    syscall(SYS_exit_group, 0);
    return 0;
}

static long clone_on_a_stack(void)
{
    const size_t bytes = 1 << 20;
    char *stack = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(stack != MAP_FAILED);
    return clone(work_and_exit, stack + bytes, SIGCHLD, NULL);
}

static void without_handler(const char *how, size_t mib)
{
    long pid;

    fill(mib);
    if (!strcmp(how, "raw"))
        pid = raw_clone();
    else if (!strcmp(how, "syscall"))
        pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    else if (!strcmp(how, "clone"))
        pid = clone_on_a_stack();
    else
        pid = _Fork();
    CHECK(pid >= 0);
    if (pid == 0)
        work_and_exit(NULL);
    work();
    wait_well((pid_t)pid);
}

static _Atomic bool stop;

static void *write_beside(void *arg)
{
    uint64_t *p = arg;

    for (uint64_t i = 0; !stop; i++)
        p[i % (PAGE * 64) / 8] = i;
    return NULL;
}

static void *fork_and_work(void *arg)
{
    pid_t pid;

    (void)arg;
    for (int i = 0; i < 3; i++) {
        pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            work();
            _exit(0);
        }
        verify_all();
        wait_well(pid);
    }
    return NULL;
}

static void by_thread(size_t mib)
{
    void *beside = mmap(NULL, PAGE * 64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t t, u;

    fill(mib);
    until_ns = clock_ns() + (until_ns - clock_ns()) / 3;
    CHECK(beside != MAP_FAILED && pthread_create(&t, NULL, write_beside, beside) == 0);
    CHECK(pthread_create(&u, NULL, fork_and_work, NULL) == 0);
    CHECK(pthread_join(u, NULL) == 0);
    stop = true;
    CHECK(pthread_join(t, NULL) == 0);
}

static void bare(size_t mib)
{
    pid_t pid;

    fill(mib);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(close_range(0, ~0u, 0) == 0);
        if (geteuid() == 0)
            CHECK(chroot("/proc") == 0 && setgroups(0, NULL) == 0 &&
                  setgid(65534) == 0 && setuid(65534) == 0);
        work();
        _exit(0);
    }
    work();
    wait_well(pid);
}

static void orphan(size_t mib)
{
    int p[2];
    pid_t pid;

    CHECK(pipe(p) == 0);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        close(p[0]);
        fill(mib);
        pid = fork();
        CHECK(pid >= 0);
        if (pid)
            _exit(0);
        work();
        CHECK(write(p[1], "y", 1) == 1);
        exit(0);
    }
    close(p[1]);
    wait_well(pid);
    expect_word(p[0]);
}

static void kill_them(size_t mib)
{
    unsigned nr = 0;
    int status;

    fill(mib);
    seed = (uint64_t)clock_ns();
    while (clock_ns() < until_ns) {
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0) {
            work();
            _exit(0);
        }
        for (int64_t at = clock_ns() + (int64_t)(random_number() % 60000000); clock_ns() < at;)
            verify_page(random_number() % nr_pages);
        write_page(random_number() % nr_pages);
        kill(pid, SIGKILL);
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) || status == 0);
        nr++;
    }
    verify_all();
    printf("%u children killed\n", nr);
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

#define NR_TIMES 300

static void measure(bool exec)
{
    static int64_t took[NR_TIMES], returned[NR_TIMES];

    for (unsigned i = 0; i < NR_TIMES; i++) {
        int64_t start = clock_ns();
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0) {
            if (!exec)
                _exit(0);
            execl("/bin/true", "true", (char *)NULL);
            _exit(127);
        }
        returned[i] = clock_ns() - start;
        wait_well(pid);
        took[i] = clock_ns() - start;
    }
    qsort(took, NR_TIMES, sizeof(took[0]), compare);
    qsort(returned, NR_TIMES, sizeof(returned[0]), compare);
    printf("median of %d: %lld us, of them %lld us fork() in the parent\n", NR_TIMES,
           (long long)took[NR_TIMES / 2] / 1000, (long long)returned[NR_TIMES / 2] / 1000);
}

static void come_and_go(size_t mib)
{
    fill(mib);
    for (int i = 0; i < 2; i++) {
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0) {
            verify_all();
            _exit(0);
        }
        wait_well(pid);
        work();
    }
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    size_t mib = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;

    until_ns = clock_ns() + (argc > 3 ? strtol(argv[3], NULL, 10) : 1) * 1000000000LL;
    if (!strcmp(how, "live"))
        live(mib);
    else if (!strcmp(how, "prefork"))
        prefork(mib);
    else if (!strcmp(how, "crowd"))
        crowd(mib);
    else if (!strcmp(how, "daemon"))
        daemonize(mib);
    else if (!strcmp(how, "raw") || !strcmp(how, "syscall") || !strcmp(how, "clone") ||
             !strcmp(how, "_Fork"))
        without_handler(how, mib);
    else if (!strcmp(how, "thread"))
        by_thread(mib);
    else if (!strcmp(how, "bare"))
        bare(mib);
    else if (!strcmp(how, "orphan"))
        orphan(mib);
    else if (!strcmp(how, "kill"))
        kill_them(mib);
    else if (!strcmp(how, "exec") || !strcmp(how, "exit"))
        measure(!strcmp(how, "exec"));
    else if (!strcmp(how, "unshare"))
        come_and_go(mib);
    else
        return 64;
    return 0;
}
