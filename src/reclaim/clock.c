/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock.  Whole huge pages leave as a whole: taking one page of a huge page
 * splits it (19 us and the huge page gone), taking all of it costs 8 ns a page.
 */
#include <errno.h>

#include "reclaim/reclaim.h"

/* Is the leaf at base one huge page of which nothing was referenced lately? */
static bool leaf_is_cold_huge(struct mm *mm, uint64_t base)
{
    struct scan_run run;
    struct uaddr next;

    for (unsigned k = 0; k < PTES_PER_LEAF; k++) {
        pte_t pte = pte_get(mm, uaddr(base + k * PAGE_SIZE));
        if (pte_tag(pte) != PTE_PRESENT || pte_flags(pte) & PTE_F_REFERENCED)
            return false;
    }
    int nr = mm->ops->scan(mm->target, urange(base, base + LEAF_SIZE), &run, 1, &next);
    return nr == 1 && run.huge && run.r.start.v == base && run.r.len == LEAF_SIZE;
}

int reclaim_shrink(struct mm *mm, uint32_t max, enum migrate_reason reason)
{
    struct uaddr picked[CAPTURE_MAX_PAGES];
    uint32_t nr = 0;
    uint64_t budget = mm->nr[PTE_PRESENT]; /* once round: what this turn clears the next one takes */
    struct uaddr at = uaddr(mm->clock_hand);
    bool wrapped = false;

    if (migrate_is_busy(mm))
        return -EBUSY;
    max = MIN(max, (uint32_t)CAPTURE_MAX_PAGES);
    while (nr < max && budget > 0) {
        if (!pte_next_mapped(mm, &at, UINT64_MAX)) {
            if (wrapped && !nr && !mm->nr[PTE_PRESENT])
                break;
            wrapped = true;
            at.v = 0;
            if (nr || !pte_next_mapped(mm, &at, UINT64_MAX))
                break; /* what was found so far goes; the next call starts afresh */
        }
        uint64_t base = at.v & ~(LEAF_SIZE - 1);
        if (at.v == base && max == CAPTURE_MAX_PAGES && leaf_is_cold_huge(mm, base)) {
            if (nr) /* first the ones picked; the hand stays before this leaf */
                break;
            for (; nr < PTES_PER_LEAF; nr++)
                picked[nr] = uaddr(base + nr * PAGE_SIZE);
            mm->count->pgscan += nr;
            mm->clock_hand = base + LEAF_SIZE;
            return migrate_capture(mm, picked, nr, true, reason);
        }
        pte_t pte = pte_get(mm, at);
        if (pte_tag(pte) == PTE_PRESENT) {
            mm->count->pgscan++;
            budget--;
            if (pte_flags(pte) & PTE_F_REFERENCED)
                pte_change_flags(mm, at, 0, PTE_F_REFERENCED);
            else
                picked[nr++] = at;
        }
        at.v += PAGE_SIZE;
    }
    mm->clock_hand = at.v;
    if (!nr)
        return 0;
    return migrate_capture(mm, picked, nr, false, reason);
}
