/* SPDX-License-Identifier: Apache-2.0 */
/*
 * madvise(MADV_GUARD_INSTALL) drops the pages it guards, and the kernel tells the
 * daemon nothing of it: taken away again, the guarded pages would be filled with
 * what was moved out of them before, where they have to read as zeros.  So they
 * are dropped first by an advice of which it does tell.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>

#include "agent/sys.h"
#include "kernel/uapi.h"
#include "preload/shim.h"

SHIM_EXPORT int madvise(void *addr, size_t len, int advice)
{
    long r;

    if (advice == MADV_GUARD_INSTALL && shim.ctl)
        sys_madvise(addr, len, MADV_DONTNEED);
    r = sys_madvise(addr, len, advice);
    if (r == 0)
        return 0;
    errno = (int)-r;
    return -1;
}
