/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes pages out of the program (DESIGN D3).  Called by the loop for one
 * command; a page goes
 *
 *   program --MOVE--> stage 1 --barrier--> --MOVE--> stage 2 --copy--> transfer area
 *
 *  1. Into stage 1 through the main userfaultfd, with which it is registered,
 *     so that the kernel refuses while an event is unread.  Then nothing more
 *     of the command is tried: the worker has to read first.
 *  2. The barrier takes the mmap lock for writing, which waits for whoever is
 *     writing through a page reference that it got before the page moved
 *     (/proc/PID/mem, ptrace).  No byte is read before it.
 *  3. Stage 2 is registered with the agent's own userfaultfd, which has no
 *     events: it can be emptied without a message to the worker.
 *  4. Every slot named by the command has a result when `done` is set, and a
 *     page that is not TAKEN is where it was.
 *  5. Nothing here waits for a fault on the program's memory: the worker, which
 *     would have to answer it, does not read while a command runs.
 *  6. EEXIST from a MOVE to an empty place means that the page is there.  Linux 6.18, up to 6.18.50,
 *     does not count what it moved after an internal EAGAIN (the entry changed under its hands: a
 *     first write, copy on write), and stops at it.  What is not counted is not lost for that:
 *     after a MOVE that stopped half-way, or so, stage 1 is asked whether the next page is there.
 *  7. Where the worker allows it (RING_MAY_REMAP) one run, the last, goes by mremap()
 *     through a stage of its own: remap.c.
 *
 * `phase`, with `phase_of`, tells the worker how far we came should we be killed.
 */
#include <linux/mman.h>

#include "agent/agent_priv.h"

struct stages {
    uintptr_t one, two;
};

/* What an error about one page means (move_pages_pte() in mm/userfaultfd.c). */
uint8_t agent_classify(long error)
{
    switch (error) {
    case -EAGAIN:
        return CAPTURE_EVENTS;
    case -ENOENT:
        return CAPTURE_HOLE;
    case -EBUSY:
    case -EEXIST: /* its slot in stage 1 could not be emptied */
    case -ENOMEM:
        return CAPTURE_BUSY;
    default: /* EINVAL: other kind of mapping, locked, not writable; EFAULT: guard, poison */
        return CAPTURE_REFUSED;
    }
}

/* The result field can be short, and is signed: -errno, or left as it was, when nothing moved. */
uint32_t agent_move(int uffd, uintptr_t dst, uintptr_t src, uint32_t nr, uint64_t mode,
                    long *ret_error)
{
    struct uffdio_move m = {
        .dst = dst,
        .src = src,
        .len = (uint64_t)nr * PAGE_SIZE,
        .mode = mode,
    };
    long r = sys_ioctl(uffd, UFFDIO_MOVE, &m);

    if (r == 0)
        return nr;
    if (m.move > 0) {
        uint64_t moved = (uint64_t)m.move / PAGE_SIZE;

        if (moved)
            return moved < nr ? (uint32_t)moved : nr;
    }
    *ret_error = r;
    return 0;
}

/* To a stage, where nobody waits. */
static uint32_t move(int uffd, uintptr_t dst, uintptr_t src, uint32_t nr, uint64_t mode,
                     long *ret_error)
{
    return agent_move(uffd, dst, src, nr, mode | UFFDIO_MOVE_MODE_DONTWAKE, ret_error);
}

/* At most so many in one command, 2 to 3 us each: messages wait while it runs. */
#define UNSHARE_BUDGET 256u
#define UNSHARE_BATCH 16u

/*
 * Since a fork a page is not the program's alone, and stays EBUSY even when the
 * child is gone, until it is written to.  Where the worker allows it (no relative is
 * left, or there is nothing else to take), this writes to it: an atomic "or 0",
 * which changes nothing.  Why a futex call: where the page is missing after all it
 * answers EFAULT and does not wait for a userfault, as a store, MADV_POPULATE_WRITE
 * and process_vm_writev would (rule 5).  It wakes nobody: our own word has no
 * waiter, and the comparison with the program's hardly ever holds.
 */
static void unshare_page(struct agent *a, uintptr_t page)
{
    sys(futex, &a->done, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0, page,
        FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 0x7ff));
}

