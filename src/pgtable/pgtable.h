/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_PGTABLE_H
#define PAGERD_PGTABLE_H
/*
 * pgtable: where every page of every client is.
 *
 * A page table maps a client address to one 64-bit entry.  Entries live in
 * leaves of 512 (2 MiB of address space) inside the state memfd, as indices
 * and never pointers, so that they outlive a worker (DESIGN D10).  What is
 * derived from them (the leaf index, the counts) is rebuilt from the leaves.
 *
 * pte_transition() is the only writer of an entry: one atomic store, after it
 * has looked the step up in this table.
 *
 *  NONE --ADOPT--> PRESENT --CAPTURE--> MIGRATING --COMMIT_*--> ZERO FRAME SWAPPED MERGED
 *   ^ \            ^ |  ^                |  ^  |                  |   |     ^       |
 *   |  IMPORT (fork, | |  +-----ABORT------+  |  |                  |  SWITCH |       |
 *   |  mremap) any   | UNKEEP               |  |                  |   +-----+       |
 *   |                | (stays PRESENT)      |  +--LOSE--> POISON <-LOSE-----+-------+
 *   |                |                      +------ISOLATE--------|---+-----+
 *   +--REMOVE-- any  +--------------FILL--------------------------+---+-----+-------+
 *
 * A PRESENT entry with PTE_F_CLEAN_COPY keeps the frame or slot that the page was
 * brought back from (node and index stay in the entry), as in a swap cache.
 */
#include <stdatomic.h>

#include "base/base.h"
#include "target/target.h"

enum pte_tag {
    PTE_NONE = 0,  /* never touched, or dropped by the program: reads as zeros */
    PTE_PRESENT,   /* the kernel's page in the program */
    PTE_ZERO,      /* moved out; all zeros, no frame */
    PTE_FRAME,     /* moved out; index = frame of a `ram` node */
    PTE_SWAPPED,   /* moved out; index = slot of a `file` node */
    PTE_MIGRATING, /* under a move; index = staging slot; a fault on it waits */
    PTE_POISON,    /* its backing is lost: a touch is SIGBUS */
    PTE_MERGED,    /* mapped from a stable frame */
    PTE_NR_TAGS
};

enum pte_event {
    PTE_EV_ADOPT = 0,     /* the page was seen in the program, or put there as zeros */
    PTE_EV_CAPTURE,       /* to be taken out; arg.index = staging slot */
    PTE_EV_ABORT,         /* taken back, or never left */
    PTE_EV_COMMIT_ZERO,
    PTE_EV_COMMIT_FRAME,  /* arg.node, arg.index = frame that holds the copy */
    PTE_EV_COMMIT_SWAPPED,
    PTE_EV_COMMIT_MERGED,
    PTE_EV_FILL,    /* brought back */
    PTE_EV_ISOLATE, /* a stored page moves from node to node; arg.index = staging slot */
    PTE_EV_LOSE,    /* the only copy cannot be read any more */
    PTE_EV_REMOVE,  /* the program dropped it: unmap, madvise, exec, exit */
    PTE_EV_SWITCH,  /* write-back: the same bytes are in arg.node, arg.index now */
    PTE_EV_UNKEEP,  /* the kept frame or slot is given up */
    PTE_EV_IMPORT,  /* fork and mremap: arg.value is another entry's */
    PTE_NR_EVENTS
};

typedef uint64_t pte_t;

/* bits 0-3 tag, 4-11 flags, 12-19 node, 20-31 age, 32-63 index */
#define PTE_F_REFERENCED (1u << 4) /* brought back by a fault: a second chance in the clock */
#define PTE_F_CLEAN_COPY (1u << 5) /* its frame or slot is kept, as in a swap cache */
#define PTE_F_MERGEABLE (1u << 6)
#define PTE_F_WRPROTECT (1u << 7)
#define PTE_F_LEVEL(level) ((uint32_t)(level) << 8) /* bits 8-10: see workingset.c */
#define PTE_MAX_LEVEL 4
#define PTE_AGE_MAX 4095u
#define PTE_FLAGS (0xffu << 4)

