/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves from `resident` to `ram`, or back to a place that was kept.  Counterpart of
 * unmap_and_move() in Linux mm/migrate.c: the capture is the unmap, MIGRATING is the migration
 * entry, the commit is move_to_new_page() and remove_migration_ptes() in one.
 *
 * Order of stores of a commit, which recovery leans on:
 *   1. the bytes are in the frame;
 *   2. the entry names the frame (one release store: the point of no return);
 *   3. the slot is free for the next capture.
 * Before 2 the slot holds the page, after it the frame does.
 *
 * Invariants (migrate_check):
 *  1. A slot that is not FREE and whose entry is MIGRATING with that slot's
 *     number owns that page; any other entry at its address is left alone.
 *  2. Every MIGRATING entry of the mm has such a slot.
 *  3. nr_open is the number of slots that are not FREE.
 *  4. A slot may hold the place that its page had kept; the reference to it goes on
 *     under the slot's address until the slot is closed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/migrate_priv.h"

int migrate_op_init(struct mm *mm)
{
    mm->op = calloc(1, sizeof(*mm->op));
    return mm->op ? 0 : -ENOMEM;
}

static struct node *kept_node(const struct mm *mm, const struct slot *slot)
{
    return slot->kept_node == NODE_FILE ? mm->file : mm->ram;
}

/* The place that the page had kept is of no use any more. */
static void drop_kept(struct mm *mm, struct slot *slot)
{
    if (!slot->kept_node)
        return;
    node_unref(kept_node(mm, slot), (struct pfn){slot->kept},
               (struct rmap_entry){mm->id, slot->addr});
    slot->kept_node = 0;
}

void migrate_op_free(struct mm *mm)
{
    if (!mm->op)
        return;
    for (uint32_t i = 0; i < mm->op->nr_slots; i++)
        if (mm->op->slot[i].state != SLOT_FREE)
            drop_kept(mm, &mm->op->slot[i]);
    store_drop_spare(mm);
    free(mm->op);
    mm->op = NULL;
}

bool migrate_is_busy(const struct mm *mm)
{
    if (MUTANT(MUTANT_DISCARD_BEFORE_COMMIT))
        return mm->op->capturing;
    return mm->op->nr_open != 0 || mm->op->filling;
}

bool migrate_is_capturing(const struct mm *mm)
{
    return mm->op->capturing;
}

uint32_t migrate_nr_open(const struct mm *mm)
{
    return mm->op->nr_open;
}

static void slot_close(struct mm *mm, uint32_t i)
{
    struct migrate_op *op = mm->op;

    BUG_ON(op->slot[i].state == SLOT_FREE);
    drop_kept(mm, &op->slot[i]);
    op->slot[i].state = SLOT_FREE;
    op->nr_open--;
}

/* Does the entry at the slot's address still belong to this move? */
bool migrate_slot_owns_entry(const struct mm *mm, uint32_t i)
{
    pte_t pte = pte_get(mm, mm->op->slot[i].addr);

    return pte_tag(pte) == PTE_MIGRATING && pte_index(pte) == i;
}

/* The entry is as before the capture, with `flags` more; it keeps what it kept. */
static void slot_abort(struct mm *mm, uint32_t i, uint32_t flags)
{
    struct slot *slot = &mm->op->slot[i];
    struct uaddr addr = slot->addr;

    if (migrate_slot_owns_entry(mm, i)) {
        pte_t pte = pte_get(mm, addr);
        struct pte_arg arg = {.flags = flags | pte_flags(pte), .age = pte_age(pte)};
        if (slot->kept_node) {
            arg.flags |= PTE_F_CLEAN_COPY;
            arg.node = slot->kept_node;
            arg.index = slot->kept;
        }
        BUG_ON(pte_transition(mm, addr, PTE_EV_ABORT, arg, NULL) < 0);
        if (slot->kept_node)
            node_relist(kept_node(mm, slot), (struct pfn){slot->kept}, mm->ids);
        slot->kept_node = 0;
    }
    slot_close(mm, i);
}

