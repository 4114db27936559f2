/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_SIM_WORKER_MODEL_H
#define PAGERD_SIM_WORKER_MODEL_H
/*
 * What src/worker does with the core, cut into steps: one turn for one client
 * after the other (client/client.h says what a turn is).  Between any two steps,
 * and inside each at its operations, programs and kernel go on.
 */
#include "app_model.h"
#include <setjmp.h>

#include "client/client.h"
#include "disk_model.h"

#define SIM_MAPS 64

struct sim_client {
    struct client c;
    struct app_mm *app;
    struct kuffd_msg msgs[CLIENT_MAX_UPCALLS]; /* read, not applied (c.held) */
    uint32_t nr_msgs;
    bool unsure; /* a forked child with an agent: what of its tables is not registered in it? */
    /* The maps as they were read, some turns ago perhaps, and which of them comes next; 0: none does. */
    struct vma_seen {
        uint32_t start, end;
        bool registered;
    } maps[SIM_MAPS];
    uint32_t nr_maps, next_map, nr_tries;
};

/* What is known of the parent's mappings at a fork (forked.c's read_flags() and look_into_child()). */
struct fork_look {
    const struct app_mm *parent;
    struct app_mm *child; /* NULL: an earlier worker had begun to make it */
    bool flags_read, flags_shown;
    uint8_t vma[KM_PAGES];
    uint32_t nr_looks;
};

enum turn_stage {
    TURN_PICK = 0,
    TURN_COLLECT,
    TURN_READ,
    TURN_APPLY,
    TURN_ANSWER,
    TURN_COMMIT,
    TURN_ADOPT,
    TURN_BALANCE,
    TURN_LEAVE,
};

#define SIM_GROUPS 2

/*
 * A worker that crashes is abandoned in the middle of a step, between any two of the
 * core's stores; all its ordinary memory is forgotten.  Some steps later a new one takes
 * up what is left: state memory, frames, the kernel's and the agents' side, and for each
 * client the group that it was in.  That one may crash as well.
 */
struct worker_model {
    struct domain d; /* first: found again from a client */
    struct sim *sim;
    struct app_set *apps;
    struct disk_model disk;
    struct group *group[SIM_GROUPS];
    struct sim_client *client[KM_MAX_MMS]; /* by id of the address space; NULL: none */
    uint32_t current;
    enum turn_stage stage;
    uint32_t nr_turns;
    struct fork_look look;
    bool no_reclaim;
    struct pfn *withheld; /* frames that are taken so that few are free */
    uint32_t nr_withheld;
    void *state, *frames;
    uint32_t down;        /* steps until a new worker takes up; 0: one is running */
    uint32_t crash_after; /* so many more places to crash at; 0: it does not */
    jmp_buf crash;
};

void worker_model_init(struct worker_model *w, struct sim *s, struct app_set *apps, void *state,
                       void *frames);
/* Every client has ended. */
void worker_model_fini(struct worker_model *w);
/* A program's agent shook hands: it is a client from now on. */
void worker_attach(struct worker_model *w, struct app_mm *app);
void worker_step(struct worker_model *w);
/* A slice of adoption (worker_adopt.c). */
void worker_adopt(struct worker_model *w, struct sim_client *sc);
/* A worker is running when this returns. */
void worker_take_up(struct worker_model *w);
/* A whole turn for each client, without waiting.  For settling. */
void worker_turn_all(struct worker_model *w);
/* The core's own checks. */
void worker_check(struct worker_model *w);
/* Nothing is parked, under way or to be brought back.  Else why not. */
const char *worker_is_quiet(struct worker_model *w);

/* ---- between worker_model.c and worker_crash.c ---- */

/* `saved`: of an earlier worker, taken up; NULL: a new one. */
struct sim_client *worker_client_new(struct worker_model *w, struct app_mm *app,
                                     struct client_saved *saved);
void worker_client_end(struct worker_model *w, struct sim_client *sc);
struct client *worker_forked(struct client *parent, int fd);
void worker_core_open(struct worker_model *w);
/* Fails when a page was lost on a disk that is good. */
void worker_check_losses(struct worker_model *w);
void worker_crash_here(void);
/* The worker does it, and may crash in it. */
void worker_run_until_crash(struct worker_model *w, void (*what)(struct worker_model *w),
                            uint32_t per_1024);

/* ---- worker_forked.c ---- */

/* Those that have come and need not wait for a fork that is kept back. */
void worker_attach_child_agents(struct worker_model *w);
/* Ends the doubt and drops what is not registered in the child.  False: it is just changing. */
bool worker_make_sure(struct worker_model *w, struct sim_client *sc);
enum fork_gets worker_fork_gets(struct client *parent, struct uaddr at, uint64_t *ret_end);
/* Whose tables are made, and what is in doubt of them: for what programs do and see. */
void worker_note_doubt(struct worker_model *w);
/* No agent will come that could tell: what is in doubt fails closed. */
void worker_give_up_doubt(struct sim_client *sc);

#endif
