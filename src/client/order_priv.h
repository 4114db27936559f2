/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_CLIENT_ORDER_PRIV_H
#define PAGERD_CLIENT_ORDER_PRIV_H
/* What order*.c share; order.c says what it is about. */
#include "client/client_priv.h"

/* That have to do with each other and are looked at together: a bit each. */
#define ORDER_MAX_CHANGES 64
#define NO_CHANGE UINT32_MAX

/* A change, as far as one message tells of it. */
struct change {
    struct urange r; /* left, unmapped or dropped */
    uint64_t to;     /* REMAP */
    enum kuffd_msg_type type;
    uint32_t msg;
    uint32_t known; /* messages that must have been read before others know what it led to */
    uint32_t epoch; /* forks before it */
    uint32_t set;   /* of those that have places in common */
    /* The UNMAP with which a REMAP ends, by its number, or NO_CHANGE: its old place is kept. */
    uint32_t end;
    bool is_end;
};

static inline bool order_overlap(uint64_t start, uint64_t end, uint64_t start2, uint64_t end2)
{
    return start < end2 && start2 < end;
}
static inline bool change_touches(const struct change *a, uint64_t start, uint64_t end)
{
    return order_overlap(a->r.start.v, urange_end(a->r), start, end) ||
           (a->type == KUFFD_REMAP && order_overlap(a->to, a->to + a->r.len, start, end));
}
static inline bool changes_meet(const struct change *a, const struct change *b)
{
    return change_touches(a, b->r.start.v, urange_end(b->r)) ||
           (b->type == KUFFD_REMAP && change_touches(a, b->to, b->to + b->r.len));
}
/* Is x an mremap, and `unmap` an UNMAP that can be its last message? */
static inline bool change_ends(const struct change *x, const struct change *unmap)
{
    return x->type == KUFFD_REMAP && unmap->type == KUFFD_UNMAP && unmap->msg > x->msg &&
           unmap->r.start.v == x->r.start.v && unmap->r.len == x->r.len;
}

/* ---- states (order_state.c) ---- */

/* How far-fetched a story is. */
#define COST_UNLIKELY                                                                         \
    1u                /* kept, and then unmapped by itself; registered, unknown to the tables \
                       */
#define COST_GROWN 2u /* a mapping grew in place */
#define COST_WRONG 8u /* does not fit what is known */

enum registered { REG_SURE, REG_PERHAPS, REG_UNKNOWN };

/* A range that is not known to be unregistered, and where its content was when the batch began. */
struct piece {
    uint64_t start, end;
    uint64_t src;
    uint32_t known; /* messages that must have been read before others do something to it */
    bool has_content;
    enum registered reg;
};

/* Pieces by address; between them nothing is registered. */
struct state {
    struct piece *p;
    uint32_t nr, cap;
    bool full; /* it did not fit, and means nothing any more */
};

/* The first piece that ends behind addr; nr: none. */
uint32_t state_position(const struct state *s, uint64_t addr);
/* What the tables say about the places of these changes. */
void state_begin(struct state *s, const struct client *c, const struct change *const *ch,
                 uint32_t nr);
/* Makes the change, which costs that much. */
uint32_t state_change(struct state *s, const struct client *c, const struct change *x);
/* So many messages had been read when x was made, because of what is at the place where it acts. */
uint32_t state_known(const struct state *s, const struct change *x);
/* What x would cost for what is at the place where it acts; and at the one that it takes over. */
uint32_t state_cost_of_acting(const struct state *s, const struct change *x);
uint32_t state_cost_of_taking(const struct state *s, const struct change *x);
/* Can a mapping that ends there have grown to `start`? */
uint32_t state_cost_of_growing(const struct state *s, uint64_t start);

/* ---- the search (order_search.c) ---- */

struct order_search {
    struct client *c;
    bool asks;        /* the kernel says what is registered now */
    bool is_changing; /* it was asked, and a change has begun */
    bool has_fork;
    const struct change *ch[ORDER_MAX_CHANGES];
    uint32_t nr;
    /* Which change comes when, and the UNMAP that belongs to it or NO_CHANGE. */
    struct order_step {
        uint32_t change, end;
    } step[ORDER_MAX_CHANGES];
    uint32_t nr_steps;
    struct client_lost *lost; /* is added to */
    uint64_t work; /* of the last search: pieces and pages looked at, by what each costs */
};
/* Some 20 ms, in which everybody waits; ten times what the simulator's threads bring about. */
#define ORDER_MAX_WORK 16000000u

/* So much more of it, or no more at all.  False: it is at its end. */
static inline bool order_may_go_on(struct order_search *s, uint64_t work)
{
    s->work += work;
    return s->work <= ORDER_MAX_WORK;
}

/* 0, -EAGAIN: a change has begun; -E2BIG: too much to look at, all of it is lost. */
int order_search(struct order_search *s);

/* ---- what the kernel says (order_probe.c) ---- */

void order_add_probes(const struct order_search *s);
/* Rule 5, at the places that x was the last to change; `left`: those that are still to be made. */
uint32_t order_cost_of_end(struct order_search *of, const struct state *s, const struct change *x,
                           uint64_t left);

/* ---- what is lost (order_lost.c) ---- */

/* The stored pages of which two states tell different stories: at a fork, or at the end. */
void order_lose_differences(struct order_search *s, bool at_fork, const struct state *a,
                            const struct state *b);
/* All that the changes are about, when something of it is stored. */
void order_lose_all(struct order_search *s);
/* Zeros that are moved out are to have no entry, wherever the changes find or bring them. */
void order_forget_zeros(struct order_search *s);

#endif
