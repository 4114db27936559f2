/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an idle thread does next.  Ranges are chosen so that the program has no
 * race of its own (app_model.h names the one exception).
 */
#include "app_model.h"

/* Does another thread's operation touch the range?  `writes`: only those that write count. */
static bool in_use(const struct app_mm *mm, uint32_t tid, uint32_t page, uint32_t end, bool writes)
{
    for (uint32_t i = 0; i < KM_THREADS; i++) {
        const struct app_thread *t = &mm->thread[i];
        if (i == tid ||
            (t->op != OP_READ && t->op != OP_WRITE && t->op != OP_VERIFY && t->op != OP_HOLD))
            continue;
        if (writes && (t->op == OP_READ || t->op == OP_VERIFY))
            continue;
        if (t->op == OP_VERIFY) { /* it looks again before each page, but not at the one it is at */
            if (t->page >= page && t->page < end)
                return true;
            continue;
        }
        if (t->page < end && t->end > page)
            return true;
    }
    return false;
}

static bool pages_are(const struct app_mm *mm, uint32_t page, uint32_t end, uint8_t mask,
                      uint8_t want)
{
    for (uint32_t i = page; i < end; i++)
        if ((mm->flags[i] & mask) != want)
            return false;
    return true;
}

/* A page whose flags under `mask` are `want`; UINT32_MAX: none found. */
static uint32_t pick_page(struct choice *c, const struct app_mm *mm, uint8_t mask, uint8_t want)
{
    uint32_t at = choice_below(c, KM_PAGES), skip = choice_below(c, MAX(mm->nr_mapped, 1u));

    /* Pages, not distances: skip some mapped ones, so that a lone page is not preferred. */
    for (uint32_t i = 0; i < 2 * KM_PAGES; i++) {
        uint32_t page = (at + i) % KM_PAGES;
        if ((mm->flags[page] & mask) != want)
            continue;
        if (skip == 0 || i >= KM_PAGES)
            return page;
        skip--;
    }
    return UINT32_MAX;
}

/* What mremap() and growth stop at. */
static uint32_t max_mapped(const struct sim *s)
{
    return 2 * s->set.max_pages + (s->set.huge ? 3 * PTES_PER_LEAF : 0);
}

static uint32_t extend(struct choice *c, const struct app_mm *mm, uint32_t page, uint32_t max,
                       uint8_t mask, uint8_t want)
{
    uint32_t end = page + 1, nr = choice_between(c, 1, max);

    while (end < page + nr && end < KM_PAGES && (mm->flags[end] & mask) == want)
        end++;
    return end;
}

static bool choose_access(struct sim *s, struct app_mm *mm, uint32_t tid, enum app_op op)
{
    struct choice *c = &s->choice;
    struct app_thread *t = &mm->thread[tid];
    uint8_t mask = AP_MAPPED | AP_CHANGING, want = AP_MAPPED;
    uint32_t shape = choice_below(c, 8);

    if (op == OP_WRITE || op == OP_HOLD)
        mask |= AP_READONLY;
    else if (choice_chance(c, 256)) {
        mask |= AP_DROPPING; /* what is just being dropped, for choice */
        want |= AP_CHANGING | AP_DROPPING;
    }
    uint32_t page = pick_page(c, mm, mask, want);
    if (page == UINT32_MAX)
        return false;
    const struct km_pte *pte = &mm->k.pte[page];
    if (pte->vma & KV_HUGE && pte->state == KP_NONE && choice_chance(c, 896)) {
        /* The kernel's own huge page is of no use here: a write when it is a fault, else later. */
        if (!(pte->vma & KV_REGISTERED))
            return false;
        if (op == OP_READ && !(mm->flags[page] & (AP_READONLY | AP_CHANGING))) {
            op = OP_WRITE;
            mask |= AP_READONLY;
        }
    }
    t->op = op;
    t->page = page;
    t->end = page + 1;
    t->pattern = shape < 3 ? PATTERN_BYTES : shape < 7 ? PATTERN_PAGE : PATTERN_ZERO;
    if (op == OP_HOLD) {
        t->pinned = choice_chance(c, 512) && !s->set.remap; /* that engine loses what is written so */
        t->stage = 0;
    } else if (choice_chance(c, 384)) {
        t->end = extend(c, mm, page, 40, mask, want);
    }
    return true;
}

