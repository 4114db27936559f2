/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads from the `file` node.  Counterpart of swapin_readahead() in Linux
 * mm/swap_state.c: a table of reads, found by slot, each with a buffer of its own.
 *
 *   FREE --a fault--> READING --the device--> READY --everyone has the bytes--> FREE
 *     ^                  |  ^                                                    |
 *     +--nobody waits----+  +--one page of a window could not be read: that one alone
 *
 * A read ends with who waits for it: an entry that names one of its slots.  One that has
 * changed meanwhile (unmapped, moved, filled, ended) waits no more, and what was read
 * for it is dropped.
 *
 * A read ahead of its fault (swapin_ahead) waits in its buffer for it.  It wakes nobody, an
 * error in it is nobody's, and it makes way when all reads are in use.  So does, after these, one
 * that another client has not come to take.
 *
 * Invariants:
 *  1. A slot is in at most one read; slot_read[] says in which.
 *  2. Slots of a read that is not FREE are held: nobody can put another page there.
 *  3. Nothing of a buffer is handed out before its checksum was found right.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fault/fault.h"

#define NR_READS 32
#define NR_AHEAD 16 /* of these ahead of their faults, at most */
#define NR_WAITERS 8 /* of one read; more of them come again by the clock */
#define PAUSE_NS 1000000u /* the kernel was short of something */

/* Of one read; there is a buffer of as many for each. */
#define READ_MAX_PAGES 64u

enum read_state { READ_FREE = 0, READ_READING, READ_READY };

struct waiter {
    uint32_t mm;
    bool ahead; /* no fault yet */
    struct uaddr addr;
};

struct read {
    struct blk_req io;
    struct swapin *s;
    enum read_state state;
    char *buffer;
    bool good[READ_MAX_PAGES]; /* READY: the checksum is right */
    int error;                   /* READY: why the one page could not be read */
    struct waiter waiter[NR_WAITERS];
    uint32_t nr_waiters;
    uint64_t began; /* by swapin::clock */
};

struct swapin {
    struct node *file;
    const struct mm_ids *ids;
    void (*wake)(void *arg, struct mm *mm);
    void *wake_arg;
    struct read read[NR_READS];
    uint32_t nr_in_use;
    uint64_t clock;
    uint8_t *slot_read; /* of each slot: index of its read + 1; 0: none */
    char *buffers;
    bool pause_wanted;
    uint64_t paused_until_ns;
};

#define BUFFER_BYTES ((size_t)READ_MAX_PAGES * PAGE_SIZE)

static void *sparse(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

struct swapin *swapin_new(struct node *file, const struct mm_ids *ids,
                          void (*wake)(void *arg, struct mm *mm), void *wake_arg)
{
    struct swapin *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->file = file;
    s->ids = ids;
    s->wake = wake;
    s->wake_arg = wake_arg;
    s->slot_read = sparse(frame_nr_total(file->frames));
    s->buffers = sparse(NR_READS * BUFFER_BYTES);
    if (!s->slot_read || !s->buffers) {
        swapin_free(s);
        return NULL;
    }
    for (unsigned i = 0; i < NR_READS; i++) {
        s->read[i].s = s;
        s->read[i].buffer = s->buffers + i * BUFFER_BYTES;
    }
    return s;
}

void swapin_free(struct swapin *s)
{
    if (!s)
        return;
    if (s->slot_read)
        munmap(s->slot_read, frame_nr_total(s->file->frames));
    if (s->buffers)
        munmap(s->buffers, NR_READS * BUFFER_BYTES);
    free(s);
}

uint32_t swapin_nr_in_use(const struct swapin *s)
{
    return s ? s->nr_in_use : 0;
}

/* ---- slots and waiters of a read ---- */

static void release_slots(struct read *rd, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        struct pfn slot = {rd->io.slot + i};
        rd->s->slot_read[slot.n] = 0;
        frame_unhold(rd->s->file->frames, slot);
    }
}

static void read_free(struct read *rd)
{
    release_slots(rd, 0, rd->io.nr_pages);
    rd->state = READ_FREE;
    rd->nr_waiters = 0;
    rd->s->nr_in_use--;
}

/* The page of the read that the waiter waits for, or UINT32_MAX: for none any more. */
static uint32_t waits_for(const struct read *rd, const struct waiter *w)
{
    const struct mm *mm = mm_by_id(rd->s->ids, w->mm);
    pte_t pte = mm ? pte_get(mm, w->addr) : 0;
    uint32_t i = pte_index(pte) - rd->io.slot;

    return mm && !mm->dead && pte_tag(pte) == PTE_SWAPPED && i < rd->io.nr_pages ? i : UINT32_MAX;
}

