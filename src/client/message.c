/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's messages, and what they do to tables and areas.
 *
 * They are applied in the order read, but for calls of several threads: a batch is whole
 * (client.h), so a REMAP whose target somebody left is applied behind that.  How far each
 * was applied is noted in the client's record, for a successor of this worker (recover.c).
 */
#include <string.h>

#include "client/client_priv.h"
#include "fault/fault.h"
#include "migrate/migrate.h"

struct batch {
    const struct kuffd_msg *msg;
    uint32_t nr;
    uint32_t place; /* in the order of application, of the last one */
    bool done[CLIENT_MAX_UPCALLS];
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
 * An mremap sends REMAP, and after that one is read UNMAP for the old place (and
 * before it for a cut-off tail).  In between another thread's mremap may have
 * taken that place, and its REMAP be read first.  What came so is spared by the
 * late UNMAP.  When a page was filled or captured no change is under way, hence
 * no such UNMAP still to come: the moves are forgotten.
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

/* Is this the UNMAP of the old place, or of the tail?  Each comes once at most, the tail's first. */
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

/*
 * The page came by a move, and an UNMAP read after it covers it: one of what was there
 * before, or the program's own?  The tail of a move is known by its start only, as its
 * length is in no message.  When no message that is still to be applied has to do with
 * the page, what the batch ends with tells: where nothing is registered, nothing is left.
 * *ret_stop is where another message begins or ends: up to there it is the same for all.
 */
static bool is_still_there(struct client *c, const struct batch *b, uint64_t page,
                           uint64_t *ret_stop)
{
    bool touched = false;

    for (uint32_t i = 0; i < b->nr; i++) {
        const struct kuffd_msg *m = &b->msg[i];
        if (b->done[i] || (m->type != KUFFD_UNMAP && m->type != KUFFD_REMAP))
            continue;
        struct urange r[2] = {m->range};
        if (m->type == KUFFD_REMAP) {
            r[0] = (struct urange){m->from, m->len};
            r[1] = (struct urange){m->to, m->len};
        }
        for (uint32_t k = 0; k < ARRAY_SIZE(r); k++) {
            uint64_t start = r[k].start.v, end = urange_end(r[k]);
            if (start > page)
                *ret_stop = MIN(*ret_stop, start);
            else if (end > page)
                *ret_stop = MIN(*ret_stop, end);
            touched |= start <= page && end > page;
        }
    }
    if (touched || !c->mm.ops->is_registered)
        return true;
    return c->mm.ops->is_registered(c->mm.target, uaddr(page)) != KRES_GONE;
}

/* [start, end) came by a move behind the one that this UNMAP seems to belong to. */
static void spare(struct client *c, const struct batch *b, uint64_t start, uint64_t end)
{
    while (start < end) {
        uint64_t stop = end;
        if (!is_still_there(c, b, start, &stop))
            unmap_part(c, start, stop);
        start = stop;
    }
}

static void client_unmapped(struct client *c, const struct batch *b, struct urange r)
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
        spare(c, b, spared, behind);
        at = behind;
    }
}

