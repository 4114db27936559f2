/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The modelled agent: takes pages out by UFFDIO_MOVE, a run of them by mremap(), and
 * puts huge pages there.  Each step is one of its system calls, or a part of one.
 */
#include <errno.h>
#include <string.h>

#include "kernel_model.h"

/* The agent's own number is larger; here runs are short. */
#define REMAP_MIN_PAGES 2u

static void job_prepare(struct km_agent *a)
{
    a->fills = a->huge = false;
    a->run = RUN_NONE;
    a->astray = UINT32_MAX;
    a->nr = a->at = a->nr_put = 0;
    for (uint32_t i = 0; i < CAPTURE_MAX_PAGES; i++) {
        a->page[i] = UINT32_MAX;
        if (!MUTANT(MUTANT_RESULTS_NOT_WIPED))
            a->result[i] = CAPTURE_NOT_TRIED;
        if (a->staged[i])
            memset(a->staged[i], 0xdb, PAGE_SIZE); /* the bytes of the last capture are gone */
    }
}

/* The longest goes by mremap(). */
static void choose_run(struct km_agent *a, const struct capture_vec *vecs, uint32_t nr_vecs)
{
    for (uint32_t v = 0; v < nr_vecs; v++) {
        if (vecs[v].nr_pages < (a->run ? a->run_nr + 1 : REMAP_MIN_PAGES))
            continue;
        a->run = RUN_FIRST;
        a->run_slot = vecs[v].slot;
        a->run_nr = vecs[v].nr_pages;
    }
}

int km_capture_prepare(void *t, const struct capture_vec *vecs, uint32_t nr_vecs, bool huge)
{
    struct km_mm *mm = t;
    struct km_agent *a = &mm->agent;

    sim_interleave(mm->sim);
    BUG_ON(a->state == JOB_MOVING);
    if (!mm->has_agent)
        return -ENOTCONN;
    if (sim_fails(mm->sim))
        return -EAGAIN;
    job_prepare(a);
    a->huge = huge;
    a->may_unshare = mm->may_unshare && *mm->may_unshare;
    for (uint32_t v = 0; v < nr_vecs; v++) {
        BUG_ON(vecs[v].nr_pages == 0 || vecs[v].slot + vecs[v].nr_pages > CAPTURE_MAX_PAGES);
        for (uint32_t i = 0; i < vecs[v].nr_pages; i++) {
            uint32_t slot = vecs[v].slot + i, page = km_page(vecs[v].addr.v) + i;
            BUG_ON(a->page[slot] != UINT32_MAX || page >= KM_PAGES);
            if (page == mm->no_move_page)
                sim_fail(mm->sim, "forbidden capture", "mm%u page %u: the kernel's tid word",
                         mm->id, page);
            a->page[slot] = page;
            a->nr = MAX(a->nr, slot + 1);
        }
    }
    if (mm->sim->set.remap)
        choose_run(a, vecs, nr_vecs);
    trace(mm->sim, "  CAPTURE mm%u asked for %u runs, first page %u (%u pages)", mm->id, nr_vecs,
          a->page[0], a->nr);
    return 0;
}

int km_fill_prepare(void *t, struct uaddr base)
{
    struct km_mm *mm = t;
    struct km_agent *a = &mm->agent;

    sim_interleave(mm->sim);
    BUG_ON(a->state == JOB_MOVING || base.v % LEAF_SIZE);
    if (!mm->has_agent)
        return -ENOTCONN;
    if (sim_fails(mm->sim))
        return -EAGAIN;
    job_prepare(a);
    a->fills = true;
    a->page[0] = km_page(base.v);
    trace(mm->sim, "  FILL of mm%u asked for, pages %u..%u", mm->id, a->page[0],
          a->page[0] + PTES_PER_LEAF - 1);
    return 0;
}

void km_capture_start(void *t)
{
    struct km_mm *mm = t;

    sim_interleave(mm->sim);
    mm->agent.state = mm->has_agent ? JOB_MOVING : JOB_DONE; /* it may just have died */
    sim_interleave(mm->sim);
}

const void *km_staged(void *t, struct sslot slot)
{
    struct km_mm *mm = t;
    struct km_agent *a = &mm->agent;
    static uint8_t garbage[PAGE_SIZE];

    BUG_ON(slot.n >= CAPTURE_MAX_PAGES);
    if (a->staged[slot.n] && a->state != JOB_MOVING)
        return a->staged[slot.n];
    memset(garbage, 0xdb, sizeof(garbage));
    return garbage;
}

