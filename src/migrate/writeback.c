/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From `ram` to `file`.  Counterpart of pageout() in Linux mm/vmscan.c and of
 * swap_writepage(); migrate.h says what it promises.
 *
 * Invariants:
 *  1. A frame under write is held once, in no list by age, and in one request.
 *  2. The slots of a request that is under way have no reference.
 *  3. An entry changes to a slot only after the device has taken all its bytes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/migrate.h"

#define NR_WRITES 8         /* requests under way */
#define STARTS_AT_ONCE 2    /* in one call: others wait for their turn (some 100 us) */
#define DROPS_AT_ONCE 512   /* likewise */
#define REFS_AT_ONCE 32
#define MIN_RUN 8u          /* even when fewer would do */
#define PAUSE_NS 100000000u /* after a failure; doubles up to 2^7 of it, 13 s */
#define PAUSE_MAX_SHIFT 7u

struct write {
    struct blk_req io;
    struct writeback *wb;
    struct pfn frame[BLK_MAX_PAGES];
    int note; /* of node_write_begun() */
    bool busy;
};

struct writeback {
    struct node *ram, *file;
    const struct mm_ids *ids;
    struct write write[NR_WRITES];
    uint32_t nr_busy, nr_busy_pages;
    bool pushing; /* between the marks */
    bool has_failed, pause_wanted;
    uint32_t nr_failed; /* in a row */
    uint64_t paused_until_ns;
};

struct writeback *writeback_new(struct node *ram, struct node *file, const struct mm_ids *ids)
{
    struct writeback *wb = calloc(1, sizeof(*wb));

    if (!wb)
        return NULL;
    wb->ram = ram;
    wb->file = file;
    wb->ids = ids;
    for (unsigned i = 0; i < NR_WRITES; i++)
        wb->write[i].wb = wb;
    return wb;
}

void writeback_free(struct writeback *wb)
{
    free(wb);
}

bool writeback_makes_room(const struct writeback *wb)
{
    return wb && wb->nr_busy;
}

bool writeback_has_failed(const struct writeback *wb)
{
    return wb->has_failed;
}

bool writeback_can_go_on(const struct writeback *wb, uint64_t now_ns)
{
    if (wb->nr_busy)
        return true;
    return !wb->pause_wanted && node_may_write(wb->file) && now_ns >= wb->paused_until_ns &&
           frame_list_nr(wb->ram->frames, FRAME_STORED) &&
           (frame_nr_free(wb->file->frames) || frame_list_nr(wb->file->frames, FRAME_KEPT));
}

/* ---- after a write ---- */

/* The group to count a frame's fate for: of the first one that names it. */
static struct counters *counters_of(struct writeback *wb, struct pfn pfn)
{
    struct rmap_entry ref;
    struct mm *mm = NULL;

    if (rmap_walk(wb->ram->rmap, pfn, &ref, 1))
        mm = mm_by_id(wb->ids, ref.mm);
    return mm ? mm->count : NULL;
}

/* One reference: its entry names the slot from now on.  False: it has to stay. */
static bool switch_entry(struct writeback *wb, struct pfn pfn, struct pfn slot,
                         struct rmap_entry ref)
{
    struct mm *mm = mm_by_id(wb->ids, ref.mm);
    pte_t pte = mm ? pte_get(mm, ref.addr) : 0;

    /* A page that is under capture again may still be found equal to this frame. */
    if (pte_tag(pte) != PTE_FRAME || pte_node(pte) != wb->ram->id || pte_index(pte) != pfn.n)
        return false;
    if (node_ref(wb->file, slot, ref) < 0)
        return false;
    struct pte_arg arg = {
        .flags = pte_flags(pte), .age = pte_age(pte), .node = wb->file->id, .index = slot.n};
    BUG_ON(pte_transition(mm, ref.addr, PTE_EV_SWITCH, arg, NULL) < 0);
    node_unref(wb->ram, pfn, ref);
    return true;
}

