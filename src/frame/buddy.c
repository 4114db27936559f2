/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The buddy allocator.  Free blocks of each order are in a doubly linked list
 * of frame numbers; a block's head frame carries its order.
 *
 * Invariants (frame_check):
 *  1. Every frame is in exactly one free block, or allocated.
 *  2. A free block of order k starts at a multiple of 2^k.
 *  3. Two free buddies of the same order below 9 never stand side by side.
 *  4. nr_free is the sum over the free lists.
 *  5. Only allocated frames are held or listed; a list is as long as counted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "frame/frame.h"

#define NO_FRAME UINT32_MAX

enum frame_state {
    FRAME_TAIL = 0, /* inside a free block, not its head */
    FRAME_HEAD,     /* head of a free block of `order` */
    FRAME_ALLOCATED,
};

struct frame {
    uint32_t refs; /* allocated: entries that name it */
    uint8_t state;
    uint8_t order; /* head of a free block */
    uint8_t list;  /* allocated: enum frame_list */
    uint8_t holds;
    uint32_t next, prev; /* of the free list, or of the list by age */
};

struct age_list {
    uint32_t oldest, youngest, nr;
};

struct frame_pool {
    uint32_t nr_frames, nr_free;
    struct age_list age[FRAME_KEPT + 1]; /* [FRAME_UNLISTED] is not used */
    uint32_t head[FRAME_MAX_ORDER + 1];
    uint32_t nr_blocks[FRAME_MAX_ORDER + 1];
    struct frame frame[];
};

static void block_add(struct frame_pool *pool, uint32_t n, unsigned order)
{
    struct frame *f = &pool->frame[n];

    f->state = FRAME_HEAD;
    f->order = (uint8_t)order;
    f->prev = NO_FRAME;
    f->next = pool->head[order];
    if (f->next != NO_FRAME)
        pool->frame[f->next].prev = n;
    pool->head[order] = n;
    pool->nr_blocks[order]++;
}

static void block_del(struct frame_pool *pool, uint32_t n)
{
    struct frame *f = &pool->frame[n];

    if (f->prev != NO_FRAME)
        pool->frame[f->prev].next = f->next;
    else
        pool->head[f->order] = f->next;
    if (f->next != NO_FRAME)
        pool->frame[f->next].prev = f->prev;
    pool->nr_blocks[f->order]--;
    f->state = FRAME_TAIL;
}

struct frame_pool *frame_pool_new(uint32_t nr_frames)
{
    BUG_ON(nr_frames % PAGEBLOCK_FRAMES);
    size_t bytes = sizeof(struct frame_pool) + (size_t)nr_frames * sizeof(struct frame);
    struct frame_pool *pool = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (pool == MAP_FAILED)
        return NULL;
    pool->nr_frames = pool->nr_free = nr_frames;
    for (unsigned order = 0; order <= FRAME_MAX_ORDER; order++)
        pool->head[order] = NO_FRAME;
    for (unsigned list = 0; list < ARRAY_SIZE(pool->age); list++)
        pool->age[list].oldest = pool->age[list].youngest = NO_FRAME;
    /* Lowest addresses last, so that they are handed out first. */
    for (uint32_t n = nr_frames; n > 0; n -= PAGEBLOCK_FRAMES)
        block_add(pool, n - PAGEBLOCK_FRAMES, FRAME_MAX_ORDER);
    return pool;
}

void frame_pool_free(struct frame_pool *pool)
{
    if (pool)
        munmap(pool, sizeof(*pool) + (size_t)pool->nr_frames * sizeof(struct frame));
}

/* Splits the free block at n down until a block of `order` starts at `want`. */
static void split_to(struct frame_pool *pool, uint32_t n, uint32_t want, unsigned order)
{
    unsigned k = pool->frame[n].order;

    block_del(pool, n);
    while (k > order) {
        k--;
        uint32_t half = n + (1u << k);
        if (want >= half) {
            block_add(pool, n, k);
            n = half;
        } else {
            block_add(pool, half, k);
        }
    }
}

int frame_alloc_run(struct frame_pool *pool, uint32_t max, struct pfn *ret_first, uint32_t *ret_nr)
{
    unsigned want = 0;

    BUG_ON(max == 0);
    while (want < FRAME_MAX_ORDER && (2u << want) <= max)
        want++;
    for (unsigned order = want;;) {
        for (unsigned k = order; k <= FRAME_MAX_ORDER; k++) {
            uint32_t n = pool->head[k];
            if (n == NO_FRAME)
                continue;
            split_to(pool, n, n, order);
            for (uint32_t i = n; i < n + (1u << order); i++) {
                pool->frame[i].state = FRAME_ALLOCATED;
                pool->frame[i].refs = 0;
                pool->frame[i].list = FRAME_UNLISTED;
                pool->frame[i].holds = 0;
            }
            pool->nr_free -= 1u << order;
            ret_first->n = n;
            *ret_nr = 1u << order;
            return 0;
        }
        if (order-- == 0)
            return -ENOMEM;
    }
}