static inline enum pte_tag pte_tag(pte_t pte)
{
    return (enum pte_tag)(pte & 0xf);
}
static inline uint32_t pte_flags(pte_t pte)
{
    return (uint32_t)pte & PTE_FLAGS;
}
static inline unsigned pte_level(pte_t pte)
{
    return (unsigned)(pte >> 8) & 7;
}
static inline uint32_t pte_age(pte_t pte)
{
    return (uint32_t)(pte >> 20) & PTE_AGE_MAX;
}
static inline uint8_t pte_node(pte_t pte)
{
    return (uint8_t)(pte >> 12);
}
static inline uint32_t pte_index(pte_t pte)
{
    return (uint32_t)(pte >> 32);
}
static inline pte_t pte_make(enum pte_tag tag, uint32_t flags, uint8_t node, uint32_t index)
{
    return (pte_t)tag | flags | ((pte_t)node << 12) | ((pte_t)index << 32);
}
/* A page that is neither in the program nor never-touched: a fault must bring it. */
static inline bool pte_is_stored(pte_t pte)
{
    enum pte_tag tag = pte_tag(pte);
    return tag == PTE_ZERO || tag == PTE_FRAME || tag == PTE_SWAPPED;
}

/* A PRESENT page whose frame or slot is kept: never a proof that it is unchanged. */
static inline bool pte_is_kept(pte_t pte)
{
    return pte_tag(pte) == PTE_PRESENT && pte_flags(pte) & PTE_F_CLEAN_COPY;
}
/* Does the entry hold a reference to pte_index() of pte_node()? */
static inline bool pte_holds_place(pte_t pte)
{
    return pte_tag(pte) == PTE_FRAME || pte_tag(pte) == PTE_SWAPPED || pte_is_kept(pte);
}

struct pte_arg {
    uint32_t flags; /* flags of the new entry */
    uint32_t age;   /* workingset.c */
    uint8_t node;
    uint32_t index;
    pte_t value; /* PTE_EV_IMPORT only */
};

const char *pte_tag_name(enum pte_tag tag);
const char *pte_event_name(enum pte_event event);

/* The tag that follows, or -EINVAL: the step does not exist. IMPORT: see pte_transition(). */
int pte_next_tag(enum pte_tag tag, enum pte_event event);

/* ---- leaves and tables ---- */

struct pgtable; /* all leaves of one domain */
struct counters;

/* Bytes of state memory for that many leaves. */
uint64_t pgtable_bytes(uint32_t nr_leaves);

/*
 * Opens the leaves in `mem` (pgtable_bytes() long, zeroed or left by an
 * earlier worker).  Does not own `mem`.  Returns NULL when memory is short.
 */
struct pgtable *pgtable_open(void *mem, uint32_t nr_leaves);
void pgtable_close(struct pgtable *pt);
uint32_t pgtable_nr_free_leaves(const struct pgtable *pt);

/* May first touches of an area be answered with huge pages? */
enum area_thp {
    AREA_THP_NO = 0,     /* or not known */
    AREA_THP_SEQUENTIAL, /* as the kernel always may; we, where touches follow each other */
    AREA_THP_ADVISED,    /* MADV_HUGEPAGE: wherever it fits */
};

/* A registered range of an address space.  Sorted, disjoint; joined by mm_area_join() alone. */
struct area {
    uint64_t start, end;
    enum area_thp thp;
};

/*
 * The areas as they survive a worker, in the state memory: two copies, of which `active`
 * counts.  What does not fit is forgotten with the worker: its pages are served one by
 * one until the mapping is adopted anew.
 */
#define AREA_STORE_MAX 1024
struct area_store {
    _Atomic uint32_t active;
    uint32_t nr[2];
    struct area area[2][AREA_STORE_MAX];
};

struct migrate_op;
struct mm_ids;
struct node;
struct swapin;
struct writeback;

#define READAHEAD_STREAMS 8

/* Faults that follow each other at one distance (fault/readahead.c). */
struct readahead_stream {
    uint64_t last, next; /* addresses: its newest fault, and where the next one would be */
    int64_t stride;      /* bytes */
    uint32_t pages;      /* window; 0: no such stream */
    uint64_t used;       /* by mm::readahead_clock */
};

/*
 * One address space.  Only its owner (room client) creates it; the rooms in
 * between reach the outside through ops and target.
 */
