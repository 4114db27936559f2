/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's side of the modelled kernel: userfaultfd messages and struct
 * target_ops.  agent_model.c has what the agent does.
 */
#include <errno.h>
#include <string.h>

#include "kernel/uapi.h"
#include "kernel_model.h"

/* ---- messages ---- */

static void encode(const struct kuffd_msg *m, void *raw)
{
    struct uffd_msg u = {0};

    switch (m->type) {
    case KUFFD_FAULT:
        u.event = UFFD_EVENT_PAGEFAULT;
        u.arg.pagefault.address = m->addr.v;
        u.arg.pagefault.flags = m->write ? UFFD_PAGEFAULT_FLAG_WRITE : 0;
        break;
    case KUFFD_FORK:
        u.event = UFFD_EVENT_FORK;
        u.arg.fork.ufd = (uint32_t)m->fd;
        break;
    case KUFFD_REMAP:
        u.event = UFFD_EVENT_REMAP;
        u.arg.remap.from = m->from.v;
        u.arg.remap.to = m->to.v;
        u.arg.remap.len = m->len;
        break;
    case KUFFD_VOID: /* the kernel sends none */
        break;
    case KUFFD_REMOVE:
    case KUFFD_UNMAP:
        u.event = m->type == KUFFD_UNMAP ? UFFD_EVENT_UNMAP : UFFD_EVENT_REMOVE;
        u.arg.remove.start = m->range.start.v;
        u.arg.remove.end = urange_end(m->range);
        break;
    }
    memcpy(raw, &u, sizeof(u));
}

bool km_read(struct km_mm *mm, void *raw, struct kuffd_msg *ret)
{
    struct km_thread *fault = NULL, *event = NULL, *agent = &mm->agent.thread;

    if (mm->dead)
        return false;
    for (uint32_t i = 0; i < KM_THREADS; i++) {
        struct km_thread *t = &mm->thread[i];
        if (t->wait == KW_FAULT_UNREAD && (!fault || t->queued < fault->queued))
            fault = t;
        if (t->wait == KW_EVENT_UNREAD && (!event || t->queued < event->queued))
            event = t;
    }
    if (agent->wait == KW_EVENT_UNREAD && (!event || agent->queued < event->queued))
        event = agent;
    if (fault) {
        fault->wait = KW_FAULT_READ;
        *ret = (struct kuffd_msg){.type = KUFFD_FAULT,
                                  .addr = uaddr(km_addr(fault->page)),
                                  .write = fault->write,
                                  .fd = -1};
        encode(ret, raw);
        return true;
    }
    if (event) {
        event->wait = KW_EVENT_READ;
        *ret = event->event[event->next_event];
        encode(ret, raw);
        return true;
    }
    return false;
}

void km_close(struct km_mm *mm)
{
    mm->has_uffd = false;
    mm->mmap_changing = 0;
    for (uint32_t i = 0; i < KM_PAGES; i++)
        mm->pte[i].vma &= (uint8_t)~KV_REGISTERED;
    for (uint32_t i = 0; i < KM_THREADS; i++) {
        struct km_thread *t = &mm->thread[i];
        if (t->wait == KW_EVENT_UNREAD || t->wait == KW_EVENT_LATE || t->wait == KW_EVENT_READ) {
            /* Nobody will read what is left; an unread child's userfaultfd goes with it. */
            if (t->child && t->wait != KW_EVENT_READ)
                km_close(t->child);
            t->wait = KW_EVENT_READ;
            t->next_event = t->nr_events - 1;
        }
    }
    if (mm->agent.thread.nr_events)
        mm->agent.thread.wait = KW_EVENT_READ;
    km_wake(mm, 0, KM_PAGES);
}

/* ---- operations ---- */

/* What stands before the range is looked at, for each operation. */
static enum kres enter(struct km_mm *mm, bool stopped_by_changes)
{
    struct sim *s = mm->sim;

    if (mm->dead)
        return KRES_DEAD;
    if (stopped_by_changes && mm->mmap_changing) {
        sim_count(s, STAT_RETRIED, 1);
        return KRES_RETRY;
    }
    if (sim_fails(s))
        return choice_chance(&s->choice, s->set.fatal) ? KRES_FATAL : KRES_RETRY;
    return KRES_DONE;
}

static const char *res_name(enum kres r)
{
    static const char *const names[] = {
        [KRES_DONE] = "done",   [KRES_RETRY] = "EAGAIN", [KRES_RACED] = "EEXIST",
        [KRES_GONE] = "ENOENT", [KRES_DEAD] = "ESRCH",   [KRES_FATAL] = "an unexpected error",
    };
    return names[r];
}

enum fill_kind { FILL_COPY, FILL_ZERO, FILL_POISON };

