/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delta debugging over the steps of a schedule.  Each step carries its own seed,
 * so that leaving one out changes what the others do only through the state.
 */
#include <string.h>

#include "runner.h"

struct shrinking {
    struct run *run;
    uint64_t seed, deadline_ns;
    const char *kind;
    uint32_t tries;
};

static bool still_fails(struct shrinking *sh, const struct step *steps, uint32_t nr)
{
    sh->tries++;
    return !run_one(sh->run, sh->seed, steps, nr, false) && !strcmp(sh->run->report.kind, sh->kind);
}

static bool time_is_up(const struct shrinking *sh)
{
    return now_ns() > sh->deadline_ns;
}

static void leave_out(struct shrinking *sh, struct step *steps, uint32_t *nr)
{
    static struct step fewer[MAX_STEPS];

    for (uint32_t chunk = MAX(*nr / 2, 1u); chunk; chunk /= 2) {
        bool again = true;
        while (again && !time_is_up(sh)) {
            again = false;
            for (uint32_t at = 0; at < *nr && !time_is_up(sh);) {
                uint32_t n = MIN(chunk, *nr - at);
                memcpy(fewer, steps, at * sizeof(*steps));
                memcpy(fewer + at, steps + at + n, (*nr - at - n) * sizeof(*steps));
                if (still_fails(sh, fewer, *nr - n)) {
                    memcpy(steps, fewer, (*nr - n) * sizeof(*steps));
                    *nr -= n;
                    again = chunk == 1;
                } else {
                    at += n;
                }
            }
        }
    }
}

static void quieten(struct shrinking *sh, struct step *steps, uint32_t nr)
{
    for (uint32_t i = 0; i < nr && !time_is_up(sh); i++)
        for (uint8_t flag = STEP_ALONE; flag <= STEP_NO_FAIL; flag <<= 1) {
            if (steps[i].flags & flag)
                continue;
            steps[i].flags |= flag;
            if (!still_fails(sh, steps, nr))
                steps[i].flags &= (uint8_t)~flag;
        }
}

uint32_t shrink(struct run *r, uint64_t seed, struct step *steps, uint32_t *nr, const char *kind,
                uint32_t budget_ms)
{
    struct shrinking sh = {.run = r,
                           .seed = seed,
                           .deadline_ns = now_ns() + (uint64_t)budget_ms * 1000000,
                           .kind = kind};

    leave_out(&sh, steps, nr);
    quieten(&sh, steps, *nr);
    leave_out(&sh, steps, nr);
    return sh.tries;
}
