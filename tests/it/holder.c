/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holder MIB: fills so much memory, says "ready", and then does what its standard input
 * says, a line each, until that ends:
 *
 *   verify    looks at every word; says "verified" or ends with status 1
 *   grow MIB  fills so much more; says "grown"
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_PARTS 64
#define WORDS_PER_MIB ((size_t)(1 << 20) / sizeof(uint64_t))

static struct part {
    uint64_t *word;
    size_t nr;
} parts[MAX_PARTS];
static unsigned nr_parts;

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ (x >> 27);
}

static void grow(const char *mib)
{
    struct part *p;

    if (nr_parts == MAX_PARTS)
        exit(2);
    p = &parts[nr_parts];
    p->nr = strtoul(mib, NULL, 10) * WORDS_PER_MIB;
    p->word = mmap(NULL, p->nr * sizeof(*p->word), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p->word == MAP_FAILED) { /* of nothing, too */
        fprintf(stderr, "holder: no %s MiB\n", mib);
        exit(2);
    }
    nr_parts++;
    for (size_t i = 0; i < p->nr; i++)
        p->word[i] = mix(nr_parts + i);
}

static void verify(void)
{
    size_t wrong = 0;

    for (unsigned n = 0; n < nr_parts; n++)
        for (size_t i = 0; i < parts[n].nr; i++)
            wrong += parts[n].word[i] != mix(n + 1 + i);
    if (wrong) {
        printf("%zu words are wrong\n", wrong);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    char line[64];

    setvbuf(stdout, NULL, _IOLBF, 0);
    grow(argc > 1 ? argv[1] : "1");
    puts("ready");
    while (fgets(line, sizeof(line), stdin)) {
        if (!strncmp(line, "grow ", 5)) {
            grow(line + 5);
            puts("grown");
        } else {
            verify();
            puts("verified");
        }
    }
    verify();
    return 0;
}
