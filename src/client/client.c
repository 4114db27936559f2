/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One address space: adoption, messages, answers, end.
 *
 * Rules, each learned from the kernel (docs/architecture.md says where):
 *  1. Messages are applied in the order read; all of them before any answer,
 *     because a fault can overtake the remove that preceded it.
 *  2. A REMOVE or UNMAP makes entries NONE at once, whatever is in flight.
 *  3. A page seen present in a range whose REMOVE was read is not entered: the
 *     kernel may be about to drop it, and what is captured then would come back.
 *  4. A REGISTER only after every event was applied.
 */
#include <string.h>

#include "client/client_priv.h"
#include "fault/fault.h"
#include "migrate/migrate.h"

int client_set_up(struct client *c, struct domain *d, const struct target_ops *ops, void *target)
{
    c->domain = d;
    list_init(&c->relatives);
    c->mm.ops = ops;
    c->mm.target = target;
    c->mm.ids = &d->ids;
    c->mm.ram = &d->ram;
    c->mm.file = domain_has_file(d) ? &d->file : NULL;
    c->mm.writeback = d->writeback;
    c->mm.swapin = d->swapin;
    c->note_cursor = UINT64_MAX;
    c->late_ns = ops->now_ns(target); /* of what an earlier worker has heard */
    return migrate_op_init(&c->mm);
}

int client_init(struct client *c, struct domain *d, struct group *g, const struct target_ops *ops,
                void *target)
{
    struct client_saved *saved = saved_new(d);
    int id = saved ? mm_ids_take(&d->ids, &c->mm) : -ENOSPC;

    if (id < 0)
        return id;
    int r = client_set_up(c, d, ops, target);
    if (r == 0) {
        r = mm_tables_init(&c->mm, d->pt, (uint32_t)id);
        if (r < 0)
            migrate_op_free(&c->mm);
    }
    if (r < 0) {
        mm_ids_release(&d->ids, (uint32_t)id);
        return r;
    }
    c->saved = saved;
    c->mm.area_store = &saved->areas;
    c->mm.saved_fill = &saved->fill;
    saved->cookie = c->cookie;
    saved->parent = d->forking ? saved_number(d, d->forking->saved) : 0;
    saved_set(&saved->mm, c->mm.id); /* last: a record that has a number is whole */
    group_join(g, c);
    list_add_tail(&c->link, &d->clients);
    return 0;
}

void client_fini(struct client *c)
{
    struct client_saved *saved = c->saved;

    client_forget(c, 0, UINT64_MAX);
    client_part(c);
    migrate_op_free(&c->mm);
    mm_tables_free(&c->mm);
    mm_ids_release(&c->domain->ids, c->mm.id);
    swapin_reap(c->mm.swapin);
    list_del(&c->link);
    group_leave(c);
    saved_set(&saved->mm, 0); /* last: nothing has its number any more */
}

static void forget_entries(struct client *c, uint64_t start, uint64_t end)
{
    struct uaddr at = uaddr(start);
    pte_t old;

    for (; pte_next_mapped(&c->mm, &at, end); at.v += PAGE_SIZE) {
        if (MUTANT(MUTANT_REMOVE_SPARES_MIGRATING) && end != UINT64_MAX &&
            pte_tag(pte_get(&c->mm, at)) == PTE_MIGRATING)
            continue;
        BUG_ON(pte_transition(&c->mm, at, PTE_EV_REMOVE, (struct pte_arg){0}, &old) < 0);
        migrate_release_stored(&c->mm, at, old);
    }
    mm_free_leaves(&c->mm, start, end);
}

void client_forget(struct client *c, uint64_t start, uint64_t end)
{
    client_doomed_forget(c, start, end);
    forget_entries(c, start, end);
}

void client_lose(struct client *c, uint64_t start, uint64_t end, uint64_t *counter)
{
    for (uint64_t v = start; v < end && !c->saved->doomed_overflow; v += PAGE_SIZE) {
        if (client_is_doomed(c, uaddr(v)))
            continue;
        client_doom_told(c, uaddr(v));
        if (counter)
            (*counter)++;
    }
    forget_entries(c, start, end);
}

/* No thread waits for ever: a page that the kernel will not take fails closed. */
static void give_up(struct client *c, struct uaddr addr)
{
    static struct log_ratelimit often;

    if (log_ratelimit(&often))
        log_error("pid %d: the kernel refused to fill the page at %#llx for a second, and not for "
                  "want of memory: it is poisoned, and a touch of it is SIGBUS.  See the kernel's "
                  "log",
                  c->mm.pid, (unsigned long long)addr.v);
    client_lose(c, addr.v, addr.v + PAGE_SIZE, NULL);
}

