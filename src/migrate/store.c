/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes to frames.  Frames are had in runs, so that neighbours lie side by side and come
 * back with one copy.
 *
 * A frame that was never written has no memory.  Then the pages of the slots that follow
 * go there together, through the node's descriptor, before the first of their entries
 * changes (store_ahead()): half the time that a fault for each frame takes.
 */
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "migrate/migrate_priv.h"

void store_drop_spare(struct mm *mm)
{
    struct migrate_op *op = mm->op;

    while (op->nr_spare) {
        frame_free(mm->ram->frames, (struct pfn){op->spare.n});
        op->spare.n++;
        op->nr_spare--;
    }
    op->nr_ahead = 0;
}

bool migrate_page_is_zero(const void *page)
{
    const uint64_t *word = page;

    for (size_t i = 0; i < PAGE_SIZE / sizeof(*word) - MUTANT(MUTANT_ZERO_TEST_SHORT); i++)
        if (word[i])
            return false;
    return true;
}

#define DROP_KEPT_AT_ONCE 64u

/* A frame for the next page; runs, so that neighbours come back with one copy. */
static int next_frame(struct mm *mm, uint32_t want, struct pfn *ret)
{
    struct migrate_op *op = mm->op;

    if (!op->nr_spare) {
        int r = frame_alloc_run(mm->ram->frames, want, &op->spare, &op->nr_spare);
        if (r < 0 && mm->ids && node_drop_kept(mm->ram, mm->ids, DROP_KEPT_AT_ONCE))
            r = frame_alloc_run(mm->ram->frames, want, &op->spare, &op->nr_spare);
        if (r < 0)
            return r;
    }
    *ret = op->spare;
    return 0;
}


/*
 * What is moved out is not read again soon: past the caches, which also spares reading what
 * the frame held.
 */
static void copy_page(void *to, const void *from)
{
#ifdef __SSE2__
    const __m128i *src = from;
    __m128i *dst = to;

    for (size_t i = 0; i < PAGE_SIZE / sizeof(*src); i += 4) {
        __m128i a = _mm_loadu_si128(src + i), b = _mm_loadu_si128(src + i + 1);
        __m128i c = _mm_loadu_si128(src + i + 2), d = _mm_loadu_si128(src + i + 3);
        _mm_stream_si128(dst + i, a);
        _mm_stream_si128(dst + i + 1, b);
        _mm_stream_si128(dst + i + 2, c);
        _mm_stream_si128(dst + i + 3, d);
    }
    _mm_sfence(); /* they are not ordered with the entry's store otherwise */
#else
    memcpy(to, from, PAGE_SIZE);
#endif
}

/*
 * The slots from i on that will want a frame each go to the spare frames, as long as these are
 * fresh.
 */
static void store_ahead(struct mm *mm, uint32_t i, uint32_t upto)
{
    struct migrate_op *op = mm->op;
    const void *page[NODE_FRESH_MAX];
    uint32_t nr = 0, max = MIN(op->nr_spare, NODE_FRESH_MAX);

    for (; i < upto && nr < max; i++) {
        if (op->slot[i].state != SLOT_STAGED || !migrate_slot_owns_entry(mm, i))
            continue;
        if (!node_is_fresh(mm->ram, (struct pfn){op->spare.n + nr}))
            break;
        page[nr] = mm->ops->staged(mm->target, (struct sslot){i});
        if (op->slot[i].kept_node || migrate_page_is_zero(page[nr]))
            continue; /* most likely it needs none */
        op->ahead[nr++] = i;
    }
    op->at_ahead = 0;
    op->nr_ahead = nr ? node_fresh_write(mm->ram, op->spare, page, nr) : 0;
}

/* Does the next spare frame hold the slot's bytes? */
static bool is_ahead(struct migrate_op *op, uint32_t i)
{
    return op->at_ahead < op->nr_ahead && op->ahead[op->at_ahead] == i;
}

bool store_to_frame(struct mm *mm, uint32_t i, uint32_t upto, struct pte_arg arg)
{
    struct migrate_op *op = mm->op;
    struct slot *slot = &op->slot[i];
    const void *bytes = mm->ops->staged(mm->target, (struct sslot){i});
    struct pfn pfn;

    if (next_frame(mm, MIN(op->nr_open, CAPTURE_MAX_PAGES), &pfn) < 0 ||
        node_ref(mm->ram, pfn, (struct rmap_entry){mm->id, slot->addr}) < 0)
        return false;
    if (MUTANT(MUTANT_COMMIT_BEFORE_COPY)) {
        op->late_pfn = pfn;
        op->late_bytes = bytes;
    } else {
        if (op->at_ahead >= op->nr_ahead && node_is_fresh(mm->ram, pfn))
            store_ahead(mm, i, upto);
        if (!is_ahead(op, i)) {
            node_touch(mm->ram, pfn);
            copy_page(node_bytes(mm->ram, pfn), bytes);
        }
    }
    op->spare.n++;
    op->nr_spare--;
    op->at_ahead++;
    arg.node = mm->ram->id;
    arg.index = pfn.n;
    CRASH_POINT();
    BUG_ON(pte_transition(mm, slot->addr, PTE_EV_COMMIT_FRAME, arg, NULL) < 0);
    return true;
}

bool store_over_kept(struct mm *mm, struct slot *slot, const void *bytes, struct pte_arg arg)
{
    struct pfn pfn = {slot->kept};

    if (slot->kept_node != NODE_RAM || frame_refs(mm->ram->frames, pfn) != 1 ||
        frame_is_held(mm->ram->frames, pfn) || MUTANT(MUTANT_COMMIT_BEFORE_COPY))
        return false;
    copy_page(node_bytes(mm->ram, pfn), bytes);
    arg.node = mm->ram->id;
    arg.index = pfn.n;
    CRASH_POINT();
    BUG_ON(pte_transition(mm, slot->addr, PTE_EV_COMMIT_FRAME, arg, NULL) < 0);
    slot->kept_node = 0; /* the reference is the entry's again */
    node_relist(mm->ram, pfn, mm->ids);
    return true;
}
