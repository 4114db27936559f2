/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's first steps, from agent_main() to the loop.  The order matters:
 *
 *  1. Its descriptors first: it began with the program's table, and a pipe's
 *     end that lingered here would keep a reader elsewhere waiting.  The
 *     clone shares the table and close_range() unshares an empty copy of it,
 *     so no file of the program gains a reference even for a moment.
 *  2. Its own session, so that signals to the program's process group, and
 *     tests for members of it, do not find the agent.
 *  3. The connection before chdir("/"): the socket's path may be relative.
 *  4. The filter last: everything before needs more calls than the loop.
 */
#include <linux/close_range.h>
#include <linux/prctl.h>
#include <linux/resource.h>

#include "agent/agent_priv.h"

_Noreturn void agent_exit(void)
{
    for (;;)
        sys(exit_group, AGENT_EXIT_STATUS, 0, 0, 0, 0, 0);
}

static void announce(struct agent_ctl *ctl, enum agent_state state)
{
    atomic_store_explicit(&ctl->state, state, memory_order_release);
    sys_futex_wake(&ctl->state, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
}

_Noreturn void agent_fail(struct agent_ctl *ctl, enum agent_step step, long error)
{
    ctl->step = step;
    ctl->error = (int32_t)error;
    announce(ctl, AGENT_FAILED);
    agent_exit();
}

static void isolate(struct agent_ctl *ctl)
{
    struct rlimit64 no_core = {0, 0};
    ctl->step = AGENT_STEP_ISOLATE;
    long r = sys(close_range, 0, ~0U, CLOSE_RANGE_UNSHARE, 0, 0, 0);

    if (r < 0)
        agent_fail(ctl, AGENT_STEP_ISOLATE, r);
    atomic_store_explicit(&ctl->isolated, 1, memory_order_release);
    sys_futex_wake(&ctl->isolated, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
    sys(setsid, 0, 0, 0, 0, 0, 0);
    sys_prctl(PR_SET_NAME, (long)AGENT_NAME, 0);
    /* Its core would be the program's memory, written when the program did not crash. */
    sys(prlimit64, 0, RLIMIT_CORE, &no_core, 0, 0, 0);
}

void agent_main(void *arg)
{
    struct agent a = {.ctl = arg, .conn = -1, .uffd = -1, .own = -1};

    isolate(a.ctl);
    if (a.ctl->forked)
        agent_be_lazy(&a);
    agent_handshake(&a);
    announce(a.ctl, AGENT_READY);
    /* Once more: from READY on the shim writes it there itself. */
    if (atomic_load_explicit(&a.ctl->keeps_memory, memory_order_seq_cst))
        atomic_store_explicit(&a.ring->keeps_memory, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&a.ctl->has_threads, memory_order_seq_cst))
        atomic_store_explicit(&a.ring->has_threads, 1, memory_order_seq_cst);
    agent_loop(&a);
}