struct mm {
    uint32_t id; /* 1 to MM_MAX_ID; what leaves and reverse maps name it by */
    int32_t pid; /* for sentences only; 0: not known */
    bool dead;   /* the kernel said ESRCH: nothing reaches it any more */
    const struct mm_ids *ids; /* all of its domain; NULL: it is alone */
    bool keeps_copies;        /* pages that come back may keep their frame or slot; needs ids */
    struct pgtable *pt;
    const struct target_ops *ops;
    void *target;
    struct counters *count; /* of its group; never NULL */
    struct node *ram;       /* where its pages are moved out to */
    struct node *file;      /* where those of `ram` go on to; NULL, with the next two: there is none */
    struct writeback *writeback; /* room migrate */
    struct swapin *swapin;       /* room fault */

    struct urange own; /* the agent's area: faults in it get zeros, it is never entered */

    uint64_t nr[PTE_NR_TAGS]; /* entries by tag; [PTE_NONE] is not kept */

    uint32_t *leaves; /* indices of its leaves, sorted by address */
    uint32_t nr_leaves;

    struct area *areas;
    uint32_t nr_areas, cap_areas;
    struct area_store *area_store; /* follows every change; NULL: none */

    bool may_unshare;      /* captures may write to pages that a fork left shared */
    struct migrate_op *op; /* the capture under way (room migrate) */
    _Atomic uint64_t *saved_fill; /* in the state memory: base of a huge fill under way; 0: none */
    uint64_t clock_hand;   /* where reclaim goes on (room reclaim) */
    uint32_t clock_turn;   /* how often it went round */
    uint32_t fill_epoch;   /* captures asked for */
    uint32_t workingset_pages; /* what its group may have resident; 0: no limit */

    struct readahead_stream readahead[READAHEAD_STREAMS]; /* room fault */
    uint64_t readahead_clock;
};

/* 0 or -ENOMEM. */
int mm_tables_init(struct mm *mm, struct pgtable *pt, uint32_t id);
/* Likewise, with the leaves that an earlier worker left it; counts its entries. */
int mm_tables_recover(struct mm *mm, struct pgtable *pt, uint32_t id);
/* Gives all leaves back; every entry must have been removed before (BUG otherwise). */
void mm_tables_free(struct mm *mm);
/*
 * Gives back the leaves of [start, end) that have no entry left.  Who removes entries calls it
 * when that is done, so that addresses which a program has left need no memory.
 */
void mm_free_leaves(struct mm *mm, uint64_t start, uint64_t end);

/* ---- numbers of address spaces ---- */

#define MM_MAX_ID 4096

/* From the number in a reverse map to its mm.  Numbers are used again, the oldest first. */
struct mm_ids {
    struct mm *mm[MM_MAX_ID + 1];
    uint32_t last;
};

/* A number that no other mm has, or -ENOSPC. */
int mm_ids_take(struct mm_ids *ids, struct mm *mm);
/* That very one, for recovery.  -EBUSY: another mm has it; -EINVAL: out of range. */
int mm_ids_claim(struct mm_ids *ids, struct mm *mm, uint32_t id);
void mm_ids_release(struct mm_ids *ids, uint32_t id);
/* NULL: there is none. */
static inline struct mm *mm_by_id(const struct mm_ids *ids, uint32_t id)
{
    return id <= MM_MAX_ID ? ids->mm[id] : NULL;
}

/* The entry, PTE_NONE where there is no leaf. */
pte_t pte_get(const struct mm *mm, struct uaddr addr);

/*
 * Changes one entry.  Allocates the leaf for ADOPT and IMPORT.  0; -EINVAL: the
 * table has no such step (nothing changed); -ENOMEM: no leaf left.  ret_old,
 * where given, receives the entry before; it is valid on 0.
 */
int pte_transition(struct mm *mm, struct uaddr addr, enum pte_event event, struct pte_arg arg,
                   pte_t *ret_old);

/* Sets or clears flags of an entry without changing its state (same single store). */
void pte_change_flags(struct mm *mm, struct uaddr addr, uint32_t set, uint32_t clear);

/* Is every entry of the leaf at `base` NONE? */
bool pte_leaf_is_none(const struct mm *mm, struct uaddr base);

/*
 * Walks the entries of [start, end) that have a leaf, in order; skips holes.
 * Returns false when there is none at or after *addr; else sets *addr to it.
 */
bool pte_next_mapped(const struct mm *mm, struct uaddr *addr, uint64_t end);

/* Called for every change, for traces in tests; NULL: none. */
typedef void (*pte_trace_fn)(const struct mm *mm, struct uaddr addr, enum pte_event event,
                             pte_t old, pte_t new_pte);
extern pte_trace_fn pte_trace;

/* ---- the working set (workingset.c) ---- */