/* ---- adoption ---- */

#define SCAN_RUNS 64

static bool is_changing(const struct mm *mm)
{
    return mm->ops->is_changing && mm->ops->is_changing(mm->target) &&
           !MUTANT(MUTANT_ADOPTED_WHILE_CHANGING);
}

/* All of r is among what we registered and did not enter. */
static bool is_unentered(const struct client *c, struct urange r)
{
    for (uint32_t i = 0; i < c->nr_unentered; i++)
        if (c->unentered[i].start.v <= r.start.v && urange_end(c->unentered[i]) >= urange_end(r))
            return true;
    return false;
}

static void note_unentered(struct client *c, struct urange r)
{
    if (is_unentered(c, r))
        return;
    if (c->nr_unentered == CLIENT_MAX_UNENTERED)
        memmove(c->unentered, c->unentered + 1, --c->nr_unentered * sizeof(*c->unentered));
    c->unentered[c->nr_unentered++] = r;
}

/* What was registered there may have gone already, and what came instead be registered by us. */
static void note_reregistered(struct client *c, struct urange r)
{
    struct urange *all = &c->reregistered;

    *all = all->len ? urange(MIN(all->start.v, r.start.v), MAX(urange_end(*all), urange_end(r)))
                    : r;
}

/* Something happened to [start, end): a page seen there may be one that is about to go. */
void client_forget_unentered(struct client *c, uint64_t start, uint64_t end)
{
    for (uint32_t i = c->nr_unentered; i-- > 0;)
        if (c->unentered[i].start.v < end && urange_end(c->unentered[i]) > start)
            c->unentered[i] = c->unentered[--c->nr_unentered];
}

/* A thread that was woken runs on within this time, or is never told from one that does not. */
#define LATE_NS 60000000000u

static void note_late(struct client *c, struct urange r)
{
    struct client_saved *saved = c->saved;

    c->late_ns = c->mm.ops->now_ns(c->mm.target);
    if (saved->nr_late < CLIENT_MAX_LATE) {
        saved->late[saved->nr_late] = r;
        saved_set(&saved->nr_late, saved->nr_late + 1);
        return;
    }
    /*
     * One that covers what there is no room for: more is left alone than need be.  The length
     * first: what it was before is covered by either.
     */
    struct urange *last = &saved->late[CLIENT_MAX_LATE - 1];
    uint64_t start = MIN(last->start.v, r.start.v);
    last->len = MAX(urange_end(*last), urange_end(r)) - start;
    atomic_signal_fence(memory_order_release);
    CRASH_POINT();
    last->start = uaddr(start);
}

/*
 * The kernel drops the pages of a madvise some time after its message was read.  As long as they
 * are registered nothing is entered there but what is filled after that.
 */
void client_note_removed(struct client *c, struct urange r)
{
    const struct area *a;
    uint64_t at = r.start.v, end = urange_end(r);

    for (; at < end; at = MIN(end, mm_area_next_start(&c->mm, at))) {
        while (at < end && (a = mm_area_find(&c->mm, at)))
            at = a->end;
        if (at < end)
            note_late(c, urange(at, MIN(end, mm_area_next_start(&c->mm, at))));
    }
}

/* What stands there was mapped later.  A worker that dies in it leaves more than need be. */
void client_forget_late(struct client *c, uint64_t start, uint64_t end)
{
    struct client_saved *saved = c->saved;

    for (uint32_t i = saved->nr_late; i-- > 0;) {
        struct urange *l = &saved->late[i];
        uint64_t l_end = urange_end(*l);
        if (l->start.v >= start && l_end <= end) {
            *l = saved->late[saved->nr_late - 1];
            saved_set(&saved->nr_late, saved->nr_late - 1);
        } else if (l->start.v >= start && l->start.v < end) {
            l->start = uaddr(end);
            atomic_signal_fence(memory_order_release);
            CRASH_POINT();
            l->len = l_end - end;
        } else if (l_end > start && l_end <= end) {
            l->len = start - l->start.v;
        }
    }
}

static bool is_late(const struct client_saved *saved, uint64_t v, uint32_t *ret_seen)
{
    for (uint32_t i = 0; i < saved->nr_late && !MUTANT(MUTANT_LATE_ENTERED); i++)
        if (v >= saved->late[i].start.v && v < urange_end(saved->late[i])) {
            *ret_seen |= 1u << i;
            return true;
        }
    return false;
}

