/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole huge page of zeros for the program, where it touches a registered mapping
 * for the first time: the kernel makes none there by itself, since the touch is a
 * fault for the worker.  It makes one here, in memory of the agent's that is
 * registered with nothing, and UFFDIO_MOVE puts it into place in 1.3 us.  The main
 * userfaultfd refuses while an event is unread, as for a capture (capture.c).
 */
#include <linux/mman.h>

#include "agent/agent_priv.h"

void agent_fill_huge(struct agent *a)
{
    uintptr_t source = a->ctl->area + AGENT_AT_FILL;
    uintptr_t to = *(volatile uint64_t *)&a->ring->vecs[0].addr;
    uintptr_t own = a->ctl->area, own_end = own + AGENT_AREA_BYTES;
    uint32_t moved = 0;
    long error = -EINVAL;

    if (to % STAGE_BYTES == 0 && to <= UINT64_MAX / 2 &&
        (to >= own_end || to + STAGE_BYTES <= own)) {
        /* Where no huge page is to be had this makes one page, and one page is moved. */
        *(volatile unsigned char *)source = 0;
        moved = agent_move(a->uffd, to, source, RING_MAX_PAGES, 0, &error);
    }
    for (uint32_t i = 0; i < RING_MAX_PAGES; i++)
        a->ring->result[i] = i < moved ? CAPTURE_TAKEN : CAPTURE_NOT_TRIED;
    if (!moved)
        a->ring->result[0] = agent_classify(error);
    if (moved < RING_MAX_PAGES)
        sys_madvise((void *)source, STAGE_BYTES, MADV_DONTNEED_LOCKED);
}
