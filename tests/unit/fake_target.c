/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <check.h>
#include <string.h>
#include <sys/mman.h>

#include "fake_target.h"

static void note(struct fake_target *f, enum fake_op op, uint64_t addr, uint64_t len)
{
    f->nr[op]++;
    if (f->nr_calls < FAKE_MAX_CALLS)
        f->call[f->nr_calls++] = (struct fake_call){op, addr, len};
}

/* Is this call to be answered otherwise than by doing it? */
static bool planned(struct fake_target *f, enum fake_op op, int failure, int *ret_result,
                    uint32_t *ret_filled)
{
    struct fake_plan *p = &f->plan[op];

    *ret_filled = 0;
    if (f->fail_at && ++f->nr_fallible == f->fail_at) {
        *ret_result = failure;
        return true;
    }
    if (!p->on || (p->nth && --p->nth))
        return false;
    p->on = p->every;
    *ret_result = p->result;
    *ret_filled = p->nr_filled;
    return true;
}

static bool page_of(uint64_t addr, uint32_t *ret)
{
    if (addr < FAKE_START || addr >= FAKE_END)
        return false;
    *ret = (uint32_t)((addr - FAKE_START) >> PAGE_SHIFT);
    return true;
}

/* src NULL: poison. */
static enum kres put(struct fake_target *f, enum fake_op op, uint64_t dst, const char *src,
                     bool src_is_one_page, uint64_t len, uint64_t *ret_done)
{
    uint32_t nr_filled, n;
    int result = KRES_DONE;

    note(f, op, dst, len);
    bool stop = planned(f, op, KRES_RETRY, &result, &nr_filled);
    uint64_t end = stop ? MIN(nr_filled * PAGE_SIZE, len) : len;
    for (*ret_done = 0; *ret_done < end; *ret_done += PAGE_SIZE) {
        if (!page_of(dst + *ret_done, &n))
            return KRES_GONE;
        if (f->page[n] != FAKE_ABSENT)
            return KRES_RACED;
        f->page[n] = src ? FAKE_PRESENT : FAKE_POISONED;
        if (src)
            memcpy(f->mem + n * PAGE_SIZE, src_is_one_page ? src : src + *ret_done, PAGE_SIZE);
    }
    return (enum kres)result;
}

static enum kres fake_copy(void *t, struct uaddr dst, const void *src, uint64_t len,
                           uint64_t *ret_done)
{
    return put(t, FAKE_COPY, dst.v, src, false, len, ret_done);
}

static enum kres fake_zero(void *t, struct uaddr dst, uint64_t len, uint64_t *ret_done)
{
    static const char zeros[PAGE_SIZE];

    return put(t, FAKE_ZERO, dst.v, zeros, true, len, ret_done);
}

static enum kres fake_poison(void *t, struct uaddr dst, uint64_t len, uint64_t *ret_done)
{
    return put(t, FAKE_POISON, dst.v, NULL, false, len, ret_done);
}

static enum kres plain(struct fake_target *f, enum fake_op op, struct urange r)
{
    uint32_t nr_filled;
    int result;

    note(f, op, r.start.v, r.len);
    if (op == FAKE_WAKE && !f->plan[op].on)
        return KRES_DONE; /* the one call that cannot fail for want of memory */
    return planned(f, op, KRES_RETRY, &result, &nr_filled) ? (enum kres)result : KRES_DONE;
}

static enum kres fake_reg(void *t, struct urange r)
{
    return plain(t, FAKE_REG, r);
}

static enum kres fake_unreg(void *t, struct urange r)
{
    return plain(t, FAKE_UNREG, r);
}

static enum kres fake_wake(void *t, struct urange r)
{
    return plain(t, FAKE_WAKE, r);
}

static int fake_capture_prepare(void *t, const struct capture_vec *vecs, uint32_t nr_vecs, bool huge)
{
    struct fake_target *f = t;
    uint32_t nr_filled;
    int result;

    note(f, FAKE_CAPTURE, vecs[0].addr.v, nr_vecs);
    if (f->at_capture)
        f->at_capture(false);
    if (planned(f, FAKE_CAPTURE, -ENOTCONN, &result, &nr_filled) && result < 0)
        return result;
    memcpy(f->vec, vecs, nr_vecs * sizeof(*vecs));
    f->nr_vecs = nr_vecs;
    f->capture_huge = huge;
    return 0;
}

static void fake_capture_start(void *t)
{
    struct fake_target *f = t;

    f->nr_started++;
    if (f->at_capture)
        f->at_capture(true);
}

static const void *fake_staged(void *t, struct sslot slot)
{
    struct fake_target *f = t;

    ck_assert_uint_lt(slot.n, CAPTURE_MAX_PAGES);
    return f->slots + slot.n * PAGE_SIZE;
}

static int fake_scan(void *t, struct urange r, struct scan_run *runs, uint32_t max,
                     struct uaddr *ret_next)
{
    struct fake_target *f = t;
    uint64_t at = r.start.v;
    uint32_t nr_filled, n;
    int result, nr = 0;

