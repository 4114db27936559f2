/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_TEST_FAKE_TARGET_H
#define PAGERD_TEST_FAKE_TARGET_H
/*
 * A target_ops that a test drives by hand: one address space of a few leaves,
 * without threads, queues or chance (tests/sim has those).  It does what it is
 * asked and notes each call; a test can say beforehand what one call, or each,
 * of an operation answers.
 *
 * Page n holds bytes of a pattern that is its own (fake_pattern), but for those
 * that a test makes zero, so that a page that ends up elsewhere is seen.
 */
#include "base/base.h"
#include "migrate/migrate.h"
#include "node/node.h"
#include "pgtable/pgtable.h"
#include "target/target.h"

#define FAKE_START 0x7f0000000000u
#define FAKE_PAGES (4 * PTES_PER_LEAF)
#define FAKE_END (FAKE_START + FAKE_PAGES * PAGE_SIZE)
#define FAKE_MAX_CALLS 256

enum fake_op {
    FAKE_REG,
    FAKE_UNREG,
    FAKE_COPY,
    FAKE_ZERO,
    FAKE_WAKE,
    FAKE_POISON,
    FAKE_CAPTURE,
    FAKE_SCAN,
    FAKE_NR_OPS
};

enum fake_page { FAKE_ABSENT = 0, FAKE_PRESENT, FAKE_POISONED };

struct fake_call {
    enum fake_op op;
    uint64_t addr, len;
};

/* What the nth call from now answers; every: that one and all behind it. */
struct fake_plan {
    bool on, every;
    uint32_t nth;
    int result;         /* enum kres, or -errno of capture and scan */
    uint32_t nr_filled; /* pages that copy, zero and poison do all the same */
};

struct fake_target {
    uint8_t page[FAKE_PAGES];              /* enum fake_page */
    char *mem;                             /* the program's bytes */
    char *slots;                           /* the transfer area */
    bool huge;                             /* scan: whole leaves are huge pages */
    uint64_t guard;                        /* the one guarded page; 0: none */
    uint32_t changing;   /* from the nth time it is asked, a change is under way; 0: never */
    uint32_t nr_changing_asked;
    uint64_t now_ns;
    struct capture_vec vec[CAPTURE_MAX_PAGES]; /* of the last capture */
    uint32_t nr_vecs;
    bool capture_huge;
    uint32_t nr_started; /* captures */
    void (*at_capture)(bool start); /* called by prepare and by start; NULL: none */
    struct fake_plan plan[FAKE_NR_OPS];
    uint32_t fail_at;  /* the nth call that can fail, of whatever operation, does; 0: none */
    uint32_t nr_fallible;
    uint32_t nr[FAKE_NR_OPS];
    struct fake_call call[FAKE_MAX_CALLS]; /* the first ones since fake_forget_calls() */
    uint32_t nr_calls;
};

extern const struct target_ops fake_ops;

void fake_open(struct fake_target *f);
void fake_close(struct fake_target *f);

/* Address of page n. */
static inline struct uaddr fake_addr(uint32_t n)
{
    return uaddr(FAKE_START + (uint64_t)n * PAGE_SIZE);
}

void fake_plan(struct fake_target *f, enum fake_op op, uint32_t nth, int result,
               uint32_t nr_filled);
void fake_plan_every(struct fake_target *f, enum fake_op op, int result);
void fake_plan_none(struct fake_target *f);
void fake_forget_calls(struct fake_target *f);

/* The program's page n is there, with its pattern or with zeros. */
void fake_put(struct fake_target *f, uint32_t n, bool zero);
/* Are these PAGE_SIZE bytes page n's pattern? */
bool fake_is_pattern(const void *bytes, uint32_t n);
bool fake_has_pattern(const struct fake_target *f, uint32_t n);
bool fake_has_zeros(const struct fake_target *f, uint32_t n);

/* Does the agent's work for the last capture: what is there is taken, else it is a hole. */
void fake_agent(struct fake_target *f, uint8_t result[CAPTURE_MAX_PAGES]);

/* ---- one mm over a fake target, for the rooms below client ---- */

struct world {
    struct fake_target t;
    struct pgtable *pt;
    struct node ram;
    struct mm mm;
    struct counters count;
    void *state, *frames;
};

/* All of the address space is one area. */
void world_open(struct world *w, uint32_t nr_leaves, uint32_t nr_frames);
/* Removes every entry first; complains when frames are left over. */
void world_close(struct world *w);
/* Fails the test when an invariant of tables, move or frames does not hold. */
void world_check(struct world *w);

/* Page n is in the program and in the tables. */
void world_adopt(struct world *w, uint32_t n, bool zero);
/* Pages [first, first + nr) are taken out and wait in their slots (0 on). */
void world_stage(struct world *w, uint32_t first, uint32_t nr);
/* Likewise, and committed. */
void world_store(struct world *w, uint32_t first, uint32_t nr);
enum pte_tag world_tag(const struct world *w, uint32_t n);
/* The page's bytes are right wherever its entry says they are. */
bool world_page_is_whole(const struct world *w, uint32_t n, bool zero);

#endif
