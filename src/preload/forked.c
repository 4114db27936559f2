/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The child of fork(): its memory is served already, over the userfaultfd that the
 * daemon got with the fork event, but nobody could move its pages out.  So it gets
 * an agent as its parent has one.  The agent is lazy (agent/lazy.c), and the child waits only
 * for its first step: it pays for a mapping, a clone and a turn of the scheduler's.
 *
 * This runs as a fork handler, or where libc's clone comes back (clone.c), perhaps in a
 * program with threads: raw system calls only, no allocation, errno as it was.  Whatever
 * fails, fails quietly: the child is then served without agent, as one is whose program
 * made the system call by an instruction of its own.
 */
#define _GNU_SOURCE
#include "agent/sys.h"
#include "preload/shim.h"

#define ISOLATED_TIMEOUT_NS 1000000000LL

/*
 * Until the agent has let go of our table of descriptors.  Should we execute another program
 * before, that gets a copy of the table, and the agent closes the one that the locks of fcntl(2)
 * belong to: they would be lost, which an execve() keeps.
 */
static void await_isolated(struct agent_ctl *ctl, long pid)
{
    int64_t deadline_ns = sys_now_ns() + ISOLATED_TIMEOUT_NS;
    long r = 0;

    while (!atomic_load_explicit(&ctl->isolated, memory_order_acquire) &&
           atomic_load_explicit(&ctl->tid, memory_order_acquire) != 0 &&
           (r >= 0 || r == -EAGAIN || r == -EINTR)) {
        struct futex_waitv w[2] = {
            sys_waiter(&ctl->isolated, 0, FUTEX_PRIVATE_FLAG),
            sys_waiter(&ctl->tid, (uint32_t)pid, 0), /* shared: the kernel wakes it */
        };

        r = sys_futex_waitv(w, 2, deadline_ns);
    }
}

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
    shim.has_threads = false;
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
    await_isolated(ctl, pid);
    shim.owner_pid = ctl->program_pid;
    shim.agent_pid = (int32_t)pid;
    shim.ctl = ctl;
}
