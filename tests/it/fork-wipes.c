/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork-wipes HOW: memory that is to be zeros in children (MADV_WIPEONFORK), said when all
 * of it was moved out.  Status 0: no child has seen a byte of it.
 *
 *   main    the main thread forks
 *   part    the same, and the first and the last page are back
 *   ended   another thread forks, and the main thread has ended
 *   refused a child that cannot be served (a fail point of the daemon): its bytes, or SIGBUS
 *   moving  the same, and it moves that memory about from its first moment
 *   young   a child says so as soon as it runs, and forks; the grandchild may get SIGBUS
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "raw_clone.h"

#define PAGE 4096
#define SECRET_PAGES 256
#define OTHER_BYTES ((size_t)60 << 20)
#define SECONDS 30
#define MOVES 200

static char *secret, *other;
static pthread_t main_thread;

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "fork-wipes: %s\n", what);
    _exit(99);
}

static bool is_out(void)
{
    unsigned char there[SECRET_PAGES];
    int nr = 0;

    if (mincore(secret, SECRET_PAGES * PAGE, there) < 0)
        die("mincore");
    for (int i = 0; i < SECRET_PAGES; i++)
        nr += there[i] & 1;
    return nr == 0;
}

static void fill(void)
{
    time_t end = time(NULL) + SECONDS;

    /* Far from anything else, so that it is a mapping of its own. */
    secret = mmap((void *)0x300000000000ul, SECRET_PAGES * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    other = mmap(NULL, OTHER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (secret == MAP_FAILED || other == MAP_FAILED)
        die("mmap");
    memset(secret, 7, SECRET_PAGES * PAGE);
    for (unsigned round = 0; !is_out(); round++) {
        if (time(NULL) > end)
            die("it is not moved out");
        for (size_t i = 0; i < OTHER_BYTES; i += 512)
            other[i] = (char)(i + round);
    }
}

static int look(void)
{
    for (size_t i = 0; i < SECRET_PAGES * PAGE; i++)
        if (secret[i])
            return 1;
    return 0;
}

/* 0: the child has seen zeros only; 1: a byte of the secret; else a signal. */
static int child_sees(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(look());
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        die("fork");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static sigjmp_buf next;

static void on_sigbus(int sig)
{
    (void)sig;
    siglongjmp(next, 1);
}

/* Every byte that it can read is its parent's; of what is out it can read none. */
static int look_refused(void)
{
    volatile int nr_bus = 0;

    signal(SIGBUS, on_sigbus);
    for (volatile size_t i = 0; i < SECRET_PAGES * PAGE; i += PAGE) {
        if (sigsetjmp(next, 1))
            nr_bus = nr_bus + 1;
        else if (*(volatile char *)(secret + i) != 7)
            return 1;
    }
    return nr_bus == SECRET_PAGES ? 0 : 2;
}

/* Some of these moves are under way when the child is poisoned, which has to wait for their end. */
static void move_about(void)
{
    for (int i = 0; i < MOVES; i++) {
        char *to = mremap(secret, SECRET_PAGES * PAGE, SECRET_PAGES * PAGE,
                          MREMAP_MAYMOVE | MREMAP_FIXED, secret + 2 * SECRET_PAGES * PAGE);
        if (to == MAP_FAILED)
            die("mremap");
        secret = to;
    }
}

static int by_refused_child(bool moves)
{
    int status;
    pid_t pid = moves ? (pid_t)raw_clone() : fork(); /* fork() would wait for an agent */

    if (pid == 0) {
        if (moves)
            move_about();
        _exit(look_refused());
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        die("fork");
    for (size_t i = 0; i < SECRET_PAGES * PAGE; i++)
        if (secret[i] != 7)
            die("the parent's bytes are wrong");
    return status != 0;
}

static void say_so(void)
{
    if (madvise(secret, SECRET_PAGES * PAGE, MADV_WIPEONFORK) < 0)
        die("madvise");
}

static int by_young_child(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        say_so();
        int r = child_sees();
        _exit(r == -SIGBUS ? 0 : r);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        die("fork");
    return status != 0;
}

static void *fork_alone(void *unused)
{
    (void)unused;
    pthread_join(main_thread, NULL);
    _exit(child_sees());
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    pthread_t t;

    fill();
    if (!strcmp(how, "refused"))
        return by_refused_child(false);
    if (!strcmp(how, "moving"))
        return by_refused_child(true);
    if (!strcmp(how, "young"))
        return by_young_child();
    say_so();
    if (!strcmp(how, "part"))
        secret[0] = secret[SECRET_PAGES * PAGE - 1] = 8;
    if (!strcmp(how, "main") || !strcmp(how, "part"))
        return child_sees();
    main_thread = pthread_self();
    if (pthread_create(&t, NULL, fork_alone, NULL))
        die("pthread_create");
    pthread_exit(NULL);
}
