/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_SIM_APP_MODEL_H
#define PAGERD_SIM_APP_MODEL_H
/*
 * Modelled programs: up to four threads an address space that do what programs
 * do, and a shadow copy of every byte.  Each read compares a whole page.
 *
 * A step is at most one touch or one system call, so that all else may happen
 * in between.  Programs are free of races of their own, but for one: a page may
 * be read while another thread drops it (MADV_DONTNEED), and then reads as
 * before or as zeros.  Once the call has returned, it reads as zeros; after MADV_FREE as
 * before until it reads as zeros for the first time, or is written.
 *
 * What is wiped at a fork reads as zeros in the child.  Poison instead of bytes is right where the
 * worker was in doubt which of both it is (app_mm::in_doubt).  Programs do not do what
 * docs/architecture.md says is not withstood: change that flag between a fork and the making of
 * the child's tables, take it away in a child before its doubt has ended, or set it by themselves in
 * a child without agent that forks then.
 */
#include "kernel_model.h"

#define AP_MAPPED (1u << 0)
#define AP_READONLY (1u << 1)
#define AP_CHANGING (1u << 2)   /* a system call on it is under way: other threads keep off */
#define AP_DROPPING (1u << 3)   /* and it is MADV_DONTNEED: they may read */
#define AP_MAYBE_ZERO (1u << 4) /* forked while it was being dropped: old bytes or zeros */
#define AP_HELD (1u << 5)       /* a reference to the page is held (direct I/O, /proc/PID/mem) */
#define AP_FIXED (1u << 6)      /* never unmapped, moved or dropped */
#define AP_LAZY (1u << 7)       /* given up by MADV_FREE: old bytes or zeros, until it is written */

enum app_op {
    OP_NONE = 0,
    OP_READ,
    OP_WRITE,
    OP_VERIFY, /* reads everything */
    OP_REMOVE,
    OP_UNMAP, /* and perhaps maps anew */
    OP_MAP,
    OP_MAP_FIXED,
    OP_MREMAP,
    OP_GROW,
    OP_PROTECT,
    OP_WIPE, /* MADV_WIPEONFORK, or its end */
    OP_HOLD,
    OP_FORK,
    OP_SPAWN,
    OP_EXIT,
    OP_EXEC, /* goes on in an address space of its own */
};

enum app_pattern { PATTERN_BYTES, PATTERN_PAGE, PATTERN_ZERO };

struct app_mm;

struct app_thread {
    enum app_op op;
    uint32_t stage;
    uint32_t page, end; /* what the operation is about; `page` moves on */
    uint32_t segment;   /* end of the part under way */
    enum app_pattern pattern;
    uint8_t *held;
    bool pinned;
    bool lazy; /* OP_REMOVE: MADV_FREE */
    struct app_mm *child;
};

struct app_mm {
    struct km_mm k; /* first: the target of its client */
    struct sim *sim;
    bool started, final_read;
    bool agent_comes, agent_came; /* a forked child's: it waits to be attached; it did */
    bool wants_agent; /* the image of an exec, not yet a client */
    uint32_t group; /* of the worker's; as its table in the state memory has it */
    uint32_t nr_mapped;
    /* Of a forked child: whose, and where each page was in it then, + 1; 0: it is the child's own. */
    const struct app_mm *parent;
    uint16_t origin[KM_PAGES], origin_in_parent[KM_PAGES]; /* the latter by place at the fork */
    bool in_doubt[KM_PAGES];                               /* likewise */
    bool has_tables, is_settled; /* its tables are made; and nothing is in doubt any more */
    bool wipes;        /* it has set the flag, and not forked since */
    bool wiped_unseen; /* it set the flag without an agent */
    uint8_t *shadow[KM_PAGES]; /* NULL: zeros */
    uint8_t flags[KM_PAGES];
    struct app_thread thread[KM_THREADS];
};

/* What programs are there; owned by the schedule. */
struct app_set {
    struct app_mm *mm[KM_MAX_MMS];
    uint32_t nr;
};

/* A program with some mappings and pages, one thread, no userfaultfd yet; NULL: too many. */
struct app_mm *app_start(struct sim *s, struct app_set *set);
/* One step of one thread.  False: it waits, or has nothing to do. */
bool app_thread_step(struct sim *s, struct app_set *set, struct app_mm *mm, uint32_t tid);
/* All threads end at once. */
void app_exit(struct app_mm *mm);
/* Ends by what the pager did: SIGBUS, or a kill. */
void app_kill(struct sim *s, struct app_mm *mm, const char *why);
uint32_t app_nr_alive(const struct app_set *set);
void app_set_free(struct app_set *set);
/* Is a forked child of it on the way, whose tables are not made yet? */
bool app_is_forking(const struct app_set *set, const struct app_mm *mm);
/* Compares all that is present in the kernel with the shadow, without touching. */
void app_compare_present(struct app_mm *mm);

/* ---- between app_model.c and app_fork.c ---- */

struct app_mm *app_new(struct sim *s, struct app_set *set);
uint8_t *app_shadow_for_write(struct app_mm *mm, uint32_t page);
/* The thread's operation has ended. */
void app_done(struct app_mm *mm, uint32_t tid);
void app_step_fork(struct sim *s, struct app_set *set, struct app_mm *mm, uint32_t tid);
void app_step_wipe(const struct app_set *set, struct app_mm *mm, uint32_t tid);
/* Was it in doubt whether the page is its parent's, or its parent's parent's? */
bool app_may_withhold(const struct app_mm *mm, uint32_t page);

/* app_ops.c: the next operation of an idle thread; false: none was found. */
bool app_choose(struct sim *s, struct app_set *set, struct app_mm *mm, uint32_t tid);
const char *app_op_name(enum app_op op);

#endif