/* Slots in a row whose addresses follow each other become one run. */
static uint32_t build_vecs(struct migrate_op *op)
{
    uint32_t nr = 0;

    for (uint32_t i = 0; i < op->nr_slots; i++) {
        struct capture_vec *last = nr ? &op->vec[nr - 1] : NULL;
        if (last && last->addr.v + ((uint64_t)last->nr_pages << PAGE_SHIFT) == op->slot[i].addr.v)
            last->nr_pages++;
        else
            op->vec[nr++] = (struct capture_vec){op->slot[i].addr, 1, i};
    }
    return nr;
}

int migrate_capture(struct mm *mm, const struct uaddr *pages, uint32_t nr, bool huge,
                    enum migrate_reason reason)
{
    struct migrate_op *op = mm->op;

    BUG_ON(nr > CAPTURE_MAX_PAGES);
    if (migrate_is_busy(mm))
        return -EBUSY;
    op->nr_slots = op->nr_open = op->cursor = 0;
    op->reason = reason;
    for (uint32_t i = 0; i < nr; i++) {
        pte_t pte = pte_get(mm, pages[i]);
        if (pte_tag(pte) != PTE_PRESENT)
            continue;
        op->slot[op->nr_slots++] = (struct slot){
            .addr = pages[i],
            .kept_node = pte_is_kept(pte) ? pte_node(pte) : 0,
            .kept = pte_is_kept(pte) ? pte_index(pte) : 0,
        };
    }
    if (!op->nr_slots)
        return -EAGAIN;

    uint32_t nr_vecs = build_vecs(op);
    huge = huge && nr_vecs == 1 && op->nr_slots == PTES_PER_LEAF;
    int r = mm->ops->capture_prepare(mm->target, op->vec, nr_vecs, huge);
    if (r < 0) {
        op->nr_slots = 0;
        return r;
    }
    /* From here on a worker that dies is asked for the pages by its successor. */
    for (uint32_t i = 0; i < op->nr_slots; i++) {
        struct slot *slot = &op->slot[i];
        pte_t pte = pte_get(mm, slot->addr);
        struct pte_arg arg = {
            .flags = pte_flags(pte) & ~PTE_F_CLEAN_COPY, .age = pte_age(pte), .index = i};
        if (pte_transition(mm, slot->addr, PTE_EV_CAPTURE, arg, NULL) < 0)
            continue; /* named twice */
        slot->state = SLOT_CAPTURING;
        op->nr_open++;
    }
    mm->ops->capture_start(mm->target);
    op->capturing = true;
    if (huge)
        mm->count->capture_huge++;
    return (int)op->nr_open;
}

/* A successor reads no message either before the command is done: the entries do not tell. */
static void saved_fill_set(struct mm *mm, uint64_t base)
{
    if (!mm->saved_fill)
        return;
    atomic_store_explicit(mm->saved_fill, base, memory_order_release);
    CRASH_POINT();
}

int migrate_fill_huge(struct mm *mm, struct uaddr base)
{
    struct migrate_op *op = mm->op;

    if (!mm->ops->fill_prepare)
        return -EOPNOTSUPP;
    if (op->capturing || migrate_is_busy(mm))
        return -EBUSY;
    int r = mm->ops->fill_prepare(mm->target, base);
    if (r < 0)
        return r;
    if (!MUTANT(MUTANT_FILL_NOT_SAVED))
        saved_fill_set(mm, base.v);
    mm->ops->capture_start(mm->target);
    op->capturing = op->filling = true;
    op->fill_base = base;
    return 0;
}

bool migrate_is_filling(const struct mm *mm)
{
    return mm->op->filling;
}

