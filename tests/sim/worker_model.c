/* SPDX-License-Identifier: Apache-2.0 */
/* The stages of a turn; src/worker/turn.c and adopt.c are what they follow. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "fault/fault.h"
#include "migrate/migrate.h"
#include "reclaim/reclaim.h"
#include "worker_model.h"

static struct sim_client *current(struct worker_model *w)
{
    return w->client[w->current];
}

struct sim_client *worker_client_new(struct worker_model *w, struct app_mm *app,
                                     struct client_saved *saved)
{
    struct sim_client *sc = calloc(1, sizeof(*sc));
    struct group *g = w->group[app->group];

    BUG_ON(!sc);
    sc->app = app;
    sc->c.cookie = app->k.id;
    sc->c.remap_stage = (struct urange){uaddr(KM_STAGE), LEAF_SIZE};
    w->client[app->k.id] = sc;
    int r = saved ? client_recover(&sc->c, &w->d, g, &km_target_ops, &app->k, saved)
                  : client_init(&sc->c, &w->d, g, &km_target_ops, &app->k);
    if (r < 0)
        sim_fail(w->sim, "model", "client_init failed");
    sc->c.has_agent = app->k.has_agent;
    sc->c.leaving = !app->k.has_agent;
    app->k.may_unshare = &sc->c.mm.may_unshare;
    if (saved && app->k.has_agent && app->k.id >= w->sim->set.nr_roots) {
        sc->unsure = true;
        sc->c.has_agent = false;
    }
    if (app->k.no_move_page != UINT32_MAX)
        sc->c.tid_page = uaddr(km_addr(app->k.no_move_page));
    return sc;
}

struct client *worker_forked(struct client *parent, int fd)
{
    struct worker_model *w = (struct worker_model *)parent->domain;
    struct app_mm *app = w->apps->mm[fd];

    if (sim_fails_at(w->sim, w->sim->set.fail / 16)) {
        app_kill(w->sim, app, "no memory for its record");
        return NULL;
    }
    app->group = container_of(parent, struct sim_client, c)->app->group;
    w->look = (struct fork_look){.parent = app->parent, .child = app};
    return &worker_client_new(w, app, NULL)->c;
}

static void apply_messages(struct sim_client *sc);
void worker_client_end(struct worker_model *w, struct sim_client *sc)
{
    uint32_t id = sc->app->k.id;

    trace(w->sim, "worker: lets mm%u go", id);
    if (!sc->app->k.dead)
        km_close(&sc->app->k);
    if (migrate_is_capturing(&sc->c.mm)) { /* the pages went with the address space */
        uint8_t none[CAPTURE_MAX_PAGES];
        memset(none, client_result_of_missing(sc->msgs, sc->nr_msgs), sizeof(none));
        w->sim->fork_lost |= none[0] == CAPTURE_LOST;
        client_captured(&sc->c, none);
    }
    if (!MUTANT(MUTANT_ENDED_UNREAD))
        apply_messages(sc); /* there may be a child in them, which lives on */
    client_fini(&sc->c);
    free(sc);
    w->client[id] = NULL;
}

static void attach(struct worker_model *w, struct app_mm *app)
{
    app->k.has_uffd = app->k.has_agent = app->k.had_agent = true;
    struct sim_client *sc = worker_client_new(w, app, NULL);
    if (w->sim->set.huge && choice_chance(&w->sim->choice, 768))
        worker_adopt(w, sc);
}

void worker_attach(struct worker_model *w, struct app_mm *app)
{
    app->group = choice_below(&w->sim->choice, SIM_GROUPS);
    attach(w, app);
}

/* What was executed shakes hands some time; a worker that dies in it leaves a client or none. */
static void attach_images(struct worker_model *w)
{
    for (uint32_t i = 0; i < w->apps->nr; i++) {
        struct app_mm *app = w->apps->mm[i];
        if (!app->wants_agent || choice_chance(&w->sim->choice, 512))
            continue;
        if (!app->k.exited && !w->client[i])
            attach(w, app);
        app->wants_agent = false;
    }
}

