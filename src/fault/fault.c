/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order of stores of a fill, which recovery leans on: first the page is in the
 * program, then the entry says PRESENT, then the frame is given back.  A worker
 * that dies in between leaves a stored entry over a present page, which a scan
 * finds.
 *
 * A window only ever covers pages in the same state as the faulting one, in one
 * area, and in one leaf; when a mapping turns out to end inside it (mprotect
 * splits mappings without an event), the page is answered alone.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fault/fault_priv.h"
#include "migrate/migrate.h"

#define BRING_BACK_WINDOW 256u /* pages of one fill that nobody waits for */

/* Pages answered with zeros on a write: one call that needs no second fault. */
#define ZERO_WINDOW 32
static const char zeros[ZERO_WINDOW * PAGE_SIZE] __attribute__((aligned(4096)));

/* How many pages from addr on may be answered together. */
static uint32_t window_of(const struct mm *mm, struct uaddr addr, uint32_t max)
{
    const struct area *area = mm_area_find(mm, addr.v);
    pte_t first = pte_get(mm, addr);
    uint32_t nr = 1;

    if (pte_tag(first) == PTE_PRESENT)
        return 1;
    if (!area) /* the mapping grew in place: nothing is known about its end */
        return 1;
    uint64_t end = MIN(area->end, (addr.v & ~(LEAF_SIZE - 1)) + LEAF_SIZE);
    while (nr < max && addr.v + nr * PAGE_SIZE < end) {
        pte_t next = pte_get(mm, uaddr(addr.v + nr * PAGE_SIZE));
        if (pte_tag(next) != pte_tag(first))
            break;
        if (pte_holds_place(first) && pte_index(next) != pte_index(first) + nr)
            break;
        nr++;
    }
    return nr;
}

/* A window without what the program guards: guarded pages hold nothing any more. */
static uint32_t window_before_guard(struct mm *mm, struct uaddr addr, uint32_t nr)
{
    uint64_t end = addr.v + nr * PAGE_SIZE;
    pte_t old;

    if (nr == 1 || !mm->ops->next_guard)
        return nr;
    struct uaddr guard = mm->ops->next_guard(mm->target, urange(addr.v + PAGE_SIZE, end));
    if (guard.v >= end)
        return nr;
    if (pte_transition(mm, guard, PTE_EV_REMOVE, (struct pte_arg){0}, &old) == 0)
        migrate_release_stored(mm, guard, old);
    return (uint32_t)((guard.v - addr.v) >> PAGE_SHIFT);
}

static bool guard_is_at(struct mm *mm, struct uaddr at)
{
    return mm->ops->next_guard &&
           mm->ops->next_guard(mm->target, (struct urange){at, PAGE_SIZE}).v == at.v;
}

/* Which of the pages that are filled may keep their frame or slot. */
enum keep { KEEP_NONE, KEEP_BUT_FIRST, KEEP_ALL };

/*
 * One page is in the program now; its entry follows.  A page that is about to be written
 * does not keep its place: a sole owner's frame is handed over (do_wp_page()'s rule).
 */
static void entry_filled(struct mm *mm, struct uaddr addr, pte_t pte, struct pte_arg arg, bool keep)
{
    struct pfn pfn = {pte_index(pte)};
    pte_t old;

    if (!pte_holds_place(pte)) {
        BUG_ON(pte_transition(mm, addr, PTE_EV_FILL, arg, NULL) < 0);
        return;
    }
    struct node *node = node_of(mm, pte);
    if (keep && mm->keeps_copies && node_has_room_to_keep(node)) {
        arg.flags |= PTE_F_CLEAN_COPY;
        arg.node = node->id;
        arg.index = pfn.n;
        BUG_ON(pte_transition(mm, addr, PTE_EV_FILL, arg, NULL) < 0);
        node_relist(node, pfn, mm->ids);
        return;
    }
    if (pte_tag(pte) == PTE_FRAME) {
        if (frame_refs(node->frames, pfn) > 1)
            mm->count->cow_copied++;
        else
            mm->count->cow_reused++;
    }
    BUG_ON(pte_transition(mm, addr, PTE_EV_FILL, arg, &old) < 0);
    migrate_release_stored(mm, addr, old);
}

