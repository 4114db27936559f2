/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves of 512 entries and the one function that changes an entry.
 *
 * Layout of the state memory, all of it indices:
 *
 *   struct pgtable_head
 *   struct leaf_desc desc[nr_leaves]   whose leaf this is; mm == 0: free
 *   pte_t leaf[nr_leaves][512]
 *
 * Derived, in ordinary memory: a stack of free leaves, a hash from (mm, leaf
 * address) to leaf, how many entries each leaf has, and for each mm its leaves
 * sorted by address.  All are sized when they are made, so that no fault
 * allocates memory.
 *
 * Invariants (pgtable_check):
 *  1. A leaf belongs to at most one mm, at one address; the hash finds it.
 *  2. mm->leaves is sorted by address, without doubles.
 *  3. mm->nr[tag] is the number of entries with that tag, for every tag but NONE.
 *  4. Areas are sorted, page-aligned, not empty and disjoint.
 *  5. used[leaf] is the number of its entries that are not all zeros.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pgtable/pgtable.h"

/* One page.  Leaves from nr_touched on were never used: they take no memory, and nobody looks at them. */
struct pgtable_head {
    _Atomic uint32_t nr_touched;
};

struct leaf_desc {
    uint32_t mm;
    uint32_t pad;
    uint64_t base; /* address of its first page */
};

struct pgtable {
    struct pgtable_head *head;
    struct leaf_desc *desc;
    _Atomic pte_t (*leaf)[PTES_PER_LEAF];
    uint32_t nr_leaves;
    uint32_t nr_free;
    uint32_t *free_leaves; /* stack; those that were never used are not in it */
    uint16_t *used;        /* entries by leaf; right for those whose mm was made or recovered */
    uint32_t *hash;        /* leaf + 1; 0: empty */
    uint32_t hash_mask;    /* of the part in use: twice as many places as leaves were ever used */
    uint32_t hash_places;  /* of all that is set aside */
    uint32_t last;         /* leaf that was found last */
};

pte_trace_fn pte_trace;

static uint64_t desc_bytes(uint32_t nr_leaves)
{
    return ((uint64_t)nr_leaves * sizeof(struct leaf_desc) + PAGE_SIZE - 1) & PAGE_MASK;
}

uint64_t pgtable_bytes(uint32_t nr_leaves)
{
    return PAGE_SIZE + desc_bytes(nr_leaves) + (uint64_t)nr_leaves * PTES_PER_LEAF * sizeof(pte_t);
}

