/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All orders of a few changes that fit what is known, depth first.  See order.c.
 */
#include <errno.h>
#include <string.h>

#include "client/order_priv.h"

#define MAX_PROBES (4 * ORDER_MAX_CHANGES)
#define MAX_PIECES 16384 /* of all states on the way */
#define MAX_TRIES 8192

/* A place that they are about; between two of them all places fare alike. */
struct probe {
    uint64_t addr;
    uint64_t touched; /* by whom */
    bool asked, is_registered;
};

static struct {
    struct order_search *of;
    bool is_changing;
    /* On whom each depends; who brings something to where it acts, clears where it puts it. */
    uint64_t depends[ORDER_MAX_CHANGES], brought_by[ORDER_MAX_CHANGES],
        cleared_by[ORDER_MAX_CHANGES];
    uint64_t seen[2 * MAX_TRIES];
    struct probe probe[MAX_PROBES];
    uint32_t nr_probes;
    uint32_t bound, tries, nr_found;
    struct order_step path[ORDER_MAX_CHANGES];
    uint32_t not_before[ORDER_MAX_CHANGES]; /* so many messages had been read, at each of them */
    struct state first; /* the end of the first order found */
    struct piece pieces[MAX_PIECES], first_pieces[MAX_PIECES / 16];
} o;

static bool is_given_up(void)
{
    return o.tries >= MAX_TRIES || o.of->work > ORDER_MAX_WORK;
}

/* ---- what the kernel says ---- */

static void add_probe(uint64_t addr)
{
    struct probe p = {.addr = addr};

    for (uint32_t i = 0; i < o.nr_probes; i++)
        if (o.probe[i].addr == addr)
            return;
    for (uint32_t i = 0; i < o.of->nr; i++)
        if (change_touches(o.of->ch[i], addr, addr + 1))
            p.touched |= 1ull << i;
    if (p.touched && o.nr_probes < MAX_PROBES)
        o.probe[o.nr_probes++] = p;
}

static void add_probes(void)
{
    o.nr_probes = 0;
    for (uint32_t i = 0; i < o.of->nr; i++) {
        const struct change *x = o.of->ch[i];
        add_probe(x->r.start.v);
        add_probe(urange_end(x->r));
        if (x->type == KUFFD_REMAP) {
            add_probe(x->to);
            add_probe(x->to + x->r.len);
        }
    }
}

static bool ask(struct probe *p)
{
    struct mm *mm = &o.of->c->mm;

    if (p->asked || !o.of->asks)
        return p->asked;
    switch (mm->ops->is_registered(mm->target, uaddr(p->addr))) {
    case KRES_DONE:
        p->asked = p->is_registered = true;
        break;
    case KRES_GONE:
        p->asked = true;
        break;
    case KRES_RETRY:
        o.is_changing = true;
        o.of->asks = false;
        break;
    case KRES_RACED:
    case KRES_DEAD:
    case KRES_FATAL:
        o.of->asks = false;
        break;
    }
    return p->asked;
}

/* An mremap to a place just before, which may have made its mapping longer. */
static bool will_end_at(uint64_t addr, uint64_t left)
{
    for (uint32_t i = 0; i < o.of->nr; i++) {
        const struct change *x = o.of->ch[i];
        if (left >> i & 1 && x->type == KUFFD_REMAP && x->to + x->r.len == addr)
            return true;
    }
    return false;
}

/* Rule 5, at the places that x was the last to change. */
static uint32_t cost_of_end(const struct state *s, const struct change *x, uint64_t left)
{
    uint32_t cost = 0;

    for (uint32_t i = 0; i < o.nr_probes; i++) {
        struct probe *p = &o.probe[i];
        if (p->touched & left || !change_touches(x, p->addr, p->addr + 1) || !ask(p))
            continue;
        uint32_t k = state_position(s, p->addr);
        bool is_there = k < s->nr && s->p[k].start <= p->addr;
        if (is_there && s->p[k].reg == REG_SURE && !p->is_registered)
            cost += COST_WRONG;
        if (is_there && s->p[k].reg == REG_UNKNOWN && p->is_registered)
            cost += COST_UNLIKELY;
        if (!is_there && p->is_registered)
            cost += will_end_at(p->addr, left) ? COST_GROWN : state_cost_of_growing(s, p->addr);
    }
    return cost;
}