int frame_claim(struct frame_pool *pool, struct pfn pfn)
{
    BUG_ON(pfn.n >= pool->nr_frames);
    if (pool->frame[pfn.n].state == FRAME_ALLOCATED)
        return -EBUSY;
    for (unsigned k = 0; k <= FRAME_MAX_ORDER; k++) {
        uint32_t n = pfn.n & ~((1u << k) - 1);
        if (pool->frame[n].state != FRAME_HEAD || pool->frame[n].order != k)
            continue;
        split_to(pool, n, pfn.n, 0);
        pool->frame[pfn.n].state = FRAME_ALLOCATED;
        pool->frame[pfn.n].refs = 0;
        pool->frame[pfn.n].list = FRAME_UNLISTED;
        pool->frame[pfn.n].holds = 0;
        pool->nr_free--;
        return 0;
    }
    BUG_ON("a frame that is neither free nor allocated");
    return -EBUSY;
}

/* ---- age ---- */

static void list_leave(struct frame_pool *pool, uint32_t n)
{
    struct frame *f = &pool->frame[n];
    struct age_list *age = &pool->age[f->list];

    if (f->list == FRAME_UNLISTED)
        return;
    if (f->prev != NO_FRAME)
        pool->frame[f->prev].next = f->next;
    else
        age->oldest = f->next;
    if (f->next != NO_FRAME)
        pool->frame[f->next].prev = f->prev;
    else
        age->youngest = f->prev;
    age->nr--;
    f->list = FRAME_UNLISTED;
}

void frame_list_set(struct frame_pool *pool, struct pfn pfn, enum frame_list list)
{
    struct frame *f = &pool->frame[pfn.n];
    struct age_list *age = &pool->age[list];

    BUG_ON(pfn.n >= pool->nr_frames || f->state != FRAME_ALLOCATED);
    list_leave(pool, pfn.n);
    if (list == FRAME_UNLISTED)
        return;
    f->next = NO_FRAME;
    f->prev = age->youngest;
    if (f->prev != NO_FRAME)
        pool->frame[f->prev].next = pfn.n;
    else
        age->oldest = pfn.n;
    age->youngest = pfn.n;
    age->nr++;
    f->list = (uint8_t)list;
}

void frame_list_set_oldest(struct frame_pool *pool, struct pfn pfn, enum frame_list list)
{
    struct frame *f = &pool->frame[pfn.n];
    struct age_list *age = &pool->age[list];

    BUG_ON(list == FRAME_UNLISTED || pfn.n >= pool->nr_frames || f->state != FRAME_ALLOCATED);
    list_leave(pool, pfn.n);
    f->prev = NO_FRAME;
    f->next = age->oldest;
    if (f->next != NO_FRAME)
        pool->frame[f->next].prev = pfn.n;
    else
        age->youngest = pfn.n;
    age->oldest = pfn.n;
    age->nr++;
    f->list = (uint8_t)list;
}

enum frame_list frame_list_of(const struct frame_pool *pool, struct pfn pfn)
{
    const struct frame *f = &pool->frame[pfn.n];

    return f->state == FRAME_ALLOCATED ? (enum frame_list)f->list : FRAME_UNLISTED;
}

bool frame_list_oldest(const struct frame_pool *pool, enum frame_list list, struct pfn *ret)
{
    ret->n = pool->age[list].oldest;
    return ret->n != NO_FRAME;
}

uint32_t frame_list_nr(const struct frame_pool *pool, enum frame_list list)
{
    return pool->age[list].nr;
}

/* ---- freeing ---- */

void frame_free(struct frame_pool *pool, struct pfn pfn)
{
    uint32_t n = pfn.n;
    unsigned order = 0;

    BUG_ON(n >= pool->nr_frames);
    BUG_ON(pool->frame[n].state != FRAME_ALLOCATED);
    BUG_ON(pool->frame[n].refs != 0 || pool->frame[n].holds != 0);
    list_leave(pool, n);
    pool->frame[n].state = FRAME_TAIL;
    pool->nr_free++;
    while (order < FRAME_MAX_ORDER) {
        uint32_t buddy = n ^ (1u << order);
        if (pool->frame[buddy].state != FRAME_HEAD || pool->frame[buddy].order != order)
            break;
        block_del(pool, buddy);
        n &= ~(1u << order);
        order++;
    }
    block_add(pool, n, order);
}

