/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_SIM_RUNNER_H
#define PAGERD_SIM_RUNNER_H
/*
 * Runs schedules in child processes, since a broken invariant ends the process
 * that finds it, and tells what became of them.
 */
#include <sys/types.h>

#include "schedule.h"

/* Shared with the children. */
struct run {
    struct sim_report report;
    int log_fd; /* what the core logs; the last line tells a BUG */
    pid_t pid;
    bool stop; /* do not begin another schedule */
};

/* 0 or -errno. */
int run_init(struct run *r);

/* Starts a child that runs schedules first, first + stride, ... below `end`. */
int run_start(struct run *r, uint64_t first, uint64_t end, uint64_t stride);
/* Waits for it.  True: all went well.  False: r->report says what failed. */
bool run_wait(struct run *r);

/*
 * Waits for all `nr` of them.  When one fails, *ret_failure is its report and the
 * others end after the schedule they are at.
 */
bool run_wait_all(struct run *r, unsigned nr, struct sim_report *ret_failure);

/* One schedule with the given steps in a child of its own.  Result as run_wait(). */
bool run_one(struct run *r, uint64_t seed, const struct step *steps, uint32_t nr, bool tracing);

/*
 * shrink.c: makes *nr steps fewer and quieter for as long as the schedule fails
 * in the same way, and at most `budget_ms`.  Returns the number of tries.
 */
uint32_t shrink(struct run *r, uint64_t seed, struct step *steps, uint32_t *nr, const char *kind,
                uint32_t budget_ms);

#endif