/* ---- the search ---- */

static void found(const struct state *s, uint32_t depth)
{
    if (o.nr_found++ == 0) {
        memcpy(o.of->step, o.path, sizeof(o.path));
        o.of->nr_steps = depth;
        o.first = (struct state){.p = o.first_pieces};
        o.first.nr = MIN(s->nr, (uint32_t)ARRAY_SIZE(o.first_pieces));
        memcpy(o.first.p, s->p, o.first.nr * sizeof(*s->p));
        return;
    }
    order_lose_differences(o.of, &o.first, s);
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
static void try_one(const struct state *s, uint32_t depth, uint64_t left, uint32_t cost,
                    uint32_t i, uint32_t end)
{
    struct state next = {.p = s->p + s->nr,
                         .cap = s->cap - s->nr,
                         .nr = s->nr,
                         .ch = s->ch,
                         .nr_ch = s->nr_ch};
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
    cost += cost_of_end(&next, &x, left);
    if (cost > o.bound)
        return;
    o.path[depth] = (struct order_step){i, end};
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
        nr_others += y->type == KUFFD_REMAP && y->r.start.v == x->r.start.v && y->r.len == x->r.len;
    }
    if (nr_ends > nr_others)
        return COST_UNLIKELY;
    while (depth-- > 0) {
        const struct order_step *step = &o.path[depth];
        if (step->end == NO_CHANGE && change_ends(x, o.of->ch[step->change]))
            return COST_UNLIKELY;
    }
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

/* What is left to be done was tried before, from the same state. */
static bool was_here(const struct state *s, uint32_t depth, uint64_t left, uint32_t cost)
{
    uint64_t sum = (left * 31 + cost) * 31 + o.bound + 1;

    while (depth-- > 0) {
        uint64_t who = o.depends[o.path[depth].change] & left ? o.path[depth].change + 1 : 0;
        sum += who * (o.not_before[depth] + 1) * 0xd6e8feb86659fd93u; /* in whatever order */
    }

    for (uint32_t i = 0; i < s->nr; i++) {
        const struct piece *p = &s->p[i];
        const uint64_t word[] = {p->start, p->end, p->has_content ? p->src : 1,
                                 (uint64_t)p->known << 8 | p->reg};
        for (uint32_t k = 0; k < ARRAY_SIZE(word); k++) {
            sum = (sum ^ word[k]) * 0x9e3779b97f4a7c15u;
            sum ^= sum >> 29;
        }
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
    uint64_t set = connected(left); /* the others can as well come later */
    for (uint32_t i = 0; i < o.of->nr; i++)
        if (set >> i & 1)
            epoch = MIN(epoch, o.of->ch[i]->epoch);
    for (uint32_t i = 0; i < o.of->nr && !is_given_up() && !o.is_changing; i++) {
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
    o.is_changing = false;
    memset(o.seen, 0, sizeof(o.seen));
    relate();
    add_probes();
    state_begin(&s, of->c, of->ch, of->nr);
    if (s.full)
        o.tries = MAX_TRIES;
    for (uint32_t i = 0; i < ARRAY_SIZE(bounds) && !o.nr_found && !is_given_up(); i++) {
        o.bound = bounds[i];
        try_all(&s, 0, of->nr == ORDER_MAX_CHANGES ? ~0ull : (1ull << of->nr) - 1, 0);
        if (o.is_changing)
            return -EAGAIN;
    }
    of->lost->is_odd |= o.bound >= COST_WRONG;
    /* A forked child has what there was in between, too: all that could be wrong of it is lost. */
    if (is_given_up() || (of->lost->nr > nr_lost && of->has_fork)) {
        of->lost->nr = nr_lost;
        order_lose_all(of);
    }
    return is_given_up() ? -E2BIG : 0;
}