/* Large, mostly untouched arrays: the kernel gives pages as they are used. */
static void *sparse_array(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static uint32_t hash_slot(const struct pgtable *pt, uint32_t mm, uint64_t base)
{
    uint64_t x = (base >> LEAF_SHIFT) * 0x9e3779b97f4a7c15u ^ ((uint64_t)mm * 0xc2b2ae3d27d4eb4fu);
    return (uint32_t)(x >> 32 ^ x) & pt->hash_mask;
}

static void hash_insert(struct pgtable *pt, uint32_t leaf)
{
    uint32_t i = hash_slot(pt, pt->desc[leaf].mm, pt->desc[leaf].base);

    while (pt->hash[i])
        i = (i + 1) & pt->hash_mask;
    pt->hash[i] = leaf + 1;
}

#define HASH_PLACES_MIN 1024u

/*
 * Only as much of the hash is used as there were leaves: in all of it, each leaf would take a
 * page of memory of its own.
 */
static void hash_grow(struct pgtable *pt)
{
    uint32_t nr = pt->head->nr_touched, places = pt->hash_mask + 1;

    if (2 * nr <= places || places == pt->hash_places)
        return;
    memset(pt->hash, 0, places * sizeof(*pt->hash));
    while (2 * nr > places && places < pt->hash_places)
        places *= 2;
    pt->hash_mask = places - 1;
    for (uint32_t i = 0; i < nr; i++)
        if (pt->desc[i].mm)
            hash_insert(pt, i);
}

/* Leaf index, or UINT32_MAX. */
static uint32_t hash_find(const struct pgtable *pt, uint32_t mm, uint64_t base)
{
    for (uint32_t i = hash_slot(pt, mm, base); pt->hash[i]; i = (i + 1) & pt->hash_mask) {
        const struct leaf_desc *d = &pt->desc[pt->hash[i] - 1];
        if (d->mm == mm && d->base == base)
            return pt->hash[i] - 1;
    }
    return UINT32_MAX;
}

/* Linear probing without tombstones: entries behind the hole move up. */
static void hash_remove(struct pgtable *pt, uint32_t leaf)
{
    uint32_t i = hash_slot(pt, pt->desc[leaf].mm, pt->desc[leaf].base);

    while (pt->hash[i] != leaf + 1)
        i = (i + 1) & pt->hash_mask;
    for (uint32_t j = i;;) {
        pt->hash[i] = 0;
        for (;;) {
            j = (j + 1) & pt->hash_mask;
            if (!pt->hash[j])
                return;
            const struct leaf_desc *d = &pt->desc[pt->hash[j] - 1];
            uint32_t home = hash_slot(pt, d->mm, d->base);
            if (((j - home) & pt->hash_mask) >= ((j - i) & pt->hash_mask))
                break;
        }
        pt->hash[i] = pt->hash[j];
        i = j;
    }
}

struct pgtable *pgtable_open(void *mem, uint32_t nr_leaves)
{
    struct pgtable *pt = calloc(1, sizeof(*pt));

    if (!pt)
        return NULL;
    pt->hash_places = HASH_PLACES_MIN;
    while (pt->hash_places < 2 * nr_leaves)
        pt->hash_places *= 2;
    pt->head = mem;
    pt->desc = (void *)((char *)mem + PAGE_SIZE);
    pt->leaf = (void *)((char *)mem + PAGE_SIZE + desc_bytes(nr_leaves));
    pt->nr_leaves = nr_leaves;
    pt->hash_mask = HASH_PLACES_MIN - 1;
    pt->hash = sparse_array((size_t)pt->hash_places * sizeof(uint32_t));
    pt->free_leaves = sparse_array((size_t)nr_leaves * sizeof(uint32_t));
    pt->used = sparse_array((size_t)nr_leaves * sizeof(*pt->used));
    if (!pt->hash || !pt->free_leaves || !pt->used) {
        pgtable_close(pt);
        return NULL;
    }
    BUG_ON(pt->head->nr_touched > nr_leaves);
    while (pt->hash_mask + 1 < 2 * pt->head->nr_touched && pt->hash_mask + 1 < pt->hash_places)
        pt->hash_mask = 2 * pt->hash_mask + 1;
    for (uint32_t i = pt->head->nr_touched; i-- > 0;) {
        if (pt->desc[i].mm)
            hash_insert(pt, i);
        else
            pt->free_leaves[pt->nr_free++] = i;
    }
    return pt;
}

void pgtable_close(struct pgtable *pt)
{
    if (!pt)
        return;
    if (pt->hash)
        munmap(pt->hash, (size_t)pt->hash_places * sizeof(uint32_t));
    if (pt->free_leaves)
        munmap(pt->free_leaves, (size_t)pt->nr_leaves * sizeof(uint32_t));
    if (pt->used)
        munmap(pt->used, (size_t)pt->nr_leaves * sizeof(*pt->used));
    free(pt);
}

uint32_t pgtable_nr_free_leaves(const struct pgtable *pt)
{
    return pt->nr_free + (pt->nr_leaves - pt->head->nr_touched);
}

int mm_tables_init(struct mm *mm, struct pgtable *pt, uint32_t id)
{
    mm->leaves = sparse_array((size_t)pt->nr_leaves * sizeof(uint32_t));
    if (!mm->leaves)
        return -ENOMEM;
    mm->pt = pt;
    mm->id = id;
    mm->nr_leaves = 0;
    return 0;
}

static int leaf_order(const void *a, const void *b, void *pt)
{
    const struct leaf_desc *desc = ((struct pgtable *)pt)->desc;
    uint64_t x = desc[*(const uint32_t *)a].base, y = desc[*(const uint32_t *)b].base;

    return x < y ? -1 : x > y;
}

static uint16_t count_used(const struct pgtable *pt, uint32_t leaf)
{
    uint16_t nr = 0;

    for (unsigned k = 0; k < PTES_PER_LEAF; k++)
        nr += atomic_load_explicit(&pt->leaf[leaf][k], memory_order_relaxed) != 0;
    return nr;
}

int mm_tables_recover(struct mm *mm, struct pgtable *pt, uint32_t id)
{
    int r = mm_tables_init(mm, pt, id);

    if (r < 0)
        return r;
    for (uint32_t i = 0; i < pt->head->nr_touched; i++) {
        if (pt->desc[i].mm != id)
            continue;
        mm->leaves[mm->nr_leaves++] = i;
        pt->used[i] = count_used(pt, i);
    }
    qsort_r(mm->leaves, mm->nr_leaves, sizeof(*mm->leaves), leaf_order, pt);
    mm_count_entries(mm, mm->nr);
    mm->nr[PTE_NONE] = 0;
    mm_free_leaves(mm, 0, UINT64_MAX); /* which it was about to give back, or had just taken */
    return 0;
}

/* What its entries were goes before its owner does: a successor takes none of them up. */
static void leaf_free(struct pgtable *pt, uint32_t leaf)
{
    hash_remove(pt, leaf);
    atomic_thread_fence(memory_order_release);
    pt->desc[leaf].mm = 0;
    pt->used[leaf] = 0;
    pt->free_leaves[pt->nr_free++] = leaf;
    CRASH_POINT();
}

void mm_tables_free(struct mm *mm)
{
    struct pgtable *pt = mm->pt;

    for (unsigned tag = PTE_NONE + 1; tag < PTE_NR_TAGS; tag++)
        BUG_ON(mm->nr[tag] != 0);
    for (uint32_t i = 0; i < mm->nr_leaves; i++)
        leaf_free(pt, mm->leaves[i]);
    munmap(mm->leaves, (size_t)pt->nr_leaves * sizeof(uint32_t));
    free(mm->areas);
    mm->leaves = NULL;
    mm->areas = NULL;
    mm->nr_leaves = mm->nr_areas = mm->cap_areas = 0;
}

/* Position of the first of mm's leaves at or after base. */
static uint32_t leaf_position(const struct mm *mm, uint64_t base)
{
    uint32_t lo = 0, hi = mm->nr_leaves;

    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (mm->pt->desc[mm->leaves[mid]].base < base)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void mm_free_leaves(struct mm *mm, uint64_t start, uint64_t end)
{
    struct pgtable *pt = mm->pt;
    uint32_t kept = leaf_position(mm, start & ~(LEAF_SIZE - 1)), i = kept;

    for (; i < mm->nr_leaves && pt->desc[mm->leaves[i]].base < end; i++) {
        if (pt->used[mm->leaves[i]])
            mm->leaves[kept++] = mm->leaves[i];
        else
            leaf_free(pt, mm->leaves[i]);
    }
    if (kept == i)
        return;
    memmove(&mm->leaves[kept], &mm->leaves[i], (mm->nr_leaves - i) * sizeof(uint32_t));
    mm->nr_leaves -= i - kept;
}

static _Atomic pte_t *pte_find(const struct mm *mm, struct uaddr addr)
{
    struct pgtable *pt = mm->pt;
    uint64_t base = addr.v & ~(LEAF_SIZE - 1);
    uint32_t leaf = pt->last;

    /* Most often it is the one that was asked for last. */
    if (pt->desc[leaf].mm != mm->id || pt->desc[leaf].base != base) {
        leaf = hash_find(pt, mm->id, base);
        if (leaf == UINT32_MAX)
            return NULL;
        pt->last = leaf;
    }
    return &mm->pt->leaf[leaf][(addr.v >> PAGE_SHIFT) & (PTES_PER_LEAF - 1)];
}

/* UINT32_MAX: there is none. */
static uint32_t take_leaf(struct pgtable *pt)
{
    static struct log_ratelimit often;
    uint32_t fresh = pt->head->nr_touched;

    if (pt->nr_free)
        return pt->free_leaves[--pt->nr_free];
    if (fresh < pt->nr_leaves) {
        atomic_store_explicit(&pt->head->nr_touched, fresh + 1, memory_order_release);
        hash_grow(pt);
        return fresh;
    }
    if (log_ratelimit(&often))
        log_warning("the page tables are full: new pages are not managed, and stay in their programs; "
                    "raise --ram or --swap, by which the tables are sized");
    return UINT32_MAX;
}

static _Atomic pte_t *pte_alloc(struct mm *mm, struct uaddr addr)
{
    struct pgtable *pt = mm->pt;
    uint64_t base = addr.v & ~(LEAF_SIZE - 1);
    _Atomic pte_t *pte = pte_find(mm, addr);

    if (pte)
        return pte;
    uint32_t leaf = take_leaf(pt);
    if (leaf == UINT32_MAX)
        return NULL;
    /* A free leaf may hold entries of its last owner; the owner is named last. */
    memset(pt->leaf[leaf], 0, sizeof(pt->leaf[leaf]));
    pt->desc[leaf].base = base;
    atomic_thread_fence(memory_order_release);
    pt->desc[leaf].mm = mm->id;
    hash_insert(pt, leaf);

    uint32_t at = leaf_position(mm, base);
    memmove(&mm->leaves[at + 1], &mm->leaves[at], (mm->nr_leaves - at) * sizeof(uint32_t));
    mm->leaves[at] = leaf;
    mm->nr_leaves++;
    return &pt->leaf[leaf][(addr.v >> PAGE_SHIFT) & (PTES_PER_LEAF - 1)];
}

pte_t pte_get(const struct mm *mm, struct uaddr addr)
{
    _Atomic pte_t *pte = pte_find(mm, addr);

    return pte ? atomic_load_explicit(pte, memory_order_relaxed) : 0;
}

static uint32_t leaf_of(const struct pgtable *pt, const _Atomic pte_t *pte)
{
    return (uint32_t)((size_t)(pte - pt->leaf[0]) / PTES_PER_LEAF);
}

int pte_transition(struct mm *mm, struct uaddr addr, enum pte_event event, struct pte_arg arg,
                   pte_t *ret_old)
{
    bool creates = event == PTE_EV_ADOPT ||
                   (event == PTE_EV_IMPORT && pte_tag(arg.value) < PTE_NR_TAGS);
    _Atomic pte_t *pte = creates ? pte_alloc(mm, addr) : pte_find(mm, addr);
    pte_t old = pte ? atomic_load_explicit(pte, memory_order_relaxed) : 0;
    pte_t value;

    if (event == PTE_EV_IMPORT) {
        if (pte_tag(old) != PTE_NONE || pte_tag(arg.value) >= PTE_NR_TAGS)
            return -EINVAL;
        value = arg.value;
    } else {
        int tag = pte_next_tag(pte_tag(old), event);
        if (tag < 0)
            return tag;
        value = tag == PTE_NONE ? 0
                                : pte_make((enum pte_tag)tag, arg.flags, arg.node, arg.index) |
                                      (pte_t)(arg.age & PTE_AGE_MAX) << 20;
    }
    if (!pte) { /* no leaf: either there is none left, or NONE stays NONE */
        if (value)
            return -ENOMEM;
    } else {
        /* Release: what the new entry points to (a frame's bytes) is written before it. */
        atomic_store_explicit(pte, value, memory_order_release);
        mm->pt->used[leaf_of(mm->pt, pte)] += (value != 0) - (old != 0);
        mm->nr[pte_tag(old)]--;
        mm->nr[pte_tag(value)]++;
        mm->nr[PTE_NONE] = 0;
    }
    if (ret_old)
        *ret_old = old;
    if (pte_trace)
        pte_trace(mm, addr, event, old, value);
    CRASH_POINT();
    return 0;
}

void pte_change_flags(struct mm *mm, struct uaddr addr, uint32_t set, uint32_t clear)
{
    _Atomic pte_t *pte = pte_find(mm, addr);

    if (!pte)
        return;
    pte_t old = atomic_load_explicit(pte, memory_order_relaxed);
    pte_t value = (old & ~(pte_t)(clear & PTE_FLAGS)) | (set & PTE_FLAGS);
    if (value != old && pte_tag(old) != PTE_NONE)
        atomic_store_explicit(pte, value, memory_order_relaxed);
}

bool pte_next_mapped(const struct mm *mm, struct uaddr *addr, uint64_t end)
{
    uint64_t v = addr->v;

    if (!(v & ~PAGE_MASK) && pte_get(mm, *addr))
        return v < end;
    for (uint32_t i = leaf_position(mm, v & ~(LEAF_SIZE - 1)); i < mm->nr_leaves; i++) {
        uint32_t leaf = mm->leaves[i];
        uint64_t base = mm->pt->desc[leaf].base;
        if (base >= end)
            return false;
        unsigned k = v > base ? (unsigned)((v - base) >> PAGE_SHIFT) : 0;
        for (; k < PTES_PER_LEAF; k++) {
            if (!atomic_load_explicit(&mm->pt->leaf[leaf][k], memory_order_relaxed))
                continue;
            addr->v = base + ((uint64_t)k << PAGE_SHIFT);
            return addr->v < end;
        }
    }
    return false;
}

bool pte_leaf_is_none(const struct mm *mm, struct uaddr base)
{
    struct uaddr at = base;

    return !pte_next_mapped(mm, &at, base.v + LEAF_SIZE);
}

void mm_count_entries(const struct mm *mm, uint64_t ret_nr[PTE_NR_TAGS])
{
    for (unsigned tag = 0; tag < PTE_NR_TAGS; tag++)
        ret_nr[tag] = 0;
    for (uint32_t i = 0; i < mm->nr_leaves; i++)
        for (unsigned k = 0; k < PTES_PER_LEAF; k++)
            ret_nr[pte_tag(atomic_load_explicit(&mm->pt->leaf[mm->leaves[i]][k],
                                                memory_order_relaxed))]++;
}

const char *pgtable_check(const struct mm *mm)
{
    uint64_t nr[PTE_NR_TAGS] = {0};
    const struct pgtable *pt = mm->pt;

    for (uint32_t i = 0; i < mm->nr_leaves; i++) {
        uint32_t leaf = mm->leaves[i];
        if (pt->desc[leaf].mm != mm->id)
            return "a leaf in the mm's list belongs to another mm";
        if (hash_find(pt, mm->id, pt->desc[leaf].base) != leaf)
            return "the hash does not find a leaf of the mm";
        if (i && pt->desc[mm->leaves[i - 1]].base >= pt->desc[leaf].base)
            return "the mm's leaves are not sorted";
        if (pt->used[leaf] != count_used(pt, leaf))
            return "a leaf has another number of entries than is counted";
        for (unsigned k = 0; k < PTES_PER_LEAF; k++) {
            pte_t pte = atomic_load_explicit(&pt->leaf[leaf][k], memory_order_relaxed);
            if (pte_tag(pte) >= PTE_NR_TAGS)
                return "an entry has a tag that does not exist";
        }
    }
    mm_count_entries(mm, nr);
    for (unsigned tag = PTE_NONE + 1; tag < PTE_NR_TAGS; tag++)
        if (nr[tag] != mm->nr[tag])
            return "the counts by tag do not match the entries";
    for (uint32_t i = 0; i < mm->nr_areas; i++) {
        const struct area *a = &mm->areas[i];
        if (a->start >= a->end || (a->start | a->end) & ~PAGE_MASK)
            return "an area is empty or not page-aligned";
        if (i && mm->areas[i - 1].end > a->start)
            return "areas overlap or are not sorted";
    }
    return NULL;
}
