/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker takes up what another one left when it died, at whatever instruction.  The
 * state memory, the frames, the rings and the userfaultfds are as they were; all else is
 * made anew from them.
 *
 * What a death in between two stores leaves, and what becomes of it:
 *
 *  an entry MIGRATING, the capture not started     results were wiped before: not tried
 *  MIGRATING, captured, collected or not           the results are collected, again if need be
 *  a huge page being put there, collected or not   likewise: what was put there is entered
 *  a frame written, the entry still MIGRATING      the frame is free; the slot has the page
 *  a page filled, the entry still stored           noted later, when nothing changes
 *                                                  (client_note_filled); until then the
 *                                                  program's page is the one that counts
 *  a page taken back from its slot, not noted      as captured: stored, then as above
 *  a REMAP half done                               completed here, entry by entry
 *  a REMOVE or UNMAP half done                     done again with the batch
 *  a FORK half done                                the child's tables are emptied and made anew
 *  a message of the agent's own mremap() read    made nobody's by who takes it up
 *  messages read and not applied                   in the record, applied in the same order
 *  faults read and not answered                    posted again: waiting threads are woken
 *  a page to be poisoned                           in the record
 *  what a child may get is in doubt                likewise, widened before its entries are made,
 *                                                  ended after what it does not get is POISON
 *  pages that a madvise is yet to drop             likewise, not to be entered
 *  an address space given up half-way              given up again by the worker
 *
 * A stored entry over a present page is never harmful; a PRESENT entry over an absent one
 * reads zeros.  So an entry is made PRESENT only when the page was seen and no change
 * of the mappings is under way: a page seen could have come by an mremap not read yet,
 * while the entry's own page moved on.
 */
#include <string.h>

#include "client/client_priv.h"
#include "migrate/migrate.h"

/* ---- records ---- */

uint32_t saved_number(const struct domain *d, const struct client_saved *saved)
{
    return (uint32_t)(saved - d->saved) + 1;
}

struct client_saved *domain_next_saved(const struct domain *d, const struct client_saved *before)
{
    for (uint32_t i = before ? saved_number(d, before) : 0; i < d->nr_saved; i++)
        if (d->saved[i].mm)
            return &d->saved[i];
    return NULL;
}

struct client_saved *saved_new(struct domain *d)
{
    for (uint32_t i = 0; i < d->nr_saved; i++) {
        struct client_saved *saved = &d->saved[i];
        if (saved->mm)
            continue;
        memset(saved, 0, offsetof(struct client_saved, doomed));
        saved->nr_doomed = 0;
        saved->doomed_overflow = false;
        saved->areas.active = saved->areas.nr[0] = saved->areas.nr[1] = 0;
        return saved;
    }
    return NULL;
}

static uint32_t nr_messages(const struct client_saved *saved)
{
    static const uint8_t empty[KUFFD_RAW_BYTES];
    uint32_t nr = 0;

    while (nr < CLIENT_MAX_UPCALLS && memcmp(saved->raw[nr], empty, sizeof(empty)))
        nr++;
    return nr;
}

void saved_wipe_batch(struct client_saved *saved)
{
    uint32_t nr = 0;

    saved_set(&saved->batch_applied, 1);
    saved_set(&saved->ordered, 0);
    saved->lost.nr = saved->lost.nr_forks = saved->lost.nr_zeros = 0;
    while (nr < CLIENT_MAX_UPCALLS && saved->step[nr])
        nr++;
    while (nr-- > 0) { /* from the end: what is left is without holes */
        memset(saved->raw[nr], 0, sizeof(saved->raw[nr]));
        saved_set(&saved->step[nr], 0);
    }
    saved_set(&saved->batch_applied, 0);
}

uint32_t client_saved_messages(struct client *c, struct kuffd_msg *msgs)
{
    uint32_t nr = nr_messages(c->saved);

    if (nr && MUTANT(MUTANT_MESSAGE_DROPPED)) {
        memset(c->saved->raw, 0, sizeof(c->saved->raw));
        return 0;
    }
    for (uint32_t i = 0; i < nr; i++)
        BUG_ON(kuffd_decode(c->saved->raw[i], &msgs[i]) < 0);
    client_void_own(c, msgs, 0, nr);
    c->held = nr != 0;
    return nr;
}

void client_finish_batch(struct client *c, uint64_t now_ns)
{
    struct kuffd_msg msgs[CLIENT_MAX_UPCALLS];

    if (!c->saved->ordered || MUTANT(MUTANT_CHILD_SERVED_UNFINISHED))
        return;
    client_upcalls(c, msgs, client_saved_messages(c, msgs), now_ns);
    c->held = false;
}

/* ---- half-applied messages ---- */

/* The message that the dead worker was at, or -1. */
static int begun_message(const struct client_saved *saved)
{
    for (uint32_t i = 0; i < CLIENT_MAX_UPCALLS; i++)
        if (saved_msg_state(saved, i) == MSG_BEGUN || saved_msg_state(saved, i) == MSG_MOVING)
            return (int)i;
    return -1;
}

/*
 * Entries alone: nobody has a reference to a frame yet, and no slot an address.  An
 * entry that is at both places was about to go at the old one.  Those for which there
 * is no leaf stay, for the batch to doom them.
 */