/* A mapped range that nobody else uses, or at most reads. */
static bool pick_range(struct sim *s, struct app_mm *mm, uint32_t tid, uint32_t max, bool readers)
{
    struct choice *c = &s->choice;
    struct app_thread *t = &mm->thread[tid];
    uint8_t mask = AP_MAPPED | AP_CHANGING | AP_HELD | AP_FIXED, want = AP_MAPPED;
    uint32_t page = pick_page(c, mm, mask, want);

    if (readers && mm->k.nr_recent && choice_chance(c, 512)) {
        uint32_t nr = MIN(mm->k.nr_recent, (uint32_t)ARRAY_SIZE(mm->k.recent));
        uint32_t recent = mm->k.recent[choice_below(c, nr)];
        if ((mm->flags[recent] & mask) == want)
            page = recent;
    }
    if (page == UINT32_MAX)
        return false;
    t->page = page;
    t->end = extend(c, mm, page, max, mask, want);
    uint32_t leaf = page - page % PTES_PER_LEAF;
    if (s->set.huge && choice_chance(c, 512) &&
        pages_are(mm, leaf, leaf + PTES_PER_LEAF, mask, want)) {
        t->page = leaf;
        t->end = leaf + PTES_PER_LEAF;
    }
    return !in_use(mm, tid, t->page, t->end, readers);
}

/* Anywhere, or within a few pages around a leaf's end. */
static uint32_t pick_place(struct choice *c, const struct app_mm *mm, uint32_t nr)
{
    if (mm->sim->set.crowded)
        return PTES_PER_LEAF - 8 + choice_below(c, 16);
    return choice_below(c, KM_PAGES - nr);
}

static uint32_t pick_hole(struct choice *c, const struct app_mm *mm, uint32_t nr)
{
    for (int tries = 0; tries < 4; tries++) {
        uint32_t page = pick_place(c, mm, nr);
        bool free = true;
        if (nr == PTES_PER_LEAF && choice_chance(c, 512))
            page -= page % PTES_PER_LEAF;
        /* As the kernel does: what was just unmapped is used again. */
        const struct km_thread *t = &mm->k.thread[choice_below(c, KM_THREADS)];
        for (uint32_t i = 0; i < KM_THREADS && tries == 0; i++)
            if (mm->k.thread[i].wait == KW_EVENT_LATE)
                t = &mm->k.thread[i];
        if (t->nr_events && choice_chance(c, 512)) {
            const struct kuffd_msg *m = &t->event[t->nr_events - 1];
            if (m->type == KUFFD_UNMAP)
                page = MIN(km_page(m->range.start.v), KM_PAGES - nr);
        }
        for (uint32_t i = page; i < page + nr && free; i++)
            free = !mm->flags[i] && !(mm->k.pte[i].vma & KV_MAPPED);
        if (free && (mm->sim->set.reuse || km_is_reusable(&mm->k, page, nr)))
            return page;
    }
    return UINT32_MAX;
}

static bool choose_remove(struct sim *s, struct app_mm *mm, uint32_t tid)
{
    struct app_thread *t = &mm->thread[tid];

    if (!pick_range(s, mm, tid, 24, true) || !pages_are(mm, t->page, t->end, AP_DROPPING, 0))
        return false;
    for (uint32_t i = t->page; i < t->end; i++)
        mm->flags[i] |= AP_CHANGING | AP_DROPPING;
    t->op = OP_REMOVE;
    t->lazy = choice_chance(&s->choice, s->set.lazy);
    t->stage = 0;
    return true;
}

static bool choose_mremap(struct sim *s, struct app_mm *mm, uint32_t tid)
{
    struct choice *c = &s->choice;
    struct app_thread *t = &mm->thread[tid];

    if (!pick_range(s, mm, tid, 32, false))
        return false;
    t->end = MIN(t->end, km_vma_end(&mm->k, t->page));
    uint32_t old_nr = t->end - t->page, new_nr = old_nr, to;
    bool dontunmap = choice_chance(c, 128);
    if (!dontunmap && choice_chance(c, 384))
        new_nr = choice_between(c, 1, s->set.reuse && !s->set.unordered ? old_nr : 2 * old_nr);
    if (mm->nr_mapped + new_nr > max_mapped(s))
        return false;
    to = pick_hole(c, mm, new_nr);
    if (choice_chance(c, 384)) { /* over something, which others may go on reading */
        uint32_t page = pick_place(c, mm, new_nr);
        const struct km_thread *other = &mm->k.thread[choice_below(c, KM_THREADS)];
        if (other->wait == KW_FAULT_READ)
            page = MIN(other->page, KM_PAGES - new_nr);
        if (new_nr == PTES_PER_LEAF && choice_chance(c, 768)) /* leaves that change places */
            page -= page % PTES_PER_LEAF;
        if ((page >= t->end || page + new_nr <= t->page) &&
            pages_are(mm, page, page + new_nr, AP_CHANGING | AP_HELD | AP_FIXED, 0) &&
            (s->set.reuse || km_is_reusable(&mm->k, page, new_nr)) &&
            !in_use(mm, tid, page, page + new_nr, true))
            to = page;
    }
    if (to == UINT32_MAX)
        return false;
    t->op = OP_MREMAP;
    t->stage = to;
    t->segment = new_nr | (dontunmap ? 1u << 31 : 0);
    return true;
}

