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

/* The child's tables, sharing frames; also fills what cannot be shared.  See fork.c. */
void client_fork_tables(struct client *parent, struct client *child);

/*
 * A fork leaves the pages of both shared.  To be taken they have to be written to, which
 * is a copy as long as a relative maps them: only when none is left, or when the group
 * is at its limit and its last capture has got nothing.
 */
/* Takes it out of its relatives' ring. */
void client_part(struct client *c);
bool client_may_unshare(struct client *c, uint64_t now_ns);

/* Commits what there are frames for, without taking anything back. */
void client_commit_stored(struct client *c);

/* Pages whose bytes could not be kept: see doomed.c. */
void client_doom(struct client *c, struct uaddr addr);
bool client_is_doomed(const struct client *c, struct uaddr addr);
void client_doomed_forget(struct client *c, uint64_t start, uint64_t end);
void client_doomed_move(struct client *c, struct uaddr from, struct uaddr to, uint64_t len);
void client_doomed_inherit(const struct client *parent, struct client *child);
enum fault_outcome client_doomed_answer(struct client *c, struct uaddr addr);
/* Puts down the poison where it can be.  True: none waits any more. */
bool client_doomed_settle(struct client *c);

#endif
