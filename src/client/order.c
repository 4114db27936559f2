/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In which order the changes of a batch were made.
 *
 * Each thread sends its message when its call has let go of the address space already,
 * so those of several threads may be read in another order than the changes were made, and
 * nothing in them says by whom.  What is known:
 *
 *  1. What leaves a place by munmap or mremap was registered there.  A call that takes a
 *     place over sends an UNMAP first where something registered is.
 *  2. What came to a place is left alone until the call that brought it has returned: who
 *     does something to it is read behind the last message of that call; and so is whoever
 *     comes after that, while every change was made before its own message was read.
 *  3. An mremap sends UNMAP for its old place after the REMAP; without it the place is kept.
 *  4. A fork is read in its order.
 *  5. Where something is registered at the end, when the batch is whole: the kernel says.
 *  6. A mapping may have grown in place without a message, which is believed only where
 *     nothing else fits; or been registered by us just before (client::unentered).
 *
 * Every order that fits is tried (depth first, the order read first, of two neighbours
 * that have nothing to do with each other only one way round).  When they differ about
 * where stored bytes are, nobody can tell, and those pages are lost: poison, rather than
 * another page's bytes.  Of a program that never had a second thread the order read is right.
 *
 * Only changes that have places in common with a move are looked at; mostly there are none.
 */
#include <errno.h>
#include <string.h>

#include "client/order_priv.h"

static struct {
    struct change all[CLIENT_MAX_UPCALLS];
    uint32_t nr_all;
} batch;

static uint32_t collect(const struct kuffd_msg *msg, uint32_t nr)
{
    uint32_t epoch = 0;

    batch.nr_all = 0;
    for (uint32_t i = 0; i < nr; i++) {
        struct change x = {.r = msg[i].range,
                           .type = msg[i].type,
                           .msg = i,
                           .known = i + 1,
                           .epoch = epoch,
                           .end = NO_CHANGE,
                           .set = NO_CHANGE};
        epoch += x.type == KUFFD_FORK;
        if (x.type == KUFFD_FAULT || x.type == KUFFD_FORK || x.type == KUFFD_VOID)
            continue;
        if (x.type == KUFFD_REMAP) {
            x.r = (struct urange){msg[i].from, msg[i].len};
            x.to = msg[i].to.v;
        }
        batch.all[batch.nr_all++] = x;
    }
    return epoch;
}

/* As if each read first ends with what is read first. */
static void find_ends(void)
{
    for (uint32_t i = 0; i < batch.nr_all; i++) {
        struct change *x = &batch.all[i];
        bool first = true;
        if (x->type != KUFFD_REMAP)
            continue;
        for (uint32_t k = i + 1; k < batch.nr_all && x->end == NO_CHANGE; k++) {
            if (!change_ends(x, &batch.all[k]))
                continue;
            if (first)
                x->known = batch.all[k].msg + 1; /* or a later one */
            first = false;
            if (batch.all[k].is_end)
                continue;
            batch.all[k].is_end = true;
            x->end = k;
        }
    }
}

/* Everything that x has to do with, by way of others too. */
static void mark_set(uint32_t set, uint32_t x)
{
    uint32_t todo[CLIENT_MAX_UPCALLS], nr = 0;

    batch.all[x].set = set;
    todo[nr++] = x;
    while (nr) {
        const struct change *a = &batch.all[todo[--nr]];
        for (uint32_t i = 0; i < batch.nr_all; i++)
            if (batch.all[i].set == NO_CHANGE && changes_meet(a, &batch.all[i])) {
                batch.all[i].set = set;
                todo[nr++] = i;
            }
    }
}

/* An mremap and nothing else. */
static bool is_plain(const struct order_search *s)
{
    return s->nr < 2 ||
           (s->nr == 2 && s->ch[0]->type == KUFFD_REMAP && change_ends(s->ch[0], s->ch[1]));
}

/*
 * The changes of one set, in the order in which they are to be made: pick[] says who comes in
 * whose place.  False: a change has begun.
 */
static bool order_set(struct order_search *s, uint32_t set, uint32_t *pick)
{
    uint32_t at[ORDER_MAX_CHANGES];
    struct change *all = batch.all;

    s->nr = 0;
    for (uint32_t i = 0; i < batch.nr_all; i++) {
        if (all[i].set != set)
            continue;
        if (s->nr == ORDER_MAX_CHANGES) {
            log_debug("more changes have to do with each other than can be looked at");
            return true; /* in the order read */
        }
        at[s->nr] = i;
        s->ch[s->nr++] = &all[i];
    }
    if (is_plain(s) || MUTANT(MUTANT_WHO_LEFT_NOT_FIRST))
        return true;
    int r = order_search(s);
    if (r == -EAGAIN)
        return false;
    if (r < 0) {
        log_debug("the order of %u changes cannot be told", s->nr);
        return true;
    }
    for (uint32_t i = 0; i < s->nr; i++) {
        all[at[i]].end = NO_CHANGE;
        all[at[i]].is_end = false;
    }
    for (uint32_t i = 0; i < s->nr_steps; i++)
        if (s->step[i].end != NO_CHANGE) {
            all[at[s->step[i].change]].end = at[s->step[i].end];
            all[at[s->step[i].end]].is_end = true;
        }
    for (uint32_t i = 0, slot = 0; i < s->nr_steps; i++, slot++) {
        while (all[at[slot]].is_end)
            slot++;
        pick[at[slot]] = at[s->step[i].change];
    }
    return true;
}

/* Then the order read is the one in which they were made. */
static bool has_one_thread(const struct client *c)
{
    const struct mm *mm = &c->mm;

    return mm->ops->has_one_thread && mm->ops->has_one_thread(mm->target);
}

bool order_batch(struct client *c, const struct kuffd_msg *msg, uint32_t nr, bool is_whole,
                 uint32_t seq[CLIENT_MAX_UPCALLS], struct client_lost *ret_lost)
{
    static struct order_search search;
    uint32_t pick[CLIENT_MAX_UPCALLS], nr_sets = 0, at = 0, next = 0;

    search = (struct order_search){.c = c, .lost = ret_lost};
    search.asks = is_whole && c->mm.ops->is_registered;
    search.has_fork = collect(msg, nr);
    *ret_lost = (struct client_lost){0};
    if (batch.nr_all > 2 && has_one_thread(c)) {
        for (uint32_t i = 0; i < nr; i++)
            seq[i] = i;
        return true;
    }
    find_ends();
    for (uint32_t i = 0; i < batch.nr_all; i++)
        pick[i] = i;
    for (uint32_t i = 0; i < batch.nr_all; i++)
        if (batch.all[i].type == KUFFD_REMAP && batch.all[i].set == NO_CHANGE)
            mark_set(nr_sets++, i);
    for (uint32_t i = 0; i < nr_sets; i++)
        if (!order_set(&search, i, pick))
            return false;
    for (uint32_t i = 0; i < nr; i++) {
        if (next == batch.nr_all || batch.all[next].msg != i) {
            seq[at++] = i;
            continue;
        }
        if (batch.all[next].is_end) { /* behind its REMAP */
            next++;
            continue;
        }
        const struct change *x = &batch.all[pick[next++]];
        seq[at++] = x->msg;
        if (x->end != NO_CHANGE)
            seq[at++] = batch.all[x->end].msg;
    }
    BUG_ON(at != nr);
    return true;
}
