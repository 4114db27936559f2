/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fork, when its event is read: the child's address space is a copy of the
 * parent's as of then.  What was moved out of the parent is absent in the child
 * too, so the child gets the same entries, and both share the frames.
 *
 * A page under a move (captured, not committed) is absent in both; its bytes
 * belong to the child as well.  It is committed first; where there is no frame
 * for it the child gets the bytes at once, and before the parent does: a page
 * that the parent took back is PRESENT there and still absent in the child.
 */
#include "client/client_priv.h"
#include "migrate/migrate.h"

static bool is_in_doubt(const struct client *c, struct uaddr at)
{
    struct urange doubt = client_doubt(c);

    return at.v - doubt.start.v < doubt.len;
}

/* The child cannot share this entry: it gets the bytes, or fails closed. */
static void fill_child(struct client *parent, struct client *child, struct uaddr at, pte_t pte)
{
    struct mm *mm = &child->mm;

    if (is_in_doubt(child, at)) {
        client_doom(child, at);
        return;
    }
    const void *bytes = pte_tag(pte) == PTE_FRAME
                            ? node_bytes(mm->ram, (struct pfn){pte_index(pte)})
                        : pte_tag(pte) == PTE_MIGRATING ? migrate_bytes(&parent->mm, at)
                                                        : NULL; /* on the device: not at hand */
    uint64_t done = 0;
    enum kres r = KRES_FATAL;

    if (pte_tag(pte) == PTE_ZERO)
        r = mm->ops->zero(mm->target, at, PAGE_SIZE, &done);
    else if (bytes)
        r = mm->ops->copy(mm->target, at, bytes, PAGE_SIZE, &done);
    switch (r) {
    case KRES_DONE:
    case KRES_DEAD:
        (void)pte_transition(mm, at, PTE_EV_ADOPT, (struct pte_arg){0}, NULL);
        break;
    case KRES_RETRY: /* the child runs already, and an event of its own is unread */
    case KRES_GONE:  /* or it has just moved or unmapped the page: that event will tell */
    case KRES_RACED:
    case KRES_FATAL:
        client_doom(child, at);
        break;
    }
}

uint64_t client_withhold(struct client *c, uint64_t start, uint64_t end)
{
    struct uaddr at = uaddr(start);
    uint64_t nr = 0;
    pte_t old;

    for (; pte_next_mapped(&c->mm, &at, end); at.v += PAGE_SIZE) {
        pte_t pte = pte_get(&c->mm, at);
        if (!pte_is_stored(pte) || pte_tag(pte) == PTE_ZERO)
            continue;
        BUG_ON(pte_transition(&c->mm, at, PTE_EV_LOSE, (struct pte_arg){0}, &old) < 0);
        migrate_release_stored(&c->mm, at, old);
        c->mm.count->poisoned++;
        nr++;
    }
    return nr;
}

bool client_is_doubtful(const struct client *c, struct uaddr addr)
{
    pte_t pte = pte_get(&c->mm, addr);

    return is_in_doubt(c, addr) && pte_is_stored(pte) && pte_tag(pte) != PTE_ZERO;
}

static void saved_set_doubt(_Atomic uint64_t *bound, uint64_t v)
{
    atomic_store_explicit(bound, v, memory_order_release);
    CRASH_POINT();
}

void client_end_doubt(struct client *c)
{
    saved_set_doubt(&c->saved->doubt_end, 0);
}

/* Bytes are elsewhere than in the program; zeros are nobody's secret. */
static bool is_out(pte_t pte)
{
    return pte_tag(pte) != PTE_NONE && pte_tag(pte) != PTE_PRESENT && pte_tag(pte) != PTE_ZERO;
}

void client_doubt_too(struct client *c, struct urange r)
{
    struct urange d = client_doubt(c);
    uint64_t end = urange_end(r);

    /* An end that is 0 until the start is there: no prefix of the stores doubts less. */
    saved_set_doubt(&c->saved->doubt_start, d.len ? MIN(d.start.v, r.start.v) : r.start.v);
    saved_set_doubt(&c->saved->doubt_end, d.len ? MAX(urange_end(d), end) : end);
}

