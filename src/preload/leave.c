/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program's ordinary end: exit(), _exit(), _Exit().  The agent is sent
 * away and collected before, because an agent that outlives its program is an
 * orphan, which a program that is PID 1 or a child subreaper would find among its
 * children; and because the memory is free only when the agent is gone.
 *
 * What is moved out stays reachable: the daemon holds the userfaultfd and
 * serves faults from outside, so destructors that run after ours are safe.
 *
 * A program killed by a signal does not come here: its agent sees its tid word
 * cleared (agent/loop.c).  Nor does one with a seccomp filter of its own, which may kill
 * it for the calls made here.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/sys.h"
#include "preload/shim.h"

#define LEAVE_TIMEOUT_NS 100000000LL

/*
 * Not so in a child of fork() or vfork().  The pid alone does not tell: both
 * may be PID 1 of their own pid namespaces.  Whose child the agent is does.
 */
static bool owns_agent(void)
{
    siginfo_t info;

    return shim.ctl && sys(getpid, 0, 0, 0, 0, 0, 0) == shim.owner_pid &&
           sys(waitid, P_PID, shim.agent_pid, &info, WEXITED | WNOHANG | WNOWAIT | __WCLONE, NULL,
               0) == 0;
}

static void send_agent_away(void)
{
    struct agent_ctl *ctl = shim.ctl;
    int64_t deadline_ns = sys_now_ns() + LEAVE_TIMEOUT_NS;
    uint32_t tid;

    atomic_store_explicit(&ctl->leave, 1, memory_order_release);
    sys_futex_wake(&ctl->leave, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
    while ((tid = atomic_load_explicit(&ctl->tid, memory_order_acquire)) != 0) {
        struct futex_waitv w = sys_waiter(&ctl->tid, tid, 0); /* shared: the kernel wakes it */

        if (atomic_load_explicit(&ctl->state, memory_order_acquire) == AGENT_ORPHANED)
            return; /* it stays until the memory is gone: its userfaultfd is the last */
        if (sys_futex_waitv(&w, 1, deadline_ns) == -ETIMEDOUT)
            return;
    }
    /* Past exit_mm(): what is left of its end waits for nobody. */
    while (sys_wait4(shim.agent_pid, NULL, __WCLONE) == -EINTR)
        ;
}

static void leave(void)
{
    if (!shim.is_filtered && owns_agent() && atomic_exchange(&shim.left, 1) == 0)
        send_agent_away();
}

__attribute__((destructor)) static void shim_end(void)
{
    leave();
}

/* exit() ends in libc's own copy of this, after the destructors. */
SHIM_EXPORT void _exit(int status)
{
    leave();
    for (;;)
        sys(exit_group, status, 0, 0, 0, 0, 0);
}

SHIM_EXPORT void _Exit(int status) __attribute__((alias("_exit")));
