/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Children of churn: a fork's child has the memory of its parent as of then and
 * from there on its own; both go on at once.  Of several threads, only the one
 * that forked is in the child, so only its own regions are looked at there.
 */
#define _GNU_SOURCE
#include "churn.h"
#include "raw_clone.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_SECONDS 60
#define CHILD_OPERATIONS 40
#define TINY_PAGES 1024u
#define KILLED (-2)

extern char **environ;

static void reap(struct churner *c, uint32_t i)
{
    pid_t pid = c->child[i], got;
    int status;

    if (!pid)
        return;
    c->child[i] = 0;
    do
        got = waitpid(pid < 0 ? -pid : pid, &status, 0);
    while (got < 0 && errno == EINTR);
    CHECK(c, got == (pid < 0 ? -pid : pid));
    /* Negative: one that was to kill itself in the end. */
    if (pid < 0 ? !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL
                : !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail(c, "child %d ended with status %#x", got, (unsigned)status);
}

void child_reap(struct churner *c, bool all)
{
    reap(c, 0);
    if (all)
        reap(c, 1);
    else if (c->child[1]) {
        c->child[0] = c->child[1];
        c->child[1] = 0;
    }
}

static _Noreturn void child_run(struct churner *c, bool to_be_killed)
{
    c->depth++;
    c->random ^= (uint64_t)c->depth << 32 | c->nr_ops;
    c->child[0] = c->child[1] = 0;
    layout_mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    signal(SIGALRM, SIG_DFL);
    alarm(CHILD_SECONDS);
    touch_open(c); /* the parent's would be shared with it */
    if (random_chance(c, 2))
        for (uint32_t i = 0; i < c->nr_regions; i++)
            region_verify(c, &c->region[i]);
    for (uint32_t i = 0; i < CHILD_OPERATIONS; i++)
        churn_once(c);
    child_reap(c, true);
    for (uint32_t i = 0; i < c->nr_regions; i++)
        region_verify(c, &c->region[i]);
    if (to_be_killed)
        raise(SIGKILL);
    if (random_chance(c, 2))
        syscall(SYS_exit_group, 0);
    _exit(0);
}

void child_fork(struct churner *c)
{
    /*
     * fork() takes the locks of malloc(). In a child of a clone of several threads one may
     * be another thread's, who is not there: such a child does not fork, it clones.
     */
    bool is_clone = random_chance(c, 3) || c->no_malloc, to_be_killed = random_chance(c, 8);
    bool raw = is_clone && settings.raw_clones && random_chance(c, 2);
    pid_t pid;

    if (c->depth > 1)
        return;
    if (c->child[1])
        child_reap(c, false);
    note(c, raw ? "clone by an instruction" : is_clone ? "clone" : "fork", NULL, 0, 0);
    pid = raw        ? (pid_t)raw_clone()
          : is_clone ? (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL)
                     : fork();
    CHECK(c, pid >= 0);
    if (pid == 0) {
        c->no_malloc |= is_clone;
        child_run(c, to_be_killed);
    }
    c->child[c->child[0] ? 1 : 0] = to_be_killed ? -pid : pid;
    /* What it shares with us changes here first. */
    for (int i = 0; i < 8; i++)
        touch_write(c);
}

void child_exec(struct churner *c)
{
    char *argv[] = {(char *)"churn", (char *)"--tiny", NULL};
    pid_t pid;
    int status, r;

    if (c->no_malloc || random_chance(c, 2)) {
        note(c, "vfork, exec", NULL, 0, 0);
        pid = vfork();
        if (pid == 0) {
            execv("/proc/self/exe", argv);
            _exit(99);
        }
        CHECK(c, pid > 0);
    } else {
        note(c, "posix_spawn", NULL, 0, 0);
        pthread_mutex_lock(&layout_mutex); /* it maps a stack */
        r = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ);
        pthread_mutex_unlock(&layout_mutex);
        CHECK(c, r == 0);
    }
    touch_write(c);
    CHECK(c, waitpid(pid, &status, 0) == pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail(c, "program %d that was started ended with status %#x", pid, (unsigned)status);
}

int child_tiny(void)
{
    char *p = mmap(NULL, (size_t)TINY_PAGES * PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return 1;
    alarm(CHILD_SECONDS);
    for (uint32_t i = 0; i < TINY_PAGES; i++)
        tag_fill(p + (size_t)i * PAGE, i + 1);
    for (uint32_t i = 0; i < TINY_PAGES; i++)
        if (tag_of_content(p + (size_t)i * PAGE) != i + 1)
            return 1;
    return 0;
}