/* The next pages of a run whose first one was refused.  False: enough for this command. */
static bool unshare(struct agent *a, uintptr_t page, uint32_t nr, uint32_t *budget)
{
    if (!*budget)
        return false;
    nr = nr < UNSHARE_BATCH ? nr : UNSHARE_BATCH;
    nr = nr < *budget ? nr : *budget;
    *budget -= nr;
    for (uint32_t i = 0; i < nr; i++)
        unshare_page(a, page + (uintptr_t)i * PAGE_SIZE);
    return true;
}

/*
 * There is something in the page's place in stage 1: the page (rule 6), which goes back, or something of
 * mlockall()'s or of whoever reads all of his memory, and then the program has its page.  What cannot
 * go back was taken: should it not be the page, then the program's counts, whatever the entry says.
 */
static uint8_t resolve(struct agent *a, uintptr_t src, uintptr_t dst, bool *stuck)
{
    long error = 0;

    if (agent_move(a->uffd, src, dst, 1, 0, &error))
        return CAPTURE_BUSY;
    if (error != -EEXIST)
        return CAPTURE_TAKEN;
    *stuck = true;
    return CAPTURE_BUSY;
}

/* Is there anything in the slot's place in stage 1?  Then it is in stage 2 now.  No event hinders that. */
static bool is_staged(struct agent *a, const struct stages *s, uint32_t slot)
{
    uintptr_t at = (uintptr_t)slot * PAGE_SIZE;
    long error = 0;

    return move(a->own, s->two + at, s->one + at, 1, 0, &error) || error == -EEXIST;
}

/* False when an event is unread: the rest of the command is not to be tried. */
static bool take(struct agent *a, const struct stages *s, const struct ring_vec *v, uint32_t *budget,
                 uint32_t *unshared, bool *stuck)
{
    bool doubtful = false; /* more may have moved than was counted: those that follow */
    uint32_t i = 0;

    while (i < v->nr_pages) {
        uintptr_t src = v->addr + (uintptr_t)i * PAGE_SIZE;
        uintptr_t dst = s->one + (uintptr_t)(v->slot + i) * PAGE_SIZE;
        uint8_t *result = &a->result[v->slot + i];
        long error = 0;
        uint32_t nr = v->nr_pages - i, moved = move(a->uffd, dst, src, nr, 0, &error);

        /* A range that crosses a mapping's end is refused as a whole: ask for the page alone. */
        if (!moved && error == -EINVAL && nr > 1)
            moved = move(a->uffd, dst, src, nr = 1, 0, &error);
        if (!moved && error == -EBUSY && unshare(a, src, nr, budget)) {
            moved = move(a->uffd, dst, src, nr, 0, &error);
            *unshared += moved < UNSHARE_BATCH ? moved : UNSHARE_BATCH;
        }
        for (uint32_t k = 0; k < moved; k++)
            result[k] = CAPTURE_TAKEN;
        i += moved;
        if (moved) {
            doubtful = moved < nr;
            continue;
        }
        if (error == -EEXIST) {
            doubtful = true;
            result[0] = resolve(a, src, dst, stuck);
        } else if (doubtful && is_staged(a, s, v->slot + i)) {
            result[0] = CAPTURE_TAKEN;
        } else {
            doubtful = false;
            result[0] = agent_classify(error);
            if (result[0] == CAPTURE_EVENTS)
                return false;
        }
        i++;
    }
    return true;
}

/*
 * Slots [lo, hi) from stage 1 to stage 2, holes left out.  A page that will not
 * go (nobody has been seen to hold one, but a pin is possible) stays, readable,
 * where it is, as `place` says.
 */
static void empty_stage1(struct agent *a, uintptr_t stage1, uintptr_t stage2, uint32_t lo,
                         uint32_t hi, uint8_t *place, bool *stuck)
{
    uint32_t i = lo, tries = 0;

    while (i < hi) {
        uintptr_t at = (uintptr_t)i * PAGE_SIZE;
        long error = 0;
        uint32_t moved = move(a->own, stage2 + at, stage1 + at, hi - i,
                              UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES, &error);

        if (!moved) {
            if (error == -EAGAIN && tries++ < 100)
                continue;
            if (error != -EEXIST) { /* else it is there (rule 6): stage 2 was empty */
                place[i] = AGENT_IN_STAGE1;
                *stuck = true;
            }
            moved = 1;
        }
        tries = 0;
        i += moved;
    }
}

