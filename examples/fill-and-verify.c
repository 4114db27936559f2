/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fill-and-verify [MIB [ROUNDS]]: a program that knows nothing of pagerd and
 * has more memory than it is given:
 *
 *     pagerctl run --limit=16M -- ./fill-and-verify 64
 *
 * It fills MIB mebibytes with a pattern, then ROUNDS times goes over all pages
 * in an order of its own, checks every word and rewrites a quarter of the
 * pages.  Prints a summary; exit status 1 if a word was wrong.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define PAGE_BYTES 4096
#define PAGE_WORDS (PAGE_BYTES / sizeof(uint64_t))

/* splitmix64: a different, well mixed number for every input. */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* What word `w` of page `page` holds in that page's `version`. */
static uint64_t word(uint64_t page, uint64_t version, uint64_t w)
{
    return mix(mix(page << 16 | version) + w);
}

static void fill(uint64_t *memory, uint64_t page, uint64_t version)
{
    for (uint64_t w = 0; w < PAGE_WORDS; w++)
        memory[page * PAGE_WORDS + w] = word(page, version, w);
}

static uint64_t nr_wrong_words(const uint64_t *memory, uint64_t page, uint64_t version)
{
    uint64_t wrong = 0;

    for (uint64_t w = 0; w < PAGE_WORDS; w++)
        wrong += memory[page * PAGE_WORDS + w] != word(page, version, w);
    return wrong;
}

static unsigned long number(const char *text, unsigned long least, unsigned long most)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (end == text || *end || n < least || n > most) {
        fprintf(stderr, "usage: fill-and-verify [MIB [ROUNDS]]\n");
        exit(2);
    }
    return n;
}

int main(int argc, char **argv)
{
    unsigned long mib = argc > 1 ? number(argv[1], 1, 1ul << 20) : 64;
    unsigned long rounds = argc > 2 ? number(argv[2], 1, 1000) : 2;
    uint64_t nr_pages = mib * ((1 << 20) / PAGE_BYTES);
    uint64_t *memory = malloc(nr_pages * PAGE_BYTES);
    uint16_t *version = calloc(nr_pages, sizeof(*version));
    uint64_t wrong = 0, rewritten = 0, sum = 0;

    if (!memory || !version) {
        perror("fill-and-verify");
        return 2;
    }
    for (uint64_t page = 0; page < nr_pages; page++)
        fill(memory, page, 0);
    for (unsigned long round = 0; round < rounds; round++) {
        for (uint64_t i = 0; i < nr_pages; i++) {
            /* A prime above nr_pages: every page once a round. */
            uint64_t page = (i * UINT64_C(2654435761) + round) % nr_pages;

            wrong += nr_wrong_words(memory, page, version[page]);
            sum ^= memory[page * PAGE_WORDS];
            if (mix(page + round) % 4 == 0) {
                fill(memory, page, ++version[page]);
                rewritten++;
            }
        }
    }
    for (uint64_t page = 0; page < nr_pages; page++)
        wrong += nr_wrong_words(memory, page, version[page]);
    printf("%lu MiB, %lu rounds, %" PRIu64 " pages rewritten, %" PRIu64
           " wrong words, sum %016" PRIx64 "\n",
           mib, rounds, rewritten, wrong, sum);
    free(version);
    free(memory);
    return wrong ? 1 : 0;
}