static void staged_set(struct km_mm *mm, uint32_t slot, struct km_pte *pte)
{
    struct km_agent *a = &mm->agent;

    if (a->staged[slot])
        sim_page_free(mm->sim, a->staged[slot]);
    a->staged[slot] = pte->page;
    if (pte->state == KP_ZERO) {
        a->staged[slot] = sim_page_alloc(mm->sim);
        memset(a->staged[slot], 0, PAGE_SIZE);
    }
    *pte = (struct km_pte){.vma = pte->vma};
}

static uint8_t capture_page(struct km_mm *mm, uint32_t slot)
{
    struct sim *s = mm->sim;
    struct km_agent *a = &mm->agent;
    struct km_pte *pte = &mm->pte[a->page[slot]];

    if (mm->mmap_changing)
        return CAPTURE_EVENTS;
    if (!(pte->vma & KV_MAPPED))
        return CAPTURE_HOLE;
    if (pte->vma & KV_READONLY || pte->state == KP_POISON)
        return CAPTURE_REFUSED;
    if (pte->state == KP_NONE)
        return CAPTURE_HOLE;
    if (pte->state == KP_PAGE && a->may_unshare && choice_chance(&s->choice, 768))
        pte->flags |= KP_EXCLUSIVE;
    if (pte->state == KP_PAGE && (pte->flags & KP_PINNED || !(pte->flags & KP_EXCLUSIVE)))
        return CAPTURE_BUSY;
    if (!s->settling && !(s->flags & STEP_NO_FAIL) && choice_chance(&s->choice, s->set.busy))
        return choice_chance(&s->choice, 512) ? CAPTURE_BUSY : CAPTURE_REFUSED;
    staged_set(mm, slot, pte);
    sim_count(s, STAT_CAPTURED, 1);
    return CAPTURE_TAKEN;
}

/* UFFDIO_MOVE moves a page, does not count it and answers EEXIST. */
static bool goes_astray(struct km_mm *mm, uint32_t slot)
{
    struct sim *s = mm->sim;
    struct km_agent *a = &mm->agent;
    struct km_pte *pte = &mm->pte[a->page[slot]];

    if (s->settling || s->flags & STEP_NO_FAIL || mm->mmap_changing || !(pte->vma & KV_MAPPED) ||
        pte->vma & KV_READONLY || pte->state != KP_PAGE || !(pte->flags & KP_EXCLUSIVE) ||
        pte->flags & KP_PINNED || !choice_chance(&s->choice, 16))
        return false;
    a->astray = slot;
    a->taken[slot] = *pte;
    *pte = (struct km_pte){.vma = pte->vma};
    sim_count(s, STAT_ASTRAY, 1);
    return true;
}

/* It has been found: back, if the program's place is as it was; else it is taken. */
static uint8_t astray_found(struct km_mm *mm, bool goes_back)
{
    struct km_agent *a = &mm->agent;
    uint32_t slot = a->astray;
    struct km_pte *pte = &mm->pte[a->page[slot]];

    a->astray = UINT32_MAX;
    if (!goes_back || mm->mmap_changing || !(pte->vma & KV_REGISTERED) || pte->vma & KV_READONLY) {
        staged_set(mm, slot, &a->taken[slot]);
        sim_count(mm->sim, STAT_CAPTURED, 1);
        return a->result[slot] = CAPTURE_TAKEN;
    }
    if (pte->state == KP_NONE && !MUTANT(MUTANT_MISCOUNT_BELIEVED)) {
        uint8_t vma = pte->vma;
        *pte = a->taken[slot];
        pte->vma = vma;
        km_wake(mm, a->page[slot], 1);
    } else { /* the program has another page: this one counts for nothing */
        sim_page_free(mm->sim, a->taken[slot].page);
    }
    return a->result[slot] = CAPTURE_BUSY;
}

static const char *const result_names[] = {
    [CAPTURE_TAKEN] = ": taken",    [CAPTURE_EVENTS] = ": EAGAIN",
    [CAPTURE_BUSY] = ": EBUSY",     [CAPTURE_HOLE] = ": ENOENT",
    [CAPTURE_REFUSED] = ": EINVAL", [CAPTURE_NOT_TRIED] = ": not tried",
};

/* UFFDIO_MOVE of the huge page, or of the one page that there is instead. */
static uint8_t put_huge(struct km_mm *mm)
{
    struct sim *s = mm->sim;
    struct km_agent *a = &mm->agent;
    uint32_t first = a->page[0], end = first + PTES_PER_LEAF;

    if (mm->mmap_changing && !MUTANT(MUTANT_FILL_DESPITE_EVENTS))
        return CAPTURE_EVENTS;
    if (!(mm->pte[first].vma & KV_REGISTERED) || !mm->has_uffd)
        return CAPTURE_HOLE;
    if (km_vma_end(mm, first) < end || mm->pte[first].vma & KV_READONLY)
        return CAPTURE_REFUSED;
    uint32_t most = choice_chance(&s->choice, 896) || s->settling ? PTES_PER_LEAF : 1;
    while (a->nr_put < most && mm->pte[first + a->nr_put].state == KP_NONE)
        km_give_page(mm, first + a->nr_put++);
    km_wake(mm, first, a->nr_put);
    if (a->nr_put == PTES_PER_LEAF)
        sim_count(s, STAT_HUGE_FILLS, 1);
    return a->nr_put ? CAPTURE_TAKEN : CAPTURE_BUSY;
}