/*
 * Another leaf to where a huge page is just being put.  Who waits to write there does so
 * when it has come.
 */
static bool choose_leaf_move(struct sim *s, struct app_mm *mm, uint32_t tid)
{
    struct app_thread *t = &mm->thread[tid];
    uint32_t to = mm->k.agent.page[0], from = choice_below(&s->choice, KM_PAGES / PTES_PER_LEAF);

    from *= PTES_PER_LEAF;
    for (uint32_t i = 0; i < KM_THREADS; i++)
        if (mm->thread[i].op == OP_HOLD)
            return false;
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t leaf = i ? to : from;
        if (!pages_are(mm, leaf, leaf + PTES_PER_LEAF,
                       AP_MAPPED | AP_READONLY | AP_CHANGING | AP_HELD | AP_FIXED, AP_MAPPED))
            return false;
    }
    if (from == to || in_use(mm, tid, from, from + PTES_PER_LEAF, false) || km_vma_end(&mm->k, from) < from + PTES_PER_LEAF)
        return false;
    *t = (struct app_thread){.op = OP_MREMAP,
                             .page = from,
                             .end = from + PTES_PER_LEAF,
                             .stage = to,
                             .segment = PTES_PER_LEAF};
    return true;
}

static bool choose_grow(struct sim *s, struct app_mm *mm, uint32_t tid)
{
    struct choice *c = &s->choice;
    struct app_thread *t = &mm->thread[tid];
    uint32_t page = pick_page(c, mm, AP_MAPPED | AP_CHANGING, AP_MAPPED);

    if (page == UINT32_MAX)
        return false;
    while (page < KM_PAGES && mm->flags[page] & AP_MAPPED)
        page++;
    uint32_t end = page;
    uint32_t nr = choice_between(c, 1, 12);
    while (end < KM_PAGES && end < page + nr && !mm->flags[end] &&
           !(mm->k.pte[end].vma & KV_MAPPED))
        end++;
    /*
     * A mapping that grew has no message; who left it, and where it grew anew, cannot be told.  Nor in a
     * forked child that is in doubt: it may have grown over what the child was not given (MADV_DONTFORK).
     */
    if (mm->k.has_uffd && mm->parent && !mm->is_settled)
        return false;
    /* The worker knows of one thread.  (What a fill before a crash has brought, it finds in areas only.) */
    bool one_thread = s->set.max_threads == 1 && mm->k.had_agent && !s->set.crash;
    if (!s->set.unordered && !one_thread &&
        (s->set.reuse || !km_is_reusable(&mm->k, page, end - page)))
        return false;
    if (end == page || mm->nr_mapped + nr > max_mapped(s) ||
        mm->flags[page - 1] & AP_CHANGING)
        return false;
    t->op = OP_GROW;
    t->page = page;
    t->end = end;
    return true;
}

static bool choose_fork(struct sim *s, struct app_set *set, struct app_mm *mm, uint32_t tid)
{
    if (set->nr >= KM_MAX_MMS || app_nr_alive(set) >= s->set.max_mms || mm->k.nr_held ||
        (!s->set.unordered && !km_may_fork(&mm->k)) || (mm->wiped_unseen && !mm->k.had_agent))
        return false;
    for (uint32_t i = 0; i < set->nr; i++)
        if (!set->mm[i]->started && !set->mm[i]->k.exited)
            return false; /* one at a time */
    mm->thread[tid].op = OP_FORK;
    mm->thread[tid].child = NULL;
    return true;
}

