/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All orders of a few changes that fit what is known, depth first.  See order.c.
 */
#include <errno.h>
#include <string.h>

#include "client/order_priv.h"

#define MAX_PIECES 16384 /* of all states on the way */
#define MAX_TRIES 8192
#define MAX_FORKS 16

static struct {
    struct order_search *of;
    /* On whom each depends; who brings something to where it acts, clears where it puts it. */
    uint64_t depends[ORDER_MAX_CHANGES], brought_by[ORDER_MAX_CHANGES],
        cleared_by[ORDER_MAX_CHANGES];
    uint64_t seen[2 * MAX_TRIES];
    uint32_t bound, tries, nr_found;
    struct order_step path[ORDER_MAX_CHANGES];
    struct state before[ORDER_MAX_CHANGES]; /* each of them */
    uint32_t not_before[ORDER_MAX_CHANGES]; /* so many messages had been read, at each of them */
    uint32_t first_epoch, last_epoch;
    /* Of the first order found, at each fork between its changes, and the end. */
    struct state first[MAX_FORKS + 1];
    struct piece pieces[MAX_PIECES], first_pieces[MAX_PIECES / 4];
} o;

static bool is_given_up(void)
{
    return o.tries >= MAX_TRIES || o.of->work > ORDER_MAX_WORK;
}

static void keep_first(struct state *first, const struct state *s)
{
    uint32_t used = 0;

    for (const struct state *f = o.first; f < first; f++)
        used += f->nr;
    *first = (struct state){.p = o.first_pieces + used, .nr = s->nr};
    if (used + s->nr > ARRAY_SIZE(o.first_pieces)) {
        first->nr = 0;
        o.tries = MAX_TRIES;
        return;
    }
    memcpy(first->p, s->p, s->nr * sizeof(*s->p));
}

/* What a fork saw that was read before all changes of that epoch. */
static const struct state *at_fork(uint32_t epoch, uint32_t depth, const struct state *end)
{
    for (uint32_t d = 0; d < depth; d++)
        if (o.of->ch[o.path[d].change]->epoch >= epoch)
            return &o.before[d];
    return end;
}

static void found(const struct state *s, uint32_t depth)
{
    bool is_first = o.nr_found++ == 0;

    if (is_first) {
        memcpy(o.of->step, o.path, sizeof(o.path));
        o.of->nr_steps = depth;
    }
    for (uint32_t epoch = o.first_epoch + 1, n = 0; epoch <= o.last_epoch + 1; epoch++, n++) {
        const struct state *at = at_fork(epoch, depth, s);
        if (is_first)
            keep_first(&o.first[n], at);
        else
            order_lose_differences(o.of, epoch <= o.last_epoch, &o.first[n], at);
    }
}

/* So many messages had been read when those before it were made that i depends on. */
static uint32_t after_path(uint32_t depth, uint32_t i)
{
    uint32_t known = 0;

    while (depth-- > 0)
        if (o.depends[i] >> o.path[depth].change & 1)
            known = MAX(known, o.not_before[depth]);
    return known;
}

/* Likewise, and by rule 2. */
static uint32_t not_before(const struct state *s, uint32_t depth, uint32_t i)
{
    return MAX(state_known(s, o.of->ch[i]), after_path(depth, i));
}

static void try_all(const struct state *s, uint32_t depth, uint64_t left, uint32_t cost);

/* `end`: the UNMAP that belongs to the REMAP, or NO_CHANGE. */
static void try_one(const struct state *s, uint32_t depth, uint64_t left, uint32_t cost, uint32_t i,
                    uint32_t end)
{
    struct state next = {.p = s->p + s->nr, .cap = s->cap - s->nr, .nr = s->nr};
    struct change x = *o.of->ch[i];

    if (cost > o.bound)
        return;
    o.tries++;
    next.full = next.cap < s->nr + 16;
    if (!next.full) {
        memcpy(next.p, s->p, s->nr * sizeof(*s->p));
        x.end = end;
        if (end == NO_CHANGE)
            x.known = x.msg + 1;
        else
            left &= ~(1ull << end);
        left &= ~(1ull << i);
        cost += x.msg < not_before(s, depth, i) ? COST_WRONG : 0;
        cost += state_change(&next, o.of->c, &x);
    }
    if (next.full) {
        o.tries = MAX_TRIES;
        return;
    }
    cost += order_cost_of_end(o.of, &next, &x, left);
    if (cost > o.bound)
        return;
    o.path[depth] = (struct order_step){i, end};
    o.before[depth] = *s;
    o.not_before[depth] = not_before(s, depth, i);
    try_all(&next, depth + 1, left, cost);
}

