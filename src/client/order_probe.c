/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel says: whether the places that the changes are about are registered when all of
 * them are made (rule 5 of order.c).
 */
#include "client/order_priv.h"

#define MAX_PROBES (4 * ORDER_MAX_CHANGES)

/* A place that they are about; between two of them all places fare alike. */
struct probe {
    uint64_t addr;
    uint64_t touched; /* by whom */
    bool asked, is_registered;
};

static struct {
    struct probe probe[MAX_PROBES];
    uint32_t nr;
} asked;

static void add_probe(const struct order_search *of, uint64_t addr)
{
    struct probe p = {.addr = addr};

    for (uint32_t i = 0; i < asked.nr; i++)
        if (asked.probe[i].addr == addr)
            return;
    for (uint32_t i = 0; i < of->nr; i++)
        if (change_touches(of->ch[i], addr, addr + 1))
            p.touched |= 1ull << i;
    if (p.touched && asked.nr < MAX_PROBES)
        asked.probe[asked.nr++] = p;
}

void order_add_probes(const struct order_search *of)
{
    asked.nr = 0;
    for (uint32_t i = 0; i < of->nr; i++) {
        const struct change *x = of->ch[i];
        add_probe(of, x->r.start.v);
        add_probe(of, urange_end(x->r));
        if (x->type == KUFFD_REMAP) {
            add_probe(of, x->to);
            add_probe(of, x->to + x->r.len);
        }
    }
}

static bool ask(struct order_search *of, struct probe *p)
{
    struct mm *mm = &of->c->mm;

    if (p->asked || !of->asks)
        return p->asked;
    switch (mm->ops->is_registered(mm->target, uaddr(p->addr))) {
    case KRES_DONE:
        p->asked = p->is_registered = true;
        break;
    case KRES_GONE:
        p->asked = true;
        break;
    case KRES_RETRY:
        of->is_changing = true;
        of->asks = false;
        break;
    case KRES_RACED:
    case KRES_DEAD:
    case KRES_FATAL:
        of->asks = false;
        break;
    }
    return p->asked;
}

/* An mremap to a place just before, which may have made its mapping longer. */
static bool will_end_at(const struct order_search *of, uint64_t addr, uint64_t left)
{
    for (uint32_t i = 0; i < of->nr; i++) {
        const struct change *x = of->ch[i];
        if (left >> i & 1 && x->type == KUFFD_REMAP && x->to + x->r.len == addr)
            return true;
    }
    return false;
}

static struct probe *probe_at(uint64_t addr)
{
    for (uint32_t i = 0; i < asked.nr; i++)
        if (asked.probe[i].addr == addr)
            return &asked.probe[i];
    return NULL;
}

static bool is_left_to(const struct order_search *of, uint64_t left, uint64_t addr)
{
    for (; left; left &= left - 1)
        if (change_touches(of->ch[__builtin_ctzll(left)], addr, addr + 1))
            return true;
    return false;
}

/*
 * What is registered at addr grew there: from where a mapping ends now, or one that ends before it
 * grew over what changes of the set have left.  Then it is registered from there on, as long as
 * none of those that are left says otherwise.
 */
static uint32_t cost_of_growth(struct order_search *of, const struct state *s, uint64_t addr,
                               uint64_t left)
{
    uint32_t i = state_position(s, addr);
    uint64_t at = i ? s->p[i - 1].end : addr, next;

    if (at == addr)
        return state_cost_of_growing(s, addr);
    struct probe *from = probe_at(at);
    if (!is_left_to(of, left, at) && !(from && ask(of, from) && from->is_registered))
        return COST_WRONG;
    for (; at < addr; at = next) {
        next = at;
        for (uint32_t k = 0; k < of->nr; k++) {
            const struct change *x = of->ch[k];
            if (x->type != KUFFD_REMOVE && x->r.start.v <= at)
                next = MAX(next, urange_end(x->r));
        }
        if (next == at)
            return COST_WRONG;
    }
    return COST_GROWN;
}

uint32_t order_cost_of_end(struct order_search *of, const struct state *s, const struct change *x,
                           uint64_t left)
{
    uint32_t cost = 0;

    for (uint32_t i = 0; i < asked.nr; i++) {
        struct probe *p = &asked.probe[i];
        if (p->touched & left || !change_touches(x, p->addr, p->addr + 1) || !ask(of, p))
            continue;
        uint32_t k = state_position(s, p->addr);
        bool is_there = k < s->nr && s->p[k].start <= p->addr;
        if (is_there && s->p[k].reg == REG_SURE && !p->is_registered)
            cost += COST_WRONG;
        if (is_there && s->p[k].reg == REG_UNKNOWN && p->is_registered)
            cost += COST_UNLIKELY;
        if (!is_there && p->is_registered)
            cost +=
                will_end_at(of, p->addr, left) ? COST_GROWN : cost_of_growth(of, s, p->addr, left);
    }
    return cost;
}
