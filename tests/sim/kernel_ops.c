/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's side of the modelled kernel: userfaultfd messages, struct
 * target_ops, and the agent's captures.
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
    struct km_thread *fault = NULL, *event = NULL;

    if (mm->dead)
        return false;
    for (uint32_t i = 0; i < KM_THREADS; i++) {
        struct km_thread *t = &mm->thread[i];
        if (t->wait == KW_FAULT_UNREAD && (!fault || t->queued < fault->queued))
            fault = t;
        if (t->wait == KW_EVENT_UNREAD && (!event || t->queued < event->queued))
            event = t;
    }
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
        if (mm->pte[page].state != KP_NONE) {
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

/* ---- captures ---- */

static void job_prepare(struct km_agent *a)
{
    a->fills = a->huge = false;
    a->nr = a->at = a->nr_put = 0;
    for (uint32_t i = 0; i < CAPTURE_MAX_PAGES; i++) {
        a->page[i] = UINT32_MAX;
        if (!MUTANT(MUTANT_RESULTS_NOT_WIPED))
            a->result[i] = CAPTURE_NOT_TRIED;
        if (a->staged[i])
            memset(a->staged[i], 0xdb, PAGE_SIZE); /* the bytes of the last capture are gone */
    }
}

static int op_capture_prepare(void *t, const struct capture_vec *vecs, uint32_t nr_vecs, bool huge)
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
    trace(mm->sim, "  CAPTURE mm%u asked for %u runs, first page %u (%u pages)", mm->id, nr_vecs,
          a->page[0], a->nr);
    return 0;
}

static int op_fill_prepare(void *t, struct uaddr base)
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

static void op_capture_start(void *t)
{
    struct km_mm *mm = t;

    sim_interleave(mm->sim);
    mm->agent.state = mm->has_agent ? JOB_MOVING : JOB_DONE; /* it may just have died */
    sim_interleave(mm->sim);
}

static const void *op_staged(void *t, struct sslot slot)
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
    if (pte->state == KP_PAGE && (pte->flags & KP_PINNED || !(pte->flags & KP_EXCLUSIVE)))
        return CAPTURE_BUSY;
    if (!s->settling && !(s->flags & STEP_NO_FAIL) && choice_chance(&s->choice, s->set.busy))
        return choice_chance(&s->choice, 512) ? CAPTURE_BUSY : CAPTURE_REFUSED;
    if (a->staged[slot])
        sim_page_free(s, a->staged[slot]);
    if (pte->state == KP_ZERO) {
        a->staged[slot] = sim_page_alloc(s);
        memset(a->staged[slot], 0, PAGE_SIZE);
    } else {
        a->staged[slot] = pte->page;
    }
    *pte = (struct km_pte){.vma = pte->vma};
    sim_count(s, STAT_CAPTURED, 1);
    return CAPTURE_TAKEN;
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
        fill_page(mm, first + a->nr_put++, FILL_COPY, km_zeros);
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

bool km_agent_step(struct km_mm *mm)
{
    struct sim *s = mm->sim;
    struct km_agent *a = &mm->agent;

    if (!mm->has_agent || a->state != JOB_MOVING)
        return false;
    if (a->fills)
        return fill_step(mm);
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
        if (a->page[slot] == UINT32_MAX)
            continue;
        a->result[slot] = capture_page(mm, slot);
        trace_page(s, a->page[slot], result_names[a->result[slot]], "  capture in mm%u: page",
                   mm->id);
        if (a->result[slot] == CAPTURE_EVENTS)
            a->at = a->nr; /* the rest is not tried */
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
    if (mm->agent.state == JOB_MOVING)
        mm->agent.state = JOB_DONE;
    if (mm->exited)
        km_die(mm);
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
    .capture_prepare = op_capture_prepare,
    .capture_start = op_capture_start,
    .fill_prepare = op_fill_prepare,
    .staged = op_staged,
    .scan = op_scan,
    .is_changing = op_is_changing,
    .is_registered = op_is_registered,
    .now_ns = op_now,
};