/* Pages [addr, addr + done) are in the program now: the entries follow. */
static void entries_filled(struct mm *mm, struct uaddr addr, uint64_t done, enum keep keep,
                           bool asked_for)
{
    for (uint64_t off = 0; off < done; off += PAGE_SIZE) {
        struct uaddr a = uaddr(addr.v + off);
        pte_t pte = pte_get(mm, a);

        if (pte_is_stored(pte))
            entry_filled(mm, a, pte,
                         asked_for && off == 0 ? workingset_refault(mm, pte)
                                               : workingset_prefetched(mm, pte),
                         keep == KEEP_ALL || (keep == KEEP_BUT_FIRST && off));
        else if (pte_tag(pte) == PTE_NONE && a.v - mm->own.start.v >= mm->own.len)
            /* Without a leaf for it (memory of the tables is used up) the page is just not managed. */
            (void)pte_transition(mm, a, PTE_EV_ADOPT, workingset_filled(mm), NULL);
    }
}

struct fill {
    const void *swapped; /* of SWAPPED pages: what was read */
    bool write;
    bool asked_for; /* by a fault on the first page */
    enum keep keep;
};

/* Fills nr pages that are all in the state of the first; result as target_ops::copy. */
static enum kres fill(struct mm *mm, struct uaddr addr, uint32_t nr, const struct fill *how,
                      uint64_t *ret_done)
{
    pte_t pte = pte_get(mm, addr);
    enum kres r;

    if (MUTANT(MUTANT_FILLED_BEFORE_FILL))
        entries_filled(mm, addr, nr * PAGE_SIZE, KEEP_NONE, true);
    if (pte_tag(pte) == PTE_FRAME) {
        r = mm->ops->copy(mm->target, addr, node_bytes(mm->ram, (struct pfn){pte_index(pte)}),
                          nr * PAGE_SIZE, ret_done);
    } else if (pte_tag(pte) == PTE_SWAPPED) {
        r = mm->ops->copy(mm->target, addr, how->swapped, nr * PAGE_SIZE, ret_done);
    } else if (how->write) {
        nr = MIN(nr, (uint32_t)ZERO_WINDOW);
        r = mm->ops->copy(mm->target, addr, zeros, nr * PAGE_SIZE, ret_done);
    } else {
        r = mm->ops->zero(mm->target, addr, nr * PAGE_SIZE, ret_done);
    }
    entries_filled(mm, addr, *ret_done, how->keep, how->asked_for);
    return r;
}

static enum kres wake_page(struct mm *mm, struct uaddr addr)
{
    return mm->ops->wake(mm->target, (struct urange){addr, PAGE_SIZE});
}

/*
 * Somebody's page is there already: the program's own, which is the one that counts.
 * Without an entry it is not entered: its REMOVE may have been read and the kernel be
 * about to drop it; captured before that, the old bytes would come back.
 */
static enum kres page_raced(struct mm *mm, struct uaddr addr)
{
    if (pte_is_stored(pte_get(mm, addr)))
        entries_filled(mm, addr, PAGE_SIZE, KEEP_NONE, true);
    if (MUTANT(MUTANT_EEXIST_NOT_WOKEN))
        return KRES_DONE;
    return wake_page(mm, addr);
}

static enum fault_outcome outcome_of(enum kres r)
{
    switch (r) {
    case KRES_DONE:
    case KRES_RACED:
    case KRES_GONE: /* woken: it faults again and finds what is there now */
        return FAULT_ANSWERED;
    case KRES_RETRY:
        return MUTANT(MUTANT_EAGAIN_DROPPED) ? FAULT_ANSWERED : FAULT_PARKED;
    case KRES_DEAD:
        return FAULT_DEAD;
    case KRES_FATAL:
        break;
    }
    return FAULT_REFUSED;
}

static enum fault_outcome answer_poison(struct mm *mm, struct uaddr addr)
{
    uint64_t done = 0;
    enum kres r = mm->ops->poison(mm->target, addr, PAGE_SIZE, &done);

    if (r == KRES_RACED || r == KRES_GONE)
        r = wake_page(mm, addr);
    return outcome_of(r);
}

/*
 * The pages of a stride behind the one that is waited for, as far as they are moved out,
 * one by one.  Returns their number; the first that will not come ends it.
 */