/* Those within r of which no page was seen are gone now. */
static void forget_late(struct client_saved *saved, struct urange r, uint32_t seen)
{
    for (uint32_t i = saved->nr_late; i-- > 0;)
        if (!(seen & 1u << i) && saved->late[i].start.v >= r.start.v &&
            urange_end(saved->late[i]) <= urange_end(r)) {
            saved->late[i] = saved->late[saved->nr_late - 1];
            saved_set(&saved->nr_late, saved->nr_late - 1);
        }
}

static enum kres enter_present(struct client *c, struct urange r)
{
    struct mm *mm = &c->mm;
    struct scan_run runs[SCAN_RUNS];
    uint64_t end = urange_end(r);
    uint32_t late = 0;

    if (c->saved->nr_late && mm->ops->now_ns(mm->target) - c->late_ns > LATE_NS)
        saved_set(&c->saved->nr_late, 0);
    for (struct uaddr at = r.start; at.v < end;) {
        struct uaddr next = at;
        int nr = mm->ops->scan(mm->target, urange(at.v, end), runs, SCAN_RUNS, &next);
        if (nr < 0)
            return nr == -ESRCH ? KRES_DEAD : KRES_RETRY;
        for (int i = 0; i < nr; i++)
            for (uint64_t v = runs[i].r.start.v; v < urange_end(runs[i].r); v += PAGE_SIZE)
                if (v != c->tid_page.v && pte_tag(pte_get(mm, uaddr(v))) == PTE_NONE &&
                    !is_late(c->saved, v, &late))
                    (void)pte_transition(mm, uaddr(v), PTE_EV_ADOPT, (struct pte_arg){0}, NULL);
        BUG_ON(next.v <= at.v);
        at = next;
    }
    forget_late(c->saved, r, late);
    return KRES_DONE;
}

/*
 * Registering is not stopped by a change under way.  What stands at r may just have
 * been moved there, from a place that the tables still have it at; entered now, it
 * would be taken for something that was there before (order.c, rule 1).  So nothing
 * changes from before the registering until after it, or nothing is entered.
 */
enum kres client_adopt(struct client *c, struct urange r, bool scan)
{
    struct mm *mm = &c->mm;

    if (is_changing(mm))
        return KRES_RETRY;
    scan |= is_unentered(c, r);
    enum kres res = mm->ops->reg(mm->target, r);
    if (res == KRES_DONE && is_changing(mm))
        res = KRES_RETRY;
    if (res == KRES_DONE && mm_area_add(mm, r.start.v, urange_end(r)) < 0)
        res = KRES_RETRY;
    if (res == KRES_RETRY)
        note_reregistered(c, r);
    if (res == KRES_RETRY && scan)
        note_unentered(c, r);
    if (res != KRES_DONE)
        return res;
    client_forget_unentered(c, r.start.v, urange_end(r));
    return scan ? enter_present(c, r) : KRES_DONE;
}

/* ---- answers ---- */

/* A fault waits for room no longer than this, whatever is being tried to make some. */
#define ROOM_WAIT_NS 10000000u
/* What the kernel refuses is tried so long; nobody knows of a case. */
#define REFUSED_NS 1000000000u

/* A huge page is worth a short wait, while room for it is being made or the agent is busy. */
static bool waits_for_huge(const struct client *c, const struct parked_fault *f)
{
    const struct group *g = c->group;
    bool no_room = g->limit_bytes && g->resident_bytes > group_high_bytes(g) &&
                   !group_has_room(g, LEAF_SIZE);

    return (no_room || migrate_is_busy(&c->mm)) && fault_wants_huge(&c->mm, f->addr, f->write);
}