void client_relate(struct client *parent, struct client *child)
{
    list_add(&child->relatives, &parent->relatives);
    child->has_strays = parent->has_strays;
}

void client_part(struct client *c)
{
    struct client *r;

    /* Let go with everything in it: it lives on, and nobody will tell when it ends. */
    if (!c->mm.dead)
        list_for_each_entry(r, &c->relatives, relatives)
            r->has_strays = true;
    list_del(&c->relatives);
}

#define UNSHARE_NS 10000000u

bool client_may_unshare(struct client *c, uint64_t now_ns)
{
    if (list_empty(&c->relatives) && !c->has_strays)
        return true;
    /* Clearly above the limit it is shared pages that are in the way: no vain capture first. */
    const struct group *g = c->group;
    bool clearly = g->limit_bytes && g->resident_bytes > g->limit_bytes + g->limit_bytes / 8;
    if (clearly || (c->nr_fruitless && !group_has_room(g, PAGE_SIZE)))
        c->unshare_until_ns = now_ns + UNSHARE_NS;
    return now_ns < c->unshare_until_ns;
}

/*
 * What the parent's mappings say now is what they said at the fork only where they are the same
 * ones: not where one has gone since and another may be, nor when any may be going just now.
 */
static enum fork_gets ask_who_gets(struct client *parent, struct uaddr at,
                                   const struct urange *left, uint32_t nr_left, uint64_t *ret_end)
{
    const struct mm *mm = &parent->mm;

    *ret_end = FORK_GETS_ALL;
    if (!parent->domain->fork_gets)
        return FORK_GETS_BYTES;
    enum fork_gets gets = parent->domain->fork_gets(parent, at, ret_end);
    if (*ret_end == FORK_GETS_ALL)
        return gets;
    /*
     * Few programs have such memory, and say so.  Of any other what cannot be told is the child's:
     * doubt costs, for it waits for its agent, and may need a page of it to start that.
     */
    if (!parent->keeps_memory)
        return gets == FORK_GETS_UNKNOWN ? FORK_GETS_BYTES : gets;
    for (uint32_t i = 0; i < nr_left; i++)
        if (at.v - left[i].start.v < left[i].len) {
            *ret_end = urange_end(left[i]);
            return FORK_GETS_UNKNOWN;
        }
    for (uint32_t i = 0; i < nr_left; i++)
        if (left[i].start.v > at.v && left[i].start.v < *ret_end)
            *ret_end = left[i].start.v;
    return mm->ops->is_changing && mm->ops->is_changing(mm->target) ? FORK_GETS_UNKNOWN : gets;
}

