/* SPDX-License-Identifier: Apache-2.0 */
/* How a thread carries out its operation, step by step, and what its reads must show. */
#include <string.h>

#include "app_model.h"
#include "frame/frame.h"

/* ---- the shadow ---- */

uint8_t *app_shadow_for_write(struct app_mm *mm, uint32_t page)
{
    if (!mm->shadow[page]) {
        mm->shadow[page] = sim_page_alloc(mm->sim);
        memset(mm->shadow[page], 0, PAGE_SIZE);
    }
    return mm->shadow[page];
}

static void shadow_drop(struct app_mm *mm, uint32_t page)
{
    if (mm->shadow[page])
        sim_page_free(mm->sim, mm->shadow[page]);
    mm->shadow[page] = NULL;
}

static bool is_zero(const uint8_t *bytes)
{
    return !memcmp(bytes, km_zeros, PAGE_SIZE);
}

static void compare(struct app_mm *mm, uint32_t tid, uint32_t page, const uint8_t *bytes)
{
    const uint8_t *want = mm->shadow[page] ? mm->shadow[page] : km_zeros;
    uint32_t at = 0;

    if (!memcmp(bytes, want, PAGE_SIZE)) {
        mm->flags[page] &= (uint8_t)~AP_MAYBE_ZERO;
        return;
    }
    if (mm->flags[page] & (AP_DROPPING | AP_MAYBE_ZERO | AP_LAZY) && is_zero(bytes)) {
        if (mm->flags[page] & (AP_MAYBE_ZERO | AP_LAZY)) {
            mm->flags[page] &= (uint8_t) ~(AP_MAYBE_ZERO | AP_LAZY);
            shadow_drop(mm, page);
        }
        return;
    }
    while (bytes[at] == want[at])
        at++;
    sim_fail(mm->sim, "wrong byte", "mm%u thread %u page %u byte %u: wrote %02x, reads %02x%s",
             mm->k.id, tid, page, at, want[at], bytes[at],
             is_zero(bytes)  ? " (the page reads as zeros)"
             : is_zero(want) ? " (should be a page of zeros)"
                             : "");
}

void app_compare_present(struct app_mm *mm)
{
    for (uint32_t i = 0; i < KM_PAGES; i++)
        if (mm->flags[i] & AP_MAPPED && mm->k.pte[i].state == KP_PAGE)
            compare(mm, 0, i, mm->k.pte[i].page);
}

static void write_random(struct choice *c, uint8_t *page, uint8_t *shadow)
{
    uint32_t at = choice_below(c, PAGE_SIZE), len = choice_between(c, 1, 24);

    if (choice_chance(c, 256)) { /* the page's first or last bytes */
        at = choice_chance(c, 512) ? 0 : PAGE_SIZE - len;
    }
    len = MIN(len, (uint32_t)PAGE_SIZE - at);
    for (uint32_t i = 0; i < len; i++)
        page[at + i] = shadow[at + i] = (uint8_t)choice_u64(c);
}

static void write_pattern(struct app_mm *mm, uint32_t page, uint8_t *bytes, enum app_pattern p)
{
    struct choice *c = &mm->sim->choice;
    uint8_t *shadow = app_shadow_for_write(mm, page);

    switch (p) {
    case PATTERN_BYTES:
        write_random(c, bytes, shadow);
        break;
    case PATTERN_PAGE: {
        uint64_t word = choice_u64(c);
        for (uint32_t i = 0; i < PAGE_SIZE; i += sizeof(word)) {
            memcpy(shadow + i, &word, sizeof(word));
            word = word * 0x9e3779b97f4a7c15u + 1;
        }
        memcpy(bytes, shadow, PAGE_SIZE);
        break;
    }
    case PATTERN_ZERO:
        memset(bytes, 0, PAGE_SIZE);
        shadow_drop(mm, page);
        break;
    }
}

/* ---- life ---- */

struct app_mm *app_new(struct sim *s, struct app_set *set)
{
    if (set->nr == KM_MAX_MMS)
        return NULL;
    struct app_mm *mm = calloc(1, sizeof(*mm));
    BUG_ON(!mm);
    km_init(&mm->k, s, set->nr);
    mm->sim = s;
    set->mm[set->nr++] = mm;
    return mm;
}

static void app_map(struct app_mm *mm, uint32_t page, uint32_t nr)
{
    km_mmap(&mm->k, page, nr);
    for (uint32_t i = page; i < page + nr; i++)
        mm->flags[i] = AP_MAPPED;
    mm->nr_mapped += nr;
}

