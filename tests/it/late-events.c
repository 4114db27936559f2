/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two threads, of which one frees a range of addresses and the other moves a
 * mapping there at once: legal, and seen by a pager through two messages, each
 * sent after its own call has let go of the address space.  The message of the
 * first is the later one when its thread is preempted in between, to which it is
 * invited here: it has the lower priority on the same processor.
 *
 *   late-events ROUNDS unmap     the range is freed by munmap
 *   late-events ROUNDS move      the mapping there is moved away
 *
 * Exit status 1: a mapping does not hold what was written to it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define PAGES 1024u
#define BYTES ((size_t)PAGES * PAGE)

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            perror(#x);                                                                            \
            _exit(2);                                                                              \
        }                                                                                          \
    } while (0)

static _Atomic uint32_t round_started, round_freed;
static char *freed, *moved_to;
static bool by_move;
static uint32_t rounds;

static char *map(int prot)
{
    char *p = mmap(NULL, BYTES, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(p != MAP_FAILED);
    return p;
}

static void fill(char *p, uint64_t what)
{
    for (uint32_t i = 0; i < PAGES; i++)
        for (uint32_t k = 0; k < PAGE / 8; k++)
            ((uint64_t *)(p + (size_t)i * PAGE))[k] = what + i;
}

static uint32_t wrong_pages(const char *p, uint64_t what)
{
    uint32_t wrong = 0;

    for (uint32_t i = 0; i < PAGES; i++) {
        const uint64_t *word = (const uint64_t *)(p + (size_t)i * PAGE);
        for (uint32_t k = 0; k < PAGE / 8; k++) {
            if (word[k] == what + i)
                continue;
            if (!wrong)
                printf("page %u holds %#llx, not %#llx\n", i, (unsigned long long)word[k],
                       (unsigned long long)(what + i));
            wrong++;
            break;
        }
    }
    return wrong;
}

static void *free_ranges(void *arg)
{
    const struct sched_param none = {0};

    (void)arg;
    CHECK(sched_setscheduler(0, SCHED_IDLE, &none) == 0);
    for (uint32_t i = 1; i <= rounds; i++) {
        while (atomic_load(&round_started) < i)
            sched_yield();
        if (by_move)
            CHECK(mremap(freed, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, moved_to) == moved_to);
        else
            CHECK(munmap(freed, BYTES) == 0);
        atomic_store(&round_freed, i);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned char resident[PAGES];
    uint32_t wrong = 0;
    pthread_t thread;
    cpu_set_t cpu;

    CHECK(argc == 3);
    rounds = (uint32_t)atoi(argv[1]);
    by_move = strcmp(argv[2], "move") == 0;
    alarm(100);
    CHECK(sched_getaffinity(0, sizeof(cpu), &cpu) == 0);
    for (int i = 0, seen = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &cpu) && seen++)
            CPU_CLR(i, &cpu);
    CHECK(sched_setaffinity(0, sizeof(cpu), &cpu) == 0);
    CHECK(pthread_create(&thread, NULL, free_ranges, NULL) == 0);

    for (uint32_t i = 1; i <= rounds; i++) {
        uint64_t what = (uint64_t)i << 32;
        char *target = map(PROT_READ | PROT_WRITE), *mine = map(PROT_READ | PROT_WRITE);
        char *other = map(PROT_READ | PROT_WRITE), *away = map(PROT_NONE);

        fill(target, what | 1u << 30);
        fill(mine, what | 2u << 30);
        fill(other, what | 3u << 30); /* others go out for it */
        freed = target;
        moved_to = away;
        atomic_store(&round_started, i);
        while (mincore(target, BYTES, resident) == 0) /* until it is free */
            sched_yield();
        CHECK(mremap(mine, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
        while (atomic_load(&round_freed) < i)
            sched_yield();
        wrong += wrong_pages(target, what | 2u << 30);
        wrong += wrong_pages(other, what | 3u << 30);
        if (by_move)
            wrong += wrong_pages(away, what | 1u << 30);
        CHECK(munmap(target, BYTES) == 0 && munmap(other, BYTES) == 0 && munmap(away, BYTES) == 0);
    }
    CHECK(pthread_join(thread, NULL) == 0);
    printf("%u rounds, %u wrong pages\n", rounds, wrong);
    return wrong != 0;
}
