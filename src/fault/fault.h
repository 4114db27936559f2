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
 *  SWAPPED    a read is started, with neighbours in address and slot; the fault waits
 *             for it, and is answered from its buffer
 *  MIGRATING  taken back from its slot
 *  POISON     SIGBUS
 *
 * A page that comes back by a read, or as a neighbour, keeps its frame or slot while the
 * node has room for that (DESIGN D5).
 */
#include "node/node.h"
#include "pgtable/pgtable.h"

enum fault_outcome {
    FAULT_ANSWERED,
    FAULT_PARKED,  /* events are unread, or memory is short: ask again later */
    FAULT_REFUSED, /* for no reason that passes */
    FAULT_WAITING, /* its page is being read: ask again when swapin_new()'s wake() says so */
    FAULT_DEAD,   /* the address space has ended */
};

/*
 * The longest window of pages that one fault brings, but for huge pages: a fault costs as much as
 * some ten pages, and the longer the window, the longer others wait.
 */
#define FAULT_MAX_WINDOW 256
/* Where room is short, so that what was brought does not drive out what is next. */
#define FAULT_SHORT_WINDOW 64

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
 * *cursor reached `end`.  Other results: as the operation that failed; RETRY also
 * while the page at *cursor is being read.
 */
enum kres fault_bring_back(struct mm *mm, struct uaddr *cursor, uint64_t end, uint32_t max_pages,
                           uint32_t *ret_filled);

/*
 * Has the kernel know of each POISON entry, for the time when nobody asks us any more.  False: not
 * now.  The entries stay: UFFDIO_COPY puts a page over poison, so nothing may be filled there.
 */
bool fault_poison_all(struct mm *mm);

/* ---- reads from the `file` node ---- */

/*
 * NULL: no memory.  Everything is borrowed.  wake() is called when a read has ended
 * that this mm waits for: its faults are to be asked for again.
 */
struct swapin *swapin_new(struct node *file, const struct mm_ids *ids,
                          void (*wake)(void *arg, struct mm *mm), void *wake_arg);
/* Nothing may be under way on the device any more. */
void swapin_free(struct swapin *s);

enum swapin_result {
    SWAPIN_READY, /* the bytes are there */
    SWAPIN_WAIT,  /* they are being read for this entry too */
    SWAPIN_BUSY,  /* not now: too many reads; nobody will wake it */
    SWAPIN_LOST,  /* the device cannot read it, or has other bytes than were written */
};

struct swapin_bytes {
    const void *bytes;  /* of this page, and of those in the slots behind it */
    uint32_t nr_pages;
    int error; /* LOST: -EBADMSG when the checksum was wrong */
};

/*
 * The bytes of the SWAPPED page at addr.  A read that has to be started takes up to
 * `window` slots.  They stay until the entry has changed and swapin_reap() was called.
 */
enum swapin_result swapin_get(struct mm *mm, struct uaddr addr, uint32_t window,
                              struct swapin_bytes *ret);
/* Is the SWAPPED page at addr being read, or read already? */
bool swapin_is_started(const struct mm *mm, struct uaddr addr);
/*
 * Starts to read the SWAPPED page at addr, and up to `window` slots from there on, for a fault that
 * is expected.  How many; 0: it is not SWAPPED, is being read, or too much is.
 */
uint32_t swapin_ahead(struct mm *mm, struct uaddr addr, uint32_t window);
/*
 * Have the bytes of the SWAPPED page at addr been read, and are they right?  *ret: as swapin_get().
 */
bool swapin_get_ready(struct mm *mm, struct uaddr addr, struct swapin_bytes *ret);
/* Ends reads that nobody waits for any more; cheap when there are none.  NULL: nothing. */
void swapin_reap(struct swapin *s);
/* Reads under way or not handed out yet. */
uint32_t swapin_nr_in_use(const struct swapin *s);

#endif