static void copy_out(struct agent *a, uintptr_t stage1, uintptr_t stage2, uint32_t lo, uint32_t hi,
                     const uint8_t *place)
{
    for (uint32_t i = lo, n; i < hi; i += n) {
        uintptr_t from = place[i] == AGENT_IN_STAGE2   ? stage2
                         : place[i] == AGENT_IN_STAGE1 ? stage1
                                                       : a->ctl->area + AGENT_AT_REMAP;

        n = 1;
        if (a->result[i] != CAPTURE_TAKEN)
            continue;
        while (i + n < hi && a->result[i + n] == CAPTURE_TAKEN && place[i + n] == place[i])
            n++;
        sys_copy(a->transfer + (size_t)i * PAGE_SIZE,
                 (const void *)(from + (uintptr_t)i * PAGE_SIZE), (size_t)n * PAGE_SIZE);
    }
}

/* Everything in the ring can be changed under our hands by the program: copy first, then check. */
static uint32_t read_vecs(struct agent *a, bool huge)
{
    volatile struct ring_vec *shared = a->ring->vecs;
    uint32_t max = huge ? 1 : RING_MAX_VECS;
    uint32_t nr = *(volatile uint32_t *)&a->ring->nr_vecs, out = 0;
    uintptr_t own = a->ctl->area, own_end = own + AGENT_AREA_BYTES;

    for (uint32_t i = 0; i < nr && i < max; i++) {
        struct ring_vec v = {shared[i].addr, shared[i].nr_pages, shared[i].slot};

        if (v.slot >= RING_MAX_PAGES || v.nr_pages > RING_MAX_PAGES - v.slot)
            continue;
        for (uint32_t k = 0; k < v.nr_pages; k++)
            a->result[v.slot + k] = CAPTURE_NOT_TRIED;
        if (v.addr % PAGE_SIZE || v.addr > UINT64_MAX / 2 ||
            (v.addr < own_end && v.addr + v.nr_pages * PAGE_SIZE > own))
            continue;
        a->vecs[out++] = v;
    }
    return out;
}

void agent_set_phase(struct agent *a, enum ring_phase phase)
{
    atomic_store_explicit(&a->ring->phase, phase, memory_order_release);
}

/* A shorter run is not worth the message that its mremap() costs. */
#define REMAP_MIN_PAGES 16u

/* Which vec goes by mremap(): the longest; NULL: none. */
static const struct ring_vec *choose_run(const struct agent *a, uint32_t nr, uint32_t flags)
{
    const struct ring_vec *best = NULL;

    for (uint32_t i = 0; i < nr && flags & RING_MAY_REMAP; i++)
        if (a->vecs[i].nr_pages >= (best ? best->nr_pages + 1 : REMAP_MIN_PAGES))
            best = &a->vecs[i];
    return best;
}

/*
 * Its first page by MOVE, a huge one as a whole, and the rest by mremap().  Where either
 * refuses, page by page.  What mremap() has taken is in *v then; else there is no page in it.
 */
static void take_run(struct agent *a, const struct stages *s, struct ring_vec *v, bool huge,
                     uint8_t *place, uint32_t *budget, uint32_t *unshared, bool *stuck)
{
    uint32_t one = huge ? v->nr_pages : 1;
    long error = 0;
    uint32_t moved =
        move(a->uffd, s->one + (uintptr_t)v->slot * PAGE_SIZE, v->addr, one, 0, &error);

    while (moved && moved < one && is_staged(a, s, v->slot + moved)) /* rule 6 */
        moved++;
    for (uint32_t i = 0; i < moved; i++)
        a->result[v->slot + i] = CAPTURE_TAKEN;
    v->addr += (uintptr_t)moved * PAGE_SIZE;
    v->slot += moved;
    v->nr_pages -= moved;
    if (!v->nr_pages || ((moved || error == -EBUSY) &&
                         agent_remap(a, v->addr, v->nr_pages, v->slot, s->two, place)))
        return;
    take(a, s, v, budget, unshared, stuck);
    v->nr_pages = 0;
}

