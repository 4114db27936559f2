/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of torture in which all threads write at once: each has words of its own in
 * every page, and one word of the page is a futex, the lock of another word.  What is
 * written while the page is being taken must not be lost, nor a wake-up.
 */
#define _GNU_SOURCE
#include "torture.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGES 2048u
#define BUSY_PAGES 4u /* those that are fought for at a time */
#define OWN_WORDS 16u

struct shared_page {
    _Atomic uint32_t lock; /* 0: free, 1: taken, 2: taken and waited for */
    uint32_t nr_taken;     /* of the lock's holder */
    uint32_t nr_taken_again;
    uint32_t pad[13];
    volatile uint32_t own[MAX_THREADS][OWN_WORDS];
    char rest[PAGE - 64 - MAX_THREADS * OWN_WORDS * 4];
};
_Static_assert(sizeof(struct shared_page) == PAGE, "one page");

static struct shared_page *shared;

void shared_make(struct torturer *t)
{
    shared = mmap(NULL, PAGES * sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(t, NULL, shared != MAP_FAILED);
}

static void own_verify(struct torturer *t, uint32_t page, uint32_t word)
{
    uint32_t found = shared[page].own[t->id][word], expected = t->tally[page * OWN_WORDS + word];

    if (found != expected)
        fail(t, NULL, 0, "WRONG WORD at %p (shared page %u): expected %u, found %u",
             (void *)(uintptr_t)&shared[page].own[t->id][word], page, expected, found);
}

void shared_tally(struct torturer *t)
{
    if (!t->tally) {
        t->tally = calloc((size_t)PAGES * OWN_WORDS, sizeof(*t->tally));
        CHECK(t, NULL, t->tally);
    }
    t->doing = "tally";
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t page = below(t, PAGES), word = below(t, OWN_WORDS);
        own_verify(t, page, word);
        shared[page].own[t->id][word] = ++t->tally[page * OWN_WORDS + word];
    }
}

void shared_verify(struct torturer *t)
{
    for (uint32_t i = 0; t->tally && i < PAGES * OWN_WORDS; i++)
        own_verify(t, i / OWN_WORDS, i % OWN_WORDS);
}

static long futex(_Atomic uint32_t *word, int op, uint32_t value)
{
    return syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

static void take(struct torturer *t, _Atomic uint32_t *lock, int private)
{
    uint32_t free = 0;

    if (atomic_compare_exchange_strong(lock, &free, 1))
        return;
    while (atomic_exchange(lock, 2) != 0) {
        t->nr_futex_waits++;
        CHECK(t, NULL, futex(lock, FUTEX_WAIT | private, 2) == 0 || errno == EAGAIN ||
                           errno == EINTR);
    }
}

static void give(struct torturer *t, _Atomic uint32_t *lock, int private)
{
    if (atomic_exchange(lock, 0) == 2)
        CHECK(t, NULL, futex(lock, FUTEX_WAKE | private, 1) >= 0);
}

void shared_futex(struct torturer *t)
{
    uint32_t page = (uint32_t)(now_ns() / 10000000 * BUSY_PAGES + below(t, BUSY_PAGES)) % PAGES;
    struct shared_page *s = &shared[page];
    /* A page's waiters and wakers have to agree. */
    int private = page % 2 ? FUTEX_PRIVATE_FLAG : 0;

    t->doing = "futex";
    for (uint32_t i = 0; i < 8; i++) {
        take(t, &s->lock, private);
        if (s->nr_taken != s->nr_taken_again)
            fail(t, NULL, 0, "shared page %u: taken %u times and %u times", page, s->nr_taken,
                 s->nr_taken_again);
        s->nr_taken++;
        if (chance(t, 4))
            sched_yield();
        s->nr_taken_again++;
        give(t, &s->lock, private);
    }
}
