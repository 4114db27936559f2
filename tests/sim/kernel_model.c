/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program's side of the modelled kernel: touches, system calls that change
 * mappings, and the waits that they cause.  kernel_model.h has the rules.
 */
#include <string.h>

#include "kernel_model.h"

const uint8_t km_zeros[PAGE_SIZE] __attribute__((aligned(4096)));

void km_init(struct km_mm *mm, struct sim *s, uint32_t id)
{
    memset(mm, 0, sizeof(*mm));
    mm->sim = s;
    mm->id = id;
    mm->no_move_page = UINT32_MAX;
}

static void drop_page(struct km_mm *mm, uint32_t page)
{
    struct km_pte *pte = &mm->pte[page];

    if (pte->page)
        sim_page_free(mm->sim, pte->page);
    pte->page = NULL;
    pte->state = KP_NONE;
    pte->flags = 0;
}

/* ---- touches ---- */

/* The whole leaf is mapped, empty and without userfaultfd: the kernel gives a huge page. */
static bool leaf_takes_huge(const struct km_mm *mm, uint32_t page)
{
    uint32_t first = page & ~(PTES_PER_LEAF - 1);

    if (!(mm->pte[page].vma & KV_HUGE))
        return false;
    for (uint32_t i = first; i < first + PTES_PER_LEAF; i++)
        if ((mm->pte[i].vma & ~KV_BOUNDARY) != (KV_HUGE | KV_MAPPED) || mm->pte[i].state)
            return false;
    return true;
}

void km_give_page(struct km_mm *mm, uint32_t page)
{
    struct km_pte *pte = &mm->pte[page];

    pte->page = sim_page_alloc(mm->sim);
    memset(pte->page, 0, PAGE_SIZE);
    pte->state = KP_PAGE;
    pte->flags = KP_EXCLUSIVE;
}

enum km_access km_touch(struct km_mm *mm, uint32_t tid, uint32_t page, bool write, uint8_t **ret)
{
    struct km_thread *t = &mm->thread[tid];
    struct km_pte *pte = &mm->pte[page];

    if (!(pte->vma & KV_MAPPED) || (write && pte->vma & KV_READONLY))
        return KA_SEGV;
    switch ((enum km_page_state)pte->state) {
    case KP_POISON:
        return KA_SIGBUS;
    case KP_NONE:
        if (pte->vma & KV_REGISTERED && mm->has_uffd) {
            t->wait = KW_FAULT_UNREAD;
            t->queued = ++mm->sim->nr_queued;
            t->page = page;
            t->write = write;
            mm->recent[mm->nr_recent++ % ARRAY_SIZE(mm->recent)] = page;
            sim_count(mm->sim, STAT_WAITS, 1);
            return KA_WAITS;
        }
        if (leaf_takes_huge(mm, page)) {
            uint32_t first = page & ~(PTES_PER_LEAF - 1);
            for (uint32_t i = first; i < first + PTES_PER_LEAF; i++)
                km_give_page(mm, i);
        } else if (write) {
            km_give_page(mm, page);
        } else {
            pte->state = KP_ZERO;
        }
        break;
    case KP_ZERO:
        if (write)
            km_give_page(mm, page);
        break;
    case KP_PAGE:
        if (write)
            pte->flags = (uint8_t)((pte->flags | KP_EXCLUSIVE) & ~KP_LAZY);
        break;
    }
    *ret = pte->page ? pte->page : (uint8_t *)(uintptr_t)km_zeros;
    return KA_OK;
}

void km_wake(struct km_mm *mm, uint32_t page, uint32_t nr)
{
    for (uint32_t i = 0; i < KM_THREADS; i++) {
        struct km_thread *t = &mm->thread[i];
        if ((t->wait == KW_FAULT_UNREAD || t->wait == KW_FAULT_READ) && t->page >= page &&
            t->page < page + nr)
            t->wait = KW_RUNNING;
    }
}

void km_signal(struct km_mm *mm, uint32_t tid)
{
    struct km_thread *t = &mm->thread[tid];

    if (t->wait == KW_FAULT_UNREAD || t->wait == KW_FAULT_READ)
        t->wait = KW_RUNNING;
}

/* ---- events ---- */

static void event_post(struct km_mm *mm, struct km_thread *t, bool may_be_late)
{
    if (may_be_late && !mm->sim->settling &&
        choice_chance(&mm->sim->choice, mm->sim->set.late_events)) {
        t->wait = KW_EVENT_LATE;
        return;
    }
    t->wait = KW_EVENT_UNREAD;
    t->queued = ++mm->sim->nr_queued;
}

