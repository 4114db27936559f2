/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages whose bytes could not be kept: no leaf for the place that an mremap
 * moved them to, or no way to give them to a forked child.  They fail closed,
 * by poison.  The kernel answers EAGAIN while the program is still in the call
 * that the event came from, so the poison is mostly put down later; until then
 * the page is remembered here, and a fault on it waits.
 *
 * More than there is room for: from then on every page without entry is taken
 * for lost.
 */
#include <stdio.h>

#include "client/client_priv.h"

/* In an order that leaves a page doubled, but not left out, when the worker dies in between. */
static void doomed_drop(struct client *c, uint32_t i)
{
    struct client_saved *s = c->saved;

    s->doomed[i] = s->doomed[s->nr_doomed - 1];
    saved_set(&s->nr_doomed, s->nr_doomed - 1);
}

static void tell_of_doom(const struct mm *mm, struct uaddr addr)
{
    static struct log_ratelimit often;
    char who[32] = "a forked child";

    if (!log_ratelimit(&often))
        return;
    if (mm->pid)
        snprintf(who, sizeof(who), "pid %d", mm->pid);
    log_error("%s: the page at %#llx could not be kept at an mremap or fork and is poisoned; a touch "
              "of it is SIGBUS.  %s, and start the program anew",
              who, (unsigned long long)addr.v,
              pgtable_nr_free_leaves(mm->pt)
                  ? "The page changed just then, or is shared too often: have fewer children at once"
                  : "The page tables are full: raise --ram or --swap, by which they are sized");
}

void client_doom(struct client *c, struct uaddr addr)
{
    struct client_saved *s = c->saved;

    c->mm.count->poisoned++;
    tell_of_doom(&c->mm, addr);
    if (MUTANT(MUTANT_DOOMED_FORGOTTEN))
        return;
    if (s->nr_doomed < CLIENT_MAX_DOOMED) {
        s->doomed[s->nr_doomed] = addr;
        saved_set(&s->nr_doomed, s->nr_doomed + 1);
    } else {
        s->doomed_overflow = true;
    }
}

bool client_is_doomed(const struct client *c, struct uaddr addr)
{
    for (uint32_t i = 0; i < c->saved->nr_doomed; i++)
        if (c->saved->doomed[i].v == addr.v)
            return true;
    return c->saved->doomed_overflow && pte_tag(pte_get(&c->mm, addr)) == PTE_NONE;
}

void client_doomed_forget(struct client *c, uint64_t start, uint64_t end)
{
    for (uint32_t i = c->saved->nr_doomed; i-- > 0;)
        if (c->saved->doomed[i].v >= start && c->saved->doomed[i].v < end)
            doomed_drop(c, i);
}

void client_doomed_move(struct client *c, struct uaddr from, struct uaddr to, uint64_t len)
{
    for (uint32_t i = 0; i < c->saved->nr_doomed; i++)
        if (c->saved->doomed[i].v - from.v < len)
            c->saved->doomed[i].v += to.v - from.v;
}

void client_doomed_inherit(const struct client *parent, struct client *child)
{
    for (uint32_t i = 0; i < parent->saved->nr_doomed; i++)
        client_doom(child, parent->saved->doomed[i]);
    if (parent->saved->doomed_overflow)
        child->saved->doomed_overflow = true;
}

/* True when there is nothing more to do about the page. */
static bool doomed_poison(struct client *c, struct uaddr addr)
{
    struct mm *mm = &c->mm;
    uint64_t done;
    enum kres r = mm->ops->poison(mm->target, addr, PAGE_SIZE, &done);

    if (r == KRES_GONE) /* just moved away, its event not read yet?  Then it is RETRY now. */
        r = mm->ops->poison(mm->target, addr, PAGE_SIZE, &done);
    switch (r) {
    case KRES_DONE:
        return true;
    case KRES_RACED: /* the program's own page is there */
    case KRES_GONE:  /* unmapped, or not ours any more */
        (void)mm->ops->wake(mm->target, (struct urange){addr, PAGE_SIZE});
        return true;
    case KRES_DEAD:
        mm->dead = true;
        return true;
    case KRES_RETRY:
    case KRES_FATAL:
        break;
    }
    return false;
}

enum fault_outcome client_doomed_answer(struct client *c, struct uaddr addr)
{
    return doomed_poison(c, addr) ? FAULT_ANSWERED : FAULT_PARKED;
}

bool client_doomed_settle(struct client *c)
{
    for (uint32_t i = c->saved->nr_doomed; i-- > 0;)
        if (doomed_poison(c, c->saved->doomed[i]))
            doomed_drop(c, i);
    /* Of an overflow nobody knows the pages: such a client is served, and fails closed, to its end. */
    return c->saved->nr_doomed == 0 && !c->saved->doomed_overflow;
}
