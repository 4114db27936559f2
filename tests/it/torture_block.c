/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of torture: made, locked, written, verified; see torture.h. */
#define _GNU_SOURCE
#include "torture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NEAR 16u /* every other operation is within so many blocks */

struct block *blocks;
uint32_t nr_blocks;

static void *map(struct torturer *t, size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(t, NULL, p != MAP_FAILED);
    return p;
}

static void block_make(struct torturer *t, char *base, uint32_t nr_pages, uint32_t max_pages)
{
    struct block *b = &blocks[nr_blocks];

    pthread_mutex_init(&b->lock, NULL);
    b->id = nr_blocks++;
    b->nr_pages = nr_pages;
    b->max_pages = max_pages;
    b->huge = nr_pages == HUGE_PAGES;
    b->is_whole = true;
    b->base = base;
    b->page = calloc(max_pages, sizeof(*b->page));
    CHECK(t, b, b->page);
}

/* A quarter of it in huge pages. */
void blocks_make(struct torturer *t)
{
    size_t huge = HUGE_PAGES * PAGE, small = (size_t)BLOCK_PAGES * PAGE;
    uint32_t nr_huge = (uint32_t)(settings.bytes / 4 / huge);
    uint32_t nr_small = (uint32_t)((settings.bytes - nr_huge * huge) / small);
    char *p;

    blocks = calloc(nr_huge + nr_small, sizeof(*blocks));
    CHECK(t, NULL, blocks);
    p = map(t, (nr_huge + 1) * huge);
    p = (char *)(((uintptr_t)p + huge - 1) & ~(uintptr_t)(huge - 1));
    (void)madvise(p, nr_huge * huge, MADV_HUGEPAGE); /* a kernel may be without */
    for (uint32_t i = 0; i < nr_huge; i++)
        block_make(t, p + i * huge, HUGE_PAGES, HUGE_PAGES);
    p = map(t, nr_small * small);
    for (uint32_t i = 0; i < nr_small; i++)
        block_make(t, p + i * small, BLOCK_PAGES, BLOCK_MAX_PAGES);
}

struct block *block_lock(struct torturer *t)
{
    /* Half of it in a stretch that all threads are in, and that wanders. */
    uint32_t warm = (uint32_t)(now_ns() / 200000000 * 7 % nr_blocks);

    for (int tries = 0; tries < 64; tries++) {
        uint32_t i = chance(t, 2) ? below(t, nr_blocks) : (warm + below(t, NEAR)) % nr_blocks;
        if (pthread_mutex_trylock(&blocks[i].lock) == 0)
            return &blocks[i];
    }
    return NULL;
}

void block_unlock(struct block *b)
{
    pthread_mutex_unlock(&b->lock);
}

void note(struct torturer *t, struct block *b, const char *what, uint32_t page, uint32_t nr)
{
    struct operation *o = &b->history[b->nr_history++ % NR_HISTORY];

    *o = (struct operation){what, page, nr, t->id, (uint32_t)(now_ns() / 1000000)};
    t->doing = what;
}

uint32_t block_run(struct torturer *t, const struct block *b, uint32_t max, uint32_t *ret_page)
{
    uint32_t nr = 1 + below(t, max < b->nr_pages ? max : b->nr_pages);

    *ret_page = below(t, b->nr_pages - nr + 1);
    return nr;
}

/* ---- content ---- */

uint64_t tag_new(struct torturer *t, const struct block *b, uint32_t page)
{
    return (uint64_t)t->id << 60 | (uint64_t)(t->depth & 3) << 58 | (uint64_t)b->id << 44 |
           (uint64_t)page << 34 | (++t->nr_versions & 0x3ffffffff);
}

static void describe_tag(uint64_t tag, char *out, size_t size)
{
    if (!tag)
        snprintf(out, size, "zeros");
    else if (tag >> 60 == FILE_TAG >> 60)
        snprintf(out, size, "page %llu of the file", (unsigned long long)(tag & ~FILE_TAG) - 1);
    else
        snprintf(out, size, "block %u page %u version %llu of thread %u, depth %u",
                 (unsigned)(tag >> 44) & 0x3fff, (unsigned)(tag >> 34) & 0x3ff,
                 (unsigned long long)(tag & 0x3ffffffff), (unsigned)(tag >> 60),
                 (unsigned)(tag >> 58) & 3);
}

static _Noreturn void mismatch(struct torturer *t, struct block *b, uint32_t page,
                               const unsigned char *expected, const unsigned char *found)
{
    struct page_difference d = page_compare(expected, found);
    uint64_t tag = tag_of_content(found);
    char want[96], got[96];

    describe_tag(b->page[page].tag, want, sizeof(want));
    if (tag || page_is_zero(found))
        describe_tag(tag, got, sizeof(got));
    else
        snprintf(got, sizeof(got), "a mixture");
    fail(t, b, page,
         "WRONG BYTE at %p (block %u, page %u at %p): expected %02x, found %02x; %u bytes differ; "
         "expected: %s; found: %s",
         (void *)(page_at(b, page) + d.at), b->id, page, (void *)page_at(b, page), expected[d.at],
         found[d.at], d.nr_bytes, want, got);
}

void page_write(struct torturer *t, struct block *b, uint32_t page)
{
    b->page[page] = (struct page_state){.tag = tag_new(t, b, page)};
    tag_fill(page_at(b, page), b->page[page].tag);
}

void copy_verify(struct torturer *t, struct block *b, uint32_t page, const void *found)
{
    uint64_t expected[PAGE / sizeof(uint64_t)];

    tag_fill(expected, b->page[page].tag);
    if (memcmp(found, expected, PAGE) == 0)
        return;
    if (b->page[page].maybe_zero && page_is_zero(found)) {
        b->page[page] = (struct page_state){0}; /* the kernel has dropped it for good */
        return;
    }
    mismatch(t, b, page, (const unsigned char *)expected, found);
}

void page_verify(struct torturer *t, struct block *b, uint32_t page)
{
    uint64_t expected[PAGE / sizeof(uint64_t)], found[PAGE / sizeof(uint64_t)];

    tag_fill(expected, b->page[page].tag);
    if (memcmp(page_at(b, page), expected, PAGE) == 0)
        return;
    memcpy(found, page_at(b, page), PAGE); /* once: it may be right again by the second look */
    if (memcmp(found, expected, PAGE) == 0)
        fail(t, b, page, "page %u of block %u at %p was wrong, and right at the second look", page,
             b->id, (void *)page_at(b, page));
    copy_verify(t, b, page, found);
}

void block_verify(struct torturer *t, struct block *b)
{
    note(t, b, "verify", 0, b->nr_pages);
    for (uint32_t i = 0; i < b->nr_pages; i++)
        page_verify(t, b, i);
}

void blocks_verify(struct torturer *t)
{
    for (uint32_t i = 0; i < nr_blocks; i++) {
        if (pthread_mutex_trylock(&blocks[i].lock) != 0)
            continue;
        block_verify(t, &blocks[i]);
        block_unlock(&blocks[i]);
    }
}