static void app_unmap(struct app_mm *mm, uint32_t page, uint32_t nr)
{
    for (uint32_t i = page; i < page + nr; i++) {
        mm->nr_mapped -= mm->flags[i] & AP_MAPPED ? 1 : 0;
        mm->flags[i] = 0;
        mm->origin[i] = 0;
        shadow_drop(mm, i);
    }
}

static bool is_hole(const struct app_mm *mm, uint32_t page, uint32_t nr)
{
    for (uint32_t i = page; i < page + nr; i++)
        if (mm->flags[i] || mm->k.pte[i].vma & KV_MAPPED)
            return false;
    return true;
}

struct app_mm *app_start(struct sim *s, struct app_set *set)
{
    struct app_mm *mm = app_new(s, set);
    struct choice *c = &s->choice;
    uint32_t nr_ranges = choice_between(c, 1, 4), last = 0;
    uint8_t *bytes;

    if (!mm)
        return NULL;
    if (s->set.huge)
        app_map(mm, last = PTES_PER_LEAF, choice_between(c, 1, 2) * PTES_PER_LEAF);
    for (uint32_t i = 0; i < nr_ranges; i++) {
        uint32_t nr = choice_between(c, 1, s->set.max_pages / nr_ranges);
        uint32_t at = choice_below(c, KM_PAGES - nr);
        if (choice_chance(c, 512)) /* across a leaf's end */
            at = PTES_PER_LEAF * choice_between(c, 1, 2) - choice_below(c, nr);
        if (!is_hole(mm, at, nr))
            continue;
        app_map(mm, last = at, nr);
    }
    if (!mm->nr_mapped)
        app_map(mm, last = 0, 1);
    mm->started = true;
    for (uint32_t i = choice_between(c, 1, s->set.max_threads); i-- > 0;)
        mm->k.thread[i].alive = true;
    uint32_t touched = choice_below(c, 1025);
    bool untouched = s->set.huge && choice_chance(c, 512);
    for (uint32_t i = 0; i < KM_PAGES; i++) {
        if (!(mm->flags[i] & AP_MAPPED) || !choice_chance(c, touched) ||
            (untouched && i / PTES_PER_LEAF == 1))
            continue;
        BUG_ON(km_touch(&mm->k, 0, i, true, &bytes) != KA_OK);
        if (choice_chance(c, 768))
            write_pattern(mm, i, bytes, PATTERN_PAGE);
    }
    if (choice_chance(c, 512)) {
        BUG_ON(km_touch(&mm->k, 0, last, true, &bytes) != KA_OK);
        mm->flags[last] |= AP_FIXED;
        mm->k.no_move_page = last;
    }
    trace(s, "mm%u starts with %u pages mapped, %u of them present", mm->k.id, mm->nr_mapped,
          km_resident_pages(&mm->k));
    return mm;
}

void app_exit(struct app_mm *mm)
{
    for (uint32_t i = 0; i < KM_THREADS; i++) {
        struct app_mm *child = mm->thread[i].child;
        if (child && !child->started) /* its fork does not succeed any more */
            app_exit(child);
        mm->thread[i] = (struct app_thread){0};
    }
    for (uint32_t i = 0; i < KM_PAGES; i++) {
        shadow_drop(mm, i);
        mm->flags[i] = 0;
    }
    mm->nr_mapped = 0;
    km_exit(&mm->k);
}

/* All threads but one end; the old memory stays as long as its agent does. */
static void app_exec(struct sim *s, struct app_set *set, struct app_mm *mm)
{
    trace(s, "mm%u executes another program", mm->k.id);
    sim_count(s, STAT_EXECS, 1);
    app_exit(mm);
    struct app_mm *image = app_start(s, set);
    if (!image)
        return;
    image->group = mm->group;
    image->wants_agent = true;
}

void app_kill(struct sim *s, struct app_mm *mm, const char *why)
{
    trace(s, "mm%u is killed: %s", mm->k.id, why);
    app_exit(mm);
}

uint32_t app_nr_alive(const struct app_set *set)
{
    uint32_t nr = 0;

    for (uint32_t i = 0; i < set->nr; i++)
        nr += !set->mm[i]->k.exited;
    return nr;
}

void app_set_free(struct app_set *set)
{
    for (uint32_t i = 0; i < set->nr; i++)
        free(set->mm[i]);
    set->nr = 0;
}

/* ---- operations, step by step ---- */

void app_done(struct app_mm *mm, uint32_t tid)
{
    mm->thread[tid] = (struct app_thread){0};
}