/* The age of an entry that is moved out now. */
uint32_t workingset_eviction(const struct mm *mm);
/* Flags and age of a page that is in the program now: touched for the first time... */
struct pte_arg workingset_filled(const struct mm *mm);
/* ... missed, and brought back (counts it) ... */
struct pte_arg workingset_refault(struct mm *mm, pte_t stored);
/* ... or brought along. */
struct pte_arg workingset_prefetched(const struct mm *mm, pte_t stored);
/* Turns of the clock until a page in the program may be taken; 0: now. */
uint32_t workingset_turns_left(const struct mm *mm, pte_t present);
/* Filled so short a time ago that its thread may not have run on yet. */
bool workingset_is_fresh(const struct mm *mm, pte_t present);

/* ---- areas ---- */

/* 0 or -ENOMEM.  What overlaps is replaced. */
int mm_area_add(struct mm *mm, uint64_t start, uint64_t end);
/* All of the parent's at once.  -ENOMEM: some are missing. */
int mm_area_inherit(struct mm *child, const struct mm *parent);
/* Of the area that holds addr. */
void mm_area_set_thp(struct mm *mm, uint64_t addr, enum area_thp thp);
/*
 * [start, end) is one mapping: those of its areas that adjoin each other, with the same thp, become
 * one, as if it had been adopted whole.
 */
void mm_area_join(struct mm *mm, uint64_t start, uint64_t end);
/* Cuts [start, end) out of the areas; 0 or -ENOMEM (a split needs room). */
int mm_area_remove(struct mm *mm, uint64_t start, uint64_t end);
/* As area_store has them; 0 or -ENOMEM. */
int mm_areas_recover(struct mm *mm);
/* The area that holds addr, or NULL. */
const struct area *mm_area_find(const struct mm *mm, uint64_t addr);
/* Where the first area that starts at or after addr does, or UINT64_MAX. */
uint64_t mm_area_next_start(const struct mm *mm, uint64_t addr);
/* Sum of all areas in bytes. */
uint64_t mm_area_bytes(const struct mm *mm);

/* Entries of all leaves by tag, each counted by itself. */
void mm_count_entries(const struct mm *mm, uint64_t ret_nr[PTE_NR_TAGS]);

/*
 * Counts every entry anew and compares with nr[]; checks leaf order and areas.
 * Returns NULL, or a sentence (static storage) that says what is wrong.
 */
const char *pgtable_check(const struct mm *mm);

/* ---- counters of a group, with the kernel's names ---- */
struct counters {
    uint64_t pgfault;    /* userfaults answered */
    uint64_t pgmajfault; /* of them, answered from a node */
    uint64_t pgscan, pgsteal;
    uint64_t pgsteal_proactive; /* moved out because somebody asked (pagerctl reclaim) */
    uint64_t pgmigrate_success, pgmigrate_fail;
    uint64_t pgprefetch;  /* pages brought by fault-around */
    uint64_t pgzerofill;  /* first touches answered with zeros */
    uint64_t fill_huge; /* first touches answered with a whole huge page */
    uint64_t capture_busy, capture_hole, capture_refused, capture_events, capture_huge;
    uint64_t capture_remapped; /* pages taken by mremap() */
    uint64_t migrate_aborted; /* taken back for want of room or by a fault */
    uint64_t poisoned;
    uint64_t order_lost; /* of them, pages that threads' moves left at one place or another */
    uint64_t cow_copied, cow_reused;
    uint64_t forks;
    uint64_t limit_overshoot; /* fills let through above the limit: nothing was reclaimable */
    uint64_t limit_overshoot_bytes; /* found above it by measuring: the kernel had filled them */
    uint64_t zero_pages;      /* moved out without a frame */
    uint64_t workingset_refault;  /* pages missed after reclaim took them */
    uint64_t workingset_activate; /* of them, so soon that they belong to the working set */
    uint64_t clean_dropped;   /* moved out again without a store: equal to the copy that was kept */
    uint64_t pswpin, pswpout; /* pages read from, and written to, a `file` node */
    uint64_t swap_read_error, swap_corrupt; /* pages lost: unreadable; not what was written */
    uint64_t swap_write_error;              /* pages that stayed in `ram`: could not be written */
    uint64_t fill_no_memory;  /* fills that the kernel refused: the client's cgroup is full */
    uint64_t unshared;        /* pages that a fork had left shared, written to so as to be taken */
};

#endif
