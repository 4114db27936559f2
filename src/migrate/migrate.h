/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_MIGRATE_H
#define PAGERD_MIGRATE_H
/*
 * migrate: the engine that moves pages (DESIGN D6): from `resident` (node 0) to
 * `ram`, and the oldest of `ram` on to `file` (write-back, below).
 *
 * A move has two halves, because taking pages out of a program is done by the
 * program's agent:
 *
 *   migrate_capture()   entries PRESENT -> MIGRATING, the agent is told
 *        ...            the agent takes the pages and copies them to the slots
 *   migrate_captured()  what was not taken goes back to PRESENT
 *   migrate_commit()    slot by slot: copy to a frame, then the entry -> FRAME; or,
 *                       when the page equals the copy that it kept, just the entry
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
 * Starts to fill the leaf at `base`, where nothing is, with a huge page of zeros.  It
 * is a capture in that nothing is read while it is under way, by a successor of this
 * worker neither (mm::saved_fill).  0, -EBUSY: a move is under way, or the target's error.
 */
int migrate_fill_huge(struct mm *mm, struct uaddr base);
bool migrate_is_filling(const struct mm *mm);
/* Its outcome.  Returns the number of pages that are in the program now. */
uint32_t migrate_filled(struct mm *mm, const uint8_t result[CAPTURE_MAX_PAGES]);

/*
 * The outcome, a result for each slot (enum capture_result; anything else
 * counts as refused).  Returns the number of pages that were taken.
 */
uint32_t migrate_captured(struct mm *mm, const uint8_t result[CAPTURE_MAX_PAGES]);

/*
 * Commits up to `max` captured pages.  Pages for which there is no frame wait while
 * write-back makes room, and else go back by copy.  Returns how many still wait (for
 * that, or because events have to be read first).
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
 * Gives back what an entry holds (pte_holds_place(): its reference to a frame or
 * slot); called after the entry itself has changed.
 */
void migrate_release_stored(struct mm *mm, struct uaddr addr, pte_t old);

/*
 * For a worker that takes up what another one left (client/recover.c).  claim_stored:
 * a reference for what an entry holds (pte_holds_place()); false: it cannot be had.  recover: the
 * slots follow from the MIGRATING entries, and the last command counts as under way:
 * its results, collected anew, tell where each page is.
 */
bool migrate_claim_stored(struct mm *mm, struct uaddr addr);
void migrate_recover(struct mm *mm);

/* Slots in use; and NULL or a sentence when slots and entries do not fit together. */
uint32_t migrate_nr_open(const struct mm *mm);
const char *migrate_check(const struct mm *mm);

bool migrate_page_is_zero(const void *page);

/* ---- write-back: from `ram` to `file` ---- */

/*
 * When free frames are fewer than node_high_mark(), those that are only kept are dropped,
 * then the oldest others are written to the file node until node_low_mark() of them are
 * free: in runs of adjacent slots, several at once.  A frame never changes, so it serves
 * faults while it is written; when the device has its bytes, every entry that names it
 * changes to the slot (PTE_EV_SWITCH).  What cannot be written stays where it is, and
 * after a pause is tried again.
 *
 * Order of stores: the slot's checksum, the note of the write (node/orphan.c), its bytes, the
 * entries, the frame's freedom, the end of the note.
 */

/* NULL: no memory.  Everything is borrowed. */
struct writeback *writeback_new(struct node *ram, struct node *file, const struct mm_ids *ids);
/* Nothing may be under way on the device any more. */
void writeback_free(struct writeback *wb);

/* Starts what is called for, a bounded amount; cheap when that is nothing. */
void writeback_run(struct writeback *wb, uint64_t now_ns);
/* Are frames being written now?  False for NULL. */
bool writeback_makes_room(const struct writeback *wb);
/* Would writeback_run() bring on something, now or after a write that is under way? */
bool writeback_can_go_on(const struct writeback *wb, uint64_t now_ns);
/* The last write has failed, and the pause is not over. */
bool writeback_has_failed(const struct writeback *wb);

#endif
