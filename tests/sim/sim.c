/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim: random schedules of programs, kernel and worker against the core.
 *
 *   sim [--seed=N] [--schedules=N] [--fresh=N] [--stats] [--trace] [--no-shrink]
 *       [--mutant=NAME] [--unordered] [--focus=crash|disk|forks|huge|moves|remap|none]
 *   sim --mutants
 *
 * Schedule i has seed N + i.  --fresh runs that many more from a seed of the
 * clock, which is printed.  --trace runs the one schedule --seed and prints each
 * step.  --mutant switches on a deliberate fault of the core; --mutants lists them.  A schedule that
 * fails is made short and printed (not with --no-shrink); exit status 1.
 * --focus: more crashes of the worker, with a disk or often without, huge pages in every
 * schedule, more moves of mappings by several threads, captures by mremap() in every one,
 * or more forks, whose children get agents.
 * --unordered: forks may also be told in another order than they and the changes of
 * other threads were made, which the kernel does not rule out and the core does not
 * withstand (kernel_model.h, rule 3).
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "runner.h"

#define NR_WORKERS 2
#define SHRINK_MS 8000

static const char *const stat_names[NR_SIM_STATS] = {
    [STAT_STEPS] = "steps",         [STAT_READS] = "reads",   [STAT_WRITES] = "writes",
    [STAT_WAITS] = "faults",        [STAT_FORKS] = "forks",   [STAT_REMOVES] = "removes",
    [STAT_UNMAPS] = "unmaps",       [STAT_REMAPS] = "remaps", [STAT_CAPTURED] = "captured",
    [STAT_FILLED] = "filled",       [STAT_RACED] = "EEXIST",  [STAT_RETRIED] = "EAGAIN",
    [STAT_SIGBUS] = "sigbus",       [STAT_DEATHS] = "deaths",
    [STAT_PSWPOUT] = "written to disk", [STAT_PSWPIN] = "read from disk",
    [STAT_CLEAN] = "clean dropped", [STAT_SWAP_LOST] = "lost on disk", [STAT_HUGE] = "huge captures",
    [STAT_HUGE_FILLS] = "huge fills", [STAT_REMAPPED] = "taken by mremap",
    [STAT_ASTRAY] = "moved and not counted",
    [STAT_CHILD_AGENTS] = "agents of forked children",
    [STAT_UNMANAGED] = "unmanaged",  [STAT_HELD] = "held batches",
    [STAT_CRASHES] = "worker crashes",
    [STAT_ORDER_LOST] = "pages lost by an order that cannot be told",
    [STAT_EXECS] = "execs",
    [STAT_VANISHED] = "pages that vanished after MADV_FREE",
    [STAT_WIPED] = "pages wiped by forks",
    [STAT_NOTHING] = "moved out pages that a child did not get",
    [STAT_DOUBTS] = "forked children in doubt",
    [STAT_WITHHELD] = "touches of what was withheld",
    [STAT_UNTOLD] = "schedules with such pages",
};

static const char *const focus_names[] = {
    [FOCUS_NONE] = "none",
    [FOCUS_CRASH] = "crash",
    [FOCUS_MOVES] = "moves",
    [FOCUS_DISK] = "disk",
    [FOCUS_HUGE] = "huge",
    [FOCUS_REMAP] = "remap",
    [FOCUS_FORKS] = "forks",
};

static int focus_by_name(const char *name, enum sim_focus *ret)
{
    for (unsigned i = 0; i < ARRAY_SIZE(focus_names); i++)
        if (!strcmp(name, focus_names[i])) {
            *ret = (enum sim_focus)i;
            return 0;
        }
    return -1;
}

static struct run *runs; /* shared with the children */

static void tell_failure(uint64_t seed, const char *mutant)
{
    static struct step steps[MAX_STEPS];
    struct run *r = &runs[0];
    uint32_t nr = schedule_steps(seed, steps), all = nr;
    char kind[sizeof(r->report.kind)];

    if (run_one(r, seed, steps, nr, false)) {
        printf("seed %" PRIu64 ": failed once and not again: the simulator is not deterministic\n",
               seed);
        return;
    }
    memcpy(kind, r->report.kind, sizeof(kind));
    uint32_t tries = shrink(r, seed, steps, &nr, kind, SHRINK_MS);
    printf("the shortest schedule found (%u of %u steps, %u tries):\n", nr, all, tries);
    run_one(r, seed, steps, nr, true);
    printf("%s: %s\n", r->report.kind, r->report.what);
    printf("again: sim --seed=%" PRIu64 " --schedules=1 --focus=%s%s%s\n", seed,
           focus_names[settings_focus], mutant ? " --mutant=" : "", mutant ? mutant : "");
}

