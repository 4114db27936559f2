/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deliberate faults, compiled in with -DPAGERD_MUTANTS only; tests/mutants
 * switches them on one at a time and the simulator must notice each.
 */
#include <string.h>

#include "base/base.h"

#ifdef PAGERD_MUTANTS
enum mutant mutant_active = MUTANT_NONE;
void (*crash_point)(void);
#endif

static const char *const names[NR_MUTANTS] = {
    [MUTANT_NONE] = "none",
    [MUTANT_COMMIT_BEFORE_COPY] = "commit-before-copy",
    [MUTANT_SWITCH_BEFORE_WRITE] = "switch-before-write",
    [MUTANT_SUM_NOT_COMPARED] = "sum-not-compared",
    [MUTANT_DISCARD_BEFORE_COMMIT] = "discard-before-commit",
    [MUTANT_EAGAIN_DROPPED] = "eagain-dropped",
    [MUTANT_EEXIST_NOT_WOKEN] = "eexist-not-woken",
    [MUTANT_FRAME_FREED_TWICE] = "frame-freed-twice",
    [MUTANT_HELD_NOT_HELD] = "held-not-held",
    [MUTANT_RECOVERY_WAKES_NOBODY] = "recovery-wakes-nobody",
    [MUTANT_REMOVE_SPARES_MIGRATING] = "remove-spares-migrating",
    [MUTANT_FORK_WITHOUT_STAGED] = "fork-without-staged",
    [MUTANT_FORK_WITHOUT_REFERENCE] = "fork-without-reference",
    [MUTANT_FILLED_BEFORE_FILL] = "filled-before-fill",
    [MUTANT_GONE_NOT_WOKEN] = "gone-not-woken",
    [MUTANT_ZERO_TEST_SHORT] = "zero-test-short",
    [MUTANT_KEPT_NOT_COMPARED] = "kept-not-compared",
    [MUTANT_RESULTS_NOT_WIPED] = "results-not-wiped",
    [MUTANT_MISCOUNT_BELIEVED] = "miscount-believed",
    [MUTANT_MESSAGE_DROPPED] = "message-dropped",
    [MUTANT_DOOMED_FORGOTTEN] = "doomed-forgotten",
    [MUTANT_POISON_FORGOTTEN] = "poison-forgotten",
    [MUTANT_REMAP_REPEATED] = "remap-repeated",
    [MUTANT_CHILD_SERVED_UNFINISHED] = "child-served-unfinished",
    [MUTANT_ADOPTED_WHILE_CHANGING] = "adopted-while-changing",
    [MUTANT_ABORTED_AS_PRESENT] = "aborted-as-present",
    [MUTANT_WHO_LEFT_NOT_FIRST] = "who-left-not-first",
    [MUTANT_ORDER_GUESSED] = "order-guessed",
    [MUTANT_ENDED_UNREAD] = "ended-unread",
    [MUTANT_VANISHED_WOKEN] = "vanished-woken",
    [MUTANT_LATE_ENTERED] = "late-entered",
    [MUTANT_WRITE_NOT_NOTED] = "write-not-noted",
    [MUTANT_FILL_NOT_SAVED] = "fill-not-saved",
    [MUTANT_FILL_DESPITE_EVENTS] = "fill-despite-events",
    [MUTANT_READ_WHILE_TAKING] = "read-while-taking",
    [MUTANT_OWN_MOVE_APPLIED] = "own-move-applied",
    [MUTANT_CHILD_NOT_MADE_SURE] = "child-not-made-sure",
    [MUTANT_WIPED_GIVEN] = "wiped-given",
    [MUTANT_DOUBT_ANSWERED] = "doubt-answered",
    [MUTANT_DOUBT_NOT_SAVED] = "doubt-not-saved",
};

const char *mutant_name(enum mutant m)
{
    return (unsigned)m < NR_MUTANTS ? names[m] : NULL;
}

int mutant_by_name(const char *name, enum mutant *ret)
{
    for (unsigned i = 0; i < NR_MUTANTS; i++)
        if (!strcmp(name, names[i])) {
            *ret = (enum mutant)i;
            return 0;
        }
    return -EINVAL;
}