static void switch_entries(struct writeback *wb, struct pfn pfn, struct pfn slot)
{
    struct rmap_entry ref[REFS_AT_ONCE];
    uint32_t nr, switched;

    do {
        nr = MIN(rmap_walk(wb->ram->rmap, pfn, ref, REFS_AT_ONCE), (uint32_t)REFS_AT_ONCE);
        switched = 0;
        for (uint32_t i = 0; i < nr; i++)
            switched += switch_entry(wb, pfn, slot, ref[i]);
    } while (nr == REFS_AT_ONCE && switched);
}

static void write_succeeded(struct writeback *wb, struct write *w)
{
    for (uint32_t i = 0; i < w->io.nr_pages; i++) {
        struct pfn pfn = w->frame[i], slot = {w->io.slot + i};
        struct counters *count = counters_of(wb, pfn);

        if (count)
            count->pswpout++;
        node_unkeep(wb->ram, pfn, wb->ids);
        switch_entries(wb, pfn, slot);
        if (!frame_refs(wb->file->frames, slot)) /* everyone has let go of it meanwhile */
            frame_free(wb->file->frames, slot);
        if (!frame_unhold(wb->ram->frames, pfn))
            frame_list_set(wb->ram->frames, pfn, FRAME_STORED);
    }
    wb->nr_failed = 0;
    wb->has_failed = false;
}

static const char *remedy_of(int error)
{
    switch (error) {
    case -ENOSPC:
    case -EDQUOT:
        return "make room on its file system, or give a place with more of it to --swap";
    case -EFBIG:
        return "raise pagerd's limit of file sizes (ulimit -Hf), or give --swap a smaller size";
    default:
        return "look at the device (the kernel's log may say more), and give --swap another place";
    }
}

/* The pages are where they were; nothing is lost. */
static void write_failed(struct writeback *wb, struct write *w, int error)
{
    static struct log_ratelimit often;

    for (uint32_t i = w->io.nr_pages; i-- > 0;) {
        struct counters *count = counters_of(wb, w->frame[i]);

        if (count)
            count->swap_write_error++;
        frame_free(wb->file->frames, (struct pfn){w->io.slot + i});
        if (!frame_unhold(wb->ram->frames, w->frame[i])) {
            frame_list_set_oldest(wb->ram->frames, w->frame[i], FRAME_STORED);
            node_relist(wb->ram, w->frame[i], wb->ids);
        }
    }
    wb->nr_failed++;
    wb->has_failed = wb->pause_wanted = true;
    if (log_ratelimit(&often))
        log_error("%s: %u pages could not be written: %s; they stay in memory, and less can be "
                  "moved out of programs: %s",
                  wb->file->file.name, w->io.nr_pages, strerror(-error), remedy_of(error));
}

static void write_done(struct blk_req *io, int error)
{
    struct write *w = container_of(io, struct write, io);
    struct writeback *wb = w->wb;

    BUG_ON(!w->busy);
    if (error)
        write_failed(wb, w, error);
    else
        write_succeeded(wb, w);
    node_write_ended(wb->file, w->note);
    w->busy = false;
    wb->nr_busy--;
    wb->nr_busy_pages -= io->nr_pages;
}

/* ---- starting ---- */

/* Fills a request with the oldest frames, one for each slot.  Returns their number. */
static uint32_t take_frames(struct writeback *wb, struct write *w, struct pfn slot, uint32_t nr)
{
    uint32_t taken = 0;
    struct pfn pfn;

    while (taken < nr && frame_list_oldest(wb->ram->frames, FRAME_STORED, &pfn)) {
        frame_list_set(wb->ram->frames, pfn, FRAME_UNLISTED);
        frame_hold(wb->ram->frames, pfn);
        node_sum_set(wb->file, (struct pfn){slot.n + taken}, node_bytes(wb->ram, pfn));
        CRASH_POINT();
        w->io.page[taken] = node_bytes(wb->ram, pfn);
        w->frame[taken++] = pfn;
    }
    return taken;
}