/* Raises mmap_changing at once; the message is queued with the thread's others. */
static void event_prepare(struct km_mm *mm, struct km_thread *t, struct kuffd_msg msg)
{
    BUG_ON(t->nr_events == KM_MAX_EVENTS);
    t->event[t->nr_events++] = msg;
    mm->mmap_changing++;
}

static void events_start(struct km_mm *mm, struct km_thread *t, bool may_be_late)
{
    t->next_event = 0;
    if (t->nr_events)
        event_post(mm, t, may_be_late);
}

bool km_thread_event_step(struct km_mm *mm, uint32_t tid)
{
    return km_event_step(mm, &mm->thread[tid]);
}

void km_agent_remapped(struct km_mm *mm, struct urange from, struct uaddr to)
{
    struct km_thread *t = &mm->agent.thread;

    event_prepare(mm, t, (struct kuffd_msg){
                             .type = KUFFD_REMAP, .from = from.start, .to = to, .len = from.len});
    events_start(mm, t, true);
}

bool km_event_step(struct km_mm *mm, struct km_thread *t)
{
    switch (t->wait) {
    case KW_EVENT_LATE:
        event_post(mm, t, false);
        return true;
    case KW_EVENT_READ:
        if (mm->has_uffd)
            mm->mmap_changing--;
        if (++t->next_event < t->nr_events) {
            event_post(mm, t, true);
        } else {
            t->nr_events = t->next_event = 0;
            t->child = NULL;
            t->wait = KW_RUNNING;
        }
        return true;
    case KW_RUNNING:
    case KW_FAULT_UNREAD:
    case KW_FAULT_READ:
    case KW_EVENT_UNREAD:
        break;
    }
    return false;
}

static bool is_posted(const struct km_thread *t, uint32_t k)
{
    return k < t->next_event || (k == t->next_event && t->wait != KW_EVENT_LATE);
}

/* The UNMAP of the old place, when the REMAP of the same call was queued already. */
static bool follows_posted_remap(const struct km_thread *t, uint32_t k, bool tail_too)
{
    const struct kuffd_msg *m = &t->event[k];

    if (m->type != KUFFD_UNMAP)
        return false;
    for (uint32_t i = 0; i < k; i++)
        if (t->event[i].type == KUFFD_REMAP && is_posted(t, i))
            return tail_too || t->event[i].from.v == m->range.start.v;
    return false;
}

bool km_may_fork(const struct km_mm *mm)
{
    for (uint32_t i = 0; i < KM_THREADS; i++) {
        const struct km_thread *t = &mm->thread[i];
        for (uint32_t k = 0; k < t->nr_events; k++)
            if (!is_posted(t, k) && !follows_posted_remap(t, k, false))
                return false;
    }
    return true;
}

bool km_is_reusable(const struct km_mm *mm, uint32_t page, uint32_t nr)
{
    for (uint32_t i = 0; i < KM_THREADS; i++) {
        const struct km_thread *t = &mm->thread[i];
        for (uint32_t k = 0; k < t->nr_events; k++) {
            const struct kuffd_msg *m = &t->event[k];
            struct urange r = m->type == KUFFD_REMAP ? (struct urange){m->from, m->len} : m->range;
            if (!is_posted(t, k) && !follows_posted_remap(t, k, true) &&
                km_page(r.start.v) < page + nr && km_page(urange_end(r)) > page)
                return false;
        }
    }
    return true;
}

/* ---- mappings ---- */

static bool same_vma(const struct km_mm *mm, uint32_t page)
{
    uint8_t a = mm->pte[page].vma, b = mm->pte[page + 1].vma;

    return (a & ~KV_BOUNDARY) == (b & ~KV_BOUNDARY) && !(b & KV_BOUNDARY);
}

uint32_t km_vma_start(const struct km_mm *mm, uint32_t page)
{
    while (page > 0 && same_vma(mm, page - 1))
        page--;
    return page;
}

uint32_t km_vma_end(const struct km_mm *mm, uint32_t page)
{
    while (page + 1 < KM_PAGES && same_vma(mm, page))
        page++;
    return page + 1;
}

static void boundary(struct km_mm *mm, uint32_t page)
{
    if (page < KM_PAGES)
        mm->pte[page].vma |= KV_BOUNDARY;
}