    note(f, FAKE_SCAN, r.start.v, r.len);
    if (planned(f, FAKE_SCAN, -ENOMEM, &result, &nr_filled) && result < 0)
        return result;
    for (; at < urange_end(r); at += PAGE_SIZE) {
        if (!page_of(at, &n) || f->page[n] != FAKE_PRESENT)
            continue;
        if (nr && urange_end(runs[nr - 1].r) == at) {
            runs[nr - 1].r.len += PAGE_SIZE;
            continue;
        }
        if ((uint32_t)nr == max)
            break;
        runs[nr++] = (struct scan_run){{{at}, PAGE_SIZE}, f->huge};
    }
    ret_next->v = at;
    return nr;
}

static struct uaddr fake_next_guard(void *t, struct urange r)
{
    struct fake_target *f = t;

    return uaddr(f->guard >= r.start.v && f->guard < urange_end(r) ? f->guard : urange_end(r));
}

static bool fake_is_changing(void *t)
{
    struct fake_target *f = t;

    return ++f->nr_changing_asked >= f->changing && f->changing;
}

static uint64_t fake_now_ns(void *t)
{
    const struct fake_target *f = t;

    return f->now_ns;
}

const struct target_ops fake_ops = {
    .reg = fake_reg,
    .unreg = fake_unreg,
    .copy = fake_copy,
    .zero = fake_zero,
    .wake = fake_wake,
    .poison = fake_poison,
    .capture_prepare = fake_capture_prepare,
    .capture_start = fake_capture_start,
    .staged = fake_staged,
    .scan = fake_scan,
    .next_guard = fake_next_guard,
    .is_changing = fake_is_changing,
    .now_ns = fake_now_ns,
};

static void *pages_alloc(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(p, MAP_FAILED);
    return p;
}

void fake_open(struct fake_target *f)
{
    *f = (struct fake_target){0};
    f->mem = pages_alloc(FAKE_PAGES * PAGE_SIZE);
    f->slots = pages_alloc(CAPTURE_MAX_PAGES * PAGE_SIZE);
}

void fake_close(struct fake_target *f)
{
    munmap(f->mem, FAKE_PAGES * PAGE_SIZE);
    munmap(f->slots, CAPTURE_MAX_PAGES * PAGE_SIZE);
}

void fake_plan(struct fake_target *f, enum fake_op op, uint32_t nth, int result, uint32_t nr_filled)
{
    f->plan[op] = (struct fake_plan){true, false, nth, result, nr_filled};
}

void fake_plan_every(struct fake_target *f, enum fake_op op, int result)
{
    f->plan[op] = (struct fake_plan){true, true, 0, result, 0};
}

void fake_plan_none(struct fake_target *f)
{
    memset(f->plan, 0, sizeof(f->plan));
    f->fail_at = f->nr_fallible = 0;
}

void fake_forget_calls(struct fake_target *f)
{
    memset(f->nr, 0, sizeof(f->nr));
    f->nr_calls = 0;
}

static void pattern(uint64_t *word, uint32_t n)
{
    for (uint32_t i = 0; i < PAGE_SIZE / sizeof(*word); i++)
        word[i] = ((uint64_t)(n + 1) << 32) + i;
}

void fake_put(struct fake_target *f, uint32_t n, bool zero)
{
    f->page[n] = FAKE_PRESENT;
    if (zero)
        memset(f->mem + n * PAGE_SIZE, 0, PAGE_SIZE);
    else
        pattern((uint64_t *)(void *)(f->mem + n * PAGE_SIZE), n);
}

bool fake_is_pattern(const void *bytes, uint32_t n)
{
    uint64_t want[PAGE_SIZE / sizeof(uint64_t)];

    pattern(want, n);
    return !memcmp(bytes, want, PAGE_SIZE);
}

bool fake_has_pattern(const struct fake_target *f, uint32_t n)
{
    return f->page[n] == FAKE_PRESENT && fake_is_pattern(f->mem + n * PAGE_SIZE, n);
}

bool fake_has_zeros(const struct fake_target *f, uint32_t n)
{
    return f->page[n] == FAKE_PRESENT && migrate_page_is_zero(f->mem + n * PAGE_SIZE);
}

void fake_agent(struct fake_target *f, uint8_t result[CAPTURE_MAX_PAGES])
{
    memset(result, CAPTURE_NOT_TRIED, CAPTURE_MAX_PAGES);
    for (uint32_t v = 0; v < f->nr_vecs; v++) {
        for (uint32_t i = 0; i < f->vec[v].nr_pages; i++) {
            uint32_t slot = f->vec[v].slot + i, n = 0;

            ck_assert(page_of(f->vec[v].addr.v + i * PAGE_SIZE, &n));
            if (f->page[n] != FAKE_PRESENT) {
                result[slot] = CAPTURE_HOLE;
                continue;
            }
            memcpy(f->slots + slot * PAGE_SIZE, f->mem + n * PAGE_SIZE, PAGE_SIZE);
            memset(f->mem + n * PAGE_SIZE, 0xee, PAGE_SIZE);
            f->page[n] = FAKE_ABSENT;
            result[slot] = CAPTURE_TAKEN;
        }
    }
}

