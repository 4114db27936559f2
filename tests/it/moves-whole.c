/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ordinary program that maps memory, fills it and moves all of it elsewhere, again and again, at
 * addresses that overlap with those of before, while it is being adopted.  To the program each is one
 * mapping: it has to move as a whole, or to stay as it is.
 *
 * From Linux 6.17 on an mremap() over several mappings moves them one by one, and stops at one that is
 * registered with a userfaultfd if it is not the first: half of the memory has moved by then.
 *
 *   moves-whole SECONDS [dontunmap]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "pattern.h"

#define ARENA_PAGES 1024u
#define MAX_PAGES 128u
#define BALLAST_BYTES ((size_t)24 << 20) /* above three quarters of the limit */
#define PLACES 64u

static uint64_t seed;
static unsigned nr_moved, nr_refused;

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static char *map(void *at, size_t bytes, int prot, int flags)
{
    char *p = mmap(at, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

    if (p == MAP_FAILED) {
        perror("mmap");
        exit(99);
    }
    return p;
}

/* How many of the pages are not what they were filled with; of what is not mapped, all. */
static unsigned nr_wrong(char *p, uint32_t nr, uint64_t tag)
{
    unsigned char resident[MAX_PAGES];
    unsigned wrong = 0;

    if (mincore(p, (size_t)nr * PAGE, resident) < 0)
        return nr;
    for (uint32_t i = 0; i < nr; i++)
        wrong += tag_of_content(p + (size_t)i * PAGE) != tag + i;
    return wrong;
}

/* False: something of it is elsewhere, or wrong. */
static bool move_one(char *from, char *to, int flags)
{
    uint32_t nr = 16 + random_u32_below(&seed, MAX_PAGES - 16);
    uint32_t room = ARENA_PAGES - nr;
    char *old = from + (size_t)random_u32_below(&seed, PLACES) * (room / PLACES) * PAGE;
    char *new = to + (size_t)random_u32_below(&seed, PLACES) * (room / PLACES) * PAGE;
    uint64_t tag = (random_u64(&seed) >> 24) + 1, until_ns;
    size_t bytes = (size_t)nr * PAGE;
    void *p;

    map(old, bytes, PROT_READ | PROT_WRITE, MAP_FIXED);
    for (uint32_t i = 0; i < nr; i++)
        tag_fill(old + (size_t)i * PAGE, tag + i);
    /* A moment that the daemon may be in the middle of something in. */
    until_ns = now_ns() + random_u32_below(&seed, 30000);
    while (now_ns() < until_ns)
        ;
    p = mremap(old, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | flags, new);
    int error = p == MAP_FAILED ? errno : 0;
    if (p != MAP_FAILED)
        nr_moved++;
    else
        nr_refused++;
    unsigned wrong = nr_wrong(p == MAP_FAILED ? old : new, nr, tag);
    if (wrong)
        fprintf(stderr, "%u pages from %p to %p: mremap: %s; %u are not there\n", nr, (void *)old,
                (void *)new, strerror(error), wrong);
    /* Never a hole that somebody else's memory could come to. */
    map(from, (size_t)ARENA_PAGES * PAGE, PROT_NONE, MAP_FIXED | MAP_NORESERVE);
    map(to, (size_t)ARENA_PAGES * PAGE, PROT_NONE, MAP_FIXED | MAP_NORESERVE);
    return !wrong;
}

int main(int argc, char **argv)
{
    uint64_t end_ns = now_ns() + (argc > 1 ? strtoul(argv[1], NULL, 10) : 1) * 1000000000u;
    int flags = argc > 2 ? MREMAP_DONTUNMAP : 0;
    char *ballast = map(NULL, BALLAST_BYTES, PROT_READ | PROT_WRITE, 0);
    char *from = map(NULL, (size_t)ARENA_PAGES * PAGE, PROT_NONE, MAP_NORESERVE);
    char *to = map(NULL, (size_t)ARENA_PAGES * PAGE, PROT_NONE, MAP_NORESERVE);
    unsigned wrong = 0;

    seed = now_ns();
    for (size_t at = 0; at < BALLAST_BYTES; at += PAGE)
        tag_fill(ballast + at, at + 1);
    while (now_ns() < end_ns && wrong < 10)
        wrong += !move_one(from, to, flags);
    printf("%u moved, %u refused, %u half\n", nr_moved, nr_refused, wrong);
    return 0;
}
