/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Children of torture: each verifies every block that nobody was at work on when it
 * was born, writes to some while the parent's threads write to the same, and verifies
 * all of it again.  Its exit status tells.
 */
#define _GNU_SOURCE
#include "raw_clone.h"
#include "torture.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_CHILDREN 2u
#define CHILD_SECONDS 100
#define CHILD_OPERATIONS 100

_Atomic uint32_t nr_children;

static void write_some(struct torturer *t)
{
    struct block *b = block_lock(t);
    uint32_t page, nr;

    if (!b)
        return;
    nr = block_run(t, b, 32, &page);
    note(t, b, t->depth ? "child: write" : "write after a fork", page, nr);
    for (uint32_t i = page; i < page + nr; i++)
        page_write(t, b, i);
    block_unlock(b);
}

static void child_verify(struct torturer *t)
{
    struct block *b = block_lock(t);

    if (!b)
        return;
    block_verify(t, b);
    block_unlock(b);
}

static _Noreturn void child_run(struct torturer *t)
{
    static void (*const operations[])(struct torturer *t) = {
        write_some, child_verify, io_pipe, io_file_read, map_discard, map_over, map_protect};

    t->depth++;
    t->random ^= (uint64_t)getpid() << 32;
    t->has_ring = false; /* the parent's */
    signal(SIGALRM, SIG_DFL);
    alarm(CHILD_SECONDS);
    io_open(t); /* the parent's would be shared with it */
    if (!chance(t, 4))
        blocks_verify(t);
    for (uint32_t i = 0; i < CHILD_OPERATIONS; i++)
        operations[below(t, sizeof(operations) / sizeof(operations[0]))](t);
    blocks_verify(t);
    if (t->child_is_to_be_killed)
        raise(SIGKILL);
    _exit(0);
}

void fork_reap(struct torturer *t, bool wait)
{
    pid_t got;
    int status;

    if (!t->child)
        return;
    t->doing = "waitpid";
    do
        got = waitpid(t->child, &status, wait ? 0 : WNOHANG);
    while (got < 0 && errno == EINTR);
    if (got == 0)
        return;
    CHECK(t, NULL, got == t->child);
    atomic_fetch_sub(&nr_children, 1);
    t->child = 0;
    if (t->child_is_to_be_killed ? !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL
                                 : !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail(t, NULL, 0, "child %d ended with status %#x", got, (unsigned)status);
    t->nr_forks++;
}

void fork_one(struct torturer *t)
{
    bool is_clone = chance(t, 3), raw = is_clone && settings.raw_clones && chance(t, 2);
    pid_t pid;

    if (!settings.forks)
        return;
    fork_reap(t, false);
    if (t->child)
        return;
    if (atomic_fetch_add(&nr_children, 1) >= MAX_CHILDREN) {
        atomic_fetch_sub(&nr_children, 1);
        return;
    }
    t->doing = raw ? "clone by an instruction" : is_clone ? "clone" : "fork";
    t->child_is_to_be_killed = chance(t, 8);
    pid = raw        ? (pid_t)raw_clone()
          : is_clone ? (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL)
                     : fork();
    CHECK(t, NULL, pid >= 0);
    if (pid == 0)
        child_run(t);
    t->child = pid;
    for (int i = 0; i < 8; i++) /* what it shares with us changes here first */
        write_some(t);
}