/* ---- one mm ---- */

void world_open(struct world *w, uint32_t nr_leaves, uint32_t nr_frames)
{
    memset(w, 0, sizeof(*w));
    fake_open(&w->t);
    w->state = pages_alloc(pgtable_bytes(nr_leaves));
    w->pt = pgtable_open(w->state, nr_leaves);
    ck_assert_ptr_nonnull(w->pt);
    w->frames = nr_frames ? pages_alloc(nr_frames * PAGE_SIZE) : NULL;
    ck_assert_int_eq(node_ram_init(&w->ram, NODE_RAM, w->frames, nr_frames), 0);
    ck_assert_int_eq(mm_tables_init(&w->mm, w->pt, 7), 0);
    w->mm.ops = &fake_ops;
    w->mm.target = &w->t;
    w->mm.count = &w->count;
    w->mm.ram = &w->ram;
    ck_assert_int_eq(migrate_op_init(&w->mm), 0);
    ck_assert_int_eq(mm_area_add(&w->mm, FAKE_START, FAKE_END), 0);
}

void world_close(struct world *w)
{
    struct frame_count frames;
    struct uaddr at = {0};
    pte_t old;

    world_check(w);
    for (; pte_next_mapped(&w->mm, &at, UINT64_MAX); at.v += PAGE_SIZE) {
        ck_assert_int_eq(pte_transition(&w->mm, at, PTE_EV_REMOVE, (struct pte_arg){0}, &old), 0);
        migrate_release_stored(&w->mm, at, old);
    }
    migrate_op_free(&w->mm);
    mm_tables_free(&w->mm);
    ck_assert_ptr_null(node_check(&w->ram, &frames));
    ck_assert_msg(frames.allocated == 0, "%u frames are left over", frames.allocated);
    if (w->frames)
        munmap(w->frames, node_size_bytes(&w->ram));
    node_fini(&w->ram);
    pgtable_close(w->pt);
    fake_close(&w->t);
}

void world_check(struct world *w)
{
    struct frame_count frames;
    const char *wrong = pgtable_check(&w->mm);

    if (!wrong)
        wrong = migrate_check(&w->mm);
    if (!wrong)
        wrong = node_check(&w->ram, &frames);
    ck_assert_msg(!wrong, "%s", wrong);
    ck_assert_uint_eq(frames.referenced, w->mm.nr[PTE_FRAME]);
}

void world_adopt(struct world *w, uint32_t n, bool zero)
{
    fake_put(&w->t, n, zero);
    ck_assert_int_eq(
        pte_transition(&w->mm, fake_addr(n), PTE_EV_ADOPT, (struct pte_arg){0}, NULL), 0);
}

void world_stage(struct world *w, uint32_t first, uint32_t nr)
{
    struct uaddr pages[CAPTURE_MAX_PAGES];
    uint8_t result[CAPTURE_MAX_PAGES];

    for (uint32_t i = 0; i < nr; i++)
        pages[i] = fake_addr(first + i);
    ck_assert_int_eq(migrate_capture(&w->mm, pages, nr, false, MIGRATE_DEMOTION), (int)nr);
    fake_agent(&w->t, result);
    ck_assert_uint_eq(migrate_captured(&w->mm, result), nr);
}

void world_store(struct world *w, uint32_t first, uint32_t nr)
{
    world_stage(w, first, nr);
    ck_assert_uint_eq(migrate_commit(&w->mm, CAPTURE_MAX_PAGES), 0);
}

enum pte_tag world_tag(const struct world *w, uint32_t n)
{
    return pte_tag(pte_get(&w->mm, fake_addr(n)));
}

bool world_page_is_whole(const struct world *w, uint32_t n, bool zero)
{
    pte_t pte = pte_get(&w->mm, fake_addr(n));
    const void *bytes = NULL;

    switch (pte_tag(pte)) {
    case PTE_NONE:
        return zero && w->t.page[n] == FAKE_ABSENT;
    case PTE_PRESENT:
        return zero ? fake_has_zeros(&w->t, n) : fake_has_pattern(&w->t, n);
    case PTE_ZERO:
        return zero && w->t.page[n] == FAKE_ABSENT;
    case PTE_FRAME:
        bytes = node_bytes(&w->ram, (struct pfn){pte_index(pte)});
        break;
    case PTE_MIGRATING:
        bytes = migrate_bytes(&w->mm, fake_addr(n));
        if (!bytes) /* under capture: where the program has it */
            return zero ? fake_has_zeros(&w->t, n) : fake_has_pattern(&w->t, n);
        break;
    case PTE_SWAPPED:
    case PTE_POISON:
    case PTE_MERGED:
    case PTE_NR_TAGS:
        return false;
    }
    return zero ? migrate_page_is_zero(bytes) : fake_is_pattern(bytes, n);
}