uint32_t client_answer(struct client *c)
{
    uint32_t kept = 0, waiting = 0;

    (void)client_doomed_settle(c);
    /* What is brought back into one that is never paged again is not kept. */
    c->mm.keeps_copies = c->has_agent && !c->leaving;
    for (uint32_t i = 0; i < c->nr_parked; i++) {
        struct parked_fault f = c->parked[i];
        struct group *g = c->group;
        uint32_t filled = 0;

        if (c->mm.dead)
            continue;
        if (client_is_doubtful(c, f.addr) && !MUTANT(MUTANT_DOUBT_ANSWERED)) {
            c->parked[kept++] = f;
            continue;
        }
        bool over = !group_has_room(g, PAGE_SIZE);
        bool above = g->limit_bytes && g->resident_bytes + PAGE_SIZE > g->limit_bytes;
        if ((over || waits_for_huge(c, &f)) && !g->stuck && (c->has_agent || c->awaits_agent) &&
            c->mm.ops->now_ns(c->mm.target) - f.since_ns < ROOM_WAIT_NS) {
            c->parked[kept++] = f;
            continue;
        }
        /* No window may reach over a page that is to be poisoned, or may be. */
        bool alone = over || c->saved->nr_doomed || c->saved->doomed_overflow ||
                     client_doubt(c).len;
        switch (client_is_doomed(c, f.addr)
                    ? client_doomed_answer(c, f.addr)
                    : fault_answer(&c->mm, f.addr, f.write, alone                          ? 1
                                  : group_has_room(g, LEAF_SIZE) ? PTES_PER_LEAF
                                                                 : FAULT_SHORT_WINDOW,
                                   &filled)) {
        case FAULT_ANSWERED:
            hist_add(&g->fault_latency, c->mm.ops->now_ns(c->mm.target) - f.since_ns);
            if (above)
                g->count.limit_overshoot++;
            break;
        case FAULT_WAITING:
            waiting++;
            c->parked[kept++] = f;
            break;
        case FAULT_REFUSED:
            if (c->mm.ops->now_ns(c->mm.target) - f.since_ns > REFUSED_NS)
                give_up(c, f.addr);
            c->parked[kept++] = f;
            break;
        case FAULT_PARKED:
            c->parked[kept++] = f;
            break;
        case FAULT_DEAD:
            c->mm.dead = true;
            break;
        }
        client_moved_pages(c, filled);
        if (filled)
            c->nr_moves = 0;
    }
    c->nr_parked = c->mm.dead ? 0 : kept;
    swapin_reap(c->mm.swapin); /* of pages that events have dropped */
    return c->mm.dead ? 0 : kept - waiting;
}

enum capture_result client_result_of_missing(const struct kuffd_msg *msgs, uint32_t nr)
{
    for (uint32_t i = 0; i < nr; i++)
        if (msgs[i].type == KUFFD_FORK)
            return CAPTURE_LOST;
    return CAPTURE_HOLE;
}

void client_captured(struct client *c, const uint8_t result[CAPTURE_MAX_PAGES])
{
    if (migrate_is_filling(&c->mm)) {
        client_moved_pages(c, migrate_filled(&c->mm, result));
        return;
    }
    uint32_t taken = migrate_captured(&c->mm, result);

    client_moved_pages(c, -(int64_t)taken);
    if (taken)
        c->nr_moves = 0;
}

uint32_t client_commit(struct client *c, uint32_t max)
{
    const struct counters *count = c->mm.count;
    uint64_t out = count->pgmigrate_success, back = count->migrate_aborted;
    uint32_t left = migrate_commit(&c->mm, max);

    c->moved_out += count->pgmigrate_success - out;
    client_moved_pages(c, (int64_t)(count->migrate_aborted - back));
    domain_writeback(c->domain, c->mm.ops->now_ns(c->mm.target));
    return left;
}

void client_commit_stored(struct client *c)
{
    uint64_t before = c->mm.count->pgmigrate_success;

    migrate_commit_stored(&c->mm);
    c->moved_out += c->mm.count->pgmigrate_success - before;
}

bool client_bring_back(struct client *c, uint32_t max)
{
    struct mm *mm = &c->mm;
    uint32_t filled = 0;

    if (mm->dead)
        return true;
    enum kres r = fault_bring_back(mm, &c->cursor, UINT64_MAX, max, &filled);
    if (r == KRES_GONE) {
        /*
         * The kernel asks whether something changes before it looks the mapping up, so
         * the page may have gone just now, its event not yet read: ask again.
         */
        uint32_t again = 0;
        r = fault_bring_back(mm, &c->cursor, c->cursor.v + PAGE_SIZE, 1, &again);
        filled += again;
        if (r == KRES_DONE)
            r = KRES_RETRY;
    }
    client_moved_pages(c, filled);
    if (filled)
        c->nr_moves = 0;
    switch (r) {
    case KRES_DONE:
        break;
    case KRES_DEAD:
        mm->dead = true;
        return true;
    case KRES_GONE:
        /*
         * An unread event would have said RETRY now, so the page's mapping is really not
         * there, or not registered: a child does not have what its parent keeps by
         * MADV_DONTFORK.
         */
        client_forget(c, c->cursor.v, c->cursor.v + PAGE_SIZE);
        c->cursor.v += PAGE_SIZE;
        return false;
    case KRES_RACED:
    case KRES_FATAL:
        c->cursor.v += PAGE_SIZE;
        return false;
    case KRES_RETRY:
        return false;
    }
    if (c->cursor.v != UINT64_MAX)
        return false;
    c->cursor.v = 0;
    return client_doomed_settle(c) && !mm->nr[PTE_ZERO] && !mm->nr[PTE_FRAME] &&
           !mm->nr[PTE_SWAPPED] && !mm->nr[PTE_MIGRATING] && fault_poison_all(mm);
}