/* The move; some results; the others.  It may die in between. */
static bool fill_step(struct km_mm *mm)
{
    struct sim *s = mm->sim;
    struct km_agent *a = &mm->agent;

    if (!s->settling && choice_chance(&s->choice, 640)) /* it is kept off the processor */
        return false;
    if (a->nr == 0) {
        a->nr = 1;
        uint8_t r = put_huge(mm);
        if (!a->nr_put)
            a->result[0] = r;
        trace(s, "  FILL in mm%u: pages %u..%u%s, %u are there", mm->id, a->page[0],
              a->page[0] + PTES_PER_LEAF - 1, result_names[r], a->nr_put);
        return true;
    }
    uint32_t stop = s->settling || choice_chance(&s->choice, 768)
                        ? a->nr_put
                        : choice_between(&s->choice, a->at, a->nr_put);
    while (a->at < stop)
        a->result[a->at++] = CAPTURE_TAKEN;
    if (a->at == a->nr_put)
        a->state = JOB_DONE;
    return true;
}

/* ---- a run by mremap() (src/agent/remap.c) ---- */

static void run_results(struct km_agent *a, uint8_t result)
{
    for (uint32_t i = 0; i < a->run_nr; i++)
        a->result[a->run_slot + i] = result;
    a->run = RUN_NONE;
}

static void run_by_move(struct km_mm *mm)
{
    struct km_agent *a = &mm->agent;

    for (uint32_t i = 0; i < a->run_nr; i++) {
        a->result[a->run_slot + i] = capture_page(mm, a->run_slot + i);
        if (a->result[a->run_slot + i] == CAPTURE_EVENTS)
            break;
    }
    a->run = RUN_NONE;
}

/* Its first page, of a huge page all of it, by UFFDIO_MOVE. */
static void run_first(struct km_mm *mm)
{
    struct km_agent *a = &mm->agent;
    uint32_t moved = 0, most = a->huge ? a->run_nr : 1;
    uint8_t r = CAPTURE_TAKEN;

    while (moved < most && (r = capture_page(mm, a->run_slot + moved)) == CAPTURE_TAKEN)
        a->result[a->run_slot + moved++] = r;
    a->run_slot += moved;
    a->run_nr -= moved;
    if (!a->run_nr)
        a->run = RUN_NONE;
    else if (moved || r == CAPTURE_BUSY)
        a->run = RUN_REMAP;
    else
        run_by_move(mm);
}

/* Rule 9: what another thread has just moved, or mapped and touched, there. */
static bool is_somebody_elses(const struct km_mm *mm, uint32_t page, uint32_t end)
{
    bool touched = false;

    for (uint32_t i = 0; i < KM_THREADS; i++) {
        const struct km_thread *t = &mm->thread[i];
        for (uint32_t k = t->next_event; k < t->nr_events; k++)
            if (t->event[k].type == KUFFD_REMAP && km_page(t->event[k].to.v) < end &&
                km_page(t->event[k].to.v + t->event[k].len) > page)
                return true;
    }
    for (uint32_t i = page; i < end; i++)
        touched |= mm->pte[i].state != KP_NONE;
    return touched && !(mm->pte[page].vma & KV_REGISTERED);
}

static void run_remap(struct km_mm *mm)
{
    struct km_agent *a = &mm->agent;
    uint32_t page = a->page[a->run_slot], end = page + a->run_nr;

    if (!(mm->pte[page].vma & KV_MAPPED) || km_vma_end(mm, page) < end) {
        run_by_move(mm);
        return;
    }
    /* Or not registered, and nothing there: the empty mapping stays. */
    if (is_somebody_elses(mm, page, end) || !(mm->pte[page].vma & KV_REGISTERED)) {
        run_results(a, CAPTURE_EVENTS);
        return;
    }
    for (uint32_t i = 0; i < a->run_nr; i++) {
        a->taken[a->run_slot + i] = mm->pte[page + i];
        mm->pte[page + i] = (struct km_pte){.vma = mm->pte[page + i].vma};
    }
    trace(mm->sim, "  capture in mm%u: mremap of pages %u..%u", mm->id, page, end - 1);
    sim_count(mm->sim, STAT_REMAPPED, a->run_nr);
    a->run = RUN_ASLEEP;
    km_agent_remapped(mm, urange(km_addr(page), km_addr(end)),
                      uaddr(KM_STAGE + ((uint64_t)a->run_slot << PAGE_SHIFT)));
}

