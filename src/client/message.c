/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's messages, and what they do to tables and areas.
 *
 * They are applied in the order in which the changes were made (order.c), which is mostly
 * that in which they are read.  How far each was applied is noted in the client's
 * record, for a successor of this worker (recover.c).
 */
#include <string.h>

#include "client/client_priv.h"
#include "fault/fault.h"
#include "migrate/migrate.h"

struct batch {
    const struct kuffd_msg *msg;
    uint32_t nr;
    uint64_t now_ns;
};

static void park(struct client *c, struct uaddr addr, bool write, uint64_t now_ns)
{
    addr = uaddr_page(addr);
    for (uint32_t i = 0; i < c->nr_parked; i++) {
        if (c->parked[i].addr.v == addr.v) { /* doubled messages are normal */
            c->parked[i].write |= write;
            return;
        }
    }
    if (c->nr_parked == CLIENT_MAX_PARKED) {
        /* No room to remember it: its thread looks again and is posted again. */
        (void)c->mm.ops->wake(c->mm.target, (struct urange){addr, PAGE_SIZE});
        return;
    }
    c->parked[c->nr_parked++] = (struct parked_fault){addr, now_ns, write};
}

/*
 * A batch that is full need not be whole: an mremap's REMAP may be in it, and the UNMAP for
 * its old place (or for a tail that it cut off) in the next.  In between another thread's
 * mremap may have taken that place; what came so is spared by the late UNMAP.  When a page
 * was filled or captured no change is under way, hence no such UNMAP still to come: the
 * moves are forgotten.
 */
static void note_move(struct client *c, struct uaddr from, struct uaddr to, uint64_t len)
{
    if (c->nr_moves == CLIENT_MAX_MOVES)
        memmove(c->moves, c->moves + 1, --c->nr_moves * sizeof(*c->moves));
    c->moves[c->nr_moves++] = (struct client_move){.from = from, .to = to, .len = len};
}

static void unmap_part(struct client *c, uint64_t start, uint64_t end)
{
    if (start >= end)
        return;
    client_forget(c, start, end);
    if (mm_area_remove(&c->mm, start, end) < 0)
        log_warning("no memory to cut an unmapped range out of its area");
}

/*
 * Is this the UNMAP of the old place, or of the tail?  Each comes once at most, the tail's first.
 */
static bool unmap_follows(struct client_move *m, struct urange r)
{
    if (m->old_came)
        return false;
    if (m->from.v == r.start.v && m->len == r.len)
        return m->old_came = true;
    if (m->tail_came || m->from.v + m->len != r.start.v)
        return false;
    return m->tail_came = true;
}

static void client_unmapped(struct client *c, struct urange r)
{
    uint64_t at = r.start.v, end = urange_end(r);
    uint32_t first = 0;

    while (first < c->nr_moves && !unmap_follows(&c->moves[first], r))
        first++;
    while (at < end) {
        uint64_t spared = end, behind = end;
        for (uint32_t i = first + 1; i < c->nr_moves; i++) {
            uint64_t start = MAX(c->moves[i].to.v, at);
            uint64_t stop = MIN(c->moves[i].to.v + c->moves[i].len, end);
            if (start < stop && start < spared) {
                spared = start;
                behind = stop;
            }
        }
        unmap_part(c, at, spared);
        at = behind;
    }
}

static void msg_step(struct client *c, uint32_t i, enum msg_state state)
{
    saved_set(&c->saved->step[i], saved_msg_place(c->saved, i) << MSG_STEP_BITS | state);
}

/*
 * An mremap with MREMAP_DONTUNMAP: the old place stays registered.  Else its UNMAP is in
 * the batch, or it comes with the next, when this one was not whole.
 */
static bool keeps_old_place(const struct batch *b, uint32_t k)
{
    const struct kuffd_msg *m = &b->msg[k];

    if (m->type != KUFFD_REMAP)
        return false;
    for (uint32_t i = k + 1; i < b->nr; i++)
        if (b->msg[i].type == KUFFD_UNMAP && b->msg[i].range.start.v == m->from.v &&
            b->msg[i].range.len == m->len)
            return false;
    return true;
}

/*
 * Moves entries and areas of [from, from + len) to `to`; the registration moved with the
 * mapping.  Order of stores: nothing is at `to` any more; the message is MOVING; entry
 * by entry, first at the new place.
 */
