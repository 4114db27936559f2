/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_RECLAIM_H
#define PAGERD_RECLAIM_H
/*
 * reclaim: which pages leave.  In this step a clock over each address space:
 * the hand goes round by address and takes PRESENT pages; a page that a fault
 * brought back since the hand last passed is spared once.
 */
#include "migrate/migrate.h"

/*
 * Starts to move up to `max` pages (<= CAPTURE_MAX_PAGES) of mm out.  Returns
 * the number of pages under capture, 0 when a whole turn found none, or
 * migrate_capture()'s error.
 */
int reclaim_shrink(struct mm *mm, uint32_t max, enum migrate_reason reason);

#endif
