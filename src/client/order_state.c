/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is registered where in the course of a batch, and what each change makes of it.  The
 * rules are those of order.c: what contradicts them costs.
 */
#include <string.h>

#include "client/order_priv.h"

uint32_t state_position(const struct state *s, uint64_t addr)
{
    uint32_t i = 0;

    while (i < s->nr && s->p[i].end <= addr)
        i++;
    return i;
}

static void insert(struct state *s, struct piece p)
{
    uint32_t i = state_position(s, p.start);

    if (s->nr == s->cap) {
        s->full = true;
        return;
    }
    memmove(s->p + i + 1, s->p + i, (s->nr - i) * sizeof(*s->p));
    s->p[i] = p;
    s->nr++;
}

static void split(struct state *s, uint64_t at)
{
    uint32_t i = state_position(s, at);

    if (i == s->nr || s->p[i].start >= at || s->nr == s->cap) {
        s->full |= s->nr == s->cap;
        return;
    }
    struct piece tail = s->p[i];
    tail.src += at - tail.start;
    tail.start = at;
    s->p[i].end = at;
    insert(s, tail);
}

static void cut_out(struct state *s, uint64_t start, uint64_t end)
{
    split(s, start);
    split(s, end);
    uint32_t i = state_position(s, start), k = i;
    while (k < s->nr && s->p[k].start < end)
        k++;
    memmove(s->p + i, s->p + k, (s->nr - k) * sizeof(*s->p));
    s->nr -= k - i;
}

/* Nobody has it any more; but what came there may have been registered by us. */
static void leave(struct state *s, const struct client *c, uint64_t start, uint64_t end)
{
    struct piece p = {.start = MAX(start, c->reregistered.start.v),
                      .end = MIN(end, urange_end(c->reregistered)),
                      .reg = REG_UNKNOWN};

    cut_out(s, start, end);
    if (p.start < p.end)
        insert(s, p);
}

uint32_t state_cost_of_growing(const struct state *s, uint64_t start)
{
    for (uint32_t i = 0; i < s->nr; i++)
        if (s->p[i].end == start)
            return COST_GROWN;
    return COST_WRONG;
}

uint32_t state_known(const struct state *s, const struct change *x)
{
    uint32_t known = 0;
    uint64_t end = urange_end(x->r);

    for (uint32_t i = state_position(s, x->r.start.v); i < s->nr && s->p[i].start < end; i++)
        known = MAX(known, s->p[i].known);
    return known;
}

/* Rule 1.  Of what is unmapped, some was registered; of what is moved or dropped, all. */
uint32_t state_cost_of_acting(const struct state *s, const struct change *x)
{
    bool whole = x->type != KUFFD_UNMAP;
    uint64_t at = x->r.start.v, end = urange_end(x->r);
    uint32_t cost = 0, nr = 0, nr_unknown = 0;
    bool gap = false, at_start = false;

    for (uint32_t i = state_position(s, at); i < s->nr && s->p[i].start < end; i++) {
        const struct piece *p = &s->p[i];
        at_start |= p->start <= x->r.start.v;
        gap |= p->start > at;
        at = p->end;
        nr++;
        nr_unknown += p->reg == REG_UNKNOWN;
    }
    gap |= at < end;
    if (whole ? gap && !at_start : !nr)
        return cost + state_cost_of_growing(s, x->r.start.v);
    if (whole ? nr_unknown : nr_unknown == nr)
        cost += COST_UNLIKELY;
    return cost + (whole && gap ? COST_GROWN : 0);
}

uint32_t state_cost_of_taking(const struct state *s, const struct change *x)
{
    for (uint32_t i = state_position(s, x->to); i < s->nr && s->p[i].start < x->to + x->r.len; i++)
        if (s->p[i].reg == REG_SURE)
            return COST_WRONG; /* it would have sent an UNMAP */
    return 0;
}

