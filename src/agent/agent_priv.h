/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_AGENT_PRIV_H
#define PAGERD_AGENT_PRIV_H
/* What the agent's files share; lives on its stack. */
#include <stdbool.h>

#include "agent/agent.h"
#include "agent/sys.h"
#include "target/target.h"

struct agent {
    struct agent_ctl *ctl;
    struct ring *ring;
    unsigned char *transfer;
    int conn; /* to the daemon */
    int uffd; /* the main one, which the worker reads */
    int own;  /* the agent's own: stage 2 is registered with it */

    uint32_t done;       /* number of the newest command that was run */
    bool tid_told;       /* the worker was told that it changed */
    /* A page could not leave stage 1 (small, huge), or came by itself: try again first. */
    bool stuck[2];

    struct ring_vec vecs[RING_MAX_VECS]; /* of the running command, checked */
    uint8_t result[RING_MAX_PAGES];
};

/* start.c: ends the process, after telling the shim why. */
_Noreturn void agent_fail(struct agent_ctl *ctl, enum agent_step step, long error);
_Noreturn void agent_exit(void);

/* lazy.c: returns when a forked child has lived long enough to be worth an agent. */
void agent_be_lazy(struct agent *a);

/* handshake.c: from no descriptor at all to READY; fails by agent_fail(). */
void agent_handshake(struct agent *a);

/* capture.c: runs the command in the ring (RING_CAPTURE, RING_CAPTURE_HUGE). */
void agent_capture(struct agent *a, uint32_t number, bool huge);

/*
 * One UFFDIO_MOVE.  Returns the pages moved from the start; when 0, *ret_error
 * says why the first page was not.
 */
uint32_t agent_move(int uffd, uintptr_t dst, uintptr_t src, uint32_t nr, uint64_t mode,
                    long *ret_error);

/* enum capture_result of an error of UFFDIO_MOVE. */
uint8_t agent_classify(long error);

void agent_set_phase(struct agent *a, enum ring_phase phase);

/* Where the bytes of a page are that was taken; by slot. */
enum agent_place { AGENT_IN_STAGE2 = 0, AGENT_IN_STAGE1, AGENT_IN_REMAP };

/*
 * remap.c: takes the run by mremap(), after a MOVE of its first page has shown that the
 * kernel has nothing against it but a pin.  Sets result[] and place[] of its slots.
 * False: the kernel refuses, all of it is where it was.  At most once in a command, and
 * afterwards nothing more may be taken, then agent_remap_done().
 */
bool agent_remap(struct agent *a, uintptr_t addr, uint32_t nr, uint32_t slot, uintptr_t stage2,
                 uint8_t *place);
/* Drops what is in its stage. */
void agent_remap_done(struct agent *a);

/* fill.c: runs RING_FILL_HUGE. */
void agent_fill_huge(struct agent *a);

/* loop.c */
_Noreturn void agent_loop(struct agent *a);
/* True when the agent is the last user of the memory: no thread of the program is left. */
bool agent_is_alone(void);
/* The kernel has cleared the word: the main thread has ended, or executed another program. */
bool agent_tid_changed(const struct agent *a);

/* orphan.c: the daemon is gone; answers faults with poison until the program is gone too. */
_Noreturn void agent_orphan(struct agent *a);

#endif
