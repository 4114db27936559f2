/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log-linear histogram.  A value below HIST_SUB has a bucket of its own; above,
 * the HIST_SUB_BITS bits behind the leading one choose among HIST_SUB buckets
 * of that power of two:
 *
 *   0 1 .. 15 | 16 17 .. 31 | 32-33 34-35 .. 62-63 | 64-67 ...
 */
#include "base/base.h"

static unsigned bucket_of(uint64_t ns)
{
    unsigned msb, shift;

    if (ns < HIST_SUB)
        return (unsigned)ns;
    if (ns >> HIST_TOP_BITS)
        return HIST_BUCKETS - 1;
    msb = 63 - (unsigned)__builtin_clzll(ns);
    shift = msb - HIST_SUB_BITS;
    return (shift + 1) * HIST_SUB + (unsigned)((ns >> shift) - HIST_SUB);
}

/* The largest value that counts in bucket b. */
static uint64_t bucket_top(unsigned b)
{
    unsigned shift;

    if (b < HIST_SUB)
        return b;
    shift = b / HIST_SUB - 1;
    return (((uint64_t)(b % HIST_SUB) + HIST_SUB + 1) << shift) - 1;
}

void hist_add(struct hist *h, uint64_t ns)
{
    h->bucket[bucket_of(ns)]++;
    h->count++;
    h->max_ns = MAX(h->max_ns, ns);
}

void hist_merge(struct hist *into, const struct hist *from)
{
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        into->bucket[i] += from->bucket[i];
    into->count += from->count;
    into->max_ns = MAX(into->max_ns, from->max_ns);
}

uint64_t hist_quantile(const struct hist *h, double q)
{
    uint64_t rank, seen = 0;

    if (!h->count)
        return 0;

    /* The rank-th smallest, 1-based: ceil(q * count), without libm. */
    q = CLAMP(q, 0.0, 1.0);
    rank = (uint64_t)(q * (double)h->count);
    if ((double)rank < q * (double)h->count)
        rank++;
    rank = CLAMP(rank, (uint64_t)1, h->count);

    for (unsigned i = 0; i < HIST_BUCKETS - 1; i++) {
        seen += h->bucket[i];
        if (seen >= rank)
            return MIN(bucket_top(i), h->max_ns);
    }
    /* The last bucket has no top of its own. */
    return h->max_ns;
}