uint32_t migrate_filled(struct mm *mm, const uint8_t result[CAPTURE_MAX_PAGES])
{
    struct migrate_op *op = mm->op;
    uint32_t nr = 0;

    BUG_ON(!op->filling);
    /* No event was unread when they were put there: what is dropped since then will tell. */
    while (nr < CAPTURE_MAX_PAGES && result[nr] == CAPTURE_TAKEN) {
        struct uaddr at = uaddr(op->fill_base.v + nr * PAGE_SIZE);
        if (pte_tag(pte_get(mm, at)) == PTE_NONE)
            (void)pte_transition(mm, at, PTE_EV_ADOPT, workingset_filled(mm), NULL);
        nr++;
    }
    if (nr == PTES_PER_LEAF)
        mm->count->fill_huge++;
    /* no huge page is to be had for it: not tried for ever */
    else if (result[0] != CAPTURE_EVENTS && result[0] != CAPTURE_NOT_TRIED)
        mm_area_set_thp(mm, op->fill_base.v, AREA_THP_NO);
    mm->count->pgzerofill += nr;
    saved_fill_set(mm, 0);
    op->capturing = op->filling = false;
    return nr;
}

uint32_t migrate_captured(struct mm *mm, const uint8_t result[CAPTURE_MAX_PAGES])
{
    struct migrate_op *op = mm->op;
    uint32_t taken = 0;

    BUG_ON(!op->capturing);
    op->capturing = false;
    for (uint32_t i = 0; i < op->nr_slots; i++) {
        if (op->slot[i].state == SLOT_FREE) /* its page has another slot */
            continue;
        switch (result[i]) {
        case CAPTURE_TAKEN:
            op->slot[i].state = SLOT_STAGED;
            taken++;
            continue;
        case CAPTURE_HOLE:
            /*
             * No page and no unread event: the kernel itself dropped it (a page
             * freed by MADV_FREE, or by a DONTNEED whose event was read already).
             */
            mm->count->capture_hole++;
            if (migrate_slot_owns_entry(mm, i))
                pte_transition(mm, op->slot[i].addr, PTE_EV_REMOVE, (struct pte_arg){0}, NULL);
            slot_close(mm, i);
            continue;
        case CAPTURE_LOST: /* never zeros in its place */
            mm->count->poisoned++;
            if (migrate_slot_owns_entry(mm, i))
                pte_transition(mm, op->slot[i].addr, PTE_EV_LOSE, (struct pte_arg){0}, NULL);
            slot_close(mm, i);
            continue;
        case CAPTURE_EVENTS:
        case CAPTURE_NOT_TRIED:
            mm->count->capture_events++;
            slot_abort(mm, i, 0);
            continue;
        case CAPTURE_BUSY:
            mm->count->capture_busy++;
            break;
        case CAPTURE_REFUSED:
        default: /* the agent's memory is the client's: any byte may stand here */
            mm->count->capture_refused++;
            break;
        }
        /* Not at once again: the clock passes it over for a turn. */
        mm->count->pgmigrate_fail++;
        slot_abort(mm, i, PTE_F_REFERENCED);
    }
    return taken;
}

enum kres migrate_take_back(struct mm *mm, struct uaddr addr)
{
    struct migrate_op *op = mm->op;
    uint32_t i = pte_index(pte_get(mm, addr));
    uint64_t done = 0;

    BUG_ON(i >= op->nr_slots || !migrate_slot_owns_entry(mm, i));
    if (op->slot[i].state != SLOT_STAGED)
        return KRES_RETRY;
    enum kres r = mm->ops->copy(mm->target, addr, mm->ops->staged(mm->target, (struct sslot){i}),
                                PAGE_SIZE, &done);
    switch (r) {
    case KRES_DONE:
        break;
    case KRES_RACED:
        /* The program's own page is there: it is newer than what was taken. */
        mm->ops->wake(mm->target, (struct urange){addr, PAGE_SIZE});
        break;
    case KRES_RETRY:
        if (MUTANT(MUTANT_ABORTED_AS_PRESENT))
            break;
        return r;
    case KRES_GONE: /* its unmap event has not been read yet */
    case KRES_DEAD:
    case KRES_FATAL:
        return r;
    }
    mm->count->migrate_aborted++;
    slot_abort(mm, i, PTE_F_REFERENCED);
    return KRES_DONE;
}

