/* SPDX-License-Identifier: Apache-2.0 */
/*
 * madvise(MADV_GUARD_INSTALL) drops the pages it guards, and the kernel tells the
 * daemon nothing of it: taken away again, the guarded pages would be filled with
 * what was moved out of them before, where they have to read as zeros.  So they
 * are dropped first by an advice of which it does tell; and only where guards can be: what the
 * kernel refuses to guard stays as it is.  MADV_FREE, which it refuses for what is locked, of huge
 * page files or of any other file, takes nothing from what is resident until it is guarded.
 *
 * MADV_WIPEONFORK and MADV_DONTFORK are heard of by nobody either.  The daemon looks at the
 * flags when there is a fork, through the agent; what it cannot see then it takes for the child's,
 * unless it was told that this program has such memory (keeps_memory).  In a child whose agent has
 * not come, or never will, what is moved out is brought back first: then the fork is the kernel's
 * alone.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "agent/sys.h"
#include "kernel/uapi.h"
#include "preload/shim.h"

/* Not of a large reservation: each page would get an entry in the kernel's tables. */
#define BRING_BACK_MAX ((size_t)256 << 20)

/* An agent that lives, and tells the daemon the flags at a fork. */
static bool has_agent(void)
{
    struct agent_ctl *ctl = shim_own_ctl();

    return ctl && atomic_load_explicit(&ctl->state, memory_order_acquire) == AGENT_READY &&
           atomic_load_explicit(&ctl->tid, memory_order_acquire) != 0;
}

/*
 * MADV_FREE stops at the first mapping of a file, where there can be guards too (6.15).  Then
 * what is guarded already is dropped: guards stay.
 */
static long install_guards(void *addr, size_t len)
{
    /* Of no bytes: does this kernel (6.13) know the advice? */
    long r = sys_madvise(addr, 0, MADV_GUARD_INSTALL);

    if (r < 0)
        return r;
    bool dropped = sys_madvise(addr, len, MADV_FREE) == 0;
    r = sys_madvise(addr, len, MADV_GUARD_INSTALL);
    if (r == 0 && !dropped)
        sys_madvise(addr, len, MADV_DONTNEED);
    return r;
}

static void prepare_to_keep(void *addr, size_t len)
{
    shim_tell_kept_memory();
    if (shim.has_started && !shim.is_filtered && !has_agent() && len <= BRING_BACK_MAX)
        sys_madvise(addr, len, MADV_POPULATE_READ);
}

long shim_madvise(void *addr, size_t len, int advice)
{
    if (advice == MADV_GUARD_INSTALL && shim.has_started)
        return install_guards(addr, len);
    if (advice == MADV_WIPEONFORK || advice == MADV_DONTFORK)
        prepare_to_keep(addr, len);
    return sys_madvise(addr, len, advice);
}

SHIM_EXPORT int madvise(void *addr, size_t len, int advice)
{
    return (int)shim_result(shim_madvise(addr, len, advice));
}
