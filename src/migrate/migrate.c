/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves from `resident` to `ram`.  Counterpart of unmap_and_move() in Linux
 * mm/migrate.c: the capture is the unmap, MIGRATING is the migration entry, the
 * commit is move_to_new_page() and remove_migration_ptes() in one.
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
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/migrate.h"

enum slot_state { SLOT_FREE = 0, SLOT_CAPTURING, SLOT_STAGED };

struct slot {
    struct uaddr addr;
    uint8_t state;
};

struct migrate_op {
    bool capturing;
    enum migrate_reason reason;
    uint32_t nr_slots; /* used by this move, from 0 */
    uint32_t nr_open;
    uint32_t cursor; /* first slot that may be open */
    struct slot slot[CAPTURE_MAX_PAGES];
    struct capture_vec vec[CAPTURE_MAX_PAGES];
    /* Frames allocated for the commit and not used yet: [first, first + nr). */
    struct pfn spare;
    uint32_t nr_spare;
    /* Only the mutant "commit before copy" uses it. */
    struct pfn late_pfn;
    const void *late_bytes;
};

int migrate_op_init(struct mm *mm)
{
    mm->op = calloc(1, sizeof(*mm->op));
    return mm->op ? 0 : -ENOMEM;
}

static void drop_spare(struct mm *mm)
{
    struct migrate_op *op = mm->op;

    while (op->nr_spare) {
        frame_free(mm->ram->frames, (struct pfn){op->spare.n});
        op->spare.n++;
        op->nr_spare--;
    }
}

void migrate_op_free(struct mm *mm)
{
    if (!mm->op)
        return;
    drop_spare(mm);
    free(mm->op);
    mm->op = NULL;
}

bool migrate_is_busy(const struct mm *mm)
{
    if (MUTANT(MUTANT_DISCARD_BEFORE_COMMIT))
        return mm->op->capturing;
    return mm->op->nr_open != 0;
}

bool migrate_is_capturing(const struct mm *mm)
{
    return mm->op->capturing;
}

uint32_t migrate_nr_open(const struct mm *mm)
{
    return mm->op->nr_open;
}

static void slot_close(struct migrate_op *op, uint32_t i)
{
    BUG_ON(op->slot[i].state == SLOT_FREE);
    op->slot[i].state = SLOT_FREE;
    op->nr_open--;
}

/* Does the entry at the slot's address still belong to this move? */
static bool slot_owns_entry(const struct mm *mm, uint32_t i)
{
    pte_t pte = pte_get(mm, mm->op->slot[i].addr);

    return pte_tag(pte) == PTE_MIGRATING && pte_index(pte) == i;
}