/* Often of pages that are moved out: of others there is nothing to be kept from children. */
static bool choose_wipe(struct sim *s, struct app_mm *mm, uint32_t tid)
{
    bool is_out = choice_chance(&s->choice, 768);

    for (uint32_t tries = is_out ? 8 : 1; tries; tries--) {
        if (!pick_range(s, mm, tid, 24, true))
            return false;
        const struct km_pte *pte = &mm->k.pte[mm->thread[tid].page];
        if (pte->state == KP_NONE && pte->vma & KV_REGISTERED)
            break;
    }
    mm->thread[tid].op = OP_WIPE;
    return true;
}

#define NR_CHANGES 10
#define CHANGE_MAP_FIXED 4

static bool somebody_waits(const struct app_mm *mm)
{
    for (uint32_t i = 0; i < KM_THREADS; i++)
        if (mm->k.thread[i].wait == KW_FAULT_READ)
            return true;
    return false;
}

/* Messages that were read may be held on account of it: a good moment to end. */
static bool somebody_changes(const struct app_mm *mm)
{
    for (uint32_t i = 0; i < KM_THREADS; i++)
        if (mm->k.thread[i].wait == KW_EVENT_READ)
            return true;
    return false;
}

static bool choose_change(struct sim *s, struct app_mm *mm, uint32_t tid)
{
    struct app_thread *t = &mm->thread[tid];

    uint32_t kind = choice_below(&s->choice, NR_CHANGES);

    if (s->set.favourite < NR_CHANGES && choice_chance(&s->choice, 640))
        kind = s->set.favourite;
    switch (kind) {
    case 0:
    case 1:
    case 2:
        return choose_remove(s, mm, tid);
    case 3:
        if (!pick_range(s, mm, tid, 48, false))
            return false;
        t->op = OP_UNMAP;
        t->stage = 0;
        return true;
    case CHANGE_MAP_FIXED:
        /* Replaced in one step: others may go on in it, and find the old or the new bytes. */
        if (!pick_range(s, mm, tid, 24, true))
            return false;
        t->op = OP_MAP_FIXED;
        t->stage = 0;
        return true;
    case 5:
    case 6:
        return choose_mremap(s, mm, tid);
    case 7:
        return choose_grow(s, mm, tid);
    case 8:
        if (!pick_range(s, mm, tid, 16, false) || in_use(mm, tid, t->page, t->end, false))
            return false;
        t->op = OP_PROTECT;
        return true;
    default: {
        uint32_t nr = choice_between(&s->choice, 1, 32);
        uint32_t page = pick_hole(&s->choice, mm, nr);
        if (page == UINT32_MAX || mm->nr_mapped + nr > max_mapped(s) / 2)
            return false;
        t->op = OP_MAP;
        t->page = page;
        t->end = page + nr;
        return true;
    }
    }
}

bool app_choose(struct sim *s, struct app_set *set, struct app_mm *mm, uint32_t tid)
{
    struct choice *c = &s->choice;
    struct app_thread *t = &mm->thread[tid];
    bool found;

    if (s->settling) {
        if (tid != 0 || mm->final_read)
            return false;
        mm->final_read = true;
        *t = (struct app_thread){.op = OP_VERIFY, .end = KM_PAGES};
        return true;
    }
    /* What is replaced while its fault is being answered: rare, unless looked for. */
    if (s->set.favourite == CHANGE_MAP_FIXED && somebody_waits(mm) && choice_chance(c, 384))
        found = choose_change(s, mm, tid);
    else if (mm->k.agent.fills && mm->k.agent.state == JOB_MOVING && choice_chance(c, 768))
        found = choose_leaf_move(s, mm, tid);
    else if (choice_chance(c, s->set.wipe))
        found = choose_wipe(s, mm, tid);
    else if (choice_chance(c, mm->wipes ? 4 * s->set.fork : s->set.fork))
        found = choose_fork(s, set, mm, tid);
    else if (choice_chance(c, s->set.change))
        found = choose_change(s, mm, tid);
    else if (choice_chance(c, 4))
        t->op = OP_EXIT, found = true;
    else if (choice_chance(c, somebody_changes(mm) ? 4 * s->set.exec : s->set.exec))
        t->op = OP_EXEC, found = true;
    else if (choice_chance(c, 24))
        t->op = OP_SPAWN, found = true;
    else if (choice_chance(c, 48))
        found = choose_access(s, mm, tid, OP_HOLD);
    else
        found = choose_access(s, mm, tid, choice_chance(c, 512) ? OP_READ : OP_WRITE);
    if (!found)
        *t = (struct app_thread){0};
    return found;
}
