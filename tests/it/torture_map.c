/* SPDX-License-Identifier: Apache-2.0 */
/* Operations of torture that change the mapping of a block. */
#define _GNU_SOURCE
#include "torture.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIN_PAGES 32u

/* One whose pages may be dropped. */
static struct block *lock_unpinned(struct torturer *t)
{
    struct block *b = block_lock(t);

    if (b && b->nr_pins) {
        block_unlock(b);
        return NULL;
    }
    return b;
}

static void *map(struct torturer *t, const struct block *b, void *at, size_t bytes, int prot)
{
    void *p = mmap(at, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);

    CHECK(t, b, p != MAP_FAILED);
    return p;
}

static void forget(struct block *b, uint32_t page, uint32_t nr)
{
    memset(&b->page[page], 0, nr * sizeof(*b->page));
}

static void write_most(struct torturer *t, struct block *b, uint32_t page, uint32_t nr)
{
    for (uint32_t i = page; i < page + nr; i++)
        if (!chance(t, 4))
            page_write(t, b, i);
}

static void verify_some(struct torturer *t, struct block *b, uint32_t page, uint32_t nr)
{
    for (uint32_t i = 0; i < 4; i++)
        page_verify(t, b, page + below(t, nr));
}

void map_discard(struct torturer *t)
{
    struct block *b = lock_unpinned(t);
    bool lazily = chance(t, 3);
    uint32_t page, nr;

    if (!b)
        return;
    nr = block_run(t, b, chance(t, 4) ? UINT32_MAX : 32, &page);
    /* It is for files: what it would raise an event for is refused. */
    CHECK(t, b, madvise(page_at(b, page), PAGE, MADV_REMOVE) == -1 && errno == EINVAL);
    note(t, b, lazily ? "MADV_FREE" : "MADV_DONTNEED", page, nr);
    CHECK(t, b, madvise(page_at(b, page), (size_t)nr * PAGE,
                        lazily ? MADV_FREE : MADV_DONTNEED) == 0);
    if (lazily) {
        for (uint32_t i = page; i < page + nr; i++)
            b->page[i].maybe_zero = true;
        for (uint32_t i = 0; i < nr / 2; i++)
            page_write(t, b, page + below(t, nr));
    } else {
        forget(b, page, nr);
        verify_some(t, b, page, nr);
        if (chance(t, 2))
            write_most(t, b, page, nr);
    }
    block_unlock(b);
}

void map_over(struct torturer *t)
{
    struct block *b = lock_unpinned(t);
    uint32_t page, nr;
    size_t bytes;

    if (!b)
        return;
    nr = b->huge || chance(t, 2) ? block_run(t, b, 1, &page), page = 0, b->nr_pages
                                 : block_run(t, b, 64, &page);
    bytes = (size_t)nr * PAGE;
    switch (below(t, 4)) {
    case 0:
        note(t, b, "mmap over", page, nr);
        break;
    case 1:
        note(t, b, "PROT_NONE and mmap over", page, nr);
        map(t, b, page_at(b, page), bytes, PROT_NONE);
        break;
    case 2:
        if (b->huge || nr != b->nr_pages)
            break;
        note(t, b, "munmap, and mmap anew", page, nr);
        CHECK(t, b, munmap(b->base, bytes) == 0);
        b->base = map(t, b, NULL, bytes, PROT_NONE);
        break;
    default:
        note(t, b, "file and mmap over", page, nr);
        CHECK(t, b, mmap(page_at(b, page), bytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, pattern_file,
                         0) == page_at(b, page));
        for (uint32_t i = page; i < page + nr; i++)
            b->page[i].tag = tag_of_file(i - page);
        verify_some(t, b, page, nr);
        break;
    }
    map(t, b, page_at(b, page), bytes, PROT_READ | PROT_WRITE);
    forget(b, page, nr);
    b->is_whole = nr == b->nr_pages;
    if (b->huge)
        (void)madvise(page_at(b, page), bytes, MADV_HUGEPAGE);
    verify_some(t, b, page, nr);
    write_most(t, b, page, nr);
    block_unlock(b);
}

/*
 * EFAULT: where the block is several mappings.  Nothing has happened then, but with
 * MREMAP_FIXED: since Linux 6.17 that takes mappings along one by one, registered ones
 * only alone, and stops where it is refused.
 */
static char *remap(struct torturer *t, struct block *b, uint32_t to_nr, int flags, void *to)
{
    void *p = mremap(b->base, (size_t)b->nr_pages * PAGE, (size_t)to_nr * PAGE, flags, to);

    if (p == MAP_FAILED && errno == EFAULT) {
        t->nr_remap_refused++;
        note(t, b, "that was refused", 0, 0);
        return NULL;
    }
    if (p == MAP_FAILED)
        fail(t, b, 0, "mremap of block %u at %p, %u to %u pages, flags %d: %s", b->id,
             (void *)b->base, b->nr_pages, to_nr, flags, strerror(errno));
    return p;
}

