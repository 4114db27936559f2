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
#include "fault/readahead.h"
#include "migrate/migrate.h"

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
        if (pte_tag(first) == PTE_FRAME && pte_index(next) != pte_index(first) + nr)
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

/* Pages [addr, addr + done) are in the program now: the entries follow. */
static void entries_filled(struct mm *mm, struct uaddr addr, uint64_t done, bool asked_for)
{
    for (uint64_t off = 0; off < done; off += PAGE_SIZE) {
        struct uaddr a = uaddr(addr.v + off);
        pte_t pte = pte_get(mm, a), old;

        if (pte_is_stored(pte)) {
            struct pte_arg arg = asked_for && off == 0 ? workingset_refault(mm, pte)
                                                       : workingset_prefetched(mm, pte);
            if (pte_tag(pte) == PTE_FRAME) {
                if (frame_refs(mm->ram->frames, (struct pfn){pte_index(pte)}) > 1)
                    mm->count->cow_copied++;
                else
                    mm->count->cow_reused++;
            }
            BUG_ON(pte_transition(mm, a, PTE_EV_FILL, arg, &old) < 0);
            migrate_release_stored(mm, a, old);
        } else if (pte_tag(pte) == PTE_NONE && a.v - mm->own.start.v >= mm->own.len) {
            /* Without a leaf for it (memory of the tables is used up) the page is just not managed. */
            (void)pte_transition(mm, a, PTE_EV_ADOPT, workingset_filled(mm), NULL);
        }
    }
}

/* Fills nr pages that are all in the state of the first; result as target_ops::copy. */
static enum kres fill(struct mm *mm, struct uaddr addr, uint32_t nr, bool write, bool asked_for,
                      uint64_t *ret_done)
{
    pte_t pte = pte_get(mm, addr);
    enum kres r;

    if (pte_tag(pte) == PTE_FRAME) {
        r = mm->ops->copy(mm->target, addr, node_bytes(mm->ram, (struct pfn){pte_index(pte)}),
                          nr * PAGE_SIZE, ret_done);
    } else if (write) {
        nr = MIN(nr, (uint32_t)ZERO_WINDOW);
        r = mm->ops->copy(mm->target, addr, zeros, nr * PAGE_SIZE, ret_done);
    } else {
        r = mm->ops->zero(mm->target, addr, nr * PAGE_SIZE, ret_done);
    }
    entries_filled(mm, addr, *ret_done, asked_for);
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
        entries_filled(mm, addr, PAGE_SIZE, true);
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
    static struct log_ratelimit often;
    if (log_ratelimit(&often))
        log_error("a fault could not be answered: the kernel refused to fill a page");
    return FAULT_PARKED;
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
        uint64_t done = 0;
        if (!pte_is_stored(pte) || !mm_area_find(mm, at.v) || (guarded && guard_is_at(mm, at)) ||
            fill(mm, at, 1, false, false, &done) != KRES_DONE)
            break;
        nr++;
    }
    return nr;
}

enum fault_outcome fault_answer(struct mm *mm, struct uaddr addr, bool write, uint32_t max_pages,
                                uint32_t *ret_filled)
{
    pte_t pte = pte_get(mm, addr);
    uint64_t done = 0;
    enum kres r;

    *ret_filled = 0;
    if (pte_tag(pte) == PTE_MIGRATING) {
        r = migrate_take_back(mm, addr);
        *ret_filled = r == KRES_DONE;
        if (r == KRES_GONE)
            r = wake_page(mm, addr);
        goto out;
    }
    if (pte_tag(pte) == PTE_POISON)
        return answer_poison(mm, addr);

    struct readahead_plan plan = readahead_plan(mm, addr, max_pages);
    bool strided = plan.stride != PAGE_SIZE;
    /*
     * The pages behind it come first: the one that is waited for wakes its thread, which on
     * our own core runs at once and would fault on each of them before it is there.
     */
    uint32_t behind = strided ? fill_strided(mm, addr, plan) : 0;
    uint32_t nr = window_before_guard(mm, addr, window_of(mm, addr, strided ? 1 : plan.nr));
    r = fill(mm, addr, nr, write, true, &done);
    if (!done && nr > 1 && r == KRES_GONE)
        r = fill(mm, addr, nr = 1, write, true, &done);
    *ret_filled = (uint32_t)(done >> PAGE_SHIFT) + behind;
    mm->count->pgprefetch += behind;
    if (done) {
        /* The faulting page is answered, whatever stopped the window behind it. */
        readahead_done(mm, addr, plan, *ret_filled);
        mm->count->pgprefetch += (done >> PAGE_SHIFT) - 1;
        if (!pte_is_stored(pte))
            mm->count->pgzerofill += done >> PAGE_SHIFT;
        r = r == KRES_DEAD ? KRES_DEAD : KRES_DONE;
    } else if (r == KRES_RACED) {
        r = page_raced(mm, addr);
    } else if (r == KRES_GONE) {
        /* Not mapped, or not registered, any more: its event is on the way. */
        r = wake_page(mm, addr);
    }
out:
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
        } else if (pte_tag(pte) == PTE_POISON) {
            enum kres r = mm->ops->poison(mm->target, *cursor, PAGE_SIZE, &done);
            if (r == KRES_RETRY || r == KRES_DEAD || r == KRES_FATAL)
                return r;
            /* The kernel remembers it from here on. */
            BUG_ON(pte_transition(mm, *cursor, PTE_EV_REMOVE, (struct pte_arg){0}, NULL) < 0);
            cursor->v += PAGE_SIZE;
            continue;
        } else if (!pte_is_stored(pte)) {
            cursor->v += PAGE_SIZE;
            continue;
        } else {
            uint32_t nr = window_of(mm, *cursor, max_pages - *ret_filled);
            enum kres r = fill(mm, *cursor, nr, false, false, &done);
            if (!done && nr > 1 && r == KRES_GONE)
                r = fill(mm, *cursor, 1, false, false, &done);
            if (!done && r == KRES_RACED) {
                r = page_raced(mm, *cursor);
                done = r == KRES_DONE ? PAGE_SIZE : 0;
            }
            if (!done)
                return r;
        }
        *ret_filled += (uint32_t)(done >> PAGE_SHIFT);
        cursor->v += done;
    }
    return KRES_DONE;
}