static uint32_t fill_strided(struct mm *mm, struct uaddr addr, struct readahead_plan plan)
{
    uint64_t from = addr.v + (uint64_t)plan.stride;
    uint64_t last = addr.v + (plan.nr - 1) * (uint64_t)plan.stride;
    uint32_t nr = 0;

    if (plan.nr < 2 || (plan.stride > 0) != (last > addr.v)) /* or beyond all addresses */
        return 0;
    /* One look for all; page by page only where there is a guard at all. */
    struct urange all = urange(MIN(from, last), MAX(from, last) + PAGE_SIZE);
    bool guarded = mm->ops->next_guard &&
                   mm->ops->next_guard(mm->target, all).v < urange_end(all);
    for (uint32_t k = 1; k < plan.nr; k++) {
        struct uaddr at = uaddr(addr.v + k * (uint64_t)plan.stride);
        pte_t pte = pte_get(mm, at);
        struct swapin_bytes got = {0};
        uint64_t done = 0;
        /* Not one that has yet to be read: it is read ahead (read_ahead). */
        if (!pte_is_stored(pte) || !mm_area_find(mm, at.v) || (guarded && guard_is_at(mm, at)) ||
            (pte_tag(pte) == PTE_SWAPPED && !swapin_get_ready(mm, at, &got)))
            break;
        const struct fill how = {.keep = KEEP_ALL, .swapped = got.bytes};
        if (fill(mm, at, 1, &how, &done) != KRES_DONE)
            break;
        nr++;
    }
    mm->count->pgprefetch += nr;
    return nr;
}

/* Calls for one window: what is brought without being waited for delays the next fault. */
#define MAX_RUNS 16

/*
 * What of a window lies behind its first `nr` pages, in frames elsewhere: pages that were
 * written and left anew have other frames than those between them, which kept theirs.
 * Returns the pages brought; the first that is in no frame, or will not come, ends it.
 */
static uint32_t fill_further_runs(struct mm *mm, struct uaddr addr, uint32_t nr, uint32_t max)
{
    const struct fill how = {.keep = KEEP_ALL};
    const struct area *area = mm_area_find(mm, addr.v);
    uint32_t end = area ? (uint32_t)MIN((uint64_t)max, (area->end - addr.v) >> PAGE_SHIFT) : 0;
    uint32_t at = nr;

    if (end <= nr || pte_tag(pte_get(mm, uaddr(addr.v + nr * PAGE_SIZE))) != PTE_FRAME)
        return 0;
    end = window_before_guard(mm, addr, end);
    for (uint32_t runs = 0; at < end && runs < MAX_RUNS; runs++) {
        struct uaddr start = uaddr(addr.v + at * PAGE_SIZE);
        uint64_t done = 0;
        if (pte_tag(pte_get(mm, start)) != PTE_FRAME)
            break;
        enum kres r = fill(mm, start, window_of(mm, start, end - at), &how, &done);
        at += (uint32_t)(done >> PAGE_SHIFT);
        if (r != KRES_DONE)
            break;
    }
    at = MAX(at, nr);
    mm->count->pgprefetch += at - nr;
    return at - nr;
}

/* Neither the device nor anybody else has the page's bytes: it fails closed, and alone. */
static void lose_swapped(struct mm *mm, struct uaddr addr, int error)
{
    static struct log_ratelimit often;
    char who[32] = "a forked child";
    pte_t old;

    BUG_ON(pte_transition(mm, addr, PTE_EV_LOSE, (struct pte_arg){0}, &old) < 0);
    migrate_release_stored(mm, addr, old);
    mm->count->poisoned++;
    if (error == -EBADMSG)
        mm->count->swap_corrupt++;
    else
        mm->count->swap_read_error++;
    if (!log_ratelimit(&often))
        return;
    if (mm->pid)
        snprintf(who, sizeof(who), "pid %d", mm->pid);
    log_error("%s: the page at %#llx is lost and poisoned: %s %s; a touch of it is SIGBUS.  Check the "
              "device, and start the program anew",
              who, (unsigned long long)addr.v, mm->file->file.name,
              error == -EBADMSG ? "holds other bytes than were written there" : strerror(-error));
}

/*
 * The bytes of a stored page, where they are not at hand: READY (*ret, and *nr cut down),
 * or how the fault goes on without them.  LOST: it is POISON now.
 */
