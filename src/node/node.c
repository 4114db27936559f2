/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `ram` and `file` have in common: references, and what is kept.
 *
 * The memory of a freed frame stays with the memfd and is handed out again; whole
 * free pageblocks go back to the system with compaction, in a later step.
 */
#include <errno.h>
#include <stdlib.h>

#include "node/node_priv.h"

/* Of a frame's references; more than these are looked at in the next round. */
#define REFS_AT_ONCE 32

static int node_init(struct node *node, uint8_t id, const char *type, uint32_t nr_frames)
{
    struct frame_pool *frames = frame_pool_new(nr_frames);
    struct rmap *rmap = rmap_new(nr_frames);

    if (!frames || !rmap) {
        frame_pool_free(frames);
        rmap_free(rmap);
        return -ENOMEM;
    }
    *node = (struct node){.id = id, .type = type, .frames = frames, .rmap = rmap};
    return 0;
}

int node_ram_init(struct node *node, uint8_t id, void *mem, uint32_t nr_frames)
{
    int r = node_init(node, id, "ram", nr_frames);

    if (r == 0)
        node->base = mem;
    return r;
}

int node_file_init(struct node *node, uint8_t id, const struct node_file *file, uint32_t nr_slots)
{
    int r = node_init(node, id, "file", nr_slots);

    if (r < 0)
        return r;
    node->file = *file;
    node_hold_orphans(node);
    return 0;
}

void node_fini(struct node *node)
{
    frame_pool_free(node->frames);
    rmap_free(node->rmap);
    free(node->fresh.touched);
    node->fresh.touched = NULL;
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

/*
 * A sixteenth, but room for two captures at least, and no more than the device can be
 * kept busy with; of a very small node a quarter.
 */
uint32_t node_high_mark(const struct node *node)
{
    uint32_t total = frame_nr_total(node->frames);

    return MIN(CLAMP(total / 16, 1024u, 16384u), total / 4);
}

uint32_t node_low_mark(const struct node *node)
{
    return 2 * node_high_mark(node);
}

bool node_has_room_to_keep(const struct node *node)
{
    return frame_nr_free(node->frames) > node_high_mark(node);
}

int node_ref(struct node *node, struct pfn pfn, struct rmap_entry entry)
{
    int r = rmap_add(node->rmap, pfn, entry);

    if (r < 0)
        return r;
    frame_get(node->frames, pfn);
    if (frame_refs(node->frames, pfn) == 1)
        frame_list_set(node->frames, pfn, FRAME_STORED);
    return 0;
}

void node_unref(struct node *node, struct pfn pfn, struct rmap_entry entry)
{
    rmap_remove(node->rmap, pfn, entry);
    bool freed = frame_put(node->frames, pfn);
    if (freed && MUTANT(MUTANT_FRAME_FREED_TWICE))
        frame_free(node->frames, pfn);
}

void node_ref_move(struct node *node, struct pfn pfn, struct rmap_entry from, struct rmap_entry to)
{
    /* The place in the reverse map that this frees is the one that the next line takes. */
    rmap_remove(node->rmap, pfn, from);
    BUG_ON(rmap_add(node->rmap, pfn, to) < 0);
}

/* ---- what is kept ---- */

/* Does the entry that the reference stands for keep this very place? */
static bool keeps(const struct node *node, struct pfn pfn, const struct mm *mm, struct uaddr addr)
{
    pte_t pte = mm ? pte_get(mm, addr) : 0;

    return pte_is_kept(pte) && pte_node(pte) == node->id && pte_index(pte) == pfn.n;
}

void node_relist(struct node *node, struct pfn pfn, const struct mm_ids *ids)
{
    struct rmap_entry ref[REFS_AT_ONCE];
    uint32_t nr = rmap_walk(node->rmap, pfn, ref, REFS_AT_ONCE), kept = 0;

    if (frame_list_of(node->frames, pfn) == FRAME_UNLISTED)
        return; /* it is being written back, and listed again after that */
    for (uint32_t i = 0; i < MIN(nr, (uint32_t)REFS_AT_ONCE); i++)
        kept += keeps(node, pfn, mm_by_id(ids, ref[i].mm), ref[i].addr);
    enum frame_list list = kept == nr ? FRAME_KEPT : FRAME_STORED;
    if (list != frame_list_of(node->frames, pfn)) /* else it is not younger for that */
        frame_list_set(node->frames, pfn, list);
}

void node_unkeep(struct node *node, struct pfn pfn, const struct mm_ids *ids)
{
    struct rmap_entry ref[REFS_AT_ONCE];
    uint32_t nr, dropped;

    do {
        nr = MIN(rmap_walk(node->rmap, pfn, ref, REFS_AT_ONCE), (uint32_t)REFS_AT_ONCE);
        dropped = 0;
        for (uint32_t i = 0; i < nr; i++) {
            struct mm *mm = mm_by_id(ids, ref[i].mm);
            if (!keeps(node, pfn, mm, ref[i].addr))
                continue;
            pte_t pte = pte_get(mm, ref[i].addr);
            struct pte_arg arg = {.flags = pte_flags(pte) & ~PTE_F_CLEAN_COPY, .age = pte_age(pte)};
            BUG_ON(pte_transition(mm, ref[i].addr, PTE_EV_UNKEEP, arg, NULL) < 0);
            node_unref(node, pfn, ref[i]);
            dropped++;
        }
    } while (nr == REFS_AT_ONCE && dropped);
}

uint32_t node_drop_kept(struct node *node, const struct mm_ids *ids, uint32_t max)
{
    uint32_t before = frame_nr_free(node->frames);
    struct pfn pfn;

    for (uint32_t i = 0; i < max && frame_list_oldest(node->frames, FRAME_KEPT, &pfn); i++) {
        /* What is left over has its page there for somebody after all. */
        frame_list_set(node->frames, pfn, FRAME_STORED);
        node_unkeep(node, pfn, ids);
    }
    return frame_nr_free(node->frames) - before;
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
