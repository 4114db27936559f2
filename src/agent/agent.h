/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_AGENT_H
#define PAGERD_AGENT_H
/*
 * agent: a process that shares the program's memory and nothing else, because
 * UFFDIO_MOVE works only from inside an address space (DESIGN D4).
 *
 * The shim (room preload) maps the agent's area, fills in struct agent_ctl and
 * clones agent_main() onto the stack in that area.  From then on the two speak
 * through struct agent_ctl only, and the agent speaks to the daemon.
 *
 * Rules of this room:
 *  1. No libc, no thread-local storage, no stack protector, no allocation; no
 *     object of it has an undefined symbol outside this room.
 *  2. The agent touches no writable memory outside its own area: anything else
 *     may be moved out, and it would then wait for a worker that waits for it.
 *     So: no static variables.  The one exception is the tid word, whose page
 *     the worker never adopts.
 *  3. It never stops the program: all signals are blocked, no core is dumped,
 *     and whatever fails before it is ready ends in an unmanaged program.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/proto.h"

/*
 * The agent's area, one stretch [own_start, own_end) aligned to 2 MiB.  The
 * small and the huge stages are apart because a page table left behind by
 * small pages would make every later move of a huge page split it.
 * The gap of the ring between control part and transfer area is not mapped:
 * `ulimit -v` counts every byte of this.
 */
#define AGENT_RING_BYTES ((sizeof(struct ring) + 4095) & ~(size_t)4095)
#define AGENT_STACK_BYTES ((size_t)32 << 10)
#define AGENT_AT_STAGE1 ((size_t)0)
#define AGENT_AT_STAGE1_HUGE (AGENT_AT_STAGE1 + STAGE_BYTES)
#define AGENT_AT_STAGE2 (AGENT_AT_STAGE1_HUGE + STAGE_BYTES)
#define AGENT_AT_STAGE2_HUGE (AGENT_AT_STAGE2 + STAGE_BYTES)
#define AGENT_AT_FILL (AGENT_AT_STAGE2_HUGE + STAGE_BYTES) /* where huge pages of zeros are made */
/* PROT_NONE but while a run is there (remap.c) */
#define AGENT_AT_REMAP (AGENT_AT_FILL + STAGE_BYTES)
#define AGENT_AT_TRANSFER (AGENT_AT_REMAP + REMAP_BYTES)
#define AGENT_AT_RING (AGENT_AT_TRANSFER + RING_TRANSFER_BYTES)
#define AGENT_AT_CTL (AGENT_AT_RING + AGENT_RING_BYTES)
#define AGENT_AT_ID (AGENT_AT_CTL + 4096)
#define AGENT_AT_GUARD (AGENT_AT_ID + 4096)
#define AGENT_AT_STACK (AGENT_AT_GUARD + 4096)
#define AGENT_AREA_BYTES (AGENT_AT_STACK + AGENT_STACK_BYTES)
#define AGENT_AREA_ALIGN ((size_t)2 << 20)

#define AGENT_NAME "pagerd-agent" /* its comm; the shim knows agents by it */

/*
 * Its exit status; the image after an exec knows the agent before by it where /proc does not help.
 */
#define AGENT_EXIT_STATUS 169

enum agent_state {
    AGENT_STARTING = 0,
    AGENT_READY,
    AGENT_FAILED,
    AGENT_ORPHANED, /* was READY; the daemon is gone, and the agent stays to the very end */
};

/* What was being done when the start failed. */
enum agent_step {
    AGENT_STEP_AREA = 0, /* the shim: memory for the agent */
    AGENT_STEP_CLONE,    /* the shim: the process */
    AGENT_STEP_ISOLATE,  /* giving up the program's descriptors */
    AGENT_STEP_CONNECT,
    AGENT_STEP_PEER, /* the daemon is some other user's */
    AGENT_STEP_HELLO,
    AGENT_STEP_OFFER,
    AGENT_STEP_REFUSED, /* the daemon said why, in `reason` */
    AGENT_STEP_RING,
    AGENT_STEP_UFFD,     /* the main userfaultfd */
    AGENT_STEP_UFFD_OWN, /* the agent's own */
    AGENT_STEP_ATTACH,
    AGENT_STEP_READY,
    AGENT_STEP_FILTER,
    AGENT_STEP_DIED,    /* the shim: the agent was killed */
    AGENT_STEP_TIMEOUT, /* the shim: no answer in time */
    AGENT_NR_STEPS
};

#define AGENT_SOCKET_MAX 108 /* sun_path */

struct agent_ctl {
    /* Set by the shim before the clone. */
    char socket[AGENT_SOCKET_MAX]; /* NUL-terminated */
    char group[PROTO_GROUP_LEN];
    int32_t program_pid;
    uint32_t euid;
    const _Atomic uint32_t *tid_word; /* clear_child_tid word of the main thread; may be NULL */
    uint32_t tid_value; /* what it holds while the main thread lives in this image */
    uint32_t forked;    /* of a forked child: it is lazy, and quiet (lazy.c) */
    _Atomic uint32_t keeps_memory; /* see struct ring; private */
    _Atomic uint32_t has_threads;  /* likewise */
    uintptr_t area;

    /* Futex words. */
    _Atomic uint32_t state; /* enum agent_state; private */
    _Atomic uint32_t isolated; /* its descriptors are its own; private */
    _Atomic uint32_t leave; /* the shim wants the agent gone; private */
    _Atomic uint32_t tid;   /* the agent's, cleared by the kernel at its end; shared */

    uint32_t step; /* enum agent_step: the agent's, while it starts */

    /* Set by the agent before `state` leaves STARTING. */
    int32_t error; /* -errno, or 0 when `reason` says it all */
    int32_t reap_pid;
    char reason[PROTO_REASON_LEN];
};

_Static_assert(sizeof(struct agent_ctl) <= 4096, "the control part is one page");
_Static_assert(sizeof(AGENT_NAME) <= 16, "a comm is 15 characters");

/* Entry of the cloned process; `arg` is its struct agent_ctl.  Never returns. */
void agent_main(void *arg);

#endif