/* The first UNMAP that could be the last message of the REMAP at i. */
static uint32_t end_of(uint32_t i, uint64_t left)
{
    const struct change *x = o.of->ch[i];

    for (uint32_t k = i + 1; k < o.of->nr && x->type == KUFFD_REMAP; k++)
        if (left >> k & 1 && change_ends(x, o.of->ch[k]))
            return k;
    return NO_CHANGE;
}

/*
 * An mremap that keeps its old place, while an UNMAP of just that place is nobody's: the two
 * would rather be one call.  Of several that left the place one of them is the UNMAP's as well
 * as another.
 */
static uint32_t cost_of_keeping(uint32_t i, uint32_t depth, uint64_t left)
{
    const struct change *x = o.of->ch[i];
    uint32_t nr_ends = 0, nr_others = 0;

    if (x->type != KUFFD_REMAP)
        return 0;
    for (uint32_t k = 0; k < o.of->nr; k++) {
        const struct change *y = o.of->ch[k];
        if (!(left >> k & 1) || k == i)
            continue;
        nr_ends += change_ends(x, y);
        nr_others +=
            y->r.start.v == x->r.start.v && y->r.len == x->r.len && end_of(k, left) != NO_CHANGE;
    }
    if (nr_ends > nr_others)
        return COST_UNLIKELY;
    while (depth-- > 0)
        if (change_ends(x, o.of->ch[o.path[depth].change]))
            return COST_UNLIKELY;
    return 0;
}

/* Those of `left` that the first of them has to do with, by way of others of them too. */
static uint64_t connected(uint64_t left)
{
    uint64_t all = left & -left, todo = all;

    while (todo) {
        uint32_t i = (uint32_t)__builtin_ctzll(todo);
        todo &= todo - 1;
        uint64_t fresh = o.depends[i] & left & ~all;
        all |= fresh;
        todo |= fresh;
    }
    return all;
}

/*
 * Is there a change left that will not fit, whatever comes before it: it comes too late, or
 * nobody brings what it is about, or takes away what is in its way?
 */
static bool is_hopeless(const struct state *s, uint32_t depth, uint64_t left, uint32_t cost)
{
    for (uint64_t todo = left; todo; todo &= todo - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(todo);
        const struct change *x = o.of->ch[i];
        uint32_t at_least = x->msg < after_path(depth, i) ? COST_WRONG : 0;
        uint32_t early = x->msg < state_known(s, x) ? COST_WRONG : 0;
        if (!(o.brought_by[i] & left))
            at_least += MIN(state_cost_of_acting(s, x) + early, COST_GROWN);
        if (x->type == KUFFD_REMAP && !(o.cleared_by[i] & left))
            at_least += state_cost_of_taking(s, x);
        if (cost + at_least > o.bound)
            return true;
    }
    return false;
}

static uint64_t mix(uint64_t sum, uint64_t word)
{
    sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
    return sum ^ sum >> 29;
}

static uint64_t mix_contents(uint64_t sum, const struct state *s)
{
    for (uint32_t i = 0; i < s->nr; i++) {
        const struct piece *p = &s->p[i];
        sum = mix(mix(mix(sum, p->start), p->end), p->has_content ? p->src : 1);
    }
    return sum;
}

/* An UNMAP that could have been the end of an mremap which is still to come. */
static bool stands_alone(const struct order_step *step, uint64_t left)
{
    for (; left; left &= left - 1)
        if (change_ends(o.of->ch[__builtin_ctzll(left)], o.of->ch[step->change]))
            return true;
    return false;
}

/* What is left to be done was tried before, from the same state, and after the same forks. */
static bool was_here(const struct state *s, uint32_t depth, uint64_t left, uint32_t cost)
{
    uint64_t sum = mix_contents((left * 31 + cost) * 31 + o.bound + 1, s);
    uint32_t epoch = depth ? o.of->ch[o.path[depth - 1].change]->epoch : o.first_epoch;
    uint32_t all_know = UINT32_MAX; /* so many messages: all that is left was read behind them */

    for (; epoch > o.first_epoch; epoch--)
        sum = mix_contents(sum, at_fork(epoch, depth, s));
    for (uint32_t i = 0; i < o.of->nr; i++)
        if (left >> i & 1)
            all_know = MIN(all_know, o.of->ch[i]->msg);
    for (uint32_t d = 0; d < depth; d++) { /* in whatever order */
        uint64_t who = o.path[d].change + 1;
        bool matters = o.depends[o.path[d].change] & left;
        uint32_t known = matters && o.not_before[d] > all_know ? o.not_before[d] : 0;
        sum += known ? mix(mix(0, who), known) : 0;
        sum += stands_alone(&o.path[d], left) ? mix(1, who) : 0; /* cost_of_keeping() */
    }
    for (uint32_t i = 0; i < s->nr; i++) {
        const struct piece *p = &s->p[i];
        sum = mix(sum, (uint64_t)(p->known > all_know ? p->known : 0) << 8 | p->reg);
    }
    for (uint32_t n = 0; n < 8; n++) {
        uint64_t *seen = &o.seen[(sum + n) % ARRAY_SIZE(o.seen)];
        if (*seen == sum)
            return true;
        if (!*seen) {
            *seen = sum;
            return false;
        }
    }
    return false;
}

