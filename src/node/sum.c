/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checksums of a `file` node.  What comes back from a device is not to be
 * trusted: it may be damaged, or be another's.  The key is the domain's secret, so that
 * nobody who can write the device can make bytes that fit.
 */
#include <xxhash.h>

#include "node/node.h"

_Static_assert(NODE_SECRET_BYTES >= XXH3_SECRET_SIZE_MIN, "a secret of XXH3 is that long");

static struct slot_sum sum_of(const struct node *node, const void *page)
{
    XXH128_hash_t h =
        XXH3_128bits_withSecret(page, PAGE_SIZE, node->file.secret, NODE_SECRET_BYTES);

    return (struct slot_sum){h.low64, h.high64};
}

void node_sum_set(struct node *node, struct pfn slot, const void *page)
{
    node->file.sums[slot.n] = sum_of(node, page);
}

bool node_sum_fits(const struct node *node, struct pfn slot, const void *page)
{
    struct slot_sum sum = sum_of(node, page);

    return sum.low == node->file.sums[slot.n].low && sum.high == node->file.sums[slot.n].high;
}