void worker_model_init(struct worker_model *w, struct sim *s, struct app_set *apps, void *state,
                       void *frames)
{
    memset(w, 0, sizeof(*w));
    memset(state, 0, pgtable_bytes(s->set.nr_leaves));
    w->state = state;
    w->frames = frames;
    w->sim = s;
    w->apps = apps;
    for (uint32_t i = 0; i < KM_MAX_MMS; i++)
        ((struct client_saved *)((char *)state + pgtable_bytes(s->set.nr_leaves)))[i].mm = 0;
    disk_init(&w->disk, s);
    worker_core_open(w);
    crash_point = worker_crash_here;
    w->withheld = calloc(PAGEBLOCK_FRAMES, sizeof(*w->withheld));
    BUG_ON(!w->withheld);
    if (s->set.free_frames == PAGEBLOCK_FRAMES)
        return;
    uint32_t nr;
    for (uint32_t i = 0; i < PAGEBLOCK_FRAMES; i++)
        BUG_ON(frame_alloc_run(w->d.ram.frames, 1, &w->withheld[i], &nr) < 0);
    w->nr_withheld = PAGEBLOCK_FRAMES;
    while (frame_nr_free(w->d.ram.frames) < s->set.free_frames) {
        uint32_t i = choice_below(&s->choice, w->nr_withheld);
        frame_free(w->d.ram.frames, w->withheld[i]);
        w->withheld[i] = w->withheld[--w->nr_withheld];
    }
}

void worker_model_fini(struct worker_model *w)
{
    struct sim *s = w->sim;

    for (uint32_t i = 0; i < KM_MAX_MMS; i++)
        if (w->client[i])
            worker_client_end(w, w->client[i]);
    for (uint32_t i = 0; i < SIM_GROUPS; i++)
        group_release(w->group[i]);
    while (disk_step(&w->disk))
        ;
    domain_orphans_ended(&w->d);
    if (s->set.disk && frame_nr_free(w->d.file.frames) != DISK_SLOTS)
        sim_fail(s, "leak", "%u slots are in use after all clients have ended",
                 DISK_SLOTS - frame_nr_free(w->d.file.frames));
    if (swapin_nr_in_use(w->d.swapin))
        sim_fail(s, "leak", "a read is in use after all clients have ended");
    sim_count(s, STAT_PSWPOUT, w->d.retired.pswpout);
    sim_count(s, STAT_PSWPIN, w->d.retired.pswpin);
    sim_count(s, STAT_CLEAN, w->d.retired.clean_dropped);
    sim_count(s, STAT_SWAP_LOST, w->d.retired.swap_corrupt + w->d.retired.swap_read_error);
    uint32_t used = frame_nr_total(w->d.ram.frames) - frame_nr_free(w->d.ram.frames);
    if (used != w->nr_withheld)
        sim_fail(s, "leak", "%u frames are in use after all clients have ended",
                 used - w->nr_withheld);
    if (pgtable_nr_free_leaves(w->d.pt) != s->set.nr_leaves)
        sim_fail(s, "leak", "%u leaves are in use after all clients have ended",
                 s->set.nr_leaves - pgtable_nr_free_leaves(w->d.pt));
    for (const struct client_saved *c = NULL; (c = domain_next_saved(&w->d, c));)
        sim_fail(s, "leak", "a record is in use after all clients have ended");
    free(w->withheld);
    domain_fini(&w->d);
    disk_fini(&w->disk);
    crash_point = NULL;
}

void worker_check(struct worker_model *w)
{
    struct domain_report r;

    if (w->down)
        return;
    domain_check(&w->d, &r);
    if (r.wrong)
        sim_fail(w->sim, "check", "%s", r.wrong);
    worker_check_losses(w);
}

/* After as long a silence as it takes for a release, no madvise is half-way. */
static bool is_dropping(const struct app_mm *app)
{
    for (uint32_t i = 0; i < KM_THREADS; i++)
        if (app->thread[i].op == OP_REMOVE)
            return true;
    return false;
}

/* ---- the turn ---- */

