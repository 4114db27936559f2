/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_SIM_SCHEDULE_H
#define PAGERD_SIM_SCHEDULE_H
/*
 * One schedule: what a seed decides, the steps that follow from it, and the
 * settling at the end, after which every byte has been read back, every thread
 * has come home and every frame is free.
 */
#include "sim.h"

/* Memory that schedules use one after the other. */
struct arena;
struct arena *arena_new(void);

/* More of one kind of trouble in every schedule. */
enum sim_focus { FOCUS_NONE = 0, FOCUS_CRASH, FOCUS_MOVES, FOCUS_DISK, FOCUS_HUGE, FOCUS_REMAP, FOCUS_FORKS };
extern enum sim_focus settings_focus;
extern bool settings_unordered; /* of the command line, for all seeds */
void settings_from_seed(uint64_t seed, struct settings *ret);
/* The steps of a seed: at most `max`; returns their number. */
#define MAX_STEPS 1200
uint32_t schedule_steps(uint64_t seed, struct step *steps);

/*
 * Runs them; fills *report and does not return when something is wrong
 * (sim_fail() or BUG_ON end the process).
 */
void schedule_run(struct arena *a, uint64_t seed, const struct step *steps, uint32_t nr,
                  bool tracing, struct sim_report *report);

#endif
