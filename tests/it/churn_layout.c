/* SPDX-License-Identifier: Apache-2.0 */
/* Operations of churn that change its mappings. */
#define _GNU_SOURCE
#include "churn.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MIN_PAGES 64u
#define PROTECTED_MAX 64u

pthread_mutex_t layout_mutex = PTHREAD_MUTEX_INITIALIZER;

static void *map(struct churner *c, void *at, size_t bytes, int prot, int flags)
{
    void *p = mmap(at, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

    CHECK(c, p != MAP_FAILED);
    return p;
}

static void forget(struct region *r, uint32_t page, uint32_t nr)
{
    memset(&r->shadow[page], 0, nr * sizeof(*r->shadow));
}

static void fill(struct churner *c, struct region *r)
{
    note(c, "fill", r, 0, r->nr_pages);
    for (uint32_t i = 0; i < r->nr_pages; i++)
        page_write(c, r, i);
}

/* No part of it is protected or locked any more. */
static void make_even(struct churner *c, struct region *r)
{
    if (!r->nr_odd)
        return;
    note(c, r->odd_locked ? "munlock" : "mprotect back", r, r->odd_page, r->nr_odd);
    if (r->odd_locked)
        CHECK(c, munlock(page_at(r, r->odd_page), (size_t)r->nr_odd * PAGE) == 0);
    else
        CHECK(c, mprotect(page_at(r, r->odd_page), (size_t)r->nr_odd * PAGE,
                          PROT_READ | PROT_WRITE) == 0);
    r->nr_odd = 0;
    r->odd_locked = false;
}

/* NULL: what came up is none of that kind. */
static struct region *even_region(struct churner *c, bool heap_too)
{
    struct region *r = &c->region[random_below(c, c->nr_regions)];

    if (r->kind == REGION_HEAP && !heap_too)
        return NULL;
    make_even(c, r);
    return r;
}

static uint32_t any_part(struct churner *c, const struct region *r, uint32_t max, uint32_t *ret_page)
{
    uint32_t nr = 1 + random_below(c, max < r->nr_pages ? max : r->nr_pages);

    *ret_page = random_below(c, r->nr_pages - nr + 1);
    return nr;
}

/* ---- making regions ---- */

static void heap_allocate(struct churner *c, struct region *r, uint32_t nr_pages)
{
    pthread_mutex_lock(&layout_mutex);
    r->block = malloc((size_t)nr_pages * PAGE + PAGE - 1);
    pthread_mutex_unlock(&layout_mutex);
    CHECK(c, r->block);
    r->base = (char *)(((uintptr_t)r->block + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
    r->nr_pages = nr_pages;
    forget(r, 0, nr_pages);
    for (uint32_t i = 0; i < nr_pages; i++)
        r->shadow[i].unknown = true;
}

static void make_region(struct churner *c, enum region_kind kind, uint32_t nr_pages)
{
    struct region *r = &c->region[c->nr_regions];

    CHECK(c, c->nr_regions < MAX_REGIONS);
    r->kind = kind;
    r->id = c->nr_regions++;
    r->nr_pages = nr_pages;
    r->max_pages = nr_pages + nr_pages / 2;
    r->shadow = calloc(r->max_pages, sizeof(*r->shadow));
    CHECK(c, r->shadow);
    if (kind == REGION_HEAP) {
        heap_allocate(c, r, nr_pages);
    } else if (kind == REGION_HUGE) {
        size_t bytes = (size_t)nr_pages * PAGE, huge = HUGE_PAGES * PAGE;
        char *p = map(c, NULL, bytes + huge, PROT_READ | PROT_WRITE, 0);
        r->base = (char *)(((uintptr_t)p + huge - 1) & ~(uintptr_t)(huge - 1));
        if (r->base > p)
            CHECK(c, munmap(p, (size_t)(r->base - p)) == 0);
        CHECK(c, munmap(r->base + bytes, (size_t)(p + huge - r->base)) == 0);
        (void)madvise(r->base, bytes, MADV_HUGEPAGE); /* a kernel may be without */
    } else {
        r->base = map(c, NULL, (size_t)nr_pages * PAGE, PROT_READ | PROT_WRITE, 0);
    }
    r->is_whole = kind != REGION_HEAP;
    fill(c, r);
}

void layout_make(struct churner *c, size_t bytes)
{
    uint32_t pages = (uint32_t)(bytes / PAGE), huge = pages / 4 / 3 / HUGE_PAGES * HUGE_PAGES;
    uint32_t heap = pages / 8 / 3, plain = 0;

    if (!huge)
        huge = HUGE_PAGES;

    /* All of libc's memory from brk and from its arenas, and given back soon. */
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 10);
    mallopt(M_TOP_PAD, 0);
    for (int i = 0; i < 3; i++)
        make_region(c, REGION_HUGE, huge);
    for (int i = 0; i < 3; i++)
        make_region(c, REGION_HEAP, heap);
    for (uint32_t i = 0; i < 9; i++) {
        uint32_t nr = i == 8 ? pages - 3 * huge - 3 * heap - plain : pages / 30 + i * (pages / 240);
        plain += nr;
        make_region(c, REGION_PLAIN, nr);
    }
}

/* ---- operations ---- */

void layout_discard(struct churner *c)
{
    struct region *r = even_region(c, true);
    uint32_t page, nr = any_part(c, r, random_chance(c, 8) ? UINT32_MAX : 256, &page);
    bool lazily = random_chance(c, 3);

    note(c, lazily ? "MADV_FREE" : "MADV_DONTNEED", r, page, nr);
    CHECK(c, madvise(page_at(r, page), (size_t)nr * PAGE, lazily ? MADV_FREE : MADV_DONTNEED) == 0);
    if (!lazily) {
        forget(r, page, nr);
        for (uint32_t i = 0; i < 4; i++)
            page_verify(c, r, page + random_below(c, nr));
    } else {
        for (uint32_t i = page; i < page + nr; i++)
            r->shadow[i].maybe_zero = true;
        for (uint32_t i = 0; i < nr / 2; i++)
            page_write(c, r, page + random_below(c, nr));
    }
}

/* Another mapping at the same address, with nothing in it. */
static void renew(struct churner *c, struct region *r, uint32_t page, uint32_t nr)
{
    char *at = page_at(r, page);
    size_t bytes = (size_t)nr * PAGE;

    /* A hole is safe only from nobody else's mmap: with threads the place is never left free. */
    switch (random_below(c, settings.nr_threads > 1 ? 3 : 4)) {
    case 0:
        note(c, "mmap over", r, page, nr);
        break;
    case 1:
        note(c, "PROT_NONE and mmap over", r, page, nr);
        (void)map(c, at, bytes, PROT_NONE, MAP_FIXED);
        break;
    case 2:
        note(c, "file and mmap over", r, page, nr);
        CHECK(c, mmap(at, bytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, c->file, 0) == at);
        break;
    default:
        note(c, "munmap and mmap", r, page, nr);
        CHECK(c, munmap(at, bytes) == 0);
        CHECK(c, map(c, at, bytes, PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE) == at);
        forget(r, page, nr);
        return;
    }
    CHECK(c, map(c, at, bytes, PROT_READ | PROT_WRITE, MAP_FIXED) == at);
    forget(r, page, nr);
}

void layout_renew(struct churner *c)
{
    struct region *r = even_region(c, false);
    uint32_t page, nr;

    if (!r)
        return;
    if (r->kind == REGION_PLAIN && !random_chance(c, 4)) {
        nr = any_part(c, r, 512, &page);
        renew(c, r, page, nr);
        r->is_whole = r->is_whole && nr == r->nr_pages;
        for (uint32_t i = 0; i < nr; i++) /* with holes */
            if (!random_chance(c, 3))
                page_write(c, r, page + i);
        return;
    }
    renew(c, r, 0, r->nr_pages);
    r->is_whole = true;
    if (r->kind == REGION_HUGE)
        (void)madvise(r->base, (size_t)r->nr_pages * PAGE, MADV_HUGEPAGE);
    for (uint32_t i = 0; i < 4; i++)
        page_verify(c, r, random_below(c, r->nr_pages));
    fill(c, r);
}

/*
 * EFAULT where the kernel sees several mappings: nothing has happened.  So it is where we
 * mapped over a part, and where the daemon has registered a part only: between its look
 * at the maps and the registration the mapping grew (docs/architecture.md, Adoption).
 */
static void *remap(struct churner *c, struct region *r, uint32_t to_nr, int flags, void *to)
{
    void *p = mremap(r->base, (size_t)r->nr_pages * PAGE, (size_t)to_nr * PAGE, flags, to);

    if (p == MAP_FAILED && errno == EFAULT) {
        c->nr_remap_refused++;
        return NULL;
    }
    if (p == MAP_FAILED && errno == ENOMEM && !flags) /* no room to grow in place */
        return NULL;
    if (p == MAP_FAILED)
        fail(c, "mremap of region %u at %p, %u to %u pages, flags %d: %s", r->id, (void *)r->base,
             r->nr_pages, to_nr, flags, strerror(errno));
    return p;
}

static void remap_size(struct churner *c, struct region *r)
{
    bool grow = random_chance(c, 2);
    uint32_t nr, old = r->nr_pages;
    void *p;

    if (grow ? old == r->max_pages : old <= MIN_PAGES)
        return;
    nr = grow ? old + 1 + random_below(c, r->max_pages - old)
              : MIN_PAGES + random_below(c, old - MIN_PAGES);
    note(c, grow ? "grow" : "shrink", r, old, nr);
    pthread_mutex_lock(&layout_mutex);
    p = remap(c, r, nr, 0, NULL);
    if (!p && grow)
        p = remap(c, r, nr, MREMAP_MAYMOVE, NULL);
    pthread_mutex_unlock(&layout_mutex);
    if (!p)
        return;
    r->base = p;
    r->nr_pages = nr;
    if (grow) {
        forget(r, old, nr - old);
        for (uint32_t i = 0; i < 4; i++)
            page_verify(c, r, old + random_below(c, nr - old));
        for (uint32_t i = old; i < nr; i++)
            if (!random_chance(c, 4))
                page_write(c, r, i);
    }
}

static void remap_move(struct churner *c, struct region *r)
{
    size_t bytes = (size_t)r->nr_pages * PAGE;
    bool leave = random_chance(c, 3);
    char *old = r->base, *to;
    const char zeros[PAGE] = {0};

    note(c, leave ? "move, leaving the mapping" : "move", r, 0, r->nr_pages);
    to = map(c, NULL, bytes, PROT_NONE, 0);
    if (!r->is_whole) { /* only what fails as a whole may fail: no MREMAP_FIXED */
        CHECK(c, munmap(to, bytes) == 0);
        return;
    }
    to = remap(c, r, r->nr_pages, MREMAP_MAYMOVE | MREMAP_FIXED | (leave ? MREMAP_DONTUNMAP : 0), to);
    if (!to) /* it is where it was; the new place may be unmapped, and another thread's by now */
        return;
    r->base = to;
    if (!leave)
        return;
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t page = random_below(c, r->nr_pages);
        if (memcmp(old + (size_t)page * PAGE, zeros, PAGE) != 0)
            fail(c, "page %u of region %u is still where it was moved from", page, r->id);
    }
    if (random_chance(c, 2)) { /* and back */
        note(c, "move back", r, 0, r->nr_pages);
        to = remap(c, r, r->nr_pages, MREMAP_MAYMOVE | MREMAP_FIXED, old);
        if (to)
            r->base = to;
        return;
    }
    CHECK(c, munmap(old, bytes) == 0);
}

void layout_remap(struct churner *c)
{
    struct region *r = even_region(c, false);

    if (!r)
        return;
    if (r->kind == REGION_PLAIN && random_chance(c, 2))
        remap_size(c, r);
    else
        remap_move(c, r);
    for (uint32_t i = 0; i < 8; i++)
        page_verify(c, r, random_below(c, r->nr_pages));
}

void layout_protect(struct churner *c)
{
    struct region *r = even_region(c, true);

    r->nr_odd = any_part(c, r, PROTECTED_MAX, &r->odd_page);
    r->odd_prot = random_chance(c, 2) ? PROT_NONE : PROT_READ;
    r->is_whole = false;
    note(c, r->odd_prot ? "mprotect to read" : "mprotect to none", r, r->odd_page, r->nr_odd);
    CHECK(c, mprotect(page_at(r, r->odd_page), (size_t)r->nr_odd * PAGE, r->odd_prot) == 0);
    if (r->odd_prot)
        for (uint32_t i = 0; i < r->nr_odd; i++)
            page_verify(c, r, r->odd_page + i);
}

void layout_lock(struct churner *c)
{
    struct region *r = even_region(c, true);
    unsigned char resident[PROTECTED_MAX];
    uint32_t page, nr = any_part(c, r, PROTECTED_MAX, &page);

    note(c, "mlock", r, page, nr);
    if (mlock(page_at(r, page), (size_t)nr * PAGE) < 0) {
        CHECK(c, errno == EPERM || errno == ENOMEM || errno == EAGAIN);
        return;
    }
    r->odd_page = page;
    r->nr_odd = nr;
    r->odd_prot = PROT_READ | PROT_WRITE;
    r->odd_locked = true;
    r->is_whole = false;
    CHECK(c, mincore(page_at(r, page), (size_t)nr * PAGE, resident) == 0);
    for (uint32_t i = 0; i < nr; i++) {
        if (!(resident[i] & 1))
            fail(c, "page %u of region %u is locked and not resident", page + i, r->id);
        page_verify(c, r, page + i);
    }
}

void layout_heap(struct churner *c)
{
    struct region *r = &c->region[random_below(c, c->nr_regions)];
    uint32_t nr;

    if (r->kind != REGION_HEAP || c->no_malloc)
        return;
    make_even(c, r);
    nr = r->max_pages / 3 + random_below(c, r->max_pages * 2 / 3);
    note(c, "free, malloc", r, r->nr_pages, nr);
    pthread_mutex_lock(&layout_mutex);
    free(r->block);
    pthread_mutex_unlock(&layout_mutex);
    heap_allocate(c, r, nr);
    for (uint32_t i = 0; i < nr; i++)
        if (!random_chance(c, 4))
            page_write(c, r, i);
}