static void do_pick(struct worker_model *w)
{
    uint32_t at = choice_below(&w->sim->choice, KM_MAX_MMS);

    for (uint32_t i = 0; i < KM_MAX_MMS; i++) {
        w->current = (at + i) % KM_MAX_MMS;
        /* That its agent has ended is heard at any time, also with messages that are held. */
        if (current(w) && current(w)->app->k.dead && choice_chance(&w->sim->choice, 384)) {
            worker_client_end(w, current(w));
            return;
        }
        if (current(w)) {
            w->stage = TURN_COLLECT;
            w->nr_turns++;
            return;
        }
    }
}

static void trace_message(struct sim *s, uint32_t id, const struct kuffd_msg *m)
{
    switch (m->type) {
    case KUFFD_FAULT:
        trace(s, "worker: reads a fault of mm%u at page %u", id, km_page(m->addr.v));
        break;
    case KUFFD_FORK:
        trace(s, "worker: reads that mm%u forked mm%d", id, m->fd);
        break;
    case KUFFD_REMAP:
        trace(s, "worker: reads that mm%u moved %u pages from %u to %u", id,
              (uint32_t)(m->len >> PAGE_SHIFT), km_page(m->from.v), km_page(m->to.v));
        break;
    case KUFFD_VOID:
        trace(s, "worker: reads what the agent of mm%u has raised", id);
        break;
    case KUFFD_REMOVE:
    case KUFFD_UNMAP:
        trace(s, "worker: reads that mm%u %s pages %u..%u", id,
              m->type == KUFFD_UNMAP ? "unmapped" : "drops", km_page(m->range.start.v),
              km_page(urange_end(m->range)) - 1);
        break;
    }
}

/* With one thread there is nothing that cannot be told, ever. */
static void note_order_lost(struct sim_client *sc, const struct client_lost *lost)
{
    struct sim *s = sc->app->k.sim;

    if (sc->app->k.exited) /* of a call that was broken off not all has come */
        return;
    if (!lost->nr && !lost->nr_forks)
        return;
    if (lost->is_odd)
        sim_fail(s, "order", "mm%u: no order of its changes fits", sc->app->k.id);
    if (s->set.max_threads == 1)
        sim_fail(s, "order", "mm%u: one thread's changes cannot be put in order", sc->app->k.id);
    sim_count(s, STAT_UNTOLD, !s->order_lost);
    s->order_lost = true;
    for (uint32_t i = 0; i < lost->nr; i++) {
        trace(s, "worker: cannot tell what is at pages %u..%u", km_page(lost->range[i].start.v),
              km_page(urange_end(lost->range[i])) - 1);
        sim_count(s, STAT_ORDER_LOST, lost->range[i].len >> PAGE_SHIFT);
    }
}

static void apply_messages(struct sim_client *sc)
{
    uint32_t nr = sc->nr_msgs;

    sc->nr_msgs = 0;
    sc->c.held = false;
    if (!nr)
        return;
    uint64_t before = sc->c.mm.count->order_lost;
    client_upcalls(&sc->c, sc->msgs, nr, sc->app->k.sim->clock_ns);
    sc->app->k.sim->order_lost |= sc->c.mm.count->order_lost > before;
    worker_note_doubt((struct worker_model *)sc->c.domain);
}

/* Until both queues are empty.  What only the agent's own mremap() has raised is nobody's. */
static void read_messages(struct worker_model *w)
{
    struct sim_client *sc = current(w);

    while (sc->nr_msgs < CLIENT_MAX_UPCALLS && km_read(&sc->app->k, sc->c.saved->raw[sc->nr_msgs],
                                                       &sc->msgs[sc->nr_msgs])) {
        CRASH_POINT();
        client_void_own(&sc->c, sc->msgs, sc->nr_msgs, 1);
        trace_message(w->sim, sc->app->k.id, &sc->msgs[sc->nr_msgs++]);
        sim_interleave(w->sim);
    }
}

