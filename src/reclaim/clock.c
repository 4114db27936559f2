/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock.  The hand goes round each address space by address.  A page is passed
 * over
 *   - once, when a capture could not take it (PTE_F_REFERENCED);
 *   - while it is fresh: its thread may not have run since it was filled;
 *   - for as many turns as its level says (pgtable/workingset.c).
 *
 * Whole huge pages leave as a whole: taking one page of a huge page splits it (19 us
 * and the huge page gone), taking all of it costs 8 ns a page.
 */
#include <errno.h>

#include "reclaim/reclaim.h"

/* In how many turns a page may be taken; UINT32_MAX: not to be told by turns. */
static uint32_t turns_until_due(const struct mm *mm, pte_t pte)
{
    if (pte_flags(pte) & PTE_F_REFERENCED || workingset_is_fresh(mm, pte))
        return UINT32_MAX;
    return workingset_turns_left(mm, pte);
}

/* Is the leaf at base one huge page, all of which is due? */
static bool leaf_is_cold_huge(struct mm *mm, uint64_t base)
{
    struct scan_run run;
    struct uaddr next;

    for (unsigned k = 0; k < PTES_PER_LEAF; k++) {
        pte_t pte = pte_get(mm, uaddr(base + k * PAGE_SIZE));
        if (pte_tag(pte) != PTE_PRESENT || turns_until_due(mm, pte))
            return false;
    }
    int nr = mm->ops->scan(mm->target, urange(base, base + LEAF_SIZE), &run, 1, &next);
    return nr == 1 && run.huge && run.r.start.v == base && run.r.len == LEAF_SIZE;
}

struct pick {
    struct uaddr page[CAPTURE_MAX_PAGES];
    uint32_t nr;
    bool huge;
    uint32_t soonest; /* turns until the first of those passed over is due */
};

/* Once round, or until `max` are picked. */
static void pick_pages(struct mm *mm, uint32_t max, struct pick *p)
{
    uint64_t budget = mm->nr[PTE_PRESENT];
    struct uaddr at = uaddr(mm->clock_hand);
    bool wrapped = false;

    *p = (struct pick){.soonest = UINT32_MAX};
    while (p->nr < max && budget > 0) {
        if (!pte_next_mapped(mm, &at, UINT64_MAX)) {
            if (wrapped && !p->nr && !mm->nr[PTE_PRESENT])
                break;
            wrapped = true;
            mm->clock_turn++;
            at.v = 0;
            if (p->nr || !pte_next_mapped(mm, &at, UINT64_MAX))
                break; /* what was found so far goes; the next call starts afresh */
        }
        uint64_t base = at.v & ~(LEAF_SIZE - 1);
        if (at.v == base && max == CAPTURE_MAX_PAGES && leaf_is_cold_huge(mm, base)) {
            if (p->nr) /* first the ones picked; the hand stays before this leaf */
                break;
            for (; p->nr < PTES_PER_LEAF; p->nr++)
                p->page[p->nr] = uaddr(base + p->nr * PAGE_SIZE);
            p->huge = true;
            mm->count->pgscan += p->nr;
            at.v = base + LEAF_SIZE;
            break;
        }
        pte_t pte = pte_get(mm, at);
        if (pte_tag(pte) == PTE_PRESENT) {
            uint32_t turns = turns_until_due(mm, pte);
            mm->count->pgscan++;
            budget--;
            p->soonest = MIN(p->soonest, turns);
            if (!turns)
                p->page[p->nr++] = at;
            else if (pte_flags(pte) & PTE_F_REFERENCED)
                pte_change_flags(mm, at, 0, PTE_F_REFERENCED);
        }
        at.v += PAGE_SIZE;
    }
    mm->clock_hand = at.v;
}

int reclaim_shrink(struct mm *mm, uint32_t max, enum migrate_reason reason)
{
    struct pick p;

    if (migrate_is_busy(mm))
        return -EBUSY;
    max = MIN(max, (uint32_t)CAPTURE_MAX_PAGES);
    pick_pages(mm, max, &p);
    if (!p.nr && p.soonest != UINT32_MAX) {
        /* Everything is kept by its level: the turns that would pass without a find are skipped. */
        mm->clock_turn += p.soonest;
        pick_pages(mm, max, &p);
    }
    mm->fill_epoch++;
    return p.nr ? migrate_capture(mm, p.page, p.nr, p.huge, reason) : 0;
}