static void apply_remap(struct client *c, const struct batch *b, uint32_t i)
{
    struct uaddr from = b->msg[i].from, to = b->msg[i].to;
    uint64_t len = b->msg[i].len;
    struct mm *mm = &c->mm;
    struct uaddr at = from;
    uint64_t end = from.v + len;
    pte_t old;

    if (client_doubt(c).len) /* it may go along: before any entry does */
        client_doubt_too(c, urange(0, UINT64_MAX & PAGE_MASK));
    if (saved_msg_state(c->saved, i) == MSG_BEGUN || MUTANT(MUTANT_REMAP_REPEATED)) {
        client_forget(c, to.v, to.v + len);
        msg_step(c, i, MSG_MOVING);
    }
    client_doomed_move(c, from, to, len);
    for (; pte_next_mapped(mm, &at, end); at.v += PAGE_SIZE) {
        struct uaddr dst = uaddr(at.v - from.v + to.v);
        pte_t pte = pte_get(mm, at);
        int r = pte_transition(mm, dst, PTE_EV_IMPORT, (struct pte_arg){.value = pte}, NULL);
        if (r == 0 && pte_holds_place(pte)) {
            node_ref_move(node_of(mm, pte), (struct pfn){pte_index(pte)},
                          (struct rmap_entry){mm->id, at}, (struct rmap_entry){mm->id, dst});
            BUG_ON(pte_transition(mm, at, PTE_EV_REMOVE, (struct pte_arg){0}, NULL) < 0);
            continue;
        }
        if (r == 0 && pte_tag(pte) == PTE_MIGRATING)
            migrate_moved(mm, at, dst);
        if (r < 0 && pte_tag(pte) != PTE_PRESENT && pte_tag(pte) != PTE_NONE) {
            /* No leaf for the new place: its bytes cannot be remembered. */
            if (pte_tag(pte) == PTE_POISON)
                client_doom_poisoned(c, dst);
            else
                client_doom(c, dst);
        }
        BUG_ON(pte_transition(mm, at, PTE_EV_REMOVE, (struct pte_arg){0}, &old) < 0);
        migrate_release_stored(mm, at, old);
    }
    mm_free_leaves(mm, from.v, end);
    if (!keeps_old_place(b, i))
        (void)mm_area_remove(mm, from.v, end);
    if (mm_area_add(mm, to.v, to.v + len) < 0)
        log_warning("no memory to note a moved mapping; its pages are served one by one");
}

/* A child that an earlier worker had begun to make from this message. */
static struct client *unfinished_child(const struct client *c)
{
    struct client *child;

    list_for_each_entry (child, &c->domain->clients, link)
        if (child->saved->parent == saved_number(c->domain, c->saved))
            return child;
    return NULL;
}

/* Of what several threads have moved through one place nobody can tell what is where. */
static void lose_all(struct client *c, const struct urange *range, uint32_t nr)
{
    for (uint32_t i = 0; i < nr; i++)
        client_lose(c, range[i].start.v, urange_end(range[i]), &c->mm.count->order_lost);
}

/* See struct client_lost.  A successor does it again, of what was moved meanwhile too. */
static void forget_zeros(struct client *c, const struct client_lost *lost)
{
    /* Without an entry it would be one of those that nobody can tell of. */
    if (c->saved->doomed_overflow)
        return;
    for (uint32_t i = 0; i < lost->nr_zeros; i++) {
        struct uaddr at = lost->zeros[i].start;
        for (; pte_next_mapped(&c->mm, &at, urange_end(lost->zeros[i])); at.v += PAGE_SIZE)
            if (pte_tag(pte_get(&c->mm, at)) == PTE_ZERO)
                BUG_ON(pte_transition(&c->mm, at, PTE_EV_REMOVE, (struct pte_arg){0}, NULL) < 0);
    }
}

/* What the batch says that has left its place after message `fork`; returns how many. */
static uint32_t left_since(const struct client *c, const struct batch *b, uint32_t fork,
                           struct urange left[CLIENT_MAX_UPCALLS])
{
    uint32_t nr = 0;

    for (uint32_t i = 0; i < b->nr; i++) {
        const struct kuffd_msg *m = &b->msg[i];
        if (saved_msg_place(c->saved, i) < saved_msg_place(c->saved, fork))
            continue;
        if (m->type == KUFFD_UNMAP)
            left[nr++] = m->range;
        else if (m->type == KUFFD_REMAP)
            left[nr++] = (struct urange){m->from, m->len};
    }
    return nr;
}

/* The message is DONE before the child counts as complete: recovery tells by it. */
static void apply_fork(struct client *c, const struct batch *b, uint32_t i)
{
    struct domain *d = c->domain;
    struct client *child = unfinished_child(c);
    struct urange left[CLIENT_MAX_UPCALLS];

    c->mm.count->forks++;
    if (!child) {
        d->forking = c;
        child = d->fork(c, b->msg[i].fd);
        d->forking = NULL;
    }
    if (!child)
        return;
    client_fork_tables(c, child, left, left_since(c, b, i, left));
    lose_all(child, c->saved->lost.forks, c->saved->lost.nr_forks);
    msg_step(c, i, MSG_DONE);
    saved_set(&child->saved->parent, 0);
}