static void do_collect(struct worker_model *w)
{
    struct sim_client *sc = current(w);
    struct km_agent *a = &sc->app->k.agent;

    if (migrate_is_capturing(&sc->c.mm)) {
        if (sc->app->k.dead) { /* with its agent: nobody will finish the capture */
            w->stage = TURN_LEAVE;
            return;
        }
        if (a->state == JOB_MOVING) { /* nothing is read while a capture runs... */
            if (km_agent_lets_read(&sc->app->k)) { /* ... and takes something */
                read_messages(w);
                sc->c.held = sc->nr_msgs;
            }
            w->stage = sc->nr_msgs || w->sim->settling || choice_chance(&w->sim->choice, 512)
                           ? TURN_PICK
                           : TURN_ANSWER;
            return;
        }
        a->state = JOB_NONE;
        trace(w->sim, "worker: collects the capture of mm%u", sc->app->k.id);
        client_captured(&sc->c, a->result);
    }
    if (!sc->app->k.has_agent)
        sc->c.has_agent = false;
    if (sc->app->k.had_agent && !sc->app->k.has_agent)
        worker_give_up_doubt(sc);
    w->stage = TURN_READ;
}

/* What was read is kept back while something changes. */
static void do_read(struct worker_model *w)
{
    struct sim_client *sc = current(w);
    struct sim *s = w->sim;
    bool has_events = false;

    read_messages(w);
    for (uint32_t i = 0; i < sc->nr_msgs; i++)
        has_events |= sc->msgs[i].type != KUFFD_FAULT && sc->msgs[i].type != KUFFD_VOID;
    sim_interleave(s);
    sc->c.held =
        has_events && sc->nr_msgs < CLIENT_MAX_UPCALLS && sc->app->k.mmap_changing && !sc->app->k.dead;
    if (sc->c.held && MUTANT(MUTANT_HELD_NOT_HELD))
        sc->c.held = false;
    if (!sc->c.held && has_events && !sc->app->k.exited)
        sc->c.held = !client_order(&sc->c, sc->msgs, sc->nr_msgs);
    if (!sc->c.held && has_events)
        note_order_lost(sc, &sc->c.saved->lost);
    if (sc->c.held)
        sim_count(s, STAT_HELD, 1);
    w->stage = sc->c.held ? TURN_PICK : TURN_APPLY;
}

static void do_commit(struct worker_model *w)
{
    struct sim_client *sc = current(w);
    struct sim *s = w->sim;
    uint32_t max = s->settling || choice_chance(&s->choice, 512) ? CAPTURE_MAX_PAGES
                                                                 : choice_between(&s->choice, 1, 8);
    uint32_t before = migrate_nr_open(&sc->c.mm), left = client_commit(&sc->c, max);

    w->stage = left && left < before && !migrate_is_capturing(&sc->c.mm) ? TURN_READ : TURN_ADOPT;
}

static void do_balance(struct worker_model *w)
{
    struct sim_client *sc = current(w);
    struct sim *s = w->sim;

    if (sc->c.has_agent && choice_chance(&s->choice, 512))
        client_set_resident(&sc->c, (uint64_t)(km_resident_pages(&sc->app->k) + s->set.other_pages)
                                        << PAGE_SHIFT);
    if (!w->no_reclaim)
        group_balance(sc->c.group);
    if (!s->settling && sc->c.has_agent && !sc->c.leaving &&
        choice_chance(&s->choice, s->set.shrink)) {
        static const uint32_t sizes[] = {1, 4, 32, 512};
        (void)reclaim_shrink(&sc->c.mm, sizes[choice_below(&s->choice, 4)], MIGRATE_SYSCALL);
    }
    if (!s->settling && !sc->c.leaving && choice_chance(&s->choice, 2)) {
        trace(s, "worker: mm%u is to be let go", sc->app->k.id);
        sc->c.leaving = true;
    }
}

static void do_leave(struct worker_model *w)
{
    struct sim_client *sc = current(w);

    w->stage = TURN_PICK;
    if (sc->app->k.dead && (w->sim->settling || choice_chance(&w->sim->choice, 256)))
        sc->c.mm.dead = true;
    if (sc->c.mm.dead) {
        worker_client_end(w, sc);
        return;
    }
    if (sc->c.note_cursor != UINT64_MAX && !sc->c.held && !sc->nr_msgs &&
        !migrate_is_busy(&sc->c.mm))
        (void)client_note_filled(&sc->c);
    /* A forked child has some time, in which its agent may come. */
    uint32_t often = sc->app->k.id >= w->sim->set.nr_roots && w->sim->set.child_agent ? 16 : 512;
    if (!sc->c.leaving || sc->c.held || migrate_is_capturing(&sc->c.mm) ||
        !(w->sim->settling || choice_chance(&w->sim->choice, often)))
        return;
    worker_give_up_doubt(sc);
    if (client_bring_back(&sc->c, choice_between(&w->sim->choice, 1, 64)))
        worker_client_end(w, sc);
}

