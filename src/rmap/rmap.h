/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_RMAP_H
#define PAGERD_RMAP_H
/*
 * rmap: from a frame to the entries that name it (Linux mm/rmap.c).  The first
 * reference of a frame is stored in place; further ones (forked children) are
 * chained from a pool.  Derived state: rebuilt from the page tables.
 */
#include "frame/frame.h"

struct rmap;

struct rmap_entry {
    uint32_t mm; /* struct mm::id */
    struct uaddr addr;
};

/* NULL when memory is short. */
struct rmap *rmap_new(uint32_t nr_frames);
void rmap_free(struct rmap *rmap);
/* No frame has a reference: the memory that the most of them ever took goes back to the system. */
void rmap_reset(struct rmap *rmap);

/* 0, or -ENOMEM when the pool of further references is empty. */
int rmap_add(struct rmap *rmap, struct pfn pfn, struct rmap_entry entry);
/* The entry must be there (BUG otherwise). */
void rmap_remove(struct rmap *rmap, struct pfn pfn, struct rmap_entry entry);

/* Copies up to max references of the frame; returns how many there are in all. */
uint32_t rmap_walk(const struct rmap *rmap, struct pfn pfn, struct rmap_entry *out, uint32_t max);

#endif