static void apply_begun(struct client *c, struct batch *b, uint32_t i)
{
    const struct kuffd_msg *m = &b->msg[i];

    switch (m->type) {
    case KUFFD_FAULT:
        park(c, m->addr, m->write, b->now_ns);
        break;
    case KUFFD_REMOVE:
        client_forget_unentered(c, m->range.start.v, urange_end(m->range));
        client_forget(c, m->range.start.v, urange_end(m->range));
        client_note_removed(c, m->range);
        break;
    case KUFFD_UNMAP:
        client_forget_unentered(c, m->range.start.v, urange_end(m->range));
        client_forget_late(c, m->range.start.v, urange_end(m->range));
        client_unmapped(c, m->range);
        break;
    case KUFFD_REMAP:
        client_forget_unentered(c, m->from.v, m->from.v + m->len);
        client_forget_unentered(c, m->to.v, m->to.v + m->len);
        client_forget_late(c, m->from.v, m->from.v + m->len);
        client_forget_late(c, m->to.v, m->to.v + m->len);
        apply_remap(c, b, i);
        break;
    case KUFFD_FORK:
        apply_fork(c, b, i);
        break;
    case KUFFD_VOID:
        break;
    }
    msg_step(c, i, MSG_DONE);
}

/* In which order: noted before anything is applied, for a successor does not ask again. */
static bool decide(struct client *c, const struct kuffd_msg *msgs, uint32_t nr, bool is_whole)
{
    struct client_saved *saved = c->saved;
    uint32_t seq[CLIENT_MAX_UPCALLS];

    if (!order_batch(c, msgs, nr, is_whole, seq, &saved->lost))
        return false;
    for (uint32_t place = 0; place < nr; place++)
        saved_set(&saved->step[seq[place]], (place + 1) << MSG_STEP_BITS | MSG_NEW);
    saved_set(&saved->ordered, 1);
    return true;
}

bool client_order(struct client *c, const struct kuffd_msg *msgs, uint32_t nr)
{
    return decide(c, msgs, nr, nr < CLIENT_MAX_UPCALLS);
}

/* The one that an earlier worker was at is completed. */
static void apply(struct client *c, struct batch *b, uint32_t i)
{
    if (saved_msg_state(c->saved, i) == MSG_DONE)
        return;
    if (saved_msg_state(c->saved, i) == MSG_NEW)
        msg_step(c, i, MSG_BEGUN);
    apply_begun(c, b, i);
}

static void note_moves(struct client *c, const struct batch *b, const uint32_t *seq)
{
    for (uint32_t place = 0; place < b->nr; place++) {
        const struct kuffd_msg *m = &b->msg[seq[place]];
        if (m->type == KUFFD_REMAP)
            note_move(c, m->from, m->to, m->len);
        else if (m->type == KUFFD_UNMAP)
            for (uint32_t k = 0; k < c->nr_moves && !unmap_follows(&c->moves[k], m->range); k++)
                ;
    }
}

void client_void_own(struct client *c, struct kuffd_msg *msgs, uint32_t first, uint32_t nr)
{
    for (uint32_t i = first; i < first + nr; i++) {
        if (msgs[i].type != KUFFD_REMAP ||
            msgs[i].to.v - c->remap_stage.start.v >= c->remap_stage.len ||
            MUTANT(MUTANT_OWN_MOVE_APPLIED))
            continue;
        msgs[i].type = KUFFD_VOID;
        kuffd_void(c->saved->raw[i]);
        CRASH_POINT();
    }
}

void client_upcalls(struct client *c, const struct kuffd_msg *msgs, uint32_t nr, uint64_t now_ns)
{
    struct batch b = {.msg = msgs, .nr = nr, .now_ns = now_ns};
    struct client_saved *saved = c->saved;
    uint32_t seq[CLIENT_MAX_UPCALLS];

    BUG_ON(nr > CLIENT_MAX_UPCALLS);
    c->last_message_ns = now_ns;
    /* Rule 2 of the capture (DESIGN D3): none is under way while messages are read. */
    BUG_ON(migrate_is_capturing(&c->mm));
    if (!saved->ordered)
        (void)decide(c, msgs, nr, false);
    for (uint32_t i = 0; i < nr; i++)
        seq[saved_msg_place(saved, i) - 1] = i;
    forget_zeros(c, &saved->lost);
    for (uint32_t place = 0; place < nr; place++)
        apply(c, &b, seq[place]);
    lose_all(c, saved->lost.range, saved->lost.nr);
    if (saved->lost.nr || saved->lost.nr_forks)
        log_error("several threads moved mappings through one place, and it cannot be told what "
                  "is where: those pages are poisoned");
    /* A whole batch holds the UNMAPs of its moves: who unmaps such a place later means it. */
    if (nr < CLIENT_MAX_UPCALLS)
        c->nr_moves = 0;
    else
        note_moves(c, &b, seq);
    c->reregistered.len = 0;
    saved_wipe_batch(saved);
}
