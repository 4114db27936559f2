/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_SIM_H
#define PAGERD_SIM_H
/*
 * sim: what the parts of the simulator share: the source of every choice, the
 * settings of one schedule, the trace, and the end of a schedule that failed.
 *
 *   main.c, shrink.c   run schedules in child processes; make a failing one short
 *   trace.c            the steps in words
 *   schedule.c         one schedule: who takes a step, and the checks
 *   disk_model.c       the device of the file node
 *   worker_adopt.c     adoption in slices, over maps that were read some turns ago
 *   worker_model.c     the worker's turn for each client, as src/worker does it
 *   worker_crash.c     its end, and its successor
 *   worker_forked.c    agents of forked children
 *   app_model.c        programs: threads that read, write, fork, unmap; the shadow copy
 *   app_fork.c         their forks
 *   kernel_model.c     address spaces, userfaultfd queues, the program's system calls
 *   kernel_ops.c       struct target_ops over that
 *   agent_model.c      the agent: captures, fills
 *
 * The core is single-threaded and sees the world only through target_ops, so
 * every interleaving that matters is: between two steps, and, inside a step of
 * the worker, at each operation (sim_interleave()).
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/base.h"

/* Everything random comes from here: splitmix64, reseeded for each step. */
struct choice {
    uint64_t state;
};

