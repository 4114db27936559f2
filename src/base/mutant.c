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
    [MUTANT_DISCARD_BEFORE_COMMIT] = "discard-before-commit",
    [MUTANT_EAGAIN_DROPPED] = "eagain-dropped",
    [MUTANT_EEXIST_NOT_WOKEN] = "eexist-not-woken",
    [MUTANT_FRAME_FREED_TWICE] = "frame-freed-twice",
    [MUTANT_HELD_NOT_HELD] = "held-not-held",
    [MUTANT_REMAP_KEEPS_TARGET] = "remap-keeps-target",
    [MUTANT_RECOVERY_WAKES_NOBODY] = "recovery-wakes-nobody",
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
