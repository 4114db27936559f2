/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `ram` node: frames in a memfd that the worker has mapped.  The memory
 * of a freed frame stays with the memfd and is handed out again; whole free
 * pageblocks go back to the system with compaction, in a later step.
 */
#include <errno.h>

#include "node/node.h"

int node_ram_init(struct node *node, uint8_t id, void *mem, uint32_t nr_frames)
{
    struct frame_pool *frames = frame_pool_new(nr_frames);
    struct rmap *rmap = rmap_new(nr_frames);

    if (!frames || !rmap) {
        frame_pool_free(frames);
        rmap_free(rmap);
        return -ENOMEM;
    }
    *node = (struct node){.id = id, .type = "ram", .frames = frames, .rmap = rmap, .base = mem};
    return 0;
}

void node_fini(struct node *node)
{
    frame_pool_free(node->frames);
    rmap_free(node->rmap);
    node->frames = NULL;
    node->rmap = NULL;
}

uint64_t node_size_bytes(const struct node *node)
{
    return (uint64_t)frame_nr_total(node->frames) << PAGE_SHIFT;
}

uint64_t node_used_bytes(const struct node *node)
{
    return (uint64_t)(frame_nr_total(node->frames) - frame_nr_free(node->frames)) << PAGE_SHIFT;
}

int node_ref(struct node *node, struct pfn pfn, struct rmap_entry entry)
{
    int r = rmap_add(node->rmap, pfn, entry);

    if (r < 0)
        return r;
    frame_get(node->frames, pfn);
    return 0;
}

void node_unref(struct node *node, struct pfn pfn, struct rmap_entry entry)
{
    rmap_remove(node->rmap, pfn, entry);
    bool freed = frame_put(node->frames, pfn);
    if (freed && MUTANT(MUTANT_FRAME_FREED_TWICE))
        frame_free(node->frames, pfn);
}

const char *node_check(const struct node *node, struct frame_count *ret)
{
    const char *wrong = frame_check(node->frames, ret);

    for (uint32_t n = 0; !wrong && n < frame_nr_total(node->frames); n++) {
        struct pfn pfn = {n};
        if (frame_is_allocated(node->frames, pfn) &&
            rmap_walk(node->rmap, pfn, NULL, 0) != frame_refs(node->frames, pfn))
            wrong = "a frame's count and its reverse map differ";
    }
    return wrong;
}
