/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_PROGRAM_H
#define BENCH_PROGRAM_H
/* What the measured programs share: ordinary programs, nothing of pagerd's in them. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define MIB (1ul << 20)

static inline uint64_t clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* splitmix64: every state gives good numbers. */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline void *map_region(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return p;
}

/* The number behind `--name=` in one of the arguments. */
static inline unsigned long number_of(int argc, char **argv, const char *option, unsigned long other)
{
    size_t len = strlen(option);

    for (int i = 1; i < argc; i++)
        if (!strncmp(argv[i], option, len) && argv[i][len] == '=')
            return strtoul(argv[i] + len + 1, NULL, 10);
    return other;
}

static inline void wrong(unsigned long page)
{
    printf("wrong page=%lu\n", page);
    fflush(stdout);
    _exit(1);
}

#endif
