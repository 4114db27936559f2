/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registered ranges of an address space: a sorted array.  There are as
 * many as the program has adopted mappings (tens, seldom hundreds), and they
 * change on adoption and on unmap events only.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pgtable/pgtable.h"

/* Index of the first area that ends after addr. */
static uint32_t area_position(const struct mm *mm, uint64_t addr)
{
    uint32_t lo = 0, hi = mm->nr_areas;

    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (mm->areas[mid].end <= addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int area_insert(struct mm *mm, uint32_t at, uint64_t start, uint64_t end, enum area_thp thp)
{
    if (mm->nr_areas == mm->cap_areas) {
        uint32_t cap = mm->cap_areas ? 2 * mm->cap_areas : 16;
        struct area *areas = reallocarray(mm->areas, cap, sizeof(*areas));
        if (!areas)
            return -ENOMEM;
        mm->areas = areas;
        mm->cap_areas = cap;
    }
    memmove(&mm->areas[at + 1], &mm->areas[at], (mm->nr_areas - at) * sizeof(struct area));
    mm->areas[at] = (struct area){start, end, thp};
    mm->nr_areas++;
    return 0;
}

/* The other copy is written, then it counts. */
static void areas_publish(struct mm *mm)
{
    struct area_store *store = mm->area_store;

    if (!store)
        return;
    uint32_t other = !store->active;
    store->nr[other] = mm->nr_areas < AREA_STORE_MAX ? mm->nr_areas : AREA_STORE_MAX;
    if (store->nr[other])
        memcpy(store->area[other], mm->areas, store->nr[other] * sizeof(struct area));
    atomic_store_explicit(&store->active, other, memory_order_release);
    CRASH_POINT();
}

int mm_areas_recover(struct mm *mm)
{
    struct area_store *store = mm->area_store;
    uint32_t active = store->active & 1;

    for (uint32_t i = 0; i < store->nr[active]; i++) {
        int r = area_insert(mm, i, store->area[active][i].start, store->area[active][i].end,
                            store->area[active][i].thp);
        if (r < 0)
            return r;
    }
    return 0;
}

static int area_cut(struct mm *mm, uint64_t start, uint64_t end)
{
    uint32_t i = area_position(mm, start);

    while (i < mm->nr_areas && mm->areas[i].start < end) {
        struct area *a = &mm->areas[i];
        if (a->start < start && a->end > end) {
            uint64_t tail_end = a->end;
            int r = area_insert(mm, i + 1, end, tail_end, a->thp);
            if (r < 0)
                return r;
            mm->areas[i].end = start;
            return 0;
        }
        if (a->start < start) {
            a->end = start;
            i++;
        } else if (a->end > end) {
            a->start = end;
            i++;
        } else {
            memmove(a, a + 1, (mm->nr_areas - i - 1) * sizeof(*a));
            mm->nr_areas--;
        }
    }
    return 0;
}

int mm_area_remove(struct mm *mm, uint64_t start, uint64_t end)
{
    int r = area_cut(mm, start, end);

    areas_publish(mm);
    return r;
}

int mm_area_add(struct mm *mm, uint64_t start, uint64_t end)
{
    int r = area_cut(mm, start, end);

    if (r == 0)
        r = area_insert(mm, area_position(mm, start), start, end, AREA_THP_NO);
    areas_publish(mm);
    return r;
}

int mm_area_inherit(struct mm *child, const struct mm *parent)
{
    int r = 0;

    for (uint32_t i = 0; i < parent->nr_areas && r == 0; i++) {
        uint64_t start = parent->areas[i].start, end = parent->areas[i].end;
        r = area_cut(child, start, end);
        if (r == 0)
            r = area_insert(child, area_position(child, start), start, end, AREA_THP_NO);
    }
    areas_publish(child);
    return r;
}

void mm_area_join(struct mm *mm, uint64_t start, uint64_t end)
{
    uint32_t i = area_position(mm, start), was = mm->nr_areas;

    while (i + 1 < mm->nr_areas && mm->areas[i + 1].start < end) {
        struct area *a = &mm->areas[i], *next = a + 1;
        if (a->start < start || next->end > end || a->end != next->start || a->thp != next->thp) {
            i++;
            continue;
        }
        a->end = next->end;
        memmove(next, next + 1, (mm->nr_areas - i - 2) * sizeof(*next));
        mm->nr_areas--;
    }
    if (mm->nr_areas != was)
        areas_publish(mm);
}

void mm_area_set_thp(struct mm *mm, uint64_t addr, enum area_thp thp)
{
    uint32_t i = area_position(mm, addr);

    if (i == mm->nr_areas || mm->areas[i].start > addr)
        return;
    mm->areas[i].thp = thp;
    struct area_store *store = mm->area_store;
    if (store && i < AREA_STORE_MAX) /* one word: as good before as after it */
        store->area[store->active & 1][i].thp = thp;
}

const struct area *mm_area_find(const struct mm *mm, uint64_t addr)
{
    uint32_t i = area_position(mm, addr);

    return i < mm->nr_areas && mm->areas[i].start <= addr ? &mm->areas[i] : NULL;
}

uint64_t mm_area_next_start(const struct mm *mm, uint64_t addr)
{
    uint32_t i = area_position(mm, addr);

    if (i < mm->nr_areas && mm->areas[i].start < addr)
        i++;
    return i < mm->nr_areas ? mm->areas[i].start : UINT64_MAX;
}

uint64_t mm_area_bytes(const struct mm *mm)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < mm->nr_areas; i++)
        sum += mm->areas[i].end - mm->areas[i].start;
    return sum;
}
