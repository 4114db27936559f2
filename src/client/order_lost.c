/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages are lost: those of which two orders that fit tell different stories.  See order.c.
 */
#include "client/order_priv.h"

static void note(struct urange *range, uint32_t *nr, uint64_t start, uint64_t end)
{
    if (*nr && urange_end(range[*nr - 1]) == start) {
        range[*nr - 1].len += end - start;
    } else if (*nr < CLIENT_MAX_LOST) {
        range[(*nr)++] = urange(start, end);
    } else { /* rather more than too little */
        struct urange *r = &range[CLIENT_MAX_LOST - 1];
        *r = urange(MIN(start, r->start.v), MAX(end, urange_end(*r)));
    }
}

/* A child that is forked when all has been done has what there is at the end. */
static void note_lost(struct order_search *of, bool at_fork, uint64_t start, uint64_t end)
{
    struct client_lost *l = of->lost;

    if (!at_fork)
        note(l->range, &l->nr, start, end);
    if (at_fork || of->has_fork)
        note(l->forks, &l->nr_forks, start, end);
}

/* Would it be missed? */
static bool is_stored(const struct order_search *of, uint64_t page)
{
    enum pte_tag tag = pte_tag(pte_get(&of->c->mm, uaddr(page)));

    return tag == PTE_FRAME || tag == PTE_SWAPPED || tag == PTE_MIGRATING || tag == PTE_POISON ||
           client_is_doomed(of->c, uaddr(page));
}

/* The place [start, end) has the content of `a` by one order, of `b` by another (NULL: none). */
static void compare(struct order_search *of, bool at_fork, uint64_t start, uint64_t end,
                    const struct piece *a, const struct piece *b)
{
    bool has_a = a && a->has_content, has_b = b && b->has_content;
    uint64_t src_a = has_a ? a->src + (start - a->start) : 0;
    uint64_t src_b = has_b ? b->src + (start - b->start) : 0;

    if ((has_a == has_b && src_a == src_b) || MUTANT(MUTANT_ORDER_GUESSED))
        return;
    for (uint64_t off = 0; off < end - start; off += PAGE_SIZE) {
        if (!order_may_go_on(of, 16 + of->c->saved->nr_doomed))
            return;
        if ((has_a && is_stored(of, src_a + off)) || (has_b && is_stored(of, src_b + off)))
            note_lost(of, at_fork, start + off, start + off + PAGE_SIZE);
    }
}

static const struct piece *piece_at(const struct state *s, uint64_t addr, uint64_t *stop)
{
    uint32_t i = state_position(s, addr);

    if (i == s->nr)
        return NULL;
    if (s->p[i].start > addr) {
        *stop = MIN(*stop, s->p[i].start);
        return NULL;
    }
    *stop = MIN(*stop, s->p[i].end);
    return &s->p[i];
}

void order_lose_differences(struct order_search *of, bool at_fork, const struct state *a,
                            const struct state *b)
{
    uint64_t at = 0;

    while (at != UINT64_MAX) {
        uint64_t stop = UINT64_MAX;
        const struct piece *x = piece_at(a, at, &stop), *y = piece_at(b, at, &stop);
        if (x || y)
            compare(of, at_fork, at, stop, x, y);
        at = stop;
    }
}

static bool any_stored(const struct order_search *of, uint64_t start, uint64_t end)
{
    for (struct uaddr at = uaddr(start); pte_next_mapped(&of->c->mm, &at, end); at.v += PAGE_SIZE)
        if (is_stored(of, at.v))
            return true;
    return of->c->saved->nr_doomed > 0;
}

void order_lose_all(struct order_search *of)
{
    bool any = false;

    for (uint32_t i = 0; i < of->nr && !any; i++)
        any = any_stored(of, of->ch[i]->r.start.v, urange_end(of->ch[i]->r));
    for (uint32_t i = 0; i < of->nr && any; i++) {
        const struct change *x = of->ch[i];
        note_lost(of, false, x->r.start.v, urange_end(x->r));
        if (x->type == KUFFD_REMAP)
            note_lost(of, false, x->to, x->to + x->r.len);
    }
}

void order_forget_zeros(struct order_search *of)
{
    struct client_lost *l = of->lost;

    for (uint32_t i = 0; i < of->nr; i++) {
        const struct change *x = of->ch[i];
        note(l->zeros, &l->nr_zeros, x->r.start.v, urange_end(x->r));
        if (x->type == KUFFD_REMAP)
            note(l->zeros, &l->nr_zeros, x->to, x->to + x->r.len);
    }
}
