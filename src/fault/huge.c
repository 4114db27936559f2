/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which first touches are answered with a whole huge page (DESIGN D2), so that a
 * program keeps its huge pages under a limit: where the program asked for them, and,
 * where the kernel would make them anyway, for touches that follow each other.
 */
#include "fault/fault_priv.h"
#include "migrate/migrate.h"

/* Touches that follow each other this closely are worth a huge page where none was asked for. */
#define HUGE_AFTER_WINDOW 8

static struct uaddr leaf_of(struct uaddr addr)
{
    return uaddr(addr.v & ~(LEAF_SIZE - 1));
}

/* May a huge page be put around addr? */
static enum area_thp thp_at(const struct mm *mm, struct uaddr addr)
{
    const struct area *area = mm_area_find(mm, addr.v);
    uint64_t base = leaf_of(addr).v;

    if (!area || area->thp == AREA_THP_NO || base < area->start || base + LEAF_SIZE > area->end)
        return AREA_THP_NO;
    return pte_leaf_is_none(mm, uaddr(base)) ? area->thp : AREA_THP_NO;
}

bool fault_wants_huge(const struct mm *mm, struct uaddr addr, bool write)
{
    return write && mm->ops->fill_prepare && thp_at(mm, addr) == AREA_THP_ADVISED;
}

bool huge_fill_start(struct mm *mm, struct uaddr addr, struct readahead_plan plan)
{
    enum area_thp thp = thp_at(mm, addr);

    if (thp == AREA_THP_NO || (thp == AREA_THP_SEQUENTIAL &&
                               (plan.stride != PAGE_SIZE || plan.nr < HUGE_AFTER_WINDOW)))
        return false;
    return migrate_fill_huge(mm, leaf_of(addr)) == 0;
}
