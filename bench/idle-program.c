/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program of bench/idle: a buffer of huge pages (MADV_HUGEPAGE) that it walks
 * with mixed reads and writes.  It answers with its time and with AnonHugePages of
 * its own smaps_rollup, before and after.
 *
 * Half of the walk is in order; half jumps about by lines, where losing huge pages would
 * show in TLB misses.
 */
#define _GNU_SOURCE
#include "program.h"

#define HUGE (2 * MIB)
#define LINE_WORDS 8ul

static unsigned long anon_huge_kib(void)
{
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    unsigned long kib = 0;

    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "AnonHugePages: %lu kB", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib;
}

static uint64_t processor_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void walk(uint64_t *words, size_t nr_words, uint64_t *state)
{
    uint64_t nr_lines = nr_words / LINE_WORDS, sum = 0;

    for (size_t i = 0; i < nr_words; i += LINE_WORDS)
        if (i / LINE_WORDS % 4)
            sum += words[i];
        else
            words[i]++;
    for (uint64_t i = 0; i < nr_lines / 4; i++) {
        uint64_t r = next_random(state);
        uint64_t *line = words + (r % nr_lines) * LINE_WORDS;
        if (r >> 62)
            sum += *line;
        else
            (*line)++;
    }
    words[1] = sum;
}

int main(int argc, char **argv)
{
    size_t bytes = number_of(argc, argv, "--mib", 512) * MIB;
    unsigned long passes = number_of(argc, argv, "--passes", 10);
    uint64_t state = 1, *words;
    char line[64];

    words = map_region(bytes + HUGE);
    words = (uint64_t *)(((uintptr_t)words + HUGE - 1) & ~(HUGE - 1));
    madvise(words, bytes, MADV_HUGEPAGE);
    printf("pid pid=%d\n", (int)getpid());
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        uint64_t began, busy;
        unsigned long before;

        for (size_t i = 0; i < bytes / sizeof(*words); i += PAGE / sizeof(*words))
            words[i] = i;
        before = anon_huge_kib();
        began = clock_ns();
        busy = processor_ns();
        for (unsigned long i = 0; i < passes; i++)
            walk(words, bytes / sizeof(*words), &state);
        busy = processor_ns() - busy;
        printf("walk ns=%lu busy_ns=%lu huge_kib=%lu huge_kib_after=%lu\n", clock_ns() - began, busy,
               before, anon_huge_kib());
        fflush(stdout);
    }
    return 0;
}
