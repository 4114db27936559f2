/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program of bench/reclaim: a region that is larger than what may be resident, and
 * a pattern of accesses that is the same for every run with one seed.
 *
 *   --pattern=zipf   pages by a Zipf distribution (theta 0.99), scattered over the region
 *   --pattern=scan   a cyclic scan over the region; between two pages of it, one page of
 *                    a hot set of --hot-mib
 *
 * A quarter of the accesses write.  Each page counts the writes to it, in itself and in
 * a table beside (one byte a page), and the two are compared at each access.
 *
 * Lines of input: `fill`; `warm` (half of the accesses again, so that who is measured has
 * settled); `work`.
 */
#define _GNU_SOURCE
#include <math.h>
#include <sys/resource.h>

#include "program.h"

struct work {
    uint64_t *words;
    uint8_t *written;
    unsigned long nr_pages, nr_hot, nr_accesses, at;
    uint64_t state;
    int scan;
    /* Zipf by rejection-inversion would do as well; this is the closed form of Gray et al. */
    double theta, zeta_n, alpha, eta;
};

static void access_page(struct work *w, unsigned long page)
{
    volatile uint64_t *word = w->words + page * (PAGE / sizeof(uint64_t));

    if (*word != (page << 8 | w->written[page]))
        wrong(page);
    if ((next_random(&w->state) & 3) == 0)
        *word = page << 8 | ++w->written[page];
}

static void zipf_prepare(struct work *w)
{
    double n = (double)w->nr_pages, zeta_2 = 1 + pow(0.5, w->theta);

    for (unsigned long i = 1; i <= w->nr_pages; i++)
        w->zeta_n += pow(1.0 / (double)i, w->theta);
    w->alpha = 1 / (1 - w->theta);
    w->eta = (1 - pow(2 / n, 1 - w->theta)) / (1 - zeta_2 / w->zeta_n);
}

static unsigned long zipf_rank(struct work *w)
{
    double u = (double)(next_random(&w->state) >> 11) / (double)(1ull << 53), uz = u * w->zeta_n;

    if (uz < 1)
        return 0;
    if (uz < 1 + pow(0.5, w->theta))
        return 1;
    unsigned long rank = (unsigned long)((double)w->nr_pages * pow(w->eta * u - w->eta + 1, w->alpha));
    return rank < w->nr_pages ? rank : w->nr_pages - 1;
}

/* An odd multiplier permutes a power of two: neighbours in rank are not neighbours in memory. */
static unsigned long scatter(const struct work *w, unsigned long rank)
{
    uint64_t mask = 1;

    while (mask < w->nr_pages)
        mask <<= 1;
    uint64_t page = rank;
    do
        page = (page * 0x9e3779b1u + 12345) & (mask - 1);
    while (page >= w->nr_pages);
    return page;
}

static void work(struct work *w, unsigned long accesses)
{
    unsigned long nr_cold = w->nr_pages - w->nr_hot;

    for (unsigned long i = 0; i < accesses; i++) {
        if (!w->scan) {
            access_page(w, scatter(w, zipf_rank(w)));
        } else {
            access_page(w, w->nr_hot + w->at++ % nr_cold);
            access_page(w, next_random(&w->state) % w->nr_hot);
        }
    }
}

static void fill(struct work *w)
{
    for (unsigned long p = 0; p < w->nr_pages; p++) {
        uint64_t state = p, *page = w->words + p * (PAGE / sizeof(uint64_t));
        for (unsigned i = 0; i < PAGE / 16; i++)
            page[i] = next_random(&state);
        page[0] = p << 8;
    }
}

static unsigned long major_faults(void)
{
    struct rusage ru;

    getrusage(RUSAGE_SELF, &ru);
    return (unsigned long)ru.ru_majflt;
}

int main(int argc, char **argv)
{
    struct work w = {
        .nr_hot = number_of(argc, argv, "--hot-mib", 0) * (MIB / PAGE),
        .nr_accesses = number_of(argc, argv, "--accesses", 1000000),
        .state = number_of(argc, argv, "--seed", 1),
        .theta = 0.99,
    };
    char line[64];

    for (int i = 1; i < argc; i++)
        w.scan |= !strcmp(argv[i], "--pattern=scan");
    w.nr_pages = number_of(argc, argv, "--mib", 512) * (MIB / PAGE) + w.nr_hot;
    w.words = map_region(w.nr_pages * PAGE);
    madvise(w.words, w.nr_pages * PAGE, MADV_NOHUGEPAGE);
    w.written = map_region(w.nr_pages);
    if (!w.scan)
        zipf_prepare(&w);
    printf("pid pid=%d\n", (int)getpid());
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        unsigned long faults = major_faults();
        uint64_t began = clock_ns();
        line[strcspn(line, "\n")] = 0;
        if (!strcmp(line, "fill"))
            fill(&w);
        else
            work(&w, strcmp(line, "warm") ? w.nr_accesses : w.nr_accesses / 2);
        printf("%s ns=%lu pages=%lu majflt=%lu\n", line, clock_ns() - began, w.nr_pages,
               major_faults() - faults);
        fflush(stdout);
    }
    return 0;
}