void client_fork_tables(struct client *parent, struct client *child, const struct urange *left,
                        uint32_t nr_left)
{
    struct mm *from = &parent->mm, *to = &child->mm;
    enum fork_gets gets = FORK_GETS_BYTES;
    uint64_t gets_end = 0;
    struct uaddr at = {0};

    client_relate(parent, child);
    client_doomed_inherit(parent, child);
    if (client_doubt(parent).len)
        client_doubt_too(child, client_doubt(parent));
    if (parent->note_cursor != UINT64_MAX) /* the child has entries of pages that are there, too */
        child->note_cursor = 0;
    client_commit_stored(parent);
    if (mm_area_inherit(to, from) < 0)
        log_warning("no memory for a forked child's areas; its pages are served one by one");
    for (; pte_next_mapped(from, &at, UINT64_MAX); at.v += PAGE_SIZE) {
        pte_t pte = pte_get(from, at);

        if (is_out(pte) && at.v >= gets_end) {
            gets = ask_who_gets(parent, at, left, nr_left, &gets_end);
            if (gets == FORK_GETS_UNKNOWN)
                client_doubt_too(child, urange(at.v, gets_end));
        }
        if (is_out(pte) && gets == FORK_GETS_NOTHING && !MUTANT(MUTANT_WIPED_GIVEN))
            continue;
        if (pte_tag(pte) == PTE_MIGRATING) {
            if (!MUTANT(MUTANT_FORK_WITHOUT_STAGED))
                fill_child(parent, child, at, pte);
            continue;
        }
        /* What the parent keeps is for its own next capture. */
        pte_t value = pte_is_kept(pte)
                          ? pte_make(PTE_PRESENT, 0, 0, 0)
                          : pte_make(pte_tag(pte), 0, pte_node(pte), pte_index(pte));
        if (pte_transition(to, at, PTE_EV_IMPORT, (struct pte_arg){.value = value}, NULL) < 0) {
            if (pte_is_stored(pte))
                fill_child(parent, child, at, pte);
            else if (pte_tag(pte) == PTE_POISON)
                client_doom_poisoned(child, at);
            continue;
        }
        if (pte_holds_place(value) && !MUTANT(MUTANT_FORK_WITHOUT_REFERENCE) &&
            node_ref(node_of(to, value), (struct pfn){pte_index(pte)},
                     (struct rmap_entry){to->id, at}) < 0) {
            BUG_ON(pte_transition(to, at, PTE_EV_REMOVE, (struct pte_arg){0}, NULL) < 0);
            fill_child(parent, child, at, pte);
        }
    }
    /*
     * What is present is its parent's too, and counts there.  What it is filled with counts
     * as it comes; whoever can tell more (its agent), or must not wait longer, does.
     */
}

/* ---- a child that gets no record ---- */

enum kres client_poison_range(client_poison_fn *poison, void *target, struct urange r)
{
    uint64_t at = r.start.v, done;

    while (at < urange_end(r)) {
        enum kres res = poison(target, uaddr(at), urange_end(r) - at, &done);
        at += done;
        if (at >= urange_end(r))
            break;
        switch (res) {
        case KRES_RACED: /* a page of its own */
        case KRES_GONE:  /* it has no such mapping, or not so much of it */
            res = poison(target, uaddr(at), PAGE_SIZE, &done);
            if (res == KRES_RETRY || res == KRES_DEAD || res == KRES_FATAL)
                return res;
            at += PAGE_SIZE;
            break;
        case KRES_DONE:
            break;
        case KRES_RETRY:
        case KRES_DEAD:
        case KRES_FATAL:
            return res;
        }
    }
    return KRES_DONE;
}

/* What is in no table, but lost: of more than there is room for nobody knows where. */
static enum kres poison_lost(const struct client *parent, client_poison_fn *poison, void *target)
{
    const struct client_saved *s = parent->saved;
    enum kres r = KRES_DONE;

    for (uint32_t i = 0; i < s->nr_doomed && r == KRES_DONE; i++)
        r = client_poison_range(poison, target,
                                (struct urange){uaddr(s->doomed[i].v & PAGE_MASK), PAGE_SIZE});
    for (uint32_t i = 0; i < s->lost.nr && r == KRES_DONE; i++)
        r = client_poison_range(poison, target, s->lost.range[i]);
    for (uint32_t i = 0; i < parent->mm.nr_areas && s->doomed_overflow && r == KRES_DONE; i++)
        r = client_poison_range(poison, target,
                                urange(parent->mm.areas[i].start, parent->mm.areas[i].end));
    return r;
}

enum kres client_poison_out(struct client *parent, client_poison_fn *poison, void *target,
                            struct uaddr *cursor)
{
    const struct mm *mm = &parent->mm;
    enum kres r = cursor->v ? KRES_DONE : poison_lost(parent, poison, target);

    while (r == KRES_DONE && pte_next_mapped(mm, cursor, UINT64_MAX)) {
        uint64_t len = 0;
        while (is_out(pte_get(mm, uaddr(cursor->v + len))))
            len += PAGE_SIZE;
        if (len)
            r = client_poison_range(poison, target, (struct urange){*cursor, len});
        if (r == KRES_DONE)
            cursor->v += MAX(len, (uint64_t)PAGE_SIZE);
    }
    return r;
}