/*
 * Poison is only right where bytes could not be kept: something has failed; no leaf; or no frame at
 * a fork while the child has already changed its memory; or several threads moved
 * mappings through one place, and the worker counted that; or a parent was killed with its agent
 * when its fork had been read, by mremap()'s rule, and its capture had not ended.
 */
static bool may_poison(const struct sim *s)
{
    return s->order_lost || s->fork_lost || s->has_failed || s->was_short;
}

/* True when the bytes are there; else the thread waits, or is no more. */
static bool touch(struct app_mm *mm, uint32_t tid, uint32_t page, bool write, uint8_t **ret)
{
    struct sim *s = mm->sim;

    switch (km_touch(&mm->k, tid, page, write, ret)) {
    case KA_OK:
        compare(mm, tid, page, *ret);
        if (write)
            mm->flags[page] &= (uint8_t)~AP_LAZY;
        mm->origin[page] = 0;
        trace_page(s, page, "", "mm%u thread %u %s page", mm->k.id, tid,
                   write ? "writes" : "reads");
        return true;
    case KA_WAITS:
        trace(s, "mm%u thread %u waits to %s page %u", mm->k.id, tid, write ? "write" : "read",
              page);
        return false;
    case KA_SIGBUS:
        sim_count(s, STAT_SIGBUS, 1);
        if (app_may_withhold(mm, page))
            sim_count(s, STAT_WITHHELD, 1);
        else if (!may_poison(s))
            sim_fail(s, "sigbus", "mm%u page %u is poisoned although nothing failed", mm->k.id,
                     page);
        app_kill(s, mm, "SIGBUS");
        return false;
    case KA_SEGV:
        break;
    }
    sim_fail(s, "model", "mm%u thread %u touches page %u, which is not mapped so", mm->k.id, tid,
             page);
}

static void step_access(struct app_mm *mm, uint32_t tid)
{
    struct app_thread *t = &mm->thread[tid];
    bool write = t->op == OP_WRITE;
    uint8_t *bytes;

    if (t->op == OP_VERIFY) {
        while (t->page < t->end && (mm->flags[t->page] & (AP_MAPPED | AP_CHANGING)) != AP_MAPPED)
            t->page++;
        if (t->page >= t->end) {
            app_done(mm, tid);
            return;
        }
    }
    if (!touch(mm, tid, t->page, write, &bytes))
        return;
    sim_count(mm->sim, write ? STAT_WRITES : STAT_READS, 1);
    if (write)
        write_pattern(mm, t->page, bytes, t->pattern);
    if (++t->page >= t->end)
        app_done(mm, tid);
}

static void step_remove(struct app_mm *mm, uint32_t tid)
{
    struct app_thread *t = &mm->thread[tid];

    if (t->stage == 0) {
        t->segment = MIN(km_vma_end(&mm->k, t->page), t->end);
        t->stage = 1;
        trace(mm->sim, "mm%u thread %u: %s pages %u..%u", mm->k.id, tid,
              t->lazy ? "MADV_FREE" : "MADV_DONTNEED", t->page, t->segment - 1);
        km_remove(&mm->k, tid, t->page, t->segment - t->page);
        sim_count(mm->sim, STAT_REMOVES, 1);
        if (mm->k.thread[tid].wait != KW_RUNNING)
            return;
        /* Without an event the kernel does not let go of the mapping in between. */
    }
    trace(mm->sim, "mm%u thread %u: pages %u..%u are %s", mm->k.id, tid, t->page, t->segment - 1,
          t->lazy ? "given up" : "dropped");
    if (t->lazy)
        km_give_up(&mm->k, t->page, t->segment - t->page);
    else
        km_zap(&mm->k, t->page, t->segment - t->page);
    for (uint32_t i = t->page; i < t->segment; i++) {
        mm->flags[i] &= (uint8_t) ~(AP_CHANGING | AP_DROPPING);
        mm->origin[i] = 0;
        if (t->lazy) {
            mm->flags[i] |= AP_LAZY;
        } else {
            shadow_drop(mm, i);
            mm->flags[i] &= (uint8_t) ~(AP_MAYBE_ZERO | AP_LAZY);
        }
    }
    t->page = t->segment;
    t->stage = 0;
    if (t->page >= t->end)
        app_done(mm, tid);
}