/* As the reactor: between two turns. */
static void do_completions(struct worker_model *w)
{
    while (w->disk.nr_reqs && (w->sim->settling || choice_chance(&w->sim->choice, w->sim->set.disk_speed)))
        disk_step(&w->disk);
    /* Somebody tells, some time after the last of them. */
    if (w->d.file.orphans && !w->disk.nr_orphans &&
        (w->sim->settling || choice_chance(&w->sim->choice, 256)))
        domain_orphans_ended(&w->d);
}

/* Also while a capture is under way, but not when something waits for its end to be read. */
static bool can_adopt(struct sim_client *sc)
{
    return !migrate_is_capturing(&sc->c.mm) || migrate_is_filling(&sc->c.mm) ||
           (!sc->nr_msgs && !km_agent_lets_read(&sc->app->k) && !sc->app->k.mmap_changing);
}

static void step(struct worker_model *w)
{
    struct sim_client *sc;

    if (w->stage == TURN_PICK) {
        attach_images(w);
        do_completions(w);
        worker_attach_child_agents(w);
        do_pick(w);
    }
    sc = current(w);
    if (!sc) {
        w->stage = TURN_PICK;
        return;
    }
    switch (w->stage) {
    case TURN_PICK:
        break;
    case TURN_COLLECT:
        do_collect(w);
        break;
    case TURN_READ:
        do_read(w);
        break;
    case TURN_APPLY:
        apply_messages(sc);
        w->stage = TURN_ANSWER;
        break;
    case TURN_ANSWER:
        client_answer(&sc->c);
        w->stage = TURN_COMMIT;
        break;
    case TURN_COMMIT:
        do_commit(w);
        break;
    case TURN_ADOPT:
        if (sc->unsure && sc->app->k.has_agent && !sc->c.held) {
            sc->unsure = !worker_make_sure(w, sc);
            sc->c.has_agent = !sc->unsure;
        }
        /* Registering waits until every event was applied. */
        if (sc->c.has_agent && !sc->c.leaving && !sc->app->k.exited && can_adopt(sc) &&
            (w->sim->settling || choice_chance(&w->sim->choice, w->sim->set.adopt)))
            worker_adopt(w, sc);
        if (choice_chance(&w->sim->choice, 64) && !is_dropping(sc->app))
            client_release_quiet(&sc->c, UINT64_MAX);
        w->stage = TURN_BALANCE;
        break;
    case TURN_BALANCE:
        do_balance(w);
        w->stage = TURN_LEAVE;
        break;
    case TURN_LEAVE:
        do_leave(w);
        break;
    }
}

void worker_step(struct worker_model *w)
{
    if (w->down > 1) {
        w->down--;
        return;
    }
    if (w->down) {
        worker_take_up(w);
        return;
    }
    worker_run_until_crash(w, step, w->sim->set.crash);
    if (!w->down)
        w->sim->was_short |=
            frame_nr_free(w->d.ram.frames) < 64 || pgtable_nr_free_leaves(w->d.pt) < 4;
}

void worker_turn_all(struct worker_model *w)
{
    worker_take_up(w);
    while (w->stage != TURN_PICK)
        worker_step(w);
    for (uint32_t i = 0; i < KM_MAX_MMS; i++) {
        do_completions(w);
        if (!w->client[i])
            continue;
        w->current = i;
        w->stage = TURN_COLLECT;
        while (w->stage != TURN_PICK)
            worker_step(w);
    }
}

const char *worker_is_quiet(struct worker_model *w)
{
    for (uint32_t i = 0; i < KM_MAX_MMS; i++) {
        struct sim_client *sc = w->client[i];
        if (!sc)
            continue;
        if (sc->c.nr_parked)
            return "a fault stays parked";
        if (sc->nr_msgs)
            return "messages are held for ever";
        if (migrate_nr_open(&sc->c.mm))
            return "a captured page is never committed";
        if (sc->c.leaving)
            return "a leaving client is never let go";
    }
    return NULL;
}
