/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_NODE_H
#define PAGERD_NODE_H
/*
 * node: the places where moved-out pages live, behind one interface.  Node 0
 * is `resident` (the programs' own pages) and has no struct node.  In this
 * step there is one more, `ram`: 4 KiB frames in a memfd.
 */
#include "frame/frame.h"
#include "rmap/rmap.h"

#define NODE_RESIDENT 0
#define NODE_RAM 1

struct node {
    uint8_t id;
    const char *type; /* "ram" */
    struct frame_pool *frames;
    struct rmap *rmap;
    char *base; /* frame n lies at base + n * PAGE_SIZE */
};

/*
 * A `ram` node over `mem` (nr_frames * PAGE_SIZE bytes, not owned).
 * nr_frames is a multiple of PAGEBLOCK_FRAMES.  0 or -ENOMEM.
 */
int node_ram_init(struct node *node, uint8_t id, void *mem, uint32_t nr_frames);
void node_fini(struct node *node);

/* The bytes of a frame. */
static inline void *node_bytes(const struct node *node, struct pfn pfn)
{
    return node->base + ((size_t)pfn.n << PAGE_SHIFT);
}

uint64_t node_size_bytes(const struct node *node);
uint64_t node_used_bytes(const struct node *node);

/*
 * A reference from the entry (mm, addr) to an allocated frame, in the count and
 * in the reverse map together.  0 or -ENOMEM (nothing changed).
 */
int node_ref(struct node *node, struct pfn pfn, struct rmap_entry entry);
/* Drops it; frees the frame with the last one. */
void node_unref(struct node *node, struct pfn pfn, struct rmap_entry entry);

/* frame_check() plus: every frame's references equal its reverse map's. */
const char *node_check(const struct node *node, struct frame_count *ret);

#endif
