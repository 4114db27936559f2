/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_FAULT_PRIV_H
#define PAGERD_FAULT_PRIV_H
/* What the files of this room share. */
#include "fault/fault.h"

/*
 * readahead.c: how many pages to bring for one fault, and at what distance from each
 * other, told from the faults before it (compare swap_vma_ra in Linux mm/swap_state.c).
 */
struct readahead_plan {
    int64_t stride; /* bytes from one page to the next; PAGE_SIZE: neighbours */
    uint32_t nr;    /* pages, the faulting one among them */
};

/* What is worth bringing for a fault at addr; at most `max` (>= 1) pages. */
struct readahead_plan readahead_plan(struct mm *mm, struct uaddr addr, uint32_t max);
/* The same for a fault that is asked for again; false: its stream is not known any more. */
bool readahead_plan_again(const struct mm *mm, struct uaddr addr, uint32_t max,
                          struct readahead_plan *ret);
/* So many pages of that plan were brought: the next fault of this stream is behind them. */
void readahead_done(struct mm *mm, struct uaddr addr, struct readahead_plan plan, uint32_t nr);

/* huge.c: true when the whole huge page around addr is on its way. */
bool huge_fill_start(struct mm *mm, struct uaddr addr, struct readahead_plan plan);

#endif
