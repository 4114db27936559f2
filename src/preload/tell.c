/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon has to know of the program before it is so.  From READY on the ring is there,
 * also when the agent has ended; before, the agent copies these words there.
 */
#include <stdatomic.h>

#include "agent/agent.h"
#include "agent/sys.h"
#include "preload/shim.h"

/*
 * A clone by an instruction has its parent's `ctl`, but not the page.  A filter of the program's
 * own may kill it for a call that it does not make itself.
 */
struct agent_ctl *shim_own_ctl(void)
{
    if (!shim.ctl)
        return NULL;
    return shim.is_filtered || sys(getpid, 0, 0, 0, 0, 0, 0) == shim.owner_pid ? shim.ctl : NULL;
}

static struct ring *own_ring(struct agent_ctl *ctl)
{
    return atomic_load_explicit(&ctl->state, memory_order_seq_cst) == AGENT_READY
               ? (struct ring *)(ctl->area + AGENT_AT_RING)
               : NULL;
}

void shim_tell_kept_memory(void)
{
    struct agent_ctl *ctl = shim_own_ctl();
    struct ring *ring;

    shim.keeps_memory = true;
    if (!ctl)
        return;
    atomic_store_explicit(&ctl->keeps_memory, 1, memory_order_seq_cst);
    if ((ring = own_ring(ctl)))
        atomic_store_explicit(&ring->keeps_memory, 1, memory_order_seq_cst);
}

void shim_tell_threads(void)
{
    struct agent_ctl *ctl;
    struct ring *ring;

    if (shim.has_threads)
        return;
    shim.has_threads = true;
    if (!(ctl = shim_own_ctl()))
        return;
    atomic_store_explicit(&ctl->has_threads, 1, memory_order_seq_cst);
    if ((ring = own_ring(ctl)))
        atomic_store_explicit(&ring->has_threads, 1, memory_order_seq_cst);
}