void frame_get(struct frame_pool *pool, struct pfn pfn)
{
    BUG_ON(pfn.n >= pool->nr_frames || pool->frame[pfn.n].state != FRAME_ALLOCATED);
    pool->frame[pfn.n].refs++;
}

bool frame_put(struct frame_pool *pool, struct pfn pfn)
{
    BUG_ON(pfn.n >= pool->nr_frames || pool->frame[pfn.n].state != FRAME_ALLOCATED);
    BUG_ON(pool->frame[pfn.n].refs == 0);
    if (--pool->frame[pfn.n].refs)
        return false;
    /* A device is still at it: nothing but a block of no page's any more. */
    if (pool->frame[pfn.n].holds) {
        list_leave(pool, pfn.n);
        return false;
    }
    frame_free(pool, pfn);
    return true;
}

void frame_hold(struct frame_pool *pool, struct pfn pfn)
{
    BUG_ON(pfn.n >= pool->nr_frames || pool->frame[pfn.n].state != FRAME_ALLOCATED);
    BUG_ON(pool->frame[pfn.n].holds == UINT8_MAX);
    pool->frame[pfn.n].holds++;
}

bool frame_unhold(struct frame_pool *pool, struct pfn pfn)
{
    BUG_ON(pfn.n >= pool->nr_frames || pool->frame[pfn.n].holds == 0);
    if (--pool->frame[pfn.n].holds || pool->frame[pfn.n].refs)
        return false;
    frame_free(pool, pfn);
    return true;
}

uint32_t frame_refs(const struct frame_pool *pool, struct pfn pfn)
{
    return pool->frame[pfn.n].state == FRAME_ALLOCATED ? pool->frame[pfn.n].refs : 0;
}

bool frame_is_held(const struct frame_pool *pool, struct pfn pfn)
{
    return pool->frame[pfn.n].holds != 0;
}

bool frame_is_allocated(const struct frame_pool *pool, struct pfn pfn)
{
    return pfn.n < pool->nr_frames && pool->frame[pfn.n].state == FRAME_ALLOCATED;
}

uint32_t frame_nr_total(const struct frame_pool *pool)
{
    return pool->nr_frames;
}

uint32_t frame_nr_free(const struct frame_pool *pool)
{
    return pool->nr_free;
}

uint32_t frame_nr_blocks(const struct frame_pool *pool, unsigned order)
{
    return pool->nr_blocks[order];
}

const char *frame_check(const struct frame_pool *pool, struct frame_count *ret)
{
    struct frame_count c = {.total = pool->nr_frames};
    uint32_t listed = 0;
    const char *wrong = NULL;

    for (uint32_t n = 0; n < pool->nr_frames;) {
        const struct frame *f = &pool->frame[n];
        if (f->state == FRAME_ALLOCATED) {
            c.allocated++;
            if (f->refs)
                c.referenced++;
            else
                c.cached++;
            n++;
        } else if (f->state == FRAME_HEAD) {
            uint32_t size = 1u << f->order;
            if (n & (size - 1))
                wrong = "a free block is not aligned to its order";
            uint32_t buddy = n ^ size;
            if (f->order < FRAME_MAX_ORDER && pool->frame[buddy].state == FRAME_HEAD &&
                pool->frame[buddy].order == f->order)
                wrong = "two free buddies were not joined";
            for (uint32_t i = n + 1; i < n + size; i++)
                if (pool->frame[i].state != FRAME_TAIL)
                    wrong = "a frame inside a free block is not free";
            c.free += size;
            n += size;
        } else {
            wrong = "a frame is neither allocated nor in a free block";
            n++;
        }
    }
    for (unsigned list = FRAME_STORED; list <= FRAME_KEPT; list++) {
        uint32_t nr = 0;
        for (uint32_t n = pool->age[list].oldest; n != NO_FRAME && nr <= pool->nr_frames;
             n = pool->frame[n].next, nr++)
            if (pool->frame[n].state != FRAME_ALLOCATED || pool->frame[n].list != list)
                wrong = "a list by age holds a frame that does not belong there";
        if (nr != pool->age[list].nr)
            wrong = "a list by age does not hold as many frames as counted";
    }
    for (unsigned order = 0; order <= FRAME_MAX_ORDER; order++) {
        uint32_t blocks = 0;
        for (uint32_t n = pool->head[order]; n != NO_FRAME && blocks <= pool->nr_frames;
             n = pool->frame[n].next)
            blocks++;
        if (blocks != pool->nr_blocks[order])
            wrong = "a free list does not hold as many blocks as counted";
        listed += blocks << order;
    }
    if (listed != c.free || pool->nr_free != c.free)
        wrong = "the free lists, the free frames and their count differ";
    *ret = c;
    return wrong;
}
