/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of faults.  A fault where a stream was expected to go on doubles its
 * window; one near a stream tries its distance as the stride; one in what a stream
 * has brought already says that it brought too much (it left again unused); any other
 * fault takes the place of the stream that was quiet longest, with a window of one.  So
 * random faults never bring a neighbour, and do not disturb a few steady streams.
 */
#include "fault/fault_priv.h"

#define NEAR ((uint64_t)64 * PAGE_SIZE) /* a stride is not longer */
#define MAX_STRIDED 16 /* pages that are no neighbours cost a call each */

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

/* Is it a page between the last fault and where the next is expected: one of the stride's? */
static bool was_brought(const struct readahead_stream *s, struct uaddr addr)
{
    uint64_t lo = MIN(s->last, s->next), hi = MAX(s->last, s->next);
    uint64_t step = s->stride < 0 ? (uint64_t)-s->stride : (uint64_t)s->stride;

    return addr.v > lo && addr.v < hi && distance(addr.v, s->last) % step == 0;
}

static struct readahead_stream *nearest(struct mm *mm, struct uaddr addr)
{
    struct readahead_stream *best = NULL;

    for (unsigned i = 0; i < READAHEAD_STREAMS; i++) {
        struct readahead_stream *s = &mm->readahead[i];
        if (s->pages && (distance(s->last, addr.v) <= NEAR || was_brought(s, addr)) &&
            (!best || distance(s->last, addr.v) < distance(best->last, addr.v)))
            best = s;
    }
    return best;
}

static struct readahead_stream *quietest(struct mm *mm)
{
    struct readahead_stream *best = &mm->readahead[0];

    for (unsigned i = 1; i < READAHEAD_STREAMS; i++)
        if (mm->readahead[i].used < best->used)
            best = &mm->readahead[i];
    return best;
}

static struct readahead_stream *follow(struct mm *mm, struct uaddr addr)
{
    struct readahead_stream *s;

    for (unsigned i = 0; i < READAHEAD_STREAMS; i++) {
        s = &mm->readahead[i];
        if (s->pages && s->next == addr.v) {
            s->pages = MIN(2 * s->pages,
                           s->stride == PAGE_SIZE ? (uint32_t)FAULT_MAX_WINDOW : MAX_STRIDED);
            return s;
        }
    }
    s = nearest(mm, addr);
    if (s && was_brought(s, addr)) {
        s->pages = MAX(s->pages / 2, 1u);
    } else if (s && addr.v != s->last) {
        s->stride = (int64_t)(addr.v - s->last);
        s->pages = 1;
    } else if (!s) {
        s = quietest(mm);
        s->stride = PAGE_SIZE;
        s->pages = 1;
    }
    return s;
}

struct readahead_plan readahead_plan(struct mm *mm, struct uaddr addr, uint32_t max)
{
    struct readahead_stream *s = follow(mm, addr);

    s->used = ++mm->readahead_clock;
    s->last = addr.v;
    s->next = addr.v + (uint64_t)s->stride;
    return (struct readahead_plan){s->stride, MIN(s->pages, max)};
}

bool readahead_plan_again(const struct mm *mm, struct uaddr addr, uint32_t max,
                          struct readahead_plan *ret)
{
    for (unsigned i = 0; i < READAHEAD_STREAMS; i++) {
        const struct readahead_stream *s = &mm->readahead[i];
        if (!s->pages || s->last != addr.v)
            continue;
        *ret = (struct readahead_plan){s->stride, MIN(s->pages, max)};
        return true;
    }
    return false;
}

void readahead_done(struct mm *mm, struct uaddr addr, struct readahead_plan plan, uint32_t nr)
{
    for (unsigned i = 0; i < READAHEAD_STREAMS; i++) {
        struct readahead_stream *s = &mm->readahead[i];
        if (s->used == mm->readahead_clock && s->last == addr.v)
            s->next = addr.v + (uint64_t)plan.stride * nr;
    }
}