static enum swapin_result read_swapped(struct mm *mm, struct uaddr addr, uint32_t *nr,
                                       struct fill *how)
{
    struct swapin_bytes got;
    enum swapin_result r = swapin_get(mm, addr, *nr, &got);

    if (r == SWAPIN_READY) {
        how->swapped = got.bytes;
        *nr = MIN(*nr, got.nr_pages);
    } else if (r == SWAPIN_LOST) {
        lose_swapped(mm, addr, got.error);
        swapin_reap(mm->swapin);
    }
    return r;
}

/* The page, and its neighbours; *ret_done as fill(). */
static enum kres fill_window(struct mm *mm, struct uaddr addr, uint32_t nr, const struct fill *how,
                             uint64_t *ret_done)
{
    pte_t pte = pte_get(mm, addr);
    enum kres r = fill(mm, addr, nr, how, ret_done);

    if (!*ret_done && nr > 1 && r == KRES_GONE)
        r = fill(mm, addr, 1, how, ret_done);
    uint64_t nr_done = *ret_done >> PAGE_SHIFT;
    if (*ret_done) {
        /* The faulting page is answered, whatever stopped the window behind it. */
        mm->count->pgprefetch += nr_done - 1;
        if (!pte_is_stored(pte))
            mm->count->pgzerofill += nr_done;
        return r == KRES_DEAD ? KRES_DEAD : KRES_DONE;
    }
    if (r == KRES_RACED)
        return page_raced(mm, addr);
    if (r == KRES_GONE) /* not mapped, or not registered, any more: its event is on the way */
        return MUTANT(MUTANT_GONE_NOT_WOKEN) ? KRES_DONE : wake_page(mm, addr);
    return r;
}

/*
 * A page that had to be read was brought, and nr - 1 of its plan with it: what the stream wants next is
 * read while the program is busy with these.  Not a random fault's neighbour (a plan of one).
 */
static void read_ahead(struct mm *mm, struct uaddr addr, struct readahead_plan plan, uint32_t nr)
{
    struct uaddr next = uaddr(addr.v + nr * (uint64_t)plan.stride);

    if (plan.nr < 2)
        return;
    if (plan.stride == PAGE_SIZE) {
        /* As long as the stream's next window will be. */
        uint32_t window = mm_area_find(mm, next.v) ? window_of(mm, next, 2 * plan.nr) : 0;
        if (window)
            (void)swapin_ahead(mm, next, window);
        return;
    }
    for (uint32_t k = 0; k < plan.nr && mm_area_find(mm, next.v); k++) {
        (void)swapin_ahead(mm, next, 1);
        next.v += (uint64_t)plan.stride;
    }
}

/* One page back from its staging slot. */
static enum kres take_back(struct mm *mm, struct uaddr addr, uint32_t *ret_filled)
{
    enum kres r = migrate_take_back(mm, addr);

    *ret_filled = r == KRES_DONE;
    return r == KRES_GONE ? wake_page(mm, addr) : r;
}