/* The page has not changed since it came back: it goes where it was, without a store. */
static bool commit_to_kept(struct mm *mm, struct slot *slot, const void *bytes,
                           struct pte_arg arg)
{
    struct pfn pfn = {slot->kept};

    if (!slot->kept_node)
        return false;
    struct node *node = kept_node(mm, slot);
    bool is_file = node->id == NODE_FILE;
    if (!MUTANT(MUTANT_KEPT_NOT_COMPARED) &&
        (is_file ? !node_sum_fits(node, pfn, bytes)
                 : memcmp(node_bytes(node, pfn), bytes, PAGE_SIZE)))
        return false;
    arg.node = node->id;
    arg.index = pfn.n;
    BUG_ON(pte_transition(mm, slot->addr, is_file ? PTE_EV_COMMIT_SWAPPED : PTE_EV_COMMIT_FRAME,
                          arg, NULL) < 0);
    slot->kept_node = 0; /* the reference is the entry's again */
    node_relist(node, pfn, mm->ids);
    mm->count->clean_dropped++;
    return true;
}

/* One staged slot, of those up to `upto` that are committed now; false when it has to wait. */
static bool commit_slot(struct mm *mm, uint32_t i, uint32_t upto, bool may_take_back)
{
    struct slot *slot = &mm->op->slot[i];
    struct uaddr addr = slot->addr;

    if (!migrate_slot_owns_entry(mm, i)) { /* removed meanwhile; the bytes have no owner */
        slot_close(mm, i);
        return true;
    }
    const void *bytes = mm->ops->staged(mm->target, (struct sslot){i});
    struct pte_arg arg = {
        .flags = PTE_F_LEVEL(pte_level(pte_get(mm, addr))),
        .age = mm->op->reason == MIGRATE_DEMOTION ? workingset_eviction(mm) : 0,
    };
    if (migrate_page_is_zero(bytes)) {
        BUG_ON(pte_transition(mm, addr, PTE_EV_COMMIT_ZERO, arg, NULL) < 0);
        mm->count->zero_pages++;
    } else if (!commit_to_kept(mm, slot, bytes, arg) && !store_over_kept(mm, slot, bytes, arg)) {
        drop_kept(mm, slot); /* an old copy; its frame may be the one that is needed */
        if (!store_to_frame(mm, i, upto, arg)) {
            if (writeback_makes_room(mm->writeback))
                return false;
            return may_take_back && migrate_take_back(mm, addr) == KRES_DONE;
        }
    }
    mm->count->pgmigrate_success++;
    if (mm->op->reason == MIGRATE_DEMOTION)
        mm->count->pgsteal++;
    else if (mm->op->reason == MIGRATE_SYSCALL)
        mm->count->pgsteal_proactive++;
    slot_close(mm, i);
    return true;
}

static uint32_t commit(struct mm *mm, uint32_t max, bool may_take_back)
{
    struct migrate_op *op = mm->op;

    if (op->late_bytes) {
        memcpy(node_bytes(mm->ram, op->late_pfn), op->late_bytes, PAGE_SIZE);
        op->late_bytes = NULL;
    }
    if (op->capturing)
        return op->nr_open;
    uint32_t upto = MIN(op->nr_slots, op->cursor + max);
    op->nr_ahead = 0;
    for (uint32_t i = op->cursor; i < op->nr_slots && op->nr_open && max; i++) {
        if (op->slot[i].state == SLOT_STAGED) {
            max--;
            commit_slot(mm, i, upto, may_take_back);
        }
        if (op->slot[i].state == SLOT_FREE && i == op->cursor)
            op->cursor++;
        if (op->late_bytes)
            return op->nr_open;
    }
    if (!op->nr_open)
        store_drop_spare(mm);
    return op->nr_open;
}