/* Runs [first, first + nr).  When one fails, *ret_failure says which and how. */
static bool run_batch(uint64_t first, uint64_t nr, uint64_t stat[NR_SIM_STATS], uint64_t *ret_done,
                      struct sim_report *ret_failure)
{
    for (unsigned i = 0; i < NR_WORKERS; i++)
        if (run_start(&runs[i], first + i, first + nr, NR_WORKERS) < 0) {
            perror("fork");
            exit(99);
        }
    bool ok = run_wait_all(runs, NR_WORKERS, ret_failure);
    for (unsigned i = 0; i < NR_WORKERS; i++) {
        *ret_done += runs[i].report.nr_done;
        for (unsigned k = 0; k < NR_SIM_STATS; k++)
            stat[k] += runs[i].report.stat[k];
    }
    return ok;
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t n = strtoull(text, &end, 0);

    if (!*text || *end) {
        fprintf(stderr, "sim: %s is not a number\n", text);
        exit(2);
    }
    return n;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},
        {"schedules", required_argument, NULL, 'n'},
        {"mutant", required_argument, NULL, 'm'},
        {"trace", no_argument, NULL, 't'},
        {"fresh", required_argument, NULL, 'f'},
        {"stats", no_argument, NULL, 'S'},
        {"no-shrink", no_argument, NULL, 'q'},
        {"unordered", no_argument, NULL, 'u'},
        {"mutants", no_argument, NULL, 'M'},
        {"focus", required_argument, NULL, 'F'},
        {NULL, 0, NULL, 0},
    };
    uint64_t seed = 1, nr = 1, fresh = 0, stat[NR_SIM_STATS] = {0}, nr_done = 0;
    const char *mutant = NULL;
    bool tracing = false, stats = false, no_shrink = false;
    struct sim_report failure = {0};

    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 's':
            seed = number(optarg);
            break;
        case 'n':
            nr = number(optarg);
            break;
        case 'f':
            fresh = number(optarg);
            break;
        case 'm':
            mutant = optarg;
            if (mutant_by_name(mutant, &mutant_active) < 0) {
                fprintf(stderr, "sim: there is no mutant %s\n", mutant);
                return 2;
            }
            break;
        case 't':
            tracing = true;
            break;
        case 'S':
            stats = true;
            break;
        case 'q':
            no_shrink = true;
            break;
        case 'M':
            for (unsigned i = MUTANT_NONE + 1; i < NR_MUTANTS; i++)
                puts(mutant_name((enum mutant)i));
            return 0;
        case 'F':
            if (focus_by_name(optarg, &settings_focus) < 0) {
                fprintf(stderr, "sim: there is no focus %s\n", optarg);
                return 2;
            }
            break;
        case 'u':
            settings_unordered = true;
            break;
        default:
            return 2;
        }
    }
    runs = mmap(NULL, NR_WORKERS * sizeof(*runs), PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    BUG_ON(runs == MAP_FAILED);
    for (unsigned i = 0; i < NR_WORKERS; i++)
        if (run_init(&runs[i]) < 0) {
            perror("memfd_create");
            return 99;
        }
    if (tracing) {
        static struct step steps[MAX_STEPS];
        uint32_t n = schedule_steps(seed, steps);
        bool ok = run_one(&runs[0], seed, steps, n, true);
        if (!ok)
            printf("%s: %s\n", runs[0].report.kind, runs[0].report.what);
        return !ok;
    }

    uint64_t start = now_ns();
    bool ok = run_batch(seed, nr, stat, &nr_done, &failure);
    if (ok && fresh) {
        struct choice c = {(uint64_t)time(NULL) * 1000003 + (uint64_t)getpid()};
        uint64_t first = choice_u64(&c) >> 1;
        printf("fresh seeds from %" PRIu64 "\n", first);
        ok = run_batch(first, fresh, stat, &nr_done, &failure);
    }
    double seconds = (double)(now_ns() - start) / 1e9;
    printf("%" PRIu64 " schedules in %.1f s (%.0f a second)\n", nr_done, seconds,
           (double)nr_done / seconds);
    if (stats)
        for (unsigned i = 0; i < NR_SIM_STATS; i++)
            printf("%14" PRIu64 " %s\n", stat[i], stat_names[i]);
    if (ok)
        return 0;
    printf("FAILED: seed %" PRIu64 " step %u: %s: %s\n", failure.seed, failure.failed_step,
           failure.kind, failure.what);
    if (!no_shrink)
        tell_failure(failure.seed, mutant);
    return 1;
}