static void step_unmap(struct app_mm *mm, uint32_t tid)
{
    struct app_thread *t = &mm->thread[tid];
    uint32_t nr = t->end - t->page;

    if (t->stage++ == 0) {
        trace(mm->sim, "mm%u thread %u: munmap pages %u..%u", mm->k.id, tid, t->page, t->end - 1);
        km_munmap(&mm->k, tid, t->page, nr);
        app_unmap(mm, t->page, nr);
        sim_count(mm->sim, STAT_UNMAPS, 1);
        return;
    }
    if (choice_chance(&mm->sim->choice, 768) && is_hole(mm, t->page, nr) &&
        (mm->sim->set.reuse || km_is_reusable(&mm->k, t->page, nr))) {
        trace(mm->sim, "mm%u thread %u: mmap pages %u..%u", mm->k.id, tid, t->page, t->end - 1);
        app_map(mm, t->page, nr);
    }
    app_done(mm, tid);
}

static void step_map_fixed(struct app_mm *mm, uint32_t tid)
{
    struct app_thread *t = &mm->thread[tid];
    uint32_t nr = t->end - t->page;

    if (t->stage++ == 0) {
        trace(mm->sim, "mm%u thread %u: mmap MAP_FIXED over pages %u..%u", mm->k.id, tid, t->page,
              t->end - 1);
        km_munmap(&mm->k, tid, t->page, nr);
        app_unmap(mm, t->page, nr);
        app_map(mm, t->page, nr);
        for (uint32_t i = t->page; i < t->end; i++)
            mm->flags[i] |= AP_CHANGING;
        sim_count(mm->sim, STAT_UNMAPS, 1);
        return;
    }
    for (uint32_t i = t->page; i < t->end; i++)
        mm->flags[i] &= (uint8_t)~AP_CHANGING;
    if (choice_chance(&mm->sim->choice, 512)) /* what is mapped is used */
        *t = (struct app_thread){
            .op = OP_WRITE, .page = t->page, .end = t->end, .pattern = PATTERN_PAGE};
    else
        app_done(mm, tid);
}

/* stage: where to; segment: pages there, and bit 31 says MREMAP_DONTUNMAP. */
#define DONTUNMAP (1u << 31)
#define RETURNS UINT32_MAX

static void step_mremap(struct app_mm *mm, uint32_t tid)
{
    struct app_thread *t = &mm->thread[tid];
    uint32_t from = t->page, old_nr = t->end - t->page, to = t->stage;
    uint32_t new_nr = t->segment & ~DONTUNMAP, moved = MIN(old_nr, new_nr);
    bool dontunmap = t->segment & DONTUNMAP;

    if (t->stage == RETURNS) { /* now the others learn where it is */
        for (uint32_t i = t->page; i < t->end; i++)
            mm->flags[i] &= (uint8_t)~AP_CHANGING;
        for (uint32_t i = t->segment; i < t->segment + (t->end - t->page); i++)
            mm->flags[i] &= (uint8_t)~AP_CHANGING; /* the old place after DONTUNMAP */
        app_done(mm, tid);
        return;
    }
    trace(mm->sim, "mm%u thread %u: mremap pages %u..%u to %u..%u%s", mm->k.id, tid, from,
          from + old_nr - 1, to, to + new_nr - 1, dontunmap ? " (DONTUNMAP)" : "");
    km_mremap(&mm->k, tid, from, old_nr, to, new_nr, dontunmap);
    app_unmap(mm, to, new_nr);
    for (uint32_t i = 0; i < moved; i++) {
        mm->shadow[to + i] = mm->shadow[from + i];
        mm->flags[to + i] = mm->flags[from + i];
        mm->origin[to + i] = mm->origin[from + i];
        mm->shadow[from + i] = NULL;
        mm->flags[from + i] = 0;
        mm->origin[from + i] = 0;
        if (dontunmap)
            mm->flags[from + i] = (mm->flags[to + i] & (AP_MAPPED | AP_READONLY)) | AP_CHANGING;
    }
    for (uint32_t i = moved; i < new_nr; i++)
        mm->flags[to + i] = mm->flags[to] & (AP_MAPPED | AP_READONLY);
    for (uint32_t i = to; i < to + new_nr; i++)
        mm->flags[i] |= AP_CHANGING;
    mm->nr_mapped += new_nr;
    if (!dontunmap) {
        mm->nr_mapped -= moved;
        app_unmap(mm, from + moved, old_nr - moved);
    }
    sim_count(mm->sim, STAT_REMAPS, 1);
    t->stage = RETURNS;
    t->page = to;
    t->end = to + new_nr;
    t->segment = dontunmap ? from : to;
}

