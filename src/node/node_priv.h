/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_NODE_PRIV_H
#define PAGERD_NODE_PRIV_H
/* What the files of this room share. */
#include "node/node.h"

/* Of a node that was just made: the slots of writes that an earlier worker has noted. */
void node_hold_orphans(struct node *node);

#endif
