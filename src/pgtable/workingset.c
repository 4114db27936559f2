/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a page is worth keeping, told from refaults alone (Linux mm/workingset.c).
 *
 * No accessed bit can be read from outside, so a page in the program says nothing of
 * its use.  What does is how soon it was missed: the refault distance, counted in
 * pages that its group moved out in between.  Shorter than 3/4 of what the group may
 * have resident: the page belongs to the working set, and its level rises; else the
 * level is halved.  A page of level n is passed over by 2^n - 1 turns of the clock.
 *
 * The field `age` of an entry holds, for a page that is moved out, when it left
 * (group's age in coarse steps, 0: not known), and for one in the program:
 *
 *   bit 11     valid; else the page is due
 *   bits 6-10  turn of the clock at which it is due
 *   bits 0-5   capture before which it was filled: one filled a moment ago is not
 *              taken before its thread has run on (that could go on for ever)
 */
#include "pgtable/pgtable.h"

#define AGE_VALID (1u << 11)
#define TURN_MASK 31u
#define EPOCH_MASK 63u
#define EPOCHS_SPARED 2
#define STAMPS (PTE_AGE_MAX - 1) /* stamps are 1 to STAMPS */

/* Stamps cover 16 times the working set, so that a wrapped one is seldom taken for a short one. */
static unsigned stamp_order(const struct mm *mm)
{
    unsigned order = 0;

    while (((uint64_t)STAMPS << order) < 16 * (uint64_t)mm->workingset_pages)
        order++;
    return order;
}

uint32_t workingset_eviction(const struct mm *mm)
{
    return mm->workingset_pages ? 1 + (uint32_t)((mm->count->pgsteal >> stamp_order(mm)) % STAMPS)
                                : 0;
}

static uint32_t age_of(const struct mm *mm, unsigned level)
{
    uint32_t due = mm->clock_turn + (1u << level) - 1;

    return AGE_VALID | (due & TURN_MASK) << 6 | (mm->fill_epoch & EPOCH_MASK);
}

struct pte_arg workingset_filled(const struct mm *mm)
{
    return (struct pte_arg){.age = age_of(mm, 0)};
}

struct pte_arg workingset_refault(struct mm *mm, pte_t stored)
{
    unsigned level = pte_level(stored), order = stamp_order(mm);
    uint32_t left = pte_age(stored), now = workingset_eviction(mm);

    if (left && now) {
        uint64_t distance = (uint64_t)((now + STAMPS - left) % STAMPS) << order;
        mm->count->workingset_refault++;
        if (distance <= (uint64_t)mm->workingset_pages / 4 * 3) {
            mm->count->workingset_activate++;
            level = MIN(level + 1, (unsigned)PTE_MAX_LEVEL);
        } else {
            level /= 2;
        }
    }
    return (struct pte_arg){.flags = PTE_F_LEVEL(level), .age = age_of(mm, level)};
}

struct pte_arg workingset_prefetched(const struct mm *mm, pte_t stored)
{
    return (struct pte_arg){.flags = PTE_F_LEVEL(pte_level(stored)), .age = age_of(mm, 0)};
}

uint32_t workingset_turns_left(const struct mm *mm, pte_t present)
{
    uint32_t age = pte_age(present);
    uint32_t left = ((age >> 6) - mm->clock_turn) & TURN_MASK;

    /* Due turns are at most 15 ahead: what looks further is behind. */
    return age & AGE_VALID && left <= TURN_MASK / 2 ? left : 0;
}

bool workingset_is_fresh(const struct mm *mm, pte_t present)
{
    uint32_t age = pte_age(present);

    return age & AGE_VALID && ((mm->fill_epoch - age) & EPOCH_MASK) < EPOCHS_SPARED;
}
