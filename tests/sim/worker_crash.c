/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a worker between any two stores, and the next one (worker_model.h). */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "migrate/migrate.h"
#include "worker_model.h"

static struct worker_model *running; /* while it is in a step */

void worker_crash_here(void)
{
    struct worker_model *w = running;

    if (w && w->crash_after && !--w->crash_after)
        _longjmp(w->crash, 1);
}

/* node_fresh::write; now and then not all of it, or nothing. */
static int write_fresh(void *arg, struct pfn first, const struct iovec *page, uint32_t nr)
{
    struct worker_model *w = arg;

    nr -= first.n % 8 ? 0 : nr / 3;
    for (uint32_t i = 0; i < nr; i++)
        memcpy(node_bytes(&w->d.ram, (struct pfn){first.n + i}), page[i].iov_base, PAGE_SIZE);
    return nr ? (int)nr : -ENOSPC;
}

void worker_core_open(struct worker_model *w)
{
    struct sim *s = w->sim;

    if (domain_init(&w->d, w->state, s->set.nr_leaves, KM_MAX_MMS, w->frames, PAGEBLOCK_FRAMES) < 0)
        sim_fail(s, "model", "domain_init failed");
    if (node_fresh_init(&w->d.ram, write_fresh, w) < 0)
        sim_fail(s, "model", "node_fresh_init failed");
    if (s->set.disk) {
        struct node_file file = disk_file(&w->disk);
        if (domain_add_file(&w->d, &file, DISK_SLOTS) < 0)
            sim_fail(s, "model", "domain_add_file failed");
    }
    w->d.fork = worker_forked;
    w->d.fork_gets = worker_fork_gets;
    w->look = (struct fork_look){0};
    for (uint32_t i = 0; i < SIM_GROUPS; i++) {
        w->group[i] = group_new(&w->d, "", (uint64_t)s->set.limit_pages << PAGE_SHIFT);
        BUG_ON(!w->group[i]);
        group_hold(w->group[i]);
    }
}

/* Gives the ordinary memory back without a look at what is in it. */
static void core_forget(struct worker_model *w)
{
    for (uint32_t i = 0; i < KM_MAX_MMS; i++) {
        struct sim_client *sc = w->client[i];
        if (!sc)
            continue;
        if (sc->c.mm.leaves)
            munmap(sc->c.mm.leaves, w->sim->set.nr_leaves * sizeof(uint32_t));
        free(sc->c.mm.areas);
        free(sc->c.mm.op);
        free(sc);
        w->client[i] = NULL;
    }
    for (uint32_t i = 0; i < SIM_GROUPS; i++)
        free(w->group[i]);
    domain_fini(&w->d);
}

/* A page may be lost on a disk only when that is a bad one. */
void worker_check_losses(struct worker_model *w)
{
    uint64_t lost = w->d.retired.swap_corrupt + w->d.retired.swap_read_error;

    for (uint32_t i = 0; i < SIM_GROUPS; i++)
        if (w->group[i])
            lost += w->group[i]->count.swap_corrupt + w->group[i]->count.swap_read_error;
    if (lost && !w->sim->set.disk_bad)
        sim_fail(w->sim, "lost", "%u pages are lost on a disk that is good", (uint32_t)lost);
}

static void crashed(struct worker_model *w)
{
    struct sim *s = w->sim;

    trace(s, "worker: crashes");
    sim_count(s, STAT_CRASHES, 1);
    running = NULL;
    worker_check_losses(w);
    disk_orphan(&w->disk); /* its requests are the core's memory */
    core_forget(w);
    w->crash_after = 0;
    w->stage = TURN_PICK;
    w->down = choice_between(&s->choice, 1, choice_chance(&s->choice, 512) ? 4 : 60);
}

/* Sometimes soon, sometimes late in what follows. */
static void plan_crash(struct worker_model *w, uint32_t per_1024)
{
    struct choice *c = &w->sim->choice;
    static const uint32_t most[] = {2, 8, 40, 400};

    w->crash_after = 0;
    if (!w->sim->settling && choice_chance(c, per_1024))
        w->crash_after = choice_between(c, 1, most[choice_below(c, ARRAY_SIZE(most))]);
}

static void take_up_clients(struct worker_model *w)
{
    struct client_saved *saved = NULL;

    for (uint32_t i = 0; i < w->nr_withheld; i++)
        BUG_ON(frame_claim(w->d.ram.frames, w->withheld[i]) < 0);
    while ((saved = domain_next_saved(&w->d, saved))) {
        struct sim_client *sc = worker_client_new(w, w->apps->mm[saved->cookie], saved);
        trace(w->sim, "worker: takes up mm%u, with %u pages under a move", sc->app->k.id,
              migrate_nr_open(&sc->c.mm));
        /* Before its messages: a child in them has its share of what was captured. */
        if (migrate_is_capturing(&sc->c.mm) && sc->app->k.agent.state != JOB_MOVING) {
            sc->app->k.agent.state = JOB_NONE;
            client_captured(&sc->c, sc->app->k.agent.result);
        }
    }
    for (uint32_t i = 0; i < KM_MAX_MMS; i++)
        if (w->client[i])
            client_finish_batch(&w->client[i]->c, w->sim->clock_ns);
    worker_note_doubt(w);
    for (uint32_t i = 0; i < KM_MAX_MMS; i++)
        if (w->client[i])
            w->client[i]->nr_msgs = client_saved_messages(&w->client[i]->c, w->client[i]->msgs);
    /* A userfaultfd is closed when nothing is stored any more. */
    for (uint32_t i = 0; i < KM_MAX_MMS; i++)
        if (w->client[i] && !w->client[i]->app->k.has_uffd && !w->client[i]->app->k.dead)
            worker_client_end(w, w->client[i]);
}

void worker_run_until_crash(struct worker_model *w, void (*what)(struct worker_model *w),
                            uint32_t per_1024)
{
    plan_crash(w, per_1024);
    running = w;
    if (_setjmp(w->crash)) {
        crashed(w);
        return;
    }
    what(w);
    running = NULL;
    if (w->crash_after) /* the place was not reached */
        crashed(w);
}

void worker_take_up(struct worker_model *w)
{
    while (w->down) {
        w->down = 0;
        worker_core_open(w);
        worker_run_until_crash(w, take_up_clients, 128);
    }
}