uint32_t migrate_commit(struct mm *mm, uint32_t max)
{
    return commit(mm, max, true);
}

uint32_t migrate_commit_stored(struct mm *mm)
{
    return commit(mm, CAPTURE_MAX_PAGES, false);
}

void migrate_moved(struct mm *mm, struct uaddr from, struct uaddr to)
{
    uint32_t i = pte_index(pte_get(mm, to));
    struct slot *slot = &mm->op->slot[i];

    BUG_ON(i >= mm->op->nr_slots || slot->addr.v != from.v);
    slot->addr = to;
    if (slot->kept_node)
        node_ref_move(kept_node(mm, slot), (struct pfn){slot->kept},
                      (struct rmap_entry){mm->id, from}, (struct rmap_entry){mm->id, to});
}

const void *migrate_bytes(const struct mm *mm, struct uaddr addr)
{
    uint32_t i = pte_index(pte_get(mm, addr));

    if (i >= mm->op->nr_slots || mm->op->slot[i].state != SLOT_STAGED)
        return NULL;
    return mm->ops->staged(mm->target, (struct sslot){i});
}

void migrate_release_stored(struct mm *mm, struct uaddr addr, pte_t old)
{
    if (!pte_holds_place(old))
        return;
    struct node *node = node_of(mm, old);
    struct pfn pfn = {pte_index(old)};
    node_unref(node, pfn, (struct rmap_entry){mm->id, addr});
    /* Was it the last one whose page was there?  Then the others only keep it. */
    if (mm->ids && frame_refs(node->frames, pfn))
        node_relist(node, pfn, mm->ids);
}

bool migrate_claim_stored(struct mm *mm, struct uaddr addr)
{
    pte_t pte = pte_get(mm, addr);
    struct pfn pfn = {pte_index(pte)};

    if (!pte_holds_place(pte))
        return true;
    struct node *node = node_of(mm, pte);
    if (!node || pfn.n >= frame_nr_total(node->frames))
        return false;
    if (!frame_is_allocated(node->frames, pfn) && frame_claim(node->frames, pfn) < 0)
        return false;
    if (node_ref(node, pfn, (struct rmap_entry){mm->id, addr}) < 0)
        return false;
    if (mm->ids)
        node_relist(node, pfn, mm->ids);
    return true;
}

void migrate_recover(struct mm *mm)
{
    struct migrate_op *op = mm->op;
    struct uaddr at = {0};

    for (; pte_next_mapped(mm, &at, UINT64_MAX); at.v += PAGE_SIZE) {
        pte_t pte = pte_get(mm, at);
        uint32_t i = pte_index(pte);
        if (pte_tag(pte) != PTE_MIGRATING)
            continue;
        if (i >= CAPTURE_MAX_PAGES || op->slot[i].state != SLOT_FREE) {
            BUG_ON(pte_transition(mm, at, PTE_EV_LOSE, (struct pte_arg){0}, NULL) < 0);
            mm->count->poisoned++;
            continue;
        }
        op->slot[i] = (struct slot){.addr = at, .state = SLOT_CAPTURING};
        op->nr_slots = MAX(op->nr_slots, i + 1);
        op->nr_open++;
    }
    op->fill_base = uaddr(mm->saved_fill ? *mm->saved_fill : 0);
    op->filling = op->fill_base.v != 0;
    BUG_ON(op->filling && op->nr_open);
    op->capturing = op->filling || op->nr_open != 0;
}

const char *migrate_check(const struct mm *mm)
{
    const struct migrate_op *op = mm->op;
    uint32_t open = 0, owning = 0;

    for (uint32_t i = 0; i < op->nr_slots; i++) {
        if (op->slot[i].state == SLOT_FREE)
            continue;
        open++;
        owning += migrate_slot_owns_entry(mm, i);
    }
    if (open != op->nr_open)
        return "the open slots of a move and their count differ";
    if (owning != mm->nr[PTE_MIGRATING])
        return "a migrating entry has no slot";
    return NULL;
}
