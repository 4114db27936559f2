/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_RECLAIM_H
#define PAGERD_RECLAIM_H
/*
 * reclaim: which pages leave.  A clock over each address space: the hand goes
 * round by address and takes PRESENT pages, but passes over those that were missed
 * soon after they had left, the longer the more often that happened (clock.c,
 * pgtable/workingset.c).
 */
#include "migrate/migrate.h"

/*
 * Starts to move up to `max` pages (<= CAPTURE_MAX_PAGES) of mm out.  Returns
 * the number of pages under capture, 0 when a whole turn found none, or
 * migrate_capture()'s error.
 */
int reclaim_shrink(struct mm *mm, uint32_t max, enum migrate_reason reason);

#endif
