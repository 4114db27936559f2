/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which frames of a `ram` node have memory.  A hint for speed alone: a frame that is
 * taken for fresh and is not is written in the slower way, one that is taken for touched
 * gets its memory with a fault.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "node/node.h"

int node_fresh_init(struct node *node,
                    int (*write)(void *arg, struct pfn first, const struct iovec *page,
                                 uint32_t nr),
                    void *arg)
{
    struct node_fresh *fresh = &node->fresh;

    fresh->touched = calloc(BITMAP_WORDS(frame_nr_total(node->frames)), sizeof(*fresh->touched));
    if (!fresh->touched)
        return -ENOMEM;
    fresh->write = write;
    fresh->arg = arg;
    return 0;
}

bool node_is_fresh(const struct node *node, struct pfn pfn)
{
    return node->fresh.touched && !bitmap_test(node->fresh.touched, pfn.n);
}

void node_touch(struct node *node, struct pfn pfn)
{
    if (node->fresh.touched)
        bitmap_set(node->fresh.touched, pfn.n);
}

uint32_t node_fresh_write(struct node *node, struct pfn first, const void *const *page, uint32_t nr)
{
    struct iovec iov[NODE_FRESH_MAX];

    BUG_ON(nr > NODE_FRESH_MAX || first.n + nr > frame_nr_total(node->frames));
    for (uint32_t i = 0; i < nr; i++)
        iov[i] = (struct iovec){(void *)(uintptr_t)page[i], PAGE_SIZE};
    int done = node->fresh.write(node->fresh.arg, first, iov, nr);
    for (int i = 0; i < done; i++)
        node_touch(node, (struct pfn){first.n + (uint32_t)i});
    return done > 0 ? (uint32_t)done : 0;
}

void node_fresh_again(struct node *node)
{
    if (node->fresh.touched)
        memset(node->fresh.touched, 0,
               BITMAP_WORDS(frame_nr_total(node->frames)) * sizeof(*node->fresh.touched));
}