static void drop_stale_waiters(struct read *rd)
{
    for (uint32_t k = rd->nr_waiters; k-- > 0;)
        if (waits_for(rd, &rd->waiter[k]) == UINT32_MAX)
            rd->waiter[k] = rd->waiter[--rd->nr_waiters];
}

/* False: no room to remember it. */
static bool add_waiter(struct read *rd, const struct mm *mm, struct uaddr addr)
{
    for (uint32_t k = 0; k < rd->nr_waiters; k++)
        if (rd->waiter[k].mm == mm->id && rd->waiter[k].addr.v == addr.v) {
            rd->waiter[k].ahead = false;
            return true;
        }
    if (rd->nr_waiters == NR_WAITERS)
        drop_stale_waiters(rd);
    if (rd->nr_waiters == NR_WAITERS)
        return false;
    rd->waiter[rd->nr_waiters++] = (struct waiter){.mm = mm->id, .addr = addr};
    return true;
}

static void wake_waiters(struct read *rd)
{
    for (uint32_t k = 0; k < rd->nr_waiters; k++) {
        struct mm *mm = mm_by_id(rd->s->ids, rd->waiter[k].mm);
        if (mm && !rd->waiter[k].ahead)
            rd->s->wake(rd->s->wake_arg, mm);
    }
}

/* Does only the future want it? */
static bool is_ahead(const struct read *rd)
{
    for (uint32_t k = 0; k < rd->nr_waiters; k++)
        if (!rd->waiter[k].ahead)
            return false;
    return true;
}

/* The oldest READY read of those that may go makes way.  False: there is none. */
static bool drop_oldest(struct swapin *s, bool (*may_go)(const struct read *rd, const struct mm *mm),
                        const struct mm *mm)
{
    struct read *oldest = NULL;

    for (unsigned i = 0; i < NR_READS; i++)
        if (s->read[i].state == READ_READY && may_go(&s->read[i], mm) &&
            (!oldest || s->read[i].began < oldest->began))
            oldest = &s->read[i];
    if (oldest)
        read_free(oldest);
    return oldest;
}

static bool may_go_ahead(const struct read *rd, const struct mm *mm)
{
    (void)mm;
    return is_ahead(rd);
}

/*
 * What another client does not come to take: it is under a capture by an agent that is
 * stopped, say.  Its faults are asked for again at its next turn, and it is read again.
 */
static bool may_go_others(const struct read *rd, const struct mm *mm)
{
    for (uint32_t k = 0; k < rd->nr_waiters; k++)
        if (rd->waiter[k].mm == mm->id)
            return false;
    return true;
}

void swapin_reap(struct swapin *s)
{
    for (unsigned i = 0; s && s->nr_in_use && i < NR_READS; i++) {
        if (s->read[i].state != READ_READY)
            continue;
        drop_stale_waiters(&s->read[i]);
        if (!s->read[i].nr_waiters)
            read_free(&s->read[i]);
    }
}

/* ---- reading ---- */

static void read_done(struct blk_req *io, int error);

static int read_submit(struct read *rd)
{
    rd->io.write = false;
    rd->io.done = read_done;
    for (uint32_t i = 0; i < rd->io.nr_pages; i++)
        rd->io.page[i] = rd->buffer + i * PAGE_SIZE;
    rd->state = READ_READING;
    return rd->s->file->file.blk->submit(rd->s->file->file.blk_arg, &rd->io);
}

/* Nobody knows which page of the window the device could not read: the wanted one alone. */
static bool read_one_alone(struct read *rd)
{
    uint32_t first = 0;

    while (rd->waiter[first].ahead)
        first++;
    uint32_t i = waits_for(rd, &rd->waiter[first]), slot = rd->io.slot + i;

    release_slots(rd, 0, i);
    release_slots(rd, i + 1, rd->io.nr_pages);
    rd->io.slot = slot;
    rd->io.nr_pages = 1;
    wake_waiters(rd); /* who waits for another page asks for that */
    drop_stale_waiters(rd);
    return read_submit(rd) == 0;
}

static bool is_passing(int error)
{
    return error == -EAGAIN || error == -EINTR || error == -ENOMEM || error == -ENOBUFS ||
           error == -ECANCELED;
}

static void read_done(struct blk_req *io, int error)
{
    struct read *rd = container_of(io, struct read, io);
    struct swapin *s = rd->s;

    BUG_ON(rd->state != READ_READING);
    drop_stale_waiters(rd);
    if (error && is_ahead(rd))
        rd->nr_waiters = 0; /* whoever comes there asks anew */
    if (rd->nr_waiters && error && io->nr_pages > 1 && !is_passing(error)) {
        if (read_one_alone(rd))
            return;
        error = -EAGAIN;
    }
    if (!rd->nr_waiters || is_passing(error)) {
        s->pause_wanted |= error != 0;
        wake_waiters(rd);
        read_free(rd);
        return;
    }
    struct mm *first = mm_by_id(s->ids, rd->waiter[0].mm);
    rd->error = error;
    for (uint32_t i = 0; i < io->nr_pages; i++)
        rd->good[i] = !error && (MUTANT(MUTANT_SUM_NOT_COMPARED) ||
                                 node_sum_fits(s->file, (struct pfn){io->slot + i}, io->page[i]));
    if (!error)
        first->count->pswpin += io->nr_pages;
    rd->state = READ_READY;
    wake_waiters(rd);
}

