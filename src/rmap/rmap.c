/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each item is 16 bytes.  item[pfn] is a frame's first reference; items above
 * nr_frames are the pool for the second and further ones, in a free list.
 *
 * Invariants:
 *  1. A frame without reference has mm == 0 in item[pfn], and no chain.
 *  2. A chain holds no two equal entries.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "rmap/rmap.h"

struct item {
    uint64_t vpn;
    uint32_t mm;
    uint32_t next; /* index of the next item; 0: none */
};

struct rmap {
    uint32_t nr_frames;
    uint32_t nr_items;
    uint32_t free_head; /* 0: none */
    uint32_t fresh;     /* items from here on were never used */
    size_t bytes;
    struct item item[];
};

/*
 * Further references, that children of forks share: memory is used only where there are some, so
 * there is room for many times the frames.  Where the system counts what is mapped and not used
 * (vm.overcommit_memory 2), there may be room for less.
 */
#define RMAP_SHARE_MAX 256u
#define RMAP_SHARE_MIN 4u
#define RMAP_FURTHER_MAX ((uint64_t)1 << 28) /* 4 GiB of addresses; beyond that as many as MIN says */

static struct rmap *rmap_map(uint32_t nr_frames, uint64_t share)
{
    uint64_t further = MIN(share * nr_frames, MAX(RMAP_FURTHER_MAX, (uint64_t)RMAP_SHARE_MIN * nr_frames));
    uint64_t nr_items = MIN(nr_frames + further + 1, (uint64_t)UINT32_MAX);
    size_t bytes = sizeof(struct rmap) + (size_t)nr_items * sizeof(struct item);
    struct rmap *rmap = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (rmap == MAP_FAILED)
        return NULL;
    rmap->bytes = bytes;
    rmap->nr_frames = nr_frames;
    rmap->nr_items = (uint32_t)nr_items;
    /* Item nr_frames is left out when it is 0, so that index 0 can mean "none". */
    rmap->fresh = nr_frames ? nr_frames : 1;
    return rmap;
}

struct rmap *rmap_new(uint32_t nr_frames)
{
    struct rmap *rmap = NULL;

    for (uint64_t share = RMAP_SHARE_MAX; !rmap && share >= RMAP_SHARE_MIN; share /= 2)
        rmap = rmap_map(nr_frames, share);
    return rmap;
}

void rmap_free(struct rmap *rmap)
{
    if (rmap)
        munmap(rmap, rmap->bytes);
}

void rmap_reset(struct rmap *rmap)
{
    uintptr_t start = ((uintptr_t)rmap->item + PAGE_SIZE - 1) & PAGE_MASK;
    uintptr_t end = (uintptr_t)rmap + rmap->bytes;

    if (start >= end)
        return;
    /* The worker's memory is locked.  Where the kernel does not know the call, all stays valid. */
    if (madvise((void *)start, end - start, MADV_DONTNEED_LOCKED) < 0)
        return;
    memset(rmap->item, 0, start - (uintptr_t)rmap->item);
    rmap->free_head = 0;
    rmap->fresh = rmap->nr_frames ? rmap->nr_frames : 1;
}

static uint32_t item_alloc(struct rmap *rmap)
{
    uint32_t i = rmap->free_head;

    if (i) {
        rmap->free_head = rmap->item[i].next;
        return i;
    }
    return rmap->fresh < rmap->nr_items ? rmap->fresh++ : 0;
}

static bool item_is(const struct item *item, struct rmap_entry entry)
{
    return item->mm == entry.mm && item->vpn == entry.addr.v >> PAGE_SHIFT;
}

int rmap_add(struct rmap *rmap, struct pfn pfn, struct rmap_entry entry)
{
    struct item *first = &rmap->item[pfn.n];
    struct item value = {.vpn = entry.addr.v >> PAGE_SHIFT, .mm = entry.mm};

    BUG_ON(pfn.n >= rmap->nr_frames || entry.mm == 0);
    if (first->mm) {
        uint32_t i = item_alloc(rmap);
        if (!i)
            return -ENOMEM;
        value.next = first->next;
        rmap->item[i] = value;
        first->next = i;
    } else {
        *first = value;
    }
    return 0;
}

void rmap_remove(struct rmap *rmap, struct pfn pfn, struct rmap_entry entry)
{
    struct item *first = &rmap->item[pfn.n];
    uint32_t gone;

    BUG_ON(pfn.n >= rmap->nr_frames);
    if (item_is(first, entry)) {
        gone = first->next;
        if (!gone) {
            first->mm = 0;
            return;
        }
        *first = rmap->item[gone];
    } else {
        struct item *before = first;
        while (before->next && !item_is(&rmap->item[before->next], entry))
            before = &rmap->item[before->next];
        gone = before->next;
        BUG_ON(!gone);
        before->next = rmap->item[gone].next;
    }
    rmap->item[gone].mm = 0;
    rmap->item[gone].next = rmap->free_head;
    rmap->free_head = gone;
}

uint32_t rmap_walk(const struct rmap *rmap, struct pfn pfn, struct rmap_entry *out, uint32_t max)
{
    const struct item *item = &rmap->item[pfn.n];
    uint32_t nr = 0;

    while (item->mm) {
        if (nr < max)
            out[nr] = (struct rmap_entry){item->mm, {item->vpn << PAGE_SHIFT}};
        nr++;
        if (!item->next)
            break;
        item = &rmap->item[item->next];
    }
    return nr;
}
