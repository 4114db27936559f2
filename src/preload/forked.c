/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The child of fork(): its memory is served already, over the userfaultfd that the
 * daemon got with the fork event, but nobody could move its pages out.  So it gets
 * an agent as its parent has one.  The agent is lazy (agent/lazy.c), and the child does
 * not wait for it: it pays for a mapping and a clone.
 *
 * This runs as a fork handler, or where libc's clone comes back (clone.c), perhaps in a
 * program with threads: raw system calls only, no allocation, errno as it was.  Whatever
 * fails, fails quietly: the child is then served without agent, as one is whose program
 * made the system call by an instruction of its own.
 */
#define _GNU_SOURCE
#include "preload/shim.h"

void shim_forked(void)
{
    struct agent_ctl *ctl;
    uintptr_t area;
    long pid;

    /* The parent's: its memory is not here (DONTFORK), and its agent is not our child. */
    shim.ctl = NULL;
    shim.agent_pid = 0;
    atomic_store_explicit(&shim.left, 0, memory_order_relaxed);
    shim_forget_threads();
    /* A filter that the program has set up may kill for any call that it did not expect. */
    if (shim.is_filtered || shim_map_area(&area) < 0)
        return;
    ctl = shim_fill_ctl(area);
    ctl->forked = 1;
    pid = shim_clone_agent(ctl);
    if (pid < 0) {
        shim_unmap_area(area);
        return;
    }
    shim.owner_pid = ctl->program_pid;
    shim.agent_pid = (int32_t)pid;
    shim.ctl = ctl;
}