static inline uint64_t choice_u64(struct choice *c)
{
    uint64_t x = c->state += 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* One of 0 .. n - 1. */
static inline uint32_t choice_below(struct choice *c, uint32_t n)
{
    return (uint32_t)((choice_u64(c) >> 32) * n >> 32);
}
static inline uint32_t choice_between(struct choice *c, uint32_t lo, uint32_t hi)
{
    return lo + choice_below(c, hi - lo + 1);
}
/* True in `per_1024` of 1024 cases. */
static inline bool choice_chance(struct choice *c, uint32_t per_1024)
{
    return per_1024 && choice_below(c, 1024) < per_1024;
}

/* One step of a schedule.  All that happens in it follows from these and the state before it. */
enum step_kind { STEP_APP, STEP_KERNEL, STEP_WORKER };
#define STEP_ALONE 1u   /* nobody else runs between the operations of this step */
#define STEP_NO_FAIL 2u /* no operation in it fails without reason */

struct step {
    uint64_t seed;
    uint8_t kind;
    uint8_t flags;
};

/* What a seed decides before the first step. */
struct settings {
    uint32_t nr_steps;
    uint32_t app_weight, kernel_weight, worker_weight;
    uint32_t max_pages; /* mapped pages an address space */
    uint32_t max_threads;
    uint32_t max_mms;     /* alive at once */
    uint32_t nr_roots;    /* programs that are not forked */
    uint32_t fail;        /* per 1024: operations that fail without reason */
    uint32_t fatal;       /* per 1024: of them, with an unexpected error */
    uint32_t interleave;  /* per 1024: others run before and after an operation */
    uint32_t busy;        /* per 1024: captured pages that are refused without reason */
    uint32_t signals;     /* per 1024 kernel steps: a waiting thread looks again by itself */
    uint32_t fork;        /* per 1024 program operations */
    uint32_t wipe;        /* per 1024 program operations: MADV_WIPEONFORK, or its end */
    uint32_t unseen;      /* per 1024: the flags of mappings are read, and nothing is shown */
    uint32_t child_agent; /* per 1024 kernel steps: a forked child's agent comes */
    uint32_t change;      /* per 1024: unmap, remap, remove */
    uint32_t favourite;   /* the change that is made most often (app_ops.c); 10 and up: none */
    uint32_t late_events; /* per 1024: a change is done and its event not yet queued */
    bool reuse;     /* a place is used anew before the message of what was there is queued */
    uint32_t exec;  /* per 1024 program operations */
    uint32_t lazy;  /* per 1024 drops: by MADV_FREE */
    bool crowded;   /* mappings move to a few places only */
    bool unordered; /* forks may overtake the events of changes that they have seen */
    uint32_t slow_wake;   /* per 1024: a thread whose event was read does not run yet */
    uint32_t adopt;       /* per 1024 worker turns: the maps are looked through */
    uint32_t shrink;      /* per 1024 worker turns: reclaim is asked for, whatever the limit */
    uint32_t crash;       /* per 1024 worker steps */
    uint32_t clock_ns;    /* that a step takes, at most */
    uint32_t nr_leaves;
    uint32_t free_frames;              /* of one pageblock */
    uint32_t limit_pages, other_pages; /* of the group; resident but not managed */
    bool remap;                        /* captures by mremap() */
    bool huge;                         /* one mapping is a huge page */
    bool agent_dies;
    bool disk;         /* there is a file node */
    uint32_t disk_speed; /* per 1024 turns: requests that end */
    uint32_t disk_bad; /* per 1024: its pages that are written or read amiss */
};

/* What a failure looks like; shared with the process that started this one. */
struct sim_report {
    uint64_t seed;
    uint32_t nr_done; /* schedules */
    uint32_t failed_step;
    bool failed;
    char kind[32]; /* "wrong byte", "hang", ... */
    char what[256];
    uint64_t stat[40];
};

enum sim_stat {
    STAT_STEPS,
    STAT_READS,
    STAT_WRITES,
    STAT_WAITS,
    STAT_FORKS,
    STAT_REMOVES,
    STAT_UNMAPS,
    STAT_REMAPS,
    STAT_CAPTURED,
    STAT_FILLED,
    STAT_RACED,
    STAT_RETRIED,
    STAT_SIGBUS,
    STAT_DEATHS,
    STAT_HUGE,
    STAT_HUGE_FILLS,
    STAT_REMAPPED,
    STAT_ASTRAY,
    STAT_CHILD_AGENTS,
    STAT_UNMANAGED,
    STAT_PSWPOUT,
    STAT_PSWPIN,
    STAT_CLEAN,
    STAT_SWAP_LOST,
    STAT_HELD,
    STAT_CRASHES,
    STAT_ORDER_LOST,
    STAT_UNTOLD,
    STAT_EXECS,
    STAT_VANISHED,
    STAT_WIPED,
    STAT_NOTHING,
    STAT_DOUBTS,
    STAT_WITHHELD,
    NR_SIM_STATS
};

struct sim {
    uint64_t seed;
    struct settings set;
    struct choice choice; /* of the step under way */
    uint32_t step, flags;
    bool tracing, settling; /* settling: nothing new starts, nothing fails */
    int depth;
    uint64_t clock_ns;
    uint64_t nr_queued; /* messages so far: their order */
    struct sim_report *report;
    bool order_lost; /* the worker said that it could not tell what is where */
    bool fork_lost;  /* an address space ended under a capture, and took a child's pages with it */
    bool has_failed; /* an operation failed without reason, or the disk did */
    bool was_short;  /* of frames or leaves, or nearly */
    struct world *world; /* schedule.c */
};

_Noreturn void sim_fail(struct sim *s, const char *kind, const char *fmt, ...) PRINTF_LIKE(3, 4);
void sim_trace(struct sim *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
#define trace(s, ...)                  \
    do {                               \
        if ((s)->tracing)              \
            sim_trace(s, __VA_ARGS__); \
    } while (0)
/*
 * One line for what happens alike to pages in a row: "before page..page after".
 * Lines are held back until something else comes.
 */
void sim_trace_page(struct sim *s, uint32_t page, const char *after, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Prints what was held back. */
void sim_trace_end(void);
#define trace_page(s, page, after, ...)                  \
    do {                                                 \
        if ((s)->tracing)                                \
            sim_trace_page(s, page, after, __VA_ARGS__); \
    } while (0)
static inline void sim_count(struct sim *s, enum sim_stat what, uint64_t n)
{
    s->report->stat[what] += n;
}

/* Does the operation that asks fail without reason, at that chance of 1024? */
static inline bool sim_fails_at(struct sim *s, uint32_t per_1024)
{
    bool fails =
        !s->settling && !(s->flags & STEP_NO_FAIL) && choice_chance(&s->choice, per_1024);

    s->has_failed |= fails;
    return fails;
}
static inline bool sim_fails(struct sim *s)
{
    return sim_fails_at(s, s->set.fail);
}

/* Others may run now: programs and the kernel, never the worker. */
void sim_interleave(struct sim *s);

/* Pages of memory for kernel and shadow; all are given back when a schedule ends. */
uint8_t *sim_page_alloc(struct sim *s);
void sim_page_free(struct sim *s, uint8_t *page);

#endif