/* Where each page is, also when the agent did not get to the end of this. */
static void run_settle(struct km_mm *mm)
{
    struct km_agent *a = &mm->agent;

    for (uint32_t slot = a->run_slot; slot < a->run_slot + a->run_nr; slot++) {
        struct km_pte *there = &mm->pte[a->page[slot]], *pte = &a->taken[slot];

        switch ((enum km_page_state)pte->state) {
        case KP_NONE:
            a->result[slot] = CAPTURE_HOLE;
            break;
        case KP_POISON: /* put there again, as a guard */
            if (there->vma & KV_MAPPED && there->state == KP_NONE)
                there->state = KP_POISON;
            a->result[slot] = CAPTURE_REFUSED;
            break;
        case KP_ZERO:
        case KP_PAGE:
            staged_set(mm, slot, pte);
            a->result[slot] = CAPTURE_TAKEN;
            sim_count(mm->sim, STAT_CAPTURED, 1);
            break;
        }
    }
    a->run = RUN_NONE;
}

static bool run_step(struct km_mm *mm)
{
    struct km_agent *a = &mm->agent;

    switch (a->run) {
    case RUN_NONE:
        return false;
    case RUN_FIRST:
        run_first(mm);
        return true;
    case RUN_REMAP:
        if (mm->nr_held) /* it waits for writers through a page reference */
            return false;
        run_remap(mm);
        return true;
    case RUN_ASLEEP:
        if (!km_event_step(mm, &a->thread))
            return false;
        if (a->thread.wait == KW_RUNNING)
            a->run = RUN_SETTLE;
        return true;
    case RUN_SETTLE:
        run_settle(mm);
        return true;
    }
    return false;
}

bool km_agent_lets_read(const struct km_mm *mm)
{
    return mm->agent.state == JOB_MOVING &&
           (mm->agent.run >= RUN_ASLEEP || MUTANT(MUTANT_READ_WHILE_TAKING));
}

bool km_agent_step(struct km_mm *mm)
{
    struct sim *s = mm->sim;
    struct km_agent *a = &mm->agent;

    if (!mm->has_agent || a->state != JOB_MOVING)
        return false;
    if (a->fills)
        return fill_step(mm);
    if (a->astray != UINT32_MAX) {
        uint32_t page = a->page[a->astray];
        uint8_t r = astray_found(mm, true);
        trace_page(s, page, result_names[r], "  capture in mm%u: astray page", mm->id);
        return true;
    }
    if (a->at == a->nr && a->run)
        return run_step(mm);
    if (a->at == a->nr) {
        if (mm->nr_held) /* the barrier waits for writers through a page reference */
            return false;
        a->state = JOB_DONE;
        trace(s, "  capture in mm%u is finished", mm->id);
        return true;
    }
    uint32_t todo = choice_chance(&s->choice, 512) || s->settling
                        ? a->nr - a->at
                        : choice_between(&s->choice, 1, a->nr - a->at);
    while (todo--) {
        uint32_t slot = a->at++;
        if (a->page[slot] == UINT32_MAX ||
            (a->run && slot >= a->run_slot && slot < a->run_slot + a->run_nr)) {
            if (a->at == a->nr)
                break;
            continue;
        }
        if (goes_astray(mm, slot)) {
            trace_page(s, a->page[slot], ": moved, and EEXIST", "  capture in mm%u: page", mm->id);
            break;
        }
        a->result[slot] = capture_page(mm, slot);
        trace_page(s, a->page[slot], result_names[a->result[slot]], "  capture in mm%u: page",
                   mm->id);
        if (a->result[slot] == CAPTURE_EVENTS) { /* the rest is not tried */
            a->at = a->nr;
            a->run = RUN_NONE;
        }
        if (a->at == a->nr)
            break;
    }
    if (a->huge && a->at == a->nr)
        sim_count(s, STAT_HUGE, 1);
    return true;
}

void km_agent_die(struct km_mm *mm)
{
    if (!mm->has_agent)
        return;
    trace(mm->sim, "  the agent of mm%u dies", mm->id);
    mm->has_agent = false;
    struct km_agent *a = &mm->agent;
    if (a->state == JOB_MOVING && a->run >= RUN_ASLEEP)
        run_settle(mm); /* the worker looks where its pages are */
    if (a->state == JOB_MOVING && a->astray != UINT32_MAX)
        astray_found(mm, false);
    if (a->thread.nr_events && mm->has_uffd)
        mm->mmap_changing--;
    a->thread = (struct km_thread){0}; /* its message goes unread */
    if (a->state == JOB_MOVING)
        a->state = JOB_DONE;
    if (mm->exited)
        km_die(mm);
}