static void msg_step(struct client *c, const struct batch *b, uint32_t i, enum msg_state state)
{
    uint32_t place = state == MSG_BEGUN ? b->place : saved_msg_place(c->saved, i);

    saved_set(&c->saved->step[i], place << MSG_STEP_BITS | state);
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

    if (saved_msg_state(c->saved, i) == MSG_BEGUN || MUTANT(MUTANT_REMAP_REPEATED)) {
        client_forget(c, to.v, to.v + len);
        msg_step(c, b, i, MSG_MOVING);
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
    note_move(c, from, to, len);
}

/* A child that an earlier worker had begun to make from this message. */
static struct client *unfinished_child(const struct client *c)
{
    struct client *child;

    list_for_each_entry(child, &c->domain->clients, link)
        if (child->saved->parent == saved_number(c->domain, c->saved))
            return child;
    return NULL;
}

/* The message is DONE before the child counts as complete: recovery tells by it. */
static void apply_fork(struct client *c, const struct batch *b, uint32_t i)
{
    struct domain *d = c->domain;
    struct client *child = unfinished_child(c);

    c->mm.count->forks++;
    if (!child) {
        d->forking = c;
        child = d->fork(c, b->msg[i].fd);
        d->forking = NULL;
    }
    if (!child) {
        log_error("a forked child cannot be served: out of memory");
        return;
    }
    client_fork_tables(c, child);
    if (d->forked)
        d->forked(c, child);
    msg_step(c, b, i, MSG_DONE);
    saved_set(&child->saved->parent, 0);
}

/*
 * Each thread sends its message when its call has let go of the address space
 * already.  So one that took a place over by mremap may be heard before the one that
 * left it; all of them are in the batch (client.h), and who left goes first.
 */
static bool leaves(const struct kuffd_msg *m, uint64_t start, uint64_t end)
{
    if (m->type == KUFFD_UNMAP)
        return m->range.start.v < end && urange_end(m->range) > start;
    return m->type == KUFFD_REMAP && m->from.v < end && m->from.v + m->len > start;
}

static bool is_taken(const struct client *c, uint64_t start, uint64_t end)
{
    const struct mm *mm = &c->mm;

    for (uint32_t i = 0; i < c->nr_unentered; i++)
        if (c->unentered[i].start.v < end && urange_end(c->unentered[i]) > start)
            return true;
    for (uint32_t i = 0; i < mm->nr_areas; i++)
        if (mm->areas[i].start < end && mm->areas[i].end > start)
            return true;
    for (struct uaddr at = uaddr(start); pte_next_mapped(mm, &at, end); at.v += PAGE_SIZE)
        if (pte_tag(pte_get(mm, at)) != PTE_NONE)
            return true;
    return false;
}

static void apply(struct client *c, struct batch *b, uint32_t i);

/* Does nobody else of the batch take the place over?  Then what is there at the end tells. */
static bool is_only_taker(const struct batch *b, uint32_t i)
{
    const struct kuffd_msg *m = &b->msg[i];

    for (uint32_t k = 0; k < b->nr; k++) {
        const struct kuffd_msg *o = &b->msg[k];
        if (k != i && o->type == KUFFD_REMAP && o->to.v < m->to.v + m->len &&
            o->to.v + o->len > m->to.v)
            return false;
    }
    return true;
}

/* Is this UNMAP one with which an mremap of this batch ends?  Of several that could be, all. */
static bool ends_a_move(const struct batch *b, uint32_t k)
{
    const struct kuffd_msg *m = &b->msg[k];

    if (m->type != KUFFD_UNMAP)
        return false;
    for (uint32_t i = 0; i < k; i++)
        if (b->msg[i].type == KUFFD_REMAP && b->msg[i].from.v == m->range.start.v &&
            b->msg[i].len == m->range.len)
            return true;
    return false;
}

/*
 * How often the page is still left, and which message is the first to say so (not that of
 * the REMAP at i).  Every one of them has its UNMAP, that of an mremap comes later than
 * its REMAP.  An mremap that does not unmap leaves the place to nobody.
 */
static void count_leaving(const struct batch *b, uint32_t i, uint64_t page, uint32_t *ret_nr,
                          uint32_t *ret_first)
{
    int nr = 0;

    *ret_first = b->nr;
    for (uint32_t k = b->nr; k-- > 0;) {
        if (k == i || !leaves(&b->msg[k], page, page + 1))
            continue;
        if (b->msg[k].type == KUFFD_REMAP) {
            if (keeps_old_place(b, k))
                continue;
            nr -= b->done[k];
        } else if (b->done[k]) {
            nr += ends_a_move(b, k);
            continue;
        } else {
            nr++;
        }
        if (!b->done[k] && !ends_a_move(b, k))
            *ret_first = k;
    }
    *ret_nr = (uint32_t)MAX(nr, 0);
}

/*
 * The message at k, read after the REMAP at i, says that somebody left the place that
 * the REMAP took: who did so before, or who took it later on?  The batch is whole, so when
 * nobody else takes the place in it, whether it is registered now and how many leave it
 * tell.  The first leaves it.  Else: nobody did before when nothing was there, going by the
 * tables.  They may be wrong about it: what they have there is the mapping that the REMAP
 * brought, when that was registered anew before its message came; and they have nothing of
 * one that grew in place, or that was registered and not entered.
 *
 * After MREMAP_DONTUNMAP the place is not free: who takes it has waited for that call's
 * end, which is behind the reading of its message.
 *
 * Not told by any of this: two that leave what one takes, when both are read behind that
 * one's last message and nothing is registered there at the end.  The first read is taken
 * for the first (sim --focus=moves --seed=85590 has it the other way round).
 */
static bool left_before(struct client *c, const struct batch *b, uint32_t i, uint32_t k)
{
    const struct kuffd_msg *m = &b->msg[i], *l = &b->msg[k];
    uint64_t page = MAX(l->type == KUFFD_UNMAP ? l->range.start.v : l->from.v, m->to.v);
    uint32_t first, nr;
    struct mm *mm = &c->mm;

    if (keeps_old_place(b, k))
        return false;
    if (mm->ops->is_registered && is_only_taker(b, i)) {
        count_leaving(b, i, page, &nr, &first);
        switch (mm->ops->is_registered(mm->target, uaddr(page))) {
        case KRES_DONE:
            return first == k;
        case KRES_GONE:
            return first == k && nr > 1;
        case KRES_RETRY:
        case KRES_RACED:
        case KRES_DEAD:
        case KRES_FATAL:
            break;
        }
    }
    return is_taken(c, m->to.v, m->to.v + m->len);
}

/*
 * All that left the place goes first.  Of what was read before, something is left only
 * when this REMAP is itself preferred; it is in its order.
 */
static void apply_who_left(struct client *c, struct batch *b, uint32_t i)
{
    const struct kuffd_msg *m = &b->msg[i];

    for (uint32_t k = 0; k < b->nr; k++)
        if (!b->done[k] && leaves(&b->msg[k], m->to.v, m->to.v + m->len) &&
            (k < i || left_before(c, b, i, k)))
            apply(c, b, k);
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
        client_unmapped(c, b, m->range);
        break;
    case KUFFD_REMAP:
        client_forget_unentered(c, m->from.v, m->from.v + m->len);
        client_forget_unentered(c, m->to.v, m->to.v + m->len);
        apply_remap(c, b, i);
        break;
    case KUFFD_FORK:
        apply_fork(c, b, i);
        break;
    }
    msg_step(c, b, i, MSG_DONE);
}

