/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages whose bytes could not be kept: no leaf for the place that an mremap
 * moved them to, or no way to give them to a forked child.  They fail closed,
 * by poison.  The kernel answers EAGAIN while the program is still in the call
 * that the event came from, so the poison is mostly put down later; until then
 * the page is remembered here, and a fault on it waits.
 *
 * What was poisoned stays known: UFFDIO_COPY puts a page over poison, so a window of
 * zeros, or a fault that was read before, would make zeros of it.  It gets a POISON entry, or
 * stays here, when there is no leaf for that.
 *
 *   (new) --ask the kernel--> ASKED --done; or it was there, and asked before--> entry POISON
 *     ^                         | |                                                or PLACED
 *     +-------- EAGAIN ---------+ +--there is a page of the program's own, or no mapping--> (gone)
 *
 * ASKED is stored before the kernel is asked: of a page that is poisoned already the
 * kernel says the same as of the program's own, and a worker may die in between.
 *
 * More than there is room for: from then on every page without entry is taken
 * for lost.
 */
#include <stdio.h>

#include "client/client_priv.h"
#include "migrate/migrate.h"

/* In the low bits of client_saved::doomed[]. */
#define ASKED 1u
#define PLACED 2u

static void set_flags(struct uaddr *doomed, uint64_t flags)
{
    doomed->v = (doomed->v & PAGE_MASK) | flags;
    CRASH_POINT();
}

static struct uaddr page_of(struct uaddr doomed)
{
    return uaddr(doomed.v & PAGE_MASK);
}

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
    log_error("%s: the page at %#llx could not be kept at an mremap or fork and is poisoned; a "
              "touch of it is SIGBUS.  %s, and start the program anew",
              who, (unsigned long long)addr.v,
              pgtable_nr_free_leaves(mm->pt)
                  ? "The page changed just then, or is shared too often: have fewer children at "
                    "once"
                  : "The page tables are full: raise --ram or --swap, by which they are sized");
}

static void doom(struct client *c, struct uaddr addr, uint32_t flags)
{
    struct client_saved *s = c->saved;

    c->mm.count->poisoned++;
    if (MUTANT(MUTANT_DOOMED_FORGOTTEN))
        return;
    if (s->nr_doomed < CLIENT_MAX_DOOMED) {
        s->doomed[s->nr_doomed] = uaddr(addr.v | flags);
        saved_set(&s->nr_doomed, s->nr_doomed + 1);
    } else {
        s->doomed_overflow = true;
    }
}

void client_doom(struct client *c, struct uaddr addr)
{
    doom(c, addr, 0);
    tell_of_doom(&c->mm, addr);
}

void client_doom_told(struct client *c, struct uaddr addr)
{
    doom(c, addr, 0);
}

void client_doom_poisoned(struct client *c, struct uaddr addr)
{
    doom(c, addr, ASKED);
    tell_of_doom(&c->mm, addr);
}

/* Its place in the list, or nr_doomed. */
static uint32_t doomed_find(const struct client *c, struct uaddr addr)
{
    uint32_t i = 0;

    while (i < c->saved->nr_doomed && page_of(c->saved->doomed[i]).v != addr.v)
        i++;
    return i;
}

bool client_is_doomed(const struct client *c, struct uaddr addr)
{
    if (doomed_find(c, addr) < c->saved->nr_doomed)
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
        doom(child, page_of(parent->saved->doomed[i]),
             (parent->saved->doomed[i].v & ~PAGE_MASK) != 0 ? ASKED : 0);
    if (parent->saved->doomed_overflow)
        child->saved->doomed_overflow = true;
}

/* An entry that says so, whatever there was; false: there is no leaf for it. */
static bool enter_poison(struct client *c, struct uaddr addr)
{
    struct pte_arg arg = {.value = pte_make(PTE_POISON, 0, 0, 0)};
    pte_t old;

    if (pte_tag(pte_get(&c->mm, addr)) == PTE_POISON)
        return true;
    BUG_ON(pte_transition(&c->mm, addr, PTE_EV_REMOVE, (struct pte_arg){0}, &old) < 0);
    migrate_release_stored(&c->mm, addr, old);
    return pte_transition(&c->mm, addr, PTE_EV_IMPORT, arg, NULL) == 0;
}

static void note_placed(struct client *c, uint32_t i)
{
    struct uaddr addr = page_of(c->saved->doomed[i]);

    if (MUTANT(MUTANT_POISON_FORGOTTEN) || enter_poison(c, addr))
        doomed_drop(c, i);
    else
        set_flags(&c->saved->doomed[i], ASKED | PLACED);
}

static enum kres ask_for_poison(struct mm *mm, struct uaddr addr)
{
    uint64_t done;
    enum kres r = mm->ops->poison(mm->target, addr, PAGE_SIZE, &done);

    if (r == KRES_GONE) /* just moved away, its event not read yet?  Then it is RETRY now. */
        r = mm->ops->poison(mm->target, addr, PAGE_SIZE, &done);
    return r;
}

/* True when nothing more is to be done: the page is not in the list any more, or PLACED. */
static bool doomed_poison(struct client *c, uint32_t i)
{
    struct uaddr *doomed = &c->saved->doomed[i], addr = page_of(*doomed);
    uint64_t flags = doomed->v & ~PAGE_MASK;
    struct mm *mm = &c->mm;

    set_flags(doomed, flags | ASKED);
    enum kres r = ask_for_poison(mm, addr);
    CRASH_POINT();
    switch (r) {
    case KRES_DONE:
        note_placed(c, i);
        return true;
    case KRES_RACED: /* the program's own page, or poison: of an earlier worker, of a parent */
    case KRES_GONE:  /* unmapped, or not ours any more */
        (void)mm->ops->wake(mm->target, (struct urange){addr, PAGE_SIZE});
        if (r == KRES_RACED && flags & ASKED)
            note_placed(c, i);
        else
            doomed_drop(c, i);
        return true;
    case KRES_DEAD:
        mm->dead = true;
        return true;
    case KRES_RETRY:
    case KRES_FATAL:
        break;
    }
    set_flags(doomed, flags);
    return false;
}

enum fault_outcome client_doomed_answer(struct client *c, struct uaddr addr)
{
    uint32_t i = doomed_find(c, addr);

    if (i < c->saved->nr_doomed)
        return doomed_poison(c, i) ? FAULT_ANSWERED : FAULT_PARKED;
    /* One of an overflow. */
    switch (ask_for_poison(&c->mm, addr)) {
    case KRES_RACED:
    case KRES_GONE:
        (void)c->mm.ops->wake(c->mm.target, (struct urange){addr, PAGE_SIZE});
        return FAULT_ANSWERED;
    case KRES_DONE:
        (void)enter_poison(c, addr);
        return FAULT_ANSWERED;
    case KRES_DEAD:
        return FAULT_DEAD;
    case KRES_RETRY:
    case KRES_FATAL:
        break;
    }
    return FAULT_PARKED;
}

bool client_doomed_settle(struct client *c)
{
    bool all = true;

    for (uint32_t i = c->saved->nr_doomed; i-- > 0 && !c->mm.dead;)
        if (!(c->saved->doomed[i].v & PLACED))
            all &= doomed_poison(c, i);
    /* Of an overflow nobody knows the pages: such a client is served to its end. */
    return all && !c->saved->doomed_overflow;
}