static void fill_page(struct km_mm *mm, uint32_t page, enum fill_kind kind, const uint8_t *src)
{
    struct km_pte *pte = &mm->pte[page];

    switch (kind) {
    case FILL_COPY:
        pte->page = sim_page_alloc(mm->sim);
        memcpy(pte->page, src, PAGE_SIZE);
        pte->state = KP_PAGE;
        pte->flags = KP_EXCLUSIVE;
        break;
    case FILL_ZERO:
        pte->state = KP_ZERO;
        break;
    case FILL_POISON:
        pte->state = KP_POISON;
        break;
    }
    sim_count(mm->sim, STAT_FILLED, 1);
}

/* One system call: as far as it gets; *at moves on.  DONE: to the end, or short without reason. */
static enum kres fill_once(struct km_mm *mm, uint32_t *at, uint32_t end, enum fill_kind kind,
                           const uint8_t *src)
{
    struct sim *s = mm->sim;
    uint32_t from = *at, page = from;
    uint32_t stop = choice_chance(&s->choice, 128) ? choice_between(&s->choice, from, end) : end;
    enum kres r = enter(mm, true);

    if (r != KRES_DONE)
        return r;
    sim_interleave(s); /* whether something changes is asked before the mapping is looked up */
    if (mm->dead)
        return KRES_DEAD;
    if (from >= KM_PAGES || end > KM_PAGES || !(mm->pte[from].vma & KV_REGISTERED) ||
        !mm->has_uffd || km_vma_end(mm, from) < end)
        return KRES_GONE;
    if (mm->mmap_changing) /* and again behind it, this time locked */
        return KRES_RETRY;
    for (; page < stop; page++) {
        /* A copy goes over poison, which is no page (mfill_atomic_install_pte()). */
        if (mm->pte[page].state != KP_NONE &&
            !(kind == FILL_COPY && mm->pte[page].state == KP_POISON)) {
            r = KRES_RACED;
            sim_count(s, STAT_RACED, 1);
            break;
        }
        if (page > from && sim_fails(s)) {
            r = KRES_RETRY;
            break;
        }
        fill_page(mm, page, kind, src ? src + ((size_t)(page - from) << PAGE_SHIFT) : NULL);
    }
    *at = page;
    km_wake(mm, from, page - from);
    return r;
}

/* As kuffd_copy() and its like: a short answer is followed up. */
static enum kres fill(struct km_mm *mm, struct uaddr dst, const uint8_t *src, uint64_t len,
                      enum fill_kind kind, uint64_t *ret_done)
{
    static const char *const names[] = {"COPY", "ZEROPAGE", "POISON"};
    uint32_t first = km_page(dst.v), at = first, end = first + (uint32_t)(len >> PAGE_SHIFT);
    enum kres r = KRES_DONE;

    BUG_ON((dst.v | len) & ~PAGE_MASK || !len);
    while (r == KRES_DONE && at < end) {
        sim_interleave(mm->sim);
        r = fill_once(mm, &at, end, kind, src ? src + ((size_t)(at - first) << PAGE_SHIFT) : NULL);
    }
    *ret_done = (uint64_t)(at - first) << PAGE_SHIFT;
    if (mm->sim->tracing && end - first == 1) {
        char after[48];
        snprintf(after, sizeof(after), ": %s", res_name(r));
        sim_trace_page(mm->sim, first, after, "  %s mm%u page", names[kind], mm->id);
    } else {
        trace(mm->sim, "  %s mm%u pages %u..%u: %s after %u", names[kind], mm->id, first, end - 1,
              res_name(r), at - first);
    }
    sim_interleave(mm->sim);
    return r;
}

static enum kres op_copy(void *t, struct uaddr dst, const void *src, uint64_t len,
                         uint64_t *ret_done)
{
    return fill(t, dst, src, len, FILL_COPY, ret_done);
}

static enum kres op_zero(void *t, struct uaddr dst, uint64_t len, uint64_t *ret_done)
{
    return fill(t, dst, NULL, len, FILL_ZERO, ret_done);
}

static enum kres op_poison(void *t, struct uaddr dst, uint64_t len, uint64_t *ret_done)
{
    return fill(t, dst, NULL, len, FILL_POISON, ret_done);
}

static enum kres op_wake(void *t, struct urange r)
{
    struct km_mm *mm = t;

    sim_interleave(mm->sim);
    if (mm->dead)
        return KRES_DEAD;
    if (!r.len)
        r = urange(km_addr(0), km_addr(KM_PAGES));
    trace(mm->sim, "  WAKE mm%u page %u", mm->id, km_page(r.start.v));
    km_wake(mm, km_page(r.start.v), (uint32_t)(r.len >> PAGE_SHIFT));
    return KRES_DONE;
}

static enum kres op_register(void *t, struct urange r)
{
    struct km_mm *mm = t;
    uint32_t first = km_page(r.start.v), end = first + (uint32_t)(r.len >> PAGE_SHIFT);
    bool any = false;