static bool is_paused(struct swapin *s, const struct mm *mm)
{
    uint64_t now = mm->ops->now_ns(mm->target);

    if (s->pause_wanted) {
        s->pause_wanted = false;
        s->paused_until_ns = now + PAUSE_NS;
    }
    return now < s->paused_until_ns;
}

/* Slots from `slot` on that may be read together: allocated, and in no other read. */
static uint32_t free_run(const struct swapin *s, uint32_t slot, uint32_t max)
{
    uint32_t nr = 1;

    while (nr < max && slot + nr < frame_nr_total(s->file->frames) && !s->slot_read[slot + nr] &&
           frame_refs(s->file->frames, (struct pfn){slot + nr}))
        nr++;
    return nr;
}

/* A read from `slot` on for the page at addr; NULL: not now. */
static struct read *start(struct swapin *s, const struct mm *mm, struct uaddr addr, uint32_t slot,
                          uint32_t window)
{
    struct read *rd = s->read;

    if (s->nr_in_use == NR_READS || is_paused(s, mm))
        return NULL;
    while (rd->state != READ_FREE)
        rd++;
    rd->io.slot = slot;
    rd->io.nr_pages = free_run(s, slot, MIN(window, READ_MAX_PAGES));
    rd->nr_waiters = 0;
    rd->began = ++s->clock;
    s->nr_in_use++;
    for (uint32_t i = 0; i < rd->io.nr_pages; i++) {
        s->slot_read[slot + i] = (uint8_t)(rd - s->read + 1);
        frame_hold(s->file->frames, (struct pfn){slot + i});
    }
    if (read_submit(rd) < 0) {
        read_free(rd);
        return NULL;
    }
    (void)add_waiter(rd, mm, addr);
    return rd;
}

bool swapin_is_started(const struct mm *mm, struct uaddr addr)
{
    return mm->swapin->slot_read[pte_index(pte_get(mm, addr))];
}

enum swapin_result swapin_get(struct mm *mm, struct uaddr addr, uint32_t window,
                              struct swapin_bytes *ret)
{
    struct swapin *s = mm->swapin;
    uint32_t slot = pte_index(pte_get(mm, addr));

    if (!s->slot_read[slot]) {
        swapin_reap(s);
        if (s->nr_in_use == NR_READS && !drop_oldest(s, may_go_ahead, mm) &&
            !drop_oldest(s, may_go_others, mm))
            return SWAPIN_BUSY;
        return start(s, mm, addr, slot, window) ? SWAPIN_WAIT : SWAPIN_BUSY;
    }
    struct read *rd = &s->read[s->slot_read[slot] - 1];
    uint32_t i = slot - rd->io.slot;
    if (rd->state == READ_READING)
        return add_waiter(rd, mm, addr) ? SWAPIN_WAIT : SWAPIN_BUSY;
    *ret = (struct swapin_bytes){.error = rd->error ? rd->error : -EBADMSG};
    if (!rd->good[i])
        return SWAPIN_LOST;
    ret->bytes = rd->io.page[i];
    while (i < rd->io.nr_pages && rd->good[i]) {
        ret->nr_pages++;
        i++;
    }
    return SWAPIN_READY;
}

uint32_t swapin_ahead(struct mm *mm, struct uaddr addr, uint32_t window)
{
    struct swapin *s = mm->swapin;
    pte_t pte = pte_get(mm, addr);
    uint32_t nr = 0;

    if (pte_tag(pte) != PTE_SWAPPED || s->slot_read[pte_index(pte)])
        return 0;
    for (unsigned i = 0; i < NR_READS; i++)
        nr += s->read[i].state != READ_FREE && is_ahead(&s->read[i]);
    if (nr >= NR_AHEAD && !drop_oldest(s, may_go_ahead, mm))
        return 0;
    struct read *rd = start(s, mm, addr, pte_index(pte), window);
    if (!rd)
        return 0;
    rd->waiter[0].ahead = true;
    return rd->io.nr_pages;
}

bool swapin_get_ready(struct mm *mm, struct uaddr addr, struct swapin_bytes *ret)
{
    struct swapin *s = mm->swapin;
    uint8_t i = s->slot_read[pte_index(pte_get(mm, addr))];

    return i && s->read[i - 1].state == READ_READY &&
           swapin_get(mm, addr, 1, ret) == SWAPIN_READY;
}