static void try_all(const struct state *s, uint32_t depth, uint64_t left, uint32_t cost)
{
    uint32_t epoch = UINT32_MAX;

    if (!left) {
        found(s, depth);
        return;
    }
    if (!order_may_go_on(o.of, (uint64_t)s->nr * (uint32_t)__builtin_popcountll(left)) ||
        is_given_up() || was_here(s, depth, left, cost) || is_hopeless(s, depth, left, cost))
        return;
    /* The others can as well come later; but a fork has seen all of its epoch. */
    uint64_t set = o.first_epoch == o.last_epoch ? connected(left) : left;
    for (uint32_t i = 0; i < o.of->nr; i++)
        if (set >> i & 1)
            epoch = MIN(epoch, o.of->ch[i]->epoch);
    for (uint32_t i = 0; i < o.of->nr && !is_given_up() && !o.of->is_changing; i++) {
        if (!(set >> i & 1) || o.of->ch[i]->epoch != epoch)
            continue;
        uint32_t end = end_of(i, left);
        if (end != NO_CHANGE)
            try_one(s, depth, left, cost, i, end);
        try_one(s, depth, left, cost + cost_of_keeping(i, depth, left), i, NO_CHANGE);
    }
}

static void relate(void)
{
    for (uint32_t i = 0; i < o.of->nr; i++) {
        const struct change *x = o.of->ch[i];
        o.depends[i] = o.brought_by[i] = o.cleared_by[i] = 0;
        for (uint32_t k = 0; k < o.of->nr; k++) {
            const struct change *y = o.of->ch[k];
            if (k == i)
                continue;
            if (changes_meet(x, y))
                o.depends[i] |= 1ull << k;
            if (y->type == KUFFD_REMAP && y->msg < x->msg && /* rule 2 */
                order_overlap(y->to, y->to + y->r.len, x->r.start.v, urange_end(x->r)))
                o.brought_by[i] |= 1ull << k;
            if (x->type == KUFFD_REMAP &&
                order_overlap(y->r.start.v, urange_end(y->r), x->to, x->to + x->r.len))
                o.cleared_by[i] |= 1ull << k;
        }
    }
}

int order_search(struct order_search *of)
{
    static const uint32_t bounds[] = {0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 40, 80, UINT32_MAX};
    struct state s = {.p = o.pieces, .cap = MAX_PIECES};
    uint32_t nr_lost = of->lost->nr;

    o.of = of;
    o.nr_found = o.tries = 0;
    of->work = 0;
    of->is_changing = false;
    memset(o.seen, 0, sizeof(o.seen));
    relate();
    order_add_probes(of);
    o.first_epoch = UINT32_MAX;
    o.last_epoch = 0;
    for (uint32_t i = 0; i < of->nr; i++) {
        o.first_epoch = MIN(o.first_epoch, of->ch[i]->epoch);
        o.last_epoch = MAX(o.last_epoch, of->ch[i]->epoch);
    }
    if (o.last_epoch - o.first_epoch > MAX_FORKS)
        o.tries = MAX_TRIES;
    state_begin(&s, of->c, of->ch, of->nr);
    if (s.full)
        o.tries = MAX_TRIES;
    for (uint32_t i = 0; i < ARRAY_SIZE(bounds) && !o.nr_found && !is_given_up(); i++) {
        o.bound = bounds[i];
        try_all(&s, 0, of->nr == ORDER_MAX_CHANGES ? ~0ull : (1ull << of->nr) - 1, 0);
        if (of->is_changing)
            return -EAGAIN;
    }
    of->lost->is_odd |= o.bound >= COST_WRONG;
    if (is_given_up() || o.nr_found > 1)
        order_forget_zeros(of);
    if (is_given_up()) {
        of->lost->nr = nr_lost;
        order_lose_all(of);
    }
    return is_given_up() ? -E2BIG : 0;
}