    sim_interleave(mm->sim);
    enum kres res = enter(mm, false);
    if (res == KRES_DONE) { /* holes are skipped */
        for (uint32_t i = first; i < end; i++)
            any |= mm->pte[i].vma & KV_MAPPED;
        for (uint32_t i = first; i < end && any; i++)
            if (mm->pte[i].vma & KV_MAPPED)
                mm->pte[i].vma |= KV_REGISTERED;
        if (!any)
            res = KRES_GONE;
    }
    sim_interleave(mm->sim);
    if (res == KRES_DONE && (!(mm->pte[first].vma & KV_MAPPED) || km_vma_end(mm, first) < end))
        res = KRES_RETRY;
    trace(mm->sim, "  REGISTER mm%u pages %u..%u: %s", mm->id, first, end - 1, res_name(res));
    sim_interleave(mm->sim);
    return res;
}

static enum kres op_unregister(void *t, struct urange r)
{
    struct km_mm *mm = t;
    uint32_t first = km_page(r.start.v), nr = (uint32_t)(r.len >> PAGE_SHIFT);

    sim_interleave(mm->sim);
    if (mm->dead)
        return KRES_DEAD;
    for (uint32_t i = first; i < first + nr; i++)
        mm->pte[i].vma &= (uint8_t)~KV_REGISTERED;
    km_wake(mm, first, nr);
    return KRES_DONE;
}

static bool is_present(const struct km_mm *mm, uint32_t page)
{
    return mm->pte[page].state == KP_PAGE || mm->pte[page].state == KP_ZERO;
}

static bool is_huge(const struct km_mm *mm, uint32_t first)
{
    for (uint32_t i = first; i < first + PTES_PER_LEAF; i++)
        if (!(mm->pte[i].vma & KV_HUGE) || mm->pte[i].state != KP_PAGE ||
            (i > first && mm->pte[i].vma & KV_BOUNDARY))
            return false;
    return true;
}

static int op_scan(void *t, struct urange r, struct scan_run *runs, uint32_t max,
                   struct uaddr *ret_next)
{
    struct km_mm *mm = t;
    struct sim *s = mm->sim;
    uint32_t at = km_page(r.start.v), end = at + (uint32_t)(r.len >> PAGE_SHIFT), nr = 0;

    sim_interleave(s);
    if (mm->dead)
        return -ESRCH;
    if (sim_fails(s))
        return -ENOMEM;
    if (choice_chance(&s->choice, 256)) {
        max = choice_between(&s->choice, 1, max);
        end = choice_between(&s->choice, at + 1, end);
    }
    while (at < end && nr < max) {
        if (!is_present(mm, at)) {
            at++;
            continue;
        }
        uint32_t from = at;
        while (at < end && is_present(mm, at))
            at++;
        runs[nr++] = (struct scan_run){.r = urange(km_addr(from), km_addr(at)),
                                       .huge = at - from == PTES_PER_LEAF &&
                                               from % PTES_PER_LEAF == 0 && is_huge(mm, from)};
    }
    *ret_next = uaddr(km_addr(at));
    return (int)nr;
}

static bool op_is_changing(void *t)
{
    struct km_mm *mm = t;

    sim_interleave(mm->sim);
    bool changing = mm->mmap_changing;
    sim_interleave(mm->sim);
    return changing;
}

/* Of a child without agent nobody knows who it is. */
static bool op_has_one_thread(void *t)
{
    const struct km_mm *mm = t;

    return mm->sim->set.max_threads == 1 && mm->had_agent;
}

static enum kres op_is_registered(void *t, struct uaddr page)
{
    struct km_mm *mm = t;

    sim_interleave(mm->sim);
    if (mm->dead)
        return KRES_DEAD;
    if (mm->mmap_changing)
        return KRES_RETRY;
    return mm->has_uffd && mm->pte[km_page(page.v)].vma & KV_REGISTERED ? KRES_DONE : KRES_GONE;
}

static uint64_t op_now(void *t)
{
    struct km_mm *mm = t;

    return mm->sim->clock_ns += 100;
}

uint32_t km_resident_pages(const struct km_mm *mm)
{
    uint32_t nr = 0;

    for (uint32_t i = 0; i < KM_PAGES; i++)
        nr += mm->pte[i].state == KP_PAGE;
    return nr;
}

const struct target_ops km_target_ops = {
    .reg = op_register,
    .unreg = op_unregister,
    .copy = op_copy,
    .zero = op_zero,
    .wake = op_wake,
    .poison = op_poison,
    .capture_prepare = km_capture_prepare,
    .capture_start = km_capture_start,
    .fill_prepare = km_fill_prepare,
    .staged = km_staged,
    .scan = op_scan,
    .is_changing = op_is_changing,
    .is_registered = op_is_registered,
    .has_one_thread = op_has_one_thread,
    .now_ns = op_now,
};