static void put_frames_back(struct writeback *wb, struct write *w)
{
    for (uint32_t i = w->io.nr_pages; i-- > 0;) {
        frame_free(wb->file->frames, (struct pfn){w->io.slot + i});
        if (!frame_unhold(wb->ram->frames, w->frame[i]))
            frame_list_set_oldest(wb->ram->frames, w->frame[i], FRAME_STORED);
    }
}

static int take_slots(struct writeback *wb, uint32_t want, struct pfn *ret, uint32_t *ret_nr)
{
    if (frame_nr_free(wb->file->frames) < want)
        node_drop_kept(wb->file, wb->ids, DROPS_AT_ONCE);
    return frame_alloc_run(wb->file->frames, want, ret, ret_nr);
}

/* False: not now. */
static bool start_one(struct writeback *wb, uint32_t want)
{
    struct write *w = wb->write;
    uint32_t nr_slots;
    struct pfn slot;

    while (w->busy)
        w++;
    if (take_slots(wb, want, &slot, &nr_slots) < 0)
        return false;
    uint32_t nr = take_frames(wb, w, slot, nr_slots);
    for (uint32_t i = nr; i < nr_slots; i++)
        frame_free(wb->file->frames, (struct pfn){slot.n + i});
    if (!nr)
        return false;
    w->io.write = true;
    w->io.slot = slot.n;
    w->io.nr_pages = nr;
    w->io.done = write_done;
    w->note = node_write_begun(wb->file, slot, nr);
    int r = w->note < 0 ? w->note : wb->file->file.blk->submit(wb->file->file.blk_arg, &w->io);
    if (r < 0) {
        if (w->note >= 0)
            node_write_ended(wb->file, w->note);
        put_frames_back(wb, w);
        if (r != -EAGAIN) {
            wb->nr_failed++;
            wb->has_failed = wb->pause_wanted = true;
        }
        return false;
    }
    w->busy = true;
    wb->nr_busy++;
    wb->nr_busy_pages += nr;
    for (uint32_t i = 0; MUTANT(MUTANT_SWITCH_BEFORE_WRITE) && i < nr; i++)
        switch_entries(wb, w->frame[i], (struct pfn){slot.n + i});
    return true;
}

/* Frames that will be free when all that is under way has succeeded. */
static uint32_t nr_free_soon(const struct writeback *wb)
{
    return frame_nr_free(wb->ram->frames) + wb->nr_busy_pages;
}

void writeback_run(struct writeback *wb, uint64_t now_ns)
{
    if (wb->pause_wanted) {
        wb->pause_wanted = false;
        /* Others may have succeeded since. */
        uint32_t nr_before = wb->nr_failed ? wb->nr_failed - 1 : 0;
        wb->paused_until_ns = now_ns + ((uint64_t)PAUSE_NS << MIN(nr_before, PAUSE_MAX_SHIFT));
    }
    uint32_t low = node_low_mark(wb->ram);
    if (nr_free_soon(wb) < node_high_mark(wb->ram))
        wb->pushing = true;
    if (!wb->pushing)
        return;
    if (nr_free_soon(wb) < low) /* first what is only a cache */
        node_drop_kept(wb->ram, wb->ids, MIN(low - nr_free_soon(wb), (uint32_t)DROPS_AT_ONCE));
    for (unsigned i = 0; i < STARTS_AT_ONCE && wb->nr_busy < NR_WRITES; i++) {
        uint32_t soon = nr_free_soon(wb);
        if (soon >= low) {
            wb->pushing = false;
            return;
        }
        if (now_ns < wb->paused_until_ns || frame_list_nr(wb->ram->frames, FRAME_KEPT) ||
            !start_one(wb, CLAMP(low - soon, MIN_RUN, BLK_MAX_PAGES)))
            return;
    }
}