static void finish_remap(struct client *c)
{
    int i = begun_message(c->saved);
    struct kuffd_msg m;

    if (i < 0 || saved_msg_state(c->saved, (uint32_t)i) != MSG_MOVING)
        return;
    BUG_ON(kuffd_decode(c->saved->raw[i], &m) < 0 || m.type != KUFFD_REMAP);
    for (struct uaddr at = m.from; pte_next_mapped(&c->mm, &at, m.from.v + m.len);
         at.v += PAGE_SIZE) {
        struct uaddr dst = uaddr(at.v - m.from.v + m.to.v);
        struct pte_arg arg = {.value = pte_get(&c->mm, at)};
        if (pte_tag(pte_get(&c->mm, dst)) == PTE_NONE &&
            pte_transition(&c->mm, dst, PTE_EV_IMPORT, arg, NULL) < 0)
            continue;
        BUG_ON(pte_transition(&c->mm, at, PTE_EV_REMOVE, (struct pte_arg){0}, NULL) < 0);
    }
    mm_free_leaves(&c->mm, m.from.v, m.from.v + m.len);
}

/* A child whose tables were not complete: its parent's message makes them anew. */
static void empty_unfinished(struct client *c)
{
    struct client_saved *saved = c->saved;
    struct uaddr at = {0};

    if (!saved->parent)
        return;
    if (saved->parent > c->domain->nr_saved ||
        begun_message(&c->domain->saved[saved->parent - 1]) < 0) {
        saved_set(&saved->parent, 0); /* they were */
        return;
    }
    for (; pte_next_mapped(&c->mm, &at, UINT64_MAX); at.v += PAGE_SIZE)
        BUG_ON(pte_transition(&c->mm, at, PTE_EV_REMOVE, (struct pte_arg){0}, NULL) < 0);
    mm_free_leaves(&c->mm, 0, UINT64_MAX);
    saved->nr_doomed = 0;
    saved->doomed_overflow = false;
    saved->areas.nr[saved->areas.active & 1] = 0;
}

/* ---- one client ---- */

static void claim_all(struct mm *mm)
{
    for (struct uaddr at = {0}; pte_next_mapped(mm, &at, UINT64_MAX); at.v += PAGE_SIZE) {
        if (migrate_claim_stored(mm, at))
            continue;
        if (pte_is_kept(pte_get(mm, at))) { /* no more than a cache */
            BUG_ON(pte_transition(mm, at, PTE_EV_UNKEEP, (struct pte_arg){0}, NULL) < 0);
            continue;
        }
        log_error("a page's frame cannot be had any more; it is poisoned");
        BUG_ON(pte_transition(mm, at, PTE_EV_LOSE, (struct pte_arg){0}, NULL) < 0);
        mm->count->poisoned++;
    }
}

int client_recover(struct client *c, struct domain *d, struct group *g,
                   const struct target_ops *ops, void *target, struct client_saved *saved)
{
    int r = mm_ids_claim(&d->ids, &c->mm, saved->mm);

    if (r < 0)
        return r;
    r = client_set_up(c, d, ops, target);
    if (r == 0) {
        r = mm_tables_recover(&c->mm, d->pt, saved->mm);
        if (r < 0)
            migrate_op_free(&c->mm);
    }
    if (r < 0) {
        mm_ids_release(&d->ids, saved->mm);
        return r;
    }
    c->saved = saved;
    c->cookie = saved->cookie;
    c->mm.area_store = &saved->areas;
    c->mm.saved_fill = &saved->fill;
    group_join(g, c);
    list_add_tail(&c->link, &d->clients);
    if (MUTANT(MUTANT_DOUBT_NOT_SAVED))
        client_end_doubt(c);
    if (saved->batch_applied)
        saved_wipe_batch(saved);
    empty_unfinished(c);
    finish_remap(c);
    if (mm_areas_recover(&c->mm) < 0)
        log_warning("no memory for a client's areas; its pages are served one by one");
    claim_all(&c->mm);
    migrate_recover(&c->mm);
    client_set_resident(c, c->mm.nr[PTE_PRESENT] << PAGE_SHIFT);
    c->note_cursor = 0;
    if (!MUTANT(MUTANT_RECOVERY_WAKES_NOBODY))
        (void)ops->wake(target, (struct urange){0});
    return 0;
}

/* ---- fills that were not noted ---- */

#define NOTE_RUNS 64

static void note_run(struct mm *mm, struct urange run)
{
    struct uaddr at = run.start;
    pte_t old;

    for (; pte_next_mapped(mm, &at, urange_end(run)); at.v += PAGE_SIZE) {
        if (!pte_is_stored(pte_get(mm, at)))
            continue;
        BUG_ON(pte_transition(mm, at, PTE_EV_FILL, (struct pte_arg){0}, &old) < 0);
        migrate_release_stored(mm, at, old);
    }
}

bool client_note_filled(struct client *c)
{
    struct mm *mm = &c->mm;
    struct scan_run runs[NOTE_RUNS];

    BUG_ON(migrate_is_busy(mm));
    while (c->note_cursor != UINT64_MAX && !mm->dead) {
        const struct area *a = mm_area_find(mm, c->note_cursor);
        uint64_t start = a ? c->note_cursor : mm_area_next_start(mm, c->note_cursor);
        struct uaddr next;
        if (start == UINT64_MAX) {
            c->note_cursor = UINT64_MAX;
            break;
        }
        a = mm_area_find(mm, start);
        int nr = mm->ops->scan(mm->target, urange(start, a->end), runs, NOTE_RUNS, &next);
        /* Whatever was seen stood there while no change was under way. */
        if (nr < 0 || (mm->ops->is_changing && mm->ops->is_changing(mm->target)))
            return nr == -ESRCH;
        for (int i = 0; i < nr; i++)
            note_run(mm, runs[i].r);
        BUG_ON(next.v <= start);
        c->note_cursor = next.v;
    }
    return true;
}