/*
 * Not all of a stage of small pages by one call: the kernel would give its page table back
 * (CONFIG_PT_RECLAIM, 6.14), and want memory for one at the next capture.  That is taken most often
 * where there is none: when the program's cgroup is full.
 */
static void discard(uintptr_t stage2, uint32_t lo, uint32_t hi, bool huge)
{
    uint32_t mid = huge ? hi : lo + (hi - lo) / 2;

    if (lo < mid)
        sys_madvise((void *)(stage2 + (uintptr_t)lo * PAGE_SIZE), (size_t)(mid - lo) * PAGE_SIZE,
                    MADV_DONTNEED_LOCKED);
    if (mid < hi)
        sys_madvise((void *)(stage2 + (uintptr_t)mid * PAGE_SIZE), (size_t)(hi - mid) * PAGE_SIZE,
                    MADV_DONTNEED_LOCKED);
}

void agent_capture(struct agent *a, uint32_t number, bool huge)
{
    uintptr_t stage1 = a->ctl->area + (huge ? AGENT_AT_STAGE1_HUGE : AGENT_AT_STAGE1);
    uintptr_t stage2 = a->ctl->area + (huge ? AGENT_AT_STAGE2_HUGE : AGENT_AT_STAGE2);
    const struct stages stages = {stage1, stage2};
    uint8_t place[RING_MAX_PAGES];
    bool *stuck = &a->stuck[huge], unread = false;
    struct ring_vec by_remap = {0, 0, RING_MAX_PAGES};
    uint32_t flags = *(volatile uint32_t *)&a->ring->flags;
    uint32_t nr, lo = RING_MAX_PAGES, hi = 0, unshared = 0;
    uint32_t budget = flags & RING_MAY_UNSHARE ? UNSHARE_BUDGET : 0;

    for (uint32_t i = 0; i < RING_MAX_PAGES; i++) {
        a->result[i] = CAPTURE_NOT_TRIED;
        place[i] = AGENT_IN_STAGE2;
    }
    a->ring->nr_remapped = 0;
    nr = read_vecs(a, huge);
    const struct ring_vec *run = choose_run(a, nr, flags);
    agent_set_phase(a, RING_IDLE);
    atomic_store_explicit(&a->ring->phase_of, number, memory_order_release);
    if (*stuck) {
        *stuck = false;
        empty_stage1(a, stage1, stage2, 0, RING_MAX_PAGES, place, stuck);
        discard(stage2, 0, RING_MAX_PAGES, huge);
        for (uint32_t i = 0; i < RING_MAX_PAGES; i++)
            /* its slot is taken: the page that was to go there is BUSY */
            place[i] = AGENT_IN_STAGE2;
    }
    agent_set_phase(a, RING_TAKING);
    for (uint32_t i = 0; i < nr && !unread; i++)
        if (&a->vecs[i] != run)
            unread = !take(a, &stages, &a->vecs[i], &budget, &unshared, stuck);
    if (run && !unread) {
        by_remap = *run;
        take_run(a, &stages, &by_remap, huge, place, &budget, &unshared, stuck);
    }
    a->ring->nr_unshared = unshared;
    for (uint32_t i = 0; i < RING_MAX_PAGES; i++) {
        a->ring->result[i] = a->result[i];
        if (a->result[i] != CAPTURE_TAKEN)
            continue;
        lo = i < lo ? i : lo;
        hi = i + 1;
    }
    if (lo < hi) {
        sys_madvise((void *)stage1, STAGE_BYTES, MADV_DONTFORK); /* the barrier */
        agent_set_phase(a, RING_STAGED);
        /* Not where those of the run are: there a MOVE finds its place taken. */
        empty_stage1(a, stage1, stage2, lo, by_remap.slot < hi ? by_remap.slot : hi, place, stuck);
        empty_stage1(a, stage1, stage2, by_remap.slot + by_remap.nr_pages, hi, place, stuck);
        copy_out(a, stage1, stage2, lo, hi, place);
        agent_set_phase(a, RING_COPIED);
        discard(stage2, lo, hi, huge);
    }
    if (by_remap.nr_pages)
        agent_remap_done(a);
}
