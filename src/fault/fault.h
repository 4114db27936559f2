/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_FAULT_H
#define PAGERD_FAULT_H
/*
 * fault: one userfault, from its address to its single answer.
 *
 *  entry      answer
 *  NONE       zeros (do_anonymous_page); neighbours too when touches are sequential
 *  PRESENT    the kernel says it is missing although nothing was taken: zeros, as
 *             without a pager; mostly a doubled message, answered EEXIST and woken
 *  ZERO       zeros
 *  FRAME      the frame's bytes, and those of its neighbours in address and frame
 *  MIGRATING  taken back from its slot
 *  POISON     SIGBUS
 */
#include "pgtable/pgtable.h"

enum fault_outcome {
    FAULT_ANSWERED,
    FAULT_PARKED, /* events are unread, or memory is short: ask again later */
    FAULT_DEAD,   /* the address space has ended */
};

/* The longest window of pages that one fault brings, but for huge pages. */
#define FAULT_MAX_WINDOW 64

/*
 * Answers one fault.  max_pages (>= 1) bounds the window; PTES_PER_LEAF or more: it
 * may be a huge page.  *ret_filled = pages that are resident now and were not before.
 */
enum fault_outcome fault_answer(struct mm *mm, struct uaddr addr, bool write, uint32_t max_pages,
                                uint32_t *ret_filled);

/* Would the fault be answered with a huge page that the program asked for (MADV_HUGEPAGE)? */
bool fault_wants_huge(const struct mm *mm, struct uaddr addr, bool write);

/*
 * Brings back stored pages from *cursor on, at most max_pages of them, without
 * being asked: for detach and for forked children.  DONE: something was done, or
 * *cursor reached `end`.  Other results: as the operation that failed.
 */
enum kres fault_bring_back(struct mm *mm, struct uaddr *cursor, uint64_t end, uint32_t max_pages,
                           uint32_t *ret_filled);

#endif