static void apply(struct client *c, struct batch *b, uint32_t i)
{
    b->done[i] = true;
    if (b->msg[i].type == KUFFD_REMAP && !MUTANT(MUTANT_WHO_LEFT_NOT_FIRST))
        apply_who_left(c, b, i);
    b->place++;
    msg_step(c, b, i, MSG_BEGUN);
    apply_begun(c, b, i);
}

/* What an earlier worker had applied of this batch; the one that it was at is completed. */
static void resume(struct client *c, struct batch *b)
{
    uint32_t next, begun = b->nr;

    do {
        next = b->nr;
        for (uint32_t i = 0; i < b->nr; i++)
            if (saved_msg_place(c->saved, i) == b->place + 1)
                next = i;
        if (next == b->nr)
            break;
        b->place++;
        b->done[next] = true;
        const struct kuffd_msg *m = &b->msg[next];
        if (saved_msg_state(c->saved, next) != MSG_DONE)
            begun = next;
        else if (m->type == KUFFD_REMAP)
            note_move(c, m->from, m->to, m->len);
        else if (m->type == KUFFD_UNMAP)
            for (uint32_t k = 0; k < c->nr_moves && !unmap_follows(&c->moves[k], m->range); k++)
                ;
    } while (true);
    if (begun < b->nr)
        apply_begun(c, b, begun);
}

void client_upcalls(struct client *c, const struct kuffd_msg *msgs, uint32_t nr, uint64_t now_ns)
{
    struct batch b = {.msg = msgs, .nr = nr, .now_ns = now_ns};
    bool resumed = false;

    BUG_ON(nr > CLIENT_MAX_UPCALLS);
    c->last_message_ns = now_ns;
    /* Rule 2 of the capture (DESIGN D3): none is under way while messages are read. */
    BUG_ON(migrate_is_capturing(&c->mm));
    for (uint32_t i = 0; i < nr && !resumed; i++)
        resumed = c->saved->step[i] != 0;
    if (resumed)
        resume(c, &b);
    for (uint32_t i = 0; i < nr; i++)
        if (!b.done[i])
            apply(c, &b, i);
    /* A whole batch holds the UNMAPs of its moves: who unmaps such a place later means it. */
    if (nr < CLIENT_MAX_UPCALLS)
        c->nr_moves = 0;
    saved_wipe_batch(c->saved);
}
