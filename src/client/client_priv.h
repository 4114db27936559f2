/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_CLIENT_PRIV_H
#define PAGERD_CLIENT_PRIV_H
/* What the files of this room share. */
#include "client/client.h"

void group_join(struct group *g, struct client *c);
void group_leave(struct client *c);
void group_account(struct group *g, int64_t delta_bytes);
bool group_has_room(const struct group *g);

/* Pages came in (positive) or were taken out since the last measurement. */
void client_moved_pages(struct client *c, int64_t pages);

/* The child's tables, sharing frames; also fills what cannot be shared.  See fork.c. */
void client_fork_tables(struct client *parent, struct client *child);

/* Removes the entries of [start, end) with what they hold. */
void client_forget(struct client *c, uint64_t start, uint64_t end);

#endif