void map_move(struct torturer *t)
{
    struct block *b = block_lock(t);
    size_t bytes;
    bool leave;
    char *old, *to;

    if (!b)
        return;
    leave = !b->nr_pins && chance(t, 3);
    bytes = (size_t)b->nr_pages * PAGE;
    old = b->base;
    if (!b->is_whole) {
        block_unlock(b);
        return;
    }
    note(t, b, leave ? "mremap, leaving the mapping" : "mremap", 0, b->nr_pages);
    to = map(t, b, NULL, bytes, PROT_NONE);
    /* Where it fails, the new place may be unmapped, and another thread's by now. */
    to = remap(t, b, b->nr_pages, MREMAP_MAYMOVE | MREMAP_FIXED | (leave ? MREMAP_DONTUNMAP : 0),
               to);
    if (to) {
        b->base = to;
        if (leave) {
            for (uint32_t i = 0; i < 8; i++) {
                uint32_t page = below(t, b->nr_pages);
                if (!page_is_zero(old + (size_t)page * PAGE))
                    fail(t, b, page, "page %u of block %u is still where it was moved from", page,
                         b->id);
            }
            CHECK(t, b, munmap(old, bytes) == 0);
        }
        verify_some(t, b, 0, b->nr_pages);
    }
    block_unlock(b);
}

void map_size(struct torturer *t)
{
    struct block *b = lock_unpinned(t);
    uint32_t old, nr;
    char *p;

    if (!b)
        return;
    old = b->nr_pages;
    nr = chance(t, 2) ? MIN_PAGES + below(t, old - MIN_PAGES + 1)
                      : old + below(t, b->max_pages - old + 1);
    if (!b->huge && nr != old) {
        note(t, b, nr > old ? "grow" : "shrink", nr > old ? old : nr, nr > old ? nr - old : old - nr);
        p = remap(t, b, nr, MREMAP_MAYMOVE, NULL);
        if (p) {
            b->base = p;
            b->nr_pages = nr;
            if (nr > old) {
                forget(b, old, nr - old);
                verify_some(t, b, old, nr - old);
                write_most(t, b, old, nr - old);
            }
            verify_some(t, b, 0, nr);
        }
    }
    block_unlock(b);
}

static void touch_refused(struct torturer *t, struct block *b, uint32_t page, int prot)
{
    char byte = 'x';

    if (!(prot & PROT_READ))
        CHECK(t, b, write(t->pipe[1], page_at(b, page), 64) == -1 && errno == EFAULT);
    CHECK(t, b, write(t->pipe[1], &byte, 1) == 1);
    CHECK(t, b, read(t->pipe[0], page_at(b, page), 1) == -1 && errno == EFAULT);
    CHECK(t, b, read(t->pipe[0], &byte, 1) == 1 && byte == 'x');
}

void map_protect(struct torturer *t)
{
    struct block *b = block_lock(t);
    int prot = chance(t, 2) ? PROT_NONE : PROT_READ;
    uint32_t page, nr;

    if (!b)
        return;
    nr = block_run(t, b, chance(t, 4) ? UINT32_MAX : 16, &page);
    note(t, b, prot ? "mprotect to read, and back" : "mprotect to none, and back", page, nr);
    CHECK(t, b, mprotect(page_at(b, page), (size_t)nr * PAGE, prot) == 0);
    touch_refused(t, b, page + below(t, nr), prot);
    if (prot)
        verify_some(t, b, page, nr);
    CHECK(t, b, mprotect(page_at(b, page), (size_t)nr * PAGE, PROT_READ | PROT_WRITE) == 0);
    verify_some(t, b, page, nr);
    block_unlock(b);
}

void map_lock(struct torturer *t)
{
    struct block *b = block_lock(t);
    unsigned char resident[16];
    uint32_t page, nr;

    if (!b)
        return;
    nr = block_run(t, b, 16, &page);
    note(t, b, "mlock, munlock", page, nr);
    if (mlock(page_at(b, page), (size_t)nr * PAGE) == 0) {
        CHECK(t, b, mincore(page_at(b, page), (size_t)nr * PAGE, resident) == 0);
        for (uint32_t i = 0; i < nr; i++) {
            if (!(resident[i] & 1))
                fail(t, b, page + i, "page %u of block %u is locked and not resident", page + i,
                     b->id);
            page_verify(t, b, page + i);
        }
        CHECK(t, b, munlock(page_at(b, page), (size_t)nr * PAGE) == 0);
    } else {
        CHECK(t, b, errno == EPERM || errno == ENOMEM || errno == EAGAIN);
    }
    block_unlock(b);
}
