/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program of bench/paging.  It does one thing for each line of its input and
 * answers with one line:
 *
 *   fill        writes the region: every page is distinct, and half of it compresses
 *   pageout     MADV_PAGEOUT over the region
 *   present     how many pages of it are resident
 *   sequential  reads one word of each page, in order
 *   strided     every 8th page, for all 8 offsets
 *   random      pages in random order, each timed alone
 *   rewrite     compares every byte and changes each page, so that it has to be stored anew
 *
 * Each word that is read is compared with what was written.
 */
#define _GNU_SOURCE
#include <fcntl.h>

#include "program.h"

#define STRIDE 8ul

struct region {
    uint64_t *words;
    unsigned long nr_pages, nr_random;
    uint64_t generation;
    unsigned long *order; /* a permutation of the pages */
    uint32_t *took_ns;
};

static volatile uint64_t *page_at(const struct region *r, unsigned long page)
{
    return r->words + page * (PAGE / sizeof(uint64_t));
}

static uint64_t first_word(const struct region *r, unsigned long page)
{
    return (page << 16) + r->generation;
}

/* Half random; the other half is the page's number again and again. */
static void page_content(uint64_t *out, unsigned long page)
{
    uint64_t state = page;

    for (unsigned i = 0; i < PAGE / 16; i++)
        out[i] = next_random(&state);
    for (unsigned i = PAGE / 16; i < PAGE / 8; i++)
        out[i] = page;
}

static void fill(struct region *r)
{
    for (unsigned long p = 0; p < r->nr_pages; p++) {
        uint64_t *page = r->words + p * (PAGE / sizeof(uint64_t));
        page_content(page, p);
        page[0] = first_word(r, p);
    }
}

static void rewrite(struct region *r)
{
    uint64_t expected[PAGE / sizeof(uint64_t)];

    for (unsigned long p = 0; p < r->nr_pages; p++) {
        uint64_t *page = r->words + p * (PAGE / sizeof(uint64_t));
        page_content(expected, p);
        expected[0] = first_word(r, p);
        if (memcmp(page, expected, PAGE))
            wrong(p);
        page[0]++;
    }
    r->generation++;
}

static void touch(const struct region *r, unsigned long page)
{
    if (*page_at(r, page) != first_word(r, page))
        wrong(page);
}

static unsigned long count_present(const struct region *r)
{
    unsigned long present = 0;
    uint64_t entry[512];
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    for (unsigned long p = 0; p < r->nr_pages; p += 512) {
        unsigned long nr = r->nr_pages - p < 512 ? r->nr_pages - p : 512;
        off_t at = (off_t)(((uintptr_t)r->words / PAGE + p) * sizeof(entry[0]));
        if (pread(fd, entry, nr * sizeof(entry[0]), at) != (ssize_t)(nr * sizeof(entry[0]))) {
            perror("/proc/self/pagemap");
            exit(1);
        }
        for (unsigned long i = 0; i < nr; i++)
            present += entry[i] >> 63;
    }
    close(fd);
    return present;
}

static int by_time(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void answer_random(struct region *r)
{
    uint64_t state = r->generation, began, at, now;

    /* Before the clock runs: these pages may be moved out as well. */
    for (unsigned long i = 0; i < r->nr_pages; i++)
        r->order[i] = i;
    for (unsigned long i = 0; i < r->nr_random; i++) {
        unsigned long j = i + next_random(&state) % (r->nr_pages - i), t = r->order[i];
        r->order[i] = r->order[j];
        r->order[j] = t;
        r->took_ns[i] = 1;
    }
    began = at = clock_ns();
    for (unsigned long i = 0; i < r->nr_random; i++) {
        touch(r, r->order[i]);
        now = clock_ns();
        r->took_ns[i] = (uint32_t)(now - at);
        at = now;
    }
    uint64_t took = at - began;
    qsort(r->took_ns, r->nr_random, sizeof(*r->took_ns), by_time);
    printf("random ns=%lu pages=%lu p50=%u p99=%u max=%u\n", took, r->nr_random,
           r->took_ns[r->nr_random / 2], r->took_ns[r->nr_random * 99 / 100],
           r->took_ns[r->nr_random - 1]);
}

static void answer(struct region *r, const char *what)
{
    unsigned long pages = r->nr_pages;
    uint64_t began = clock_ns();

    if (!strcmp(what, "random")) {
        answer_random(r);
        return;
    }
    if (!strcmp(what, "fill"))
        fill(r);
    else if (!strcmp(what, "rewrite"))
        rewrite(r);
    else if (!strcmp(what, "pageout"))
        madvise(r->words, r->nr_pages * PAGE, MADV_PAGEOUT);
    else if (!strcmp(what, "present"))
        pages = count_present(r);
    else if (!strcmp(what, "sequential"))
        for (unsigned long p = 0; p < r->nr_pages; p++)
            touch(r, p);
    else if (!strcmp(what, "strided"))
        for (unsigned long off = 0; off < STRIDE; off++)
            for (unsigned long p = off; p < r->nr_pages; p += STRIDE)
                touch(r, p);
    printf("%s ns=%lu pages=%lu\n", what, clock_ns() - began, pages);
}

int main(int argc, char **argv)
{
    struct region r = {.nr_pages = number_of(argc, argv, "--mib", 256) * (MIB / PAGE)};
    char line[64];

    r.nr_random = number_of(argc, argv, "--random", 8192);
    if (r.nr_random > r.nr_pages)
        r.nr_random = r.nr_pages;
    r.words = map_region(r.nr_pages * PAGE);
    madvise(r.words, r.nr_pages * PAGE, MADV_NOHUGEPAGE);
    r.order = map_region(r.nr_pages * sizeof(*r.order));
    r.took_ns = map_region(r.nr_pages * sizeof(*r.took_ns));
    printf("pid pid=%d\n", (int)getpid());
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = 0;
        answer(&r, line);
        fflush(stdout);
    }
    return 0;
}
