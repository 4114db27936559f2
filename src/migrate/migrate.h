/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_MIGRATE_H
#define PAGERD_MIGRATE_H
/*
 * migrate: the engine that moves pages (DESIGN D6).  In this step it moves
 * them from `resident` (node 0) to `ram`.
 *
 * A move has two halves, because taking pages out of a program is done by the
 * program's agent:
 *
 *   migrate_capture()   entries PRESENT -> MIGRATING, the agent is told
 *        ...            the agent takes the pages and copies them to the slots
 *   migrate_captured()  what was not taken goes back to PRESENT
 *   migrate_commit()    copy to a frame, then the entry -> FRAME, slot by slot
 *
 * At most one move is under way in an address space.  A slot is in use from
 * capture until its page is committed, taken back or found changed:
 *
 *   FREE --capture--> CAPTURING --captured(TAKEN)--> STAGED --commit--> FREE
 *     ^                   |                            |
 *     +----not taken------+          take back, changed+--> FREE
 *
 * Caller's duty (DESIGN D3, rule 2): while migrate_is_capturing(), messages of
 * that userfaultfd are not read.
 */
#include "node/node.h"
#include "pgtable/pgtable.h"

enum migrate_reason {
    MIGRATE_DEMOTION = 0, /* reclaim: the group is near its limit */
    MIGRATE_SYSCALL,      /* somebody asked for it */
    MIGRATE_NR_REASONS
};

/* 0 or -ENOMEM; mm->op is owned by the mm until migrate_op_free(). */
int migrate_op_init(struct mm *mm);
void migrate_op_free(struct mm *mm);

/* A capture runs, or captured pages wait to be committed: no new one may start. */
bool migrate_is_busy(const struct mm *mm);
bool migrate_is_capturing(const struct mm *mm);

/*
 * Starts to move `nr` PRESENT pages (1 to CAPTURE_MAX_PAGES, any order; those
 * in other states are left out).  `huge`: they are the 512 pages of one huge
 * page, in order.  Returns the number of pages under capture, -EBUSY when a
 * move is under way, -EAGAIN when none of the pages was PRESENT, or the
 * target's error (-ENOTCONN: no agent); on error every entry is as it was.
 */
int migrate_capture(struct mm *mm, const struct uaddr *pages, uint32_t nr, bool huge,
                    enum migrate_reason reason);

/*
 * The outcome, a result for each slot (enum capture_result; anything else
 * counts as refused).  Returns the number of pages that were taken.
 */
uint32_t migrate_captured(struct mm *mm, const uint8_t result[CAPTURE_MAX_PAGES]);

/*
 * Commits up to `max` captured pages.  Pages for which there is no frame go
 * back by copy.  Returns how many still wait (events have to be read first).
 */
uint32_t migrate_commit(struct mm *mm, uint32_t max);
/* Likewise all of them, but pages for which there is no frame stay staged. */
uint32_t migrate_commit_stored(struct mm *mm);

/*
 * A fault on a MIGRATING page: gives it back from its slot at once.  DONE: it
 * is PRESENT and its waiters are woken; RETRY: not now.
 */
enum kres migrate_take_back(struct mm *mm, struct uaddr addr);

/* An mremap moved the page: the move goes on at the new address. */
void migrate_moved(struct mm *mm, struct uaddr from, struct uaddr to);

/* The bytes of a MIGRATING page, or NULL while it is still being captured. */
const void *migrate_bytes(const struct mm *mm, struct uaddr addr);

/*
 * Gives back what a stored entry holds (the frame reference); called after the
 * entry itself has changed.
 */
void migrate_release_stored(struct mm *mm, struct uaddr addr, pte_t old);

/*
 * For a worker that takes up what another one left (client/recover.c).  claim_stored:
 * a reference for what a stored entry names; false: it cannot be had.  recover: the
 * slots follow from the MIGRATING entries, and the last command counts as under way:
 * its results, collected anew, tell where each page is.
 */
bool migrate_claim_stored(struct mm *mm, struct uaddr addr);
void migrate_recover(struct mm *mm);

/* Slots in use; and NULL or a sentence when slots and entries do not fit together. */
uint32_t migrate_nr_open(const struct mm *mm);
const char *migrate_check(const struct mm *mm);

bool migrate_page_is_zero(const void *page);

#endif