enum fault_outcome fault_answer(struct mm *mm, struct uaddr addr, bool write, uint32_t max_pages,
                                uint32_t *ret_filled)
{
    struct fill how = {
        .write = write, .asked_for = true, .keep = write ? KEEP_BUT_FIRST : KEEP_ALL};
    pte_t pte = pte_get(mm, addr);
    uint64_t done = 0;
    enum kres r;

    *ret_filled = 0;
    if (pte_tag(pte) == PTE_POISON)
        return answer_poison(mm, addr);
    if (pte_tag(pte) == PTE_PRESENT && MUTANT(MUTANT_VANISHED_WOKEN)) {
        (void)mm->ops->wake(mm->target, (struct urange){addr, PAGE_SIZE});
        return FAULT_ANSWERED;
    }
    if (pte_tag(pte) == PTE_MIGRATING) {
        r = take_back(mm, addr, ret_filled);
    } else {
        struct readahead_plan plan;
        uint32_t max = MIN(max_pages, FAULT_MAX_WINDOW + 0u);
        /* The window of a fault that waits for its read was settled when that was started. */
        if (pte_tag(pte) != PTE_SWAPPED || !swapin_is_started(mm, addr) ||
            !readahead_plan_again(mm, addr, max, &plan))
            plan = readahead_plan(mm, addr, max);
        if (write && max_pages >= PTES_PER_LEAF && pte_tag(pte) == PTE_NONE &&
            huge_fill_start(mm, addr, plan))
            return FAULT_PARKED;
        bool strided = plan.stride != PAGE_SIZE;
        uint32_t nr = window_of(mm, addr, strided ? 1 : plan.nr), behind = 0;
        if (pte_tag(pte) == PTE_SWAPPED) {
            switch (read_swapped(mm, addr, &nr, &how)) {
            case SWAPIN_READY:
                break;
            case SWAPIN_WAIT:
                return FAULT_WAITING;
            case SWAPIN_BUSY:
                return FAULT_PARKED;
            case SWAPIN_LOST:
                return answer_poison(mm, addr);
            }
        }
        /*
         * The pages behind it come first: the one that is waited for wakes its thread, which on
         * our own core runs at once and would fault on each of them before it is there.
         */
        if (strided)
            behind = fill_strided(mm, addr, plan);
        else if (pte_tag(pte) == PTE_FRAME)
            behind = fill_further_runs(mm, addr, nr, plan.nr);
        nr = window_before_guard(mm, addr, nr);
        r = fill_window(mm, addr, nr, &how, &done);
        *ret_filled = (uint32_t)(done >> PAGE_SHIFT) + behind;
        if (done)
            readahead_done(mm, addr, plan, *ret_filled);
        if (pte_tag(pte) == PTE_SWAPPED) {
            swapin_reap(mm->swapin);
            if (done)
                read_ahead(mm, addr, plan, *ret_filled);
        }
    }
    if (r == KRES_DONE) {
        mm->count->pgfault++;
        if (pte_is_stored(pte) || pte_tag(pte) == PTE_MIGRATING)
            mm->count->pgmajfault++;
    }
    return outcome_of(r);
}

enum kres fault_bring_back(struct mm *mm, struct uaddr *cursor, uint64_t end, uint32_t max_pages,
                           uint32_t *ret_filled)
{
    *ret_filled = 0;
    while (*ret_filled < max_pages) {
        if (!pte_next_mapped(mm, cursor, end)) {
            cursor->v = end;
            return KRES_DONE;
        }
        pte_t pte = pte_get(mm, *cursor);
        uint64_t done = 0;

        if (pte_tag(pte) == PTE_MIGRATING) {
            enum kres r = migrate_take_back(mm, *cursor);
            if (r != KRES_DONE)
                return r;
            done = PAGE_SIZE;
        } else if (!pte_is_stored(pte)) {
            cursor->v += PAGE_SIZE;
            continue;
        } else {
            uint32_t nr = window_of(mm, *cursor, MIN(max_pages - *ret_filled, BRING_BACK_WINDOW));
            struct fill how = {.keep = KEEP_NONE};
            if (pte_tag(pte) == PTE_SWAPPED) {
                enum swapin_result got = read_swapped(mm, *cursor, &nr, &how);
                if (got == SWAPIN_LOST)
                    continue; /* POISON now */
                if (got != SWAPIN_READY)
                    return KRES_RETRY;
            }
            enum kres r = fill(mm, *cursor, nr, &how, &done);
            if (!done && nr > 1 && r == KRES_GONE)
                r = fill(mm, *cursor, 1, &how, &done);
            if (!done && r == KRES_RACED) {
                r = page_raced(mm, *cursor);
                done = r == KRES_DONE ? PAGE_SIZE : 0;
            }
            swapin_reap(mm->swapin);
            if (!done)
                return r;
        }
        *ret_filled += (uint32_t)(done >> PAGE_SHIFT);
        cursor->v += done;
    }
    return KRES_DONE;
}

bool fault_poison_all(struct mm *mm)
{
    uint64_t left = mm->nr[PTE_POISON], done;

    for (struct uaddr at = {0}; left && pte_next_mapped(mm, &at, UINT64_MAX); at.v += PAGE_SIZE) {
        if (pte_tag(pte_get(mm, at)) != PTE_POISON)
            continue;
        left--;
        switch (mm->ops->poison(mm->target, at, PAGE_SIZE, &done)) {
        case KRES_DONE:
        case KRES_RACED:
        case KRES_GONE:
            break;
        case KRES_DEAD:
            mm->dead = true;
            return true;
        case KRES_RETRY:
        case KRES_FATAL:
            return false;
        }
    }
    return true;
}
