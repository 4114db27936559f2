/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_CLIENT_PRIV_H
#define PAGERD_CLIENT_PRIV_H
/* What the files of this room share. */
#include "client/client.h"
#include "fault/fault.h"

void group_join(struct group *g, struct client *c);
void group_leave(struct client *c);
void group_account(struct group *g, int64_t delta_bytes);
bool group_has_room(const struct group *g, uint64_t bytes);

/* Pages came in (positive) or were taken out since the last measurement. */
void client_moved_pages(struct client *c, int64_t pages);

/*
 * The child's tables, sharing frames; also fills what cannot be shared.  See fork.c.  `left`: from
 * where the parent has unmapped or moved something since, as far as its messages tell.
 */
void client_fork_tables(struct client *parent, struct client *child, const struct urange *left,
                        uint32_t nr_left);

/* The same is in doubt of this range; see client_saved. */
void client_doubt_too(struct client *c, struct urange r);

/* Takes it out of its relatives' ring. */
void client_part(struct client *c);
/*
 * A fork leaves the pages of both shared.  To be taken they have to be written to, which
 * is a copy as long as a relative maps them: only when none is left, or when the group
 * is at its limit and its last capture has got nothing.
 */
bool client_may_unshare(struct client *c, uint64_t now_ns);
/* A message says that its pages are dropped; they may be seen for a while yet. */
void client_note_removed(struct client *c, struct urange r);
/* [start, end) was unmapped, moved away, or something else was moved there. */
void client_forget_late(struct client *c, uint64_t start, uint64_t end);
/* Something happened to [start, end): what is registered there and not entered stays so. */
void client_forget_unentered(struct client *c, uint64_t start, uint64_t end);

/* Commits what there are frames for, without taking anything back. */
void client_commit_stored(struct client *c);

/*
 * How far a message has been applied; with the place in the order of application above
 * (step = place << MSG_STEP_BITS | state).  Each step can be repeated; a REMAP's target
 * is cleared before MOVING, and only before.
 *
 *   NEW --> BEGUN --> DONE          NEW --> BEGUN --> MOVING --> DONE   (REMAP)
 */
enum msg_state { MSG_NEW = 0, MSG_BEGUN, MSG_MOVING, MSG_DONE };
#define MSG_STEP_BITS 2

static inline enum msg_state saved_msg_state(const struct client_saved *saved, uint32_t i)
{
    return (enum msg_state)(saved->step[i] & ((1u << MSG_STEP_BITS) - 1));
}
static inline uint32_t saved_msg_place(const struct client_saved *saved, uint32_t i)
{
    return saved->step[i] >> MSG_STEP_BITS;
}
/* What an earlier store wrote is there before `value` is. */
static inline void saved_set(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store_explicit(word, value, memory_order_release);
    CRASH_POINT();
}
/* A free record, wiped; its number is not set yet.  NULL: none. */
struct client_saved *saved_new(struct domain *d);
/* The batch is applied: empties it. */
void saved_wipe_batch(struct client_saved *saved);
/* The parent's record, as client_saved::parent names it. */
uint32_t saved_number(const struct domain *d, const struct client_saved *saved);

/* What client_init() and client_recover() do alike; tables and record are not touched. */
int client_set_up(struct client *c, struct domain *d, const struct target_ops *ops, void *target);

/*
 * The order in which the changes of a batch were made (order.c); `is_whole`: what the kernel
 * has registered now is what they led to.  False: not any more, a change has begun.
 */
bool order_batch(struct client *c, const struct kuffd_msg *msg, uint32_t nr, bool is_whole,
                 uint32_t seq[CLIENT_MAX_UPCALLS], struct client_lost *ret_lost);
/*
 * What is at [start, end) is not known, or cannot be had: it fails closed.  Counted in `poisoned`,
 * and in *counter (NULL: in none), page by page, so that a worker that dies has not lost count.
 */
void client_lose(struct client *c, uint64_t start, uint64_t end, uint64_t *counter);

/* Pages whose bytes could not be kept: see doomed.c. */
void client_doom(struct client *c, struct uaddr addr);
/* Likewise, when the caller tells why. */
void client_doom_told(struct client *c, struct uaddr addr);
/* Likewise one that may be poisoned already. */
void client_doom_poisoned(struct client *c, struct uaddr addr);
bool client_is_doomed(const struct client *c, struct uaddr addr);
void client_doomed_forget(struct client *c, uint64_t start, uint64_t end);
void client_doomed_move(struct client *c, struct uaddr from, struct uaddr to, uint64_t len);
void client_doomed_inherit(const struct client *parent, struct client *child);
enum fault_outcome client_doomed_answer(struct client *c, struct uaddr addr);
/* Puts down the poison where it can be.  True: none waits any more. */
bool client_doomed_settle(struct client *c);

#endif