static uint32_t do_remap(struct state *s, const struct client *c, const struct change *x)
{
    uint64_t from = x->r.start.v, end = urange_end(x->r), by = x->to - from;
    uint32_t cost = state_cost_of_acting(s, x) + state_cost_of_taking(s, x);

    split(s, from);
    split(s, end);
    struct state moved = {.p = s->p + s->nr, .cap = s->cap - s->nr};
    uint64_t at = from;
    for (uint32_t i = state_position(s, from); i < s->nr && s->p[i].start < end; i++) {
        if (s->p[i].start > at)
            insert(&moved, (struct piece){.start = at, .end = s->p[i].start});
        insert(&moved, s->p[i]);
        at = s->p[i].end;
    }
    if (at < end)
        insert(&moved, (struct piece){.start = at, .end = end});
    /* Behind what the state may grow by: two places cut, the old one kept. */
    if (moved.full || s->nr + 2 * moved.nr + 8 > s->cap) {
        s->full = true;
        return cost;
    }
    struct piece *aside = s->p + s->cap - moved.nr;
    memmove(aside, moved.p, moved.nr * sizeof(*aside));
    leave(s, c, from, end);
    if (x->end == NO_CHANGE) {
        cut_out(s, from, end);
        insert(s, (struct piece){.start = from, .end = end, .known = x->known});
    }
    cut_out(s, x->to, x->to + x->r.len);
    for (uint32_t i = 0; i < moved.nr; i++) {
        struct piece p = aside[i];
        p.start += by;
        p.end += by;
        p.known = x->known;
        p.reg = REG_SURE;
        insert(s, p);
    }
    return cost;
}

uint32_t state_change(struct state *s, const struct client *c, const struct change *x)
{
    uint64_t start = x->r.start.v, end = urange_end(x->r);

    if (x->type == KUFFD_REMAP)
        return do_remap(s, c, x);
    uint32_t cost = state_cost_of_acting(s, x);
    if (x->type == KUFFD_UNMAP) {
        leave(s, c, start, end);
        return cost;
    }
    split(s, start);
    split(s, end);
    for (uint32_t i = state_position(s, start); i < s->nr && s->p[i].start < end; i++) {
        s->p[i].has_content = false;
        s->p[i].known = x->known;
    }
    return cost;
}

/* Where no area is, something may be registered all the same: it has entries, or `reg` says so. */
static void fill_gaps(struct state *s, const struct client *c, uint64_t start, uint64_t end,
                      enum registered reg)
{
    for (uint64_t at = start, stop; at < end; at = stop) {
        uint32_t i = state_position(s, at);
        if (i < s->nr && s->p[i].start <= at) {
            stop = s->p[i].end;
            continue;
        }
        struct uaddr entry = uaddr(at);
        stop = i < s->nr ? MIN(end, s->p[i].start) : end;
        bool has_content = pte_next_mapped(&c->mm, &entry, stop);
        insert(s, (struct piece){.start = at,
                                 .end = stop,
                                 .src = at,
                                 .has_content = has_content,
                                 .reg = has_content ? REG_PERHAPS : reg});
    }
}

/* What the tables say that is registered there, or could have grown to there. */
static void begin_range(struct state *s, const struct client *c, uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < c->mm.nr_areas; i++) {
        const struct area *a = &c->mm.areas[i];
        if (a->start >= end || a->end < start)
            continue;
        cut_out(s, a->start, a->end);
        insert(s, (struct piece){
                      .start = a->start, .end = a->end, .src = a->start, .has_content = true});
    }
    for (uint32_t i = 0; i < c->nr_unentered; i++)
        fill_gaps(s, c, MAX(start, c->unentered[i].start.v), MIN(end, urange_end(c->unentered[i])),
                  REG_PERHAPS);
    fill_gaps(s, c, start, end, REG_UNKNOWN);
}

void state_begin(struct state *s, const struct client *c, const struct change *const *ch,
                 uint32_t nr)
{
    for (uint32_t i = 0; i < nr; i++) {
        begin_range(s, c, ch[i]->r.start.v, urange_end(ch[i]->r));
        if (ch[i]->type == KUFFD_REMAP)
            begin_range(s, c, ch[i]->to, ch[i]->to + ch[i]->r.len);
    }
}