/* The entry is as before the capture, with `flags` more. */
static void slot_abort(struct mm *mm, uint32_t i, uint32_t flags)
{
    struct uaddr addr = mm->op->slot[i].addr;

    if (slot_owns_entry(mm, i)) {
        flags |= pte_flags(pte_get(mm, addr));
        BUG_ON(pte_transition(mm, addr, PTE_EV_ABORT, (struct pte_arg){.flags = flags}, NULL) < 0);
    }
    slot_close(mm->op, i);
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
    for (uint32_t i = 0; i < nr; i++)
        if (pte_tag(pte_get(mm, pages[i])) == PTE_PRESENT)
            op->slot[op->nr_slots++] = (struct slot){.addr = pages[i]};
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
        struct pte_arg arg = {.flags = pte_flags(pte_get(mm, slot->addr)), .index = i};
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

uint32_t migrate_captured(struct mm *mm, const uint8_t result[CAPTURE_MAX_PAGES])
{
    struct migrate_op *op = mm->op;
    uint32_t taken = 0;

    BUG_ON(!op->capturing);
    op->capturing = false;
    for (uint32_t i = 0; i < op->nr_slots; i++) {
        if (op->slot[i].state == SLOT_FREE)
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
            if (slot_owns_entry(mm, i))
                pte_transition(mm, op->slot[i].addr, PTE_EV_REMOVE, (struct pte_arg){0}, NULL);
            slot_close(op, i);
            continue;
        case CAPTURE_LOST: /* never zeros in its place */
            mm->count->poisoned++;
            if (slot_owns_entry(mm, i))
                pte_transition(mm, op->slot[i].addr, PTE_EV_LOSE, (struct pte_arg){0}, NULL);
            slot_close(op, i);
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

bool migrate_page_is_zero(const void *page)
{
    const uint64_t *word = page;

    for (size_t i = 0; i < PAGE_SIZE / sizeof(*word); i++)
        if (word[i])
            return false;
    return true;
}

/* A frame for the next page; runs, so that neighbours come back with one copy. */
static int next_frame(struct mm *mm, uint32_t want, struct pfn *ret)
{
    struct migrate_op *op = mm->op;

    if (!op->nr_spare) {
        int r = frame_alloc_run(mm->ram->frames, want, &op->spare, &op->nr_spare);
        if (r < 0)
            return r;
    }
    *ret = op->spare;
    return 0;
}

enum kres migrate_take_back(struct mm *mm, struct uaddr addr)
{
    struct migrate_op *op = mm->op;
    uint32_t i = pte_index(pte_get(mm, addr));
    uint64_t done = 0;

    BUG_ON(i >= op->nr_slots || !slot_owns_entry(mm, i));
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
    case KRES_GONE: /* its unmap event has not been read yet */
    case KRES_DEAD:
    case KRES_FATAL:
        return r;
    }
    mm->count->migrate_aborted++;
    slot_abort(mm, i, PTE_F_REFERENCED);
    return KRES_DONE;
}

/* One staged slot; false when it has to wait. */
static bool commit_slot(struct mm *mm, uint32_t i, uint32_t want, bool may_take_back)
{
    struct migrate_op *op = mm->op;
    struct uaddr addr = op->slot[i].addr;
    struct pfn pfn;

    if (!slot_owns_entry(mm, i)) { /* removed meanwhile; the bytes have no owner */
        slot_close(op, i);
        return true;
    }
    const void *bytes = mm->ops->staged(mm->target, (struct sslot){i});
    if (migrate_page_is_zero(bytes)) {
        BUG_ON(pte_transition(mm, addr, PTE_EV_COMMIT_ZERO, (struct pte_arg){0}, NULL) < 0);
        mm->count->zero_pages++;
    } else {
        if (next_frame(mm, want, &pfn) < 0 ||
            node_ref(mm->ram, pfn, (struct rmap_entry){mm->id, addr}) < 0)
            return may_take_back && migrate_take_back(mm, addr) == KRES_DONE;
        op->spare.n++;
        op->nr_spare--;
        if (MUTANT(MUTANT_COMMIT_BEFORE_COPY)) {
            op->late_pfn = pfn;
            op->late_bytes = bytes;
        } else {
            memcpy(node_bytes(mm->ram, pfn), bytes, PAGE_SIZE);
        }
        CRASH_POINT();
        BUG_ON(pte_transition(mm, addr, PTE_EV_COMMIT_FRAME,
                              (struct pte_arg){.node = mm->ram->id, .index = pfn.n}, NULL) < 0);
    }
    mm->count->pgmigrate_success++;
    if (op->reason == MIGRATE_DEMOTION)
        mm->count->pgsteal++;
    slot_close(op, i);
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
    for (uint32_t i = op->cursor; i < op->nr_slots && op->nr_open && max; i++) {
        if (op->slot[i].state == SLOT_STAGED) {
            max--;
            commit_slot(mm, i, MIN(op->nr_open, CAPTURE_MAX_PAGES), may_take_back);
        }
        if (op->slot[i].state == SLOT_FREE && i == op->cursor)
            op->cursor++;
        if (op->late_bytes)
            return op->nr_open;
    }
    if (!op->nr_open)
        drop_spare(mm);
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

    BUG_ON(i >= mm->op->nr_slots || mm->op->slot[i].addr.v != from.v);
    mm->op->slot[i].addr = to;
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
    if (pte_tag(old) == PTE_FRAME)
        node_unref(mm->ram, (struct pfn){pte_index(old)}, (struct rmap_entry){mm->id, addr});
}

bool migrate_claim_stored(struct mm *mm, struct uaddr addr)
{
    pte_t pte = pte_get(mm, addr);
    struct pfn pfn = {pte_index(pte)};

    if (pte_tag(pte) != PTE_FRAME)
        return true;
    if (pfn.n >= frame_nr_total(mm->ram->frames))
        return false;
    if (!frame_is_allocated(mm->ram->frames, pfn) && frame_claim(mm->ram->frames, pfn) < 0)
        return false;
    return node_ref(mm->ram, pfn, (struct rmap_entry){mm->id, addr}) == 0;
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
        op->slot[i] = (struct slot){at, SLOT_CAPTURING};
        op->nr_slots = MAX(op->nr_slots, i + 1);
        op->nr_open++;
    }
    op->capturing = op->nr_open != 0;
}

const char *migrate_check(const struct mm *mm)
{
    const struct migrate_op *op = mm->op;
    uint32_t open = 0, owning = 0;

    for (uint32_t i = 0; i < op->nr_slots; i++) {
        if (op->slot[i].state == SLOT_FREE)
            continue;
        open++;
        owning += slot_owns_entry(mm, i);
    }
    if (open != op->nr_open)
        return "the open slots of a move and their count differ";
    if (owning != mm->nr[PTE_MIGRATING])
        return "a migrating entry has no slot";
    return NULL;
}