static void step_hold(struct app_mm *mm, uint32_t tid)
{
    struct app_thread *t = &mm->thread[tid];
    struct choice *c = &mm->sim->choice;
    struct km_pte *pte = &mm->k.pte[t->page];

    if (t->stage == 0) {
        if (!touch(mm, tid, t->page, true, &t->held))
            return;
        if (mm->flags[t->page] & AP_HELD) { /* one holder at a time */
            app_done(mm, tid);
            return;
        }
        t->stage = choice_between(c, 2, 5);
        mm->flags[t->page] |= AP_HELD;
        if (t->pinned)
            pte->flags |= KP_PINNED;
        else
            mm->k.nr_held++;
        trace(mm->sim, "mm%u thread %u holds page %u%s", mm->k.id, tid, t->page,
              t->pinned ? " (pinned)" : "");
        return;
    }
    if (--t->stage) {
        write_random(c, t->held, app_shadow_for_write(mm, t->page));
        trace(mm->sim, "mm%u thread %u writes through its reference to page %u", mm->k.id, tid,
              t->page);
        return;
    }
    trace(mm->sim, "mm%u thread %u lets go of page %u", mm->k.id, tid, t->page);
    mm->flags[t->page] &= (uint8_t)~AP_HELD;
    if (t->pinned)
        pte->flags &= (uint8_t)~KP_PINNED;
    else
        mm->k.nr_held--;
    app_done(mm, tid);
}

bool app_thread_step(struct sim *s, struct app_set *set, struct app_mm *mm, uint32_t tid)
{
    struct app_thread *t = &mm->thread[tid];

    if (!mm->k.thread[tid].alive)
        return false;
    if (mm->k.thread[tid].wait != KW_RUNNING) {
        if (!s->settling && choice_chance(&s->choice, s->set.slow_wake))
            return false;
        return km_thread_event_step(&mm->k, tid);
    }
    /* Between the event and the zap a thread may lose its processor for a while. */
    if (t->op == OP_REMOVE && t->stage == 1 && !s->settling &&
        choice_chance(&s->choice, s->set.slow_wake))
        return false;
    if (t->op == OP_NONE && !app_choose(s, set, mm, tid))
        return false;
    switch (t->op) {
    case OP_NONE:
        return false;
    case OP_READ:
    case OP_WRITE:
    case OP_VERIFY:
        step_access(mm, tid);
        break;
    case OP_REMOVE:
        step_remove(mm, tid);
        break;
    case OP_UNMAP:
        step_unmap(mm, tid);
        break;
    case OP_MAP:
        if (is_hole(mm, t->page, t->end - t->page)) {
            trace(s, "mm%u thread %u: mmap pages %u..%u", mm->k.id, tid, t->page, t->end - 1);
            app_map(mm, t->page, t->end - t->page);
        }
        app_done(mm, tid);
        break;
    case OP_MAP_FIXED:
        step_map_fixed(mm, tid);
        break;
    case OP_MREMAP:
        step_mremap(mm, tid);
        break;
    case OP_GROW:
        trace(s, "mm%u thread %u: mapping grows by pages %u..%u", mm->k.id, tid, t->page,
              t->end - 1);
        km_grow(&mm->k, t->page, t->end - t->page);
        for (uint32_t i = t->page; i < t->end; i++)
            mm->flags[i] = mm->flags[t->page - 1] & (AP_MAPPED | AP_READONLY);
        mm->nr_mapped += t->end - t->page;
        app_done(mm, tid);
        break;
    case OP_PROTECT: {
        bool readonly = !(mm->flags[t->page] & AP_READONLY);
        trace(s, "mm%u thread %u: mprotect pages %u..%u %s", mm->k.id, tid, t->page, t->end - 1,
              readonly ? "read-only" : "read-write");
        km_mprotect(&mm->k, t->page, t->end - t->page, readonly);
        for (uint32_t i = t->page; i < t->end; i++)
            mm->flags[i] = (uint8_t)((mm->flags[i] & ~AP_READONLY) | (readonly ? AP_READONLY : 0));
        app_done(mm, tid);
        break;
    }
    case OP_WIPE:
        app_step_wipe(set, mm, tid);
        break;
    case OP_HOLD:
        step_hold(mm, tid);
        break;
    case OP_FORK:
        app_step_fork(s, set, mm, tid);
        break;
    case OP_SPAWN:
        for (uint32_t i = 0; i < s->set.max_threads; i++)
            if (!mm->k.thread[i].alive) {
                mm->k.thread[i] = (struct km_thread){.alive = true};
                break;
            }
        app_done(mm, tid);
        break;
    case OP_EXIT:
        trace(s, "mm%u exits", mm->k.id);
        app_exit(mm);
        break;
    case OP_EXEC:
        app_exec(s, set, mm);
        break;
    }
    return true;
}