void km_mmap(struct km_mm *mm, uint32_t page, uint32_t nr)
{
    bool huge = mm->sim->set.huge;

    for (uint32_t i = page; i < page + nr; i++) {
        BUG_ON(mm->pte[i].vma & KV_MAPPED || mm->pte[i].state);
        mm->pte[i].vma = KV_MAPPED | (huge ? KV_HUGE : 0);
    }
    /* Neighbours of one kind may or may not become one mapping. */
    if (choice_chance(&mm->sim->choice, 512))
        boundary(mm, page);
    if (choice_chance(&mm->sim->choice, 512))
        boundary(mm, page + nr);
}

void km_mprotect(struct km_mm *mm, uint32_t page, uint32_t nr, bool readonly)
{
    for (uint32_t i = page; i < page + nr; i++) {
        mm->pte[i].vma &= (uint8_t)~KV_READONLY;
        if (readonly)
            mm->pte[i].vma |= KV_READONLY;
    }
    if (choice_chance(&mm->sim->choice, 128))
        boundary(mm, page);
    if (choice_chance(&mm->sim->choice, 128))
        boundary(mm, page + nr);
}

void km_advise_fork(struct km_mm *mm, uint32_t page, uint32_t nr, uint8_t flag)
{
    mm->keeps_memory |= flag != 0;
    for (uint32_t i = page; i < page + nr; i++)
        mm->pte[i].vma = (uint8_t)((mm->pte[i].vma & ~KV_NOT_CHILDS) | flag);
}

static struct urange pages(uint32_t page, uint32_t end)
{
    return urange(km_addr(page), km_addr(end));
}

/* Clears the range; one UNMAP for all of it, when anything registered was in it. */
static void unmap_range(struct km_mm *mm, struct km_thread *t, uint32_t page, uint32_t nr)
{
    uint32_t end = page + nr;
    bool registered = false;

    for (uint32_t i = page; i < end; i++) {
        registered |= mm->pte[i].vma & KV_REGISTERED;
        drop_page(mm, i);
        mm->pte[i].vma = 0;
    }
    boundary(mm, end);
    if (registered && mm->has_uffd)
        event_prepare(mm, t, (struct kuffd_msg){.type = KUFFD_UNMAP, .range = pages(page, end)});
}

void km_munmap(struct km_mm *mm, uint32_t tid, uint32_t page, uint32_t nr)
{
    struct km_thread *t = &mm->thread[tid];

    unmap_range(mm, t, page, nr);
    events_start(mm, t, true);
}

void km_remove(struct km_mm *mm, uint32_t tid, uint32_t page, uint32_t nr)
{
    struct km_thread *t = &mm->thread[tid];

    if (mm->pte[page].vma & KV_REGISTERED && mm->has_uffd)
        event_prepare(mm, t,
                      (struct kuffd_msg){.type = KUFFD_REMOVE, .range = pages(page, page + nr)});
    events_start(mm, t, false);
}

void km_zap(struct km_mm *mm, uint32_t page, uint32_t nr)
{
    for (uint32_t i = page; i < page + nr; i++)
        drop_page(mm, i);
}

void km_give_up(struct km_mm *mm, uint32_t page, uint32_t nr)
{
    for (uint32_t i = page; i < page + nr; i++) {
        struct km_pte *pte = &mm->pte[i];
        if (pte->state == KP_POISON)
            drop_page(mm, i);
        else if (pte->state == KP_PAGE && pte->flags & KP_EXCLUSIVE && !(pte->flags & KP_PINNED))
            pte->flags |= KP_LAZY;
    }
}

bool km_reclaim(struct km_mm *mm, uint32_t from, uint32_t max)
{
    bool any = false;

    for (uint32_t i = 0; i < KM_PAGES && max; i++) {
        uint32_t page = (from + i) % KM_PAGES;
        if (!(mm->pte[page].flags & KP_LAZY))
            continue;
        trace_page(mm->sim, page, "", "  the kernel takes back mm%u page", mm->id);
        drop_page(mm, page);
        sim_count(mm->sim, STAT_VANISHED, 1);
        any = true;
        max--;
    }
    return any;
}

void km_mremap(struct km_mm *mm, uint32_t tid, uint32_t from, uint32_t old_nr, uint32_t to,
               uint32_t new_nr, bool dontunmap)
{
    struct km_thread *t = &mm->thread[tid];
    uint8_t vma = mm->pte[from].vma & (uint8_t)~KV_BOUNDARY;

    BUG_ON(km_vma_end(mm, from) < from + old_nr);
    uint32_t tail = new_nr < old_nr ? old_nr - new_nr : 0;

    old_nr -= tail;
    unmap_range(mm, t, to, new_nr);
    if (vma & KV_REGISTERED && mm->has_uffd)
        event_prepare(mm, t,
                      (struct kuffd_msg){.type = KUFFD_REMAP,
                                         .from = uaddr(km_addr(from)),
                                         .to = uaddr(km_addr(to)),
                                         .len = (uint64_t)old_nr << PAGE_SHIFT});
    for (uint32_t i = 0; i < new_nr; i++) {
        mm->pte[to + i] = (struct km_pte){.vma = vma};
        if (i < old_nr) {
            struct km_pte *old = &mm->pte[from + i];
            mm->pte[to + i] = (struct km_pte){old->page, old->state, old->flags, vma};
            *old = (struct km_pte){.vma = old->vma};
        }
    }
    boundary(mm, to);
    boundary(mm, to + new_nr);
    if (tail)
        unmap_range(mm, t, from + old_nr, tail);
    if (!dontunmap)
        unmap_range(mm, t, from, old_nr);
    events_start(mm, t, true);
}

void km_grow(struct km_mm *mm, uint32_t page, uint32_t nr)
{
    uint8_t vma = mm->pte[page - 1].vma & (uint8_t)~KV_BOUNDARY;

    for (uint32_t i = page; i < page + nr; i++)
        mm->pte[i].vma = vma;
    boundary(mm, page + nr);
}

/* ---- life ---- */

void km_fork(struct km_mm *mm, uint32_t tid, struct km_mm *child)
{
    struct km_thread *t = &mm->thread[tid];
    bool registered = false;

    for (uint32_t i = 0; i < KM_PAGES; i++) {
        struct km_pte *from = &mm->pte[i], *to = &child->pte[i];
        if (from->vma & KV_NOFORK) {
            *to = (struct km_pte){0};
            continue;
        }
        registered |= from->vma & KV_REGISTERED;
        if (from->vma & KV_WIPE) {
            *to = (struct km_pte){.vma = from->vma};
            continue;
        }
        *to = (struct km_pte){.state = from->state, .vma = from->vma};
        if (from->state != KP_PAGE)
            continue;
        to->page = sim_page_alloc(mm->sim);
        memcpy(to->page, from->page, PAGE_SIZE);
        if (from->flags & KP_PINNED) { /* the child gets a copy at once */
            to->flags = KP_EXCLUSIVE;
        } else {
            from->flags &= (uint8_t)~KP_EXCLUSIVE;
            to->flags = from->flags & KP_LAZY;
        }
    }
    child->keeps_memory = mm->keeps_memory;
    sim_count(mm->sim, STAT_FORKS, 1);
    if (registered && mm->has_uffd) {
        child->has_uffd = true;
        t->child = child;
        event_prepare(mm, t, (struct kuffd_msg){.type = KUFFD_FORK, .fd = (int)child->id});
    }
    events_start(mm, t, mm->sim->set.unordered);
}

void km_exit(struct km_mm *mm)
{
    mm->exited = true;
    mm->mmap_changing = mm->agent.thread.nr_events && mm->has_uffd; /* it lives on */
    mm->nr_held = 0;
    for (uint32_t i = 0; i < KM_THREADS; i++)
        mm->thread[i] = (struct km_thread){0};
    if (!mm->has_agent)
        km_die(mm);
}

void km_die(struct km_mm *mm)
{
    if (mm->dead)
        return;
    mm->exited = mm->dead = true;
    mm->has_agent = false;
    if (mm->agent.state == JOB_MOVING && mm->agent.run >= RUN_ASLEEP) {
        /* What went by mremap() was nowhere else; a child may miss it (client_result_of_missing). */
        memset(mm->agent.result + mm->agent.run_slot, CAPTURE_LOST, mm->agent.run_nr);
        mm->sim->fork_lost = true;
    }
    /* Likewise what is in stage 1 and has no result. */
    if (mm->agent.state == JOB_MOVING && mm->agent.astray != UINT32_MAX) {
        mm->agent.result[mm->agent.astray] = CAPTURE_LOST;
        mm->agent.astray = UINT32_MAX;
        mm->sim->fork_lost = true;
    }
    mm->agent.state = JOB_NONE;
    mm->agent.thread = (struct km_thread){0};
    for (uint32_t i = 0; i < KM_THREADS; i++)
        mm->thread[i] = (struct km_thread){0};
    /* The transfer area is the worker's as well: what was captured can still be read. */
    for (uint32_t i = 0; i < KM_PAGES; i++)
        drop_page(mm, i);
    sim_count(mm->sim, STAT_DEATHS, 1);
}
