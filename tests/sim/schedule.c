/* SPDX-License-Identifier: Apache-2.0 */
/* Who takes the next step, and what must hold when all have settled. */
#include <string.h>
#include <sys/mman.h>

#include "schedule.h"
#include "worker_model.h"

#define SIM_MAX_LEAVES (3u * KM_MAX_MMS)
#define ARENA_PAGES (1u << 16)
#define CHECK_EVERY 16

struct arena {
    uint8_t *pages;
    uint8_t **free;
    uint32_t nr_free, nr_used;
    void *frames, *state;
};

struct world {
    struct arena *arena;
    struct app_set apps;
    struct worker_model worker;
};

static void *map_memory(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    BUG_ON(p == MAP_FAILED);
    return p;
}

struct arena *arena_new(void)
{
    struct arena *a = calloc(1, sizeof(*a));

    BUG_ON(!a);
    a->pages = map_memory((size_t)ARENA_PAGES << PAGE_SHIFT);
    a->free = map_memory(ARENA_PAGES * sizeof(*a->free));
    a->frames = map_memory((size_t)PAGEBLOCK_FRAMES << PAGE_SHIFT);
    a->state = map_memory(domain_state_bytes(SIM_MAX_LEAVES, KM_MAX_MMS));
    return a;
}

uint8_t *sim_page_alloc(struct sim *s)
{
    struct arena *a = s->world->arena;

    if (a->nr_free)
        return a->free[--a->nr_free];
    if (a->nr_used == ARENA_PAGES)
        sim_fail(s, "model", "out of pages");
    return a->pages + ((size_t)a->nr_used++ << PAGE_SHIFT);
}

void sim_page_free(struct sim *s, uint8_t *page)
{
    struct arena *a = s->world->arena;

    a->free[a->nr_free++] = page;
}

/* ---- failure ---- */

void sim_fail(struct sim *s, const char *kind, const char *fmt, ...)
{
    struct sim_report *r = s->report;
    va_list ap;

    sim_trace_end();
    r->failed = true;
    r->seed = s->seed;
    r->failed_step = s->step;
    snprintf(r->kind, sizeof(r->kind), "%s", kind);
    va_start(ap, fmt);
    vsnprintf(r->what, sizeof(r->what), fmt, ap);
    va_end(ap);
    _exit(1);
}

static struct sim *traced;

static void trace_entry(const struct mm *mm, struct uaddr addr, enum pte_event event, pte_t old,
                        pte_t new_pte)
{
    const struct km_mm *k = mm->target;
    char after[96];

    snprintf(after, sizeof(after), ": %s --%s--> %s", pte_tag_name(pte_tag(old)),
             pte_event_name(event), pte_tag_name(pte_tag(new_pte)));
    sim_trace_page(traced, km_page(addr.v), after, "    entry mm%u page", k->id);
}

/* ---- what a seed decides ---- */

static uint32_t one_of(struct choice *c, const uint32_t *list, uint32_t nr)
{
    return list[choice_below(c, nr)];
}
#define ONE_OF(c, ...) \
    one_of((c), (const uint32_t[]){__VA_ARGS__}, ARRAY_SIZE(((const uint32_t[]){__VA_ARGS__})))

bool settings_unordered;
enum sim_focus settings_focus;

static void focus(struct settings *set, uint64_t seed)
{
    switch (settings_focus) {
    case FOCUS_NONE:
        break;
    case FOCUS_DISK:
    case FOCUS_CRASH:
        set->crash = 128;
        set->fork = MAX(set->fork, 16u);
        set->change = MAX(set->change, 64u);
        break;
    case FOCUS_REMAP:
        set->remap = true;
        set->change = MAX(set->change, 192u);
        set->late_events = 256;
        break;
    case FOCUS_FORKS:
        set->fork = 96;
        set->max_mms = MAX(set->max_mms, 3u);
        set->adopt = 768;
        set->crash = MIN(set->crash, 16u);
        break;
    case FOCUS_HUGE:
        set->crash = MIN(set->crash, 64u);
        set->change = 192;
        set->signals = 512;
        set->late_events = 512;
        set->max_threads = KM_THREADS;
        break;
    case FOCUS_MOVES:
        set->crash = 0;
        set->fork = 0;
        set->change = 384;
        set->favourite = 5;
        set->late_events = 512;
        set->reuse = true;
        set->max_threads = KM_THREADS;
        set->crowded = seed % 2;
        if (set->crowded) { /* many changes, of pages that are moved out */
            set->max_pages = 16;
            set->adopt = set->shrink = 768;
            set->slow_wake = 0;
            set->nr_steps = 500;
        }
        break;
    }
}

void settings_from_seed(uint64_t seed, struct settings *ret)
{
    struct choice c = {seed * 0x9e3779b97f4a7c15u + 1};

    *ret = (struct settings){
        .nr_steps = ONE_OF(&c, 60, 150, 300, 500),
        .app_weight = ONE_OF(&c, 1, 2, 4, 8),
        .kernel_weight = ONE_OF(&c, 1, 2),
        .worker_weight = ONE_OF(&c, 1, 2, 4, 8),
        .max_pages = ONE_OF(&c, 8, 32, 64, 160),
        .max_threads = choice_between(&c, 1, KM_THREADS),
        .max_mms = choice_between(&c, 1, 5),
        .nr_roots = ONE_OF(&c, 1, 1, 2),
        .fail = ONE_OF(&c, 0, 0, 16, 64, 256),
        .fatal = ONE_OF(&c, 0, 0, 0, 64),
        .interleave = ONE_OF(&c, 0, 64, 256, 512),
        .busy = ONE_OF(&c, 0, 0, 32, 128),
        .signals = ONE_OF(&c, 0, 64, 256, 512),
        .fork = ONE_OF(&c, 0, 16, 64),
        .change = ONE_OF(&c, 0, 64, 192, 384),
        .favourite = choice_below(&c, 14),
        .reuse = choice_chance(&c, 768),
        .unordered = settings_unordered,
        .late_events = ONE_OF(&c, 0, 0, 256, 512),
        .slow_wake = ONE_OF(&c, 0, 512, 896, 960),
        .adopt = ONE_OF(&c, 64, 256, 768),
        .shrink = ONE_OF(&c, 32, 256, 768),
        .clock_ns = ONE_OF(&c, 1000, 100000, 1000000, 1000000),
        .nr_leaves = ONE_OF(&c, SIM_MAX_LEAVES, SIM_MAX_LEAVES, SIM_MAX_LEAVES, 1, 2, 3, 6),
        .free_frames = ONE_OF(&c, PAGEBLOCK_FRAMES, PAGEBLOCK_FRAMES, 0, 4, 32, 64),
        .agent_dies = choice_chance(&c, 64),
        .crash = ONE_OF(&c, 0, 0, 4, 16, 64, 256),
    };
    ret->exec = ONE_OF(&c, 0, 0, 8, 32);
    ret->lazy = ONE_OF(&c, 0, 0, 256, 768);
    focus(ret, seed);
    ret->max_mms = MAX(ret->max_mms, ret->nr_roots);
    /* No limit, or one that what is there comes close to; high and low are 256 pages apart. */
    if (choice_chance(&c, 768)) {
        ret->limit_pages = 1024;
        ret->other_pages = choice_between(&c, 1024 - 256 - ret->max_pages, 1023);
    }
    if (choice_chance(&c, 12) || settings_focus == FOCUS_HUGE) {
        ret->huge = true;
        ret->nr_steps = settings_focus == FOCUS_HUGE ? 150 : 60;
        ret->max_pages = 8;
        ret->max_mms = MIN(ret->max_mms, 3u);
        ret->free_frames = PAGEBLOCK_FRAMES;
        ret->adopt = 768;
        /* Sometimes there is room for a huge page. */
        if (ret->limit_pages && choice_chance(&c, 512))
            ret->limit_pages = ret->other_pages = 0;
        else if (ret->limit_pages)
            ret->other_pages = choice_below(&c, 1024);
    } else if (choice_chance(&c, 384) || settings_focus == FOCUS_DISK) {
        /* Few frames: write-back goes on all the time, or from time to time. */
        ret->disk = true;
        ret->free_frames = ONE_OF(&c, 16, 64, 136, 144, 160, 200);
        ret->disk_bad = ONE_OF(&c, 0, 0, 16);
        ret->disk_speed = ONE_OF(&c, 64, 192, 512);
    }
    ret->remap |= choice_chance(&c, 64);
    ret->child_agent = ONE_OF(&c, 0, 16, 128, 512);
    if (settings_focus == FOCUS_FORKS)
        ret->child_agent = MAX(ret->child_agent, 128u);
    ret->wipe = ONE_OF(&c, 0, 0, 16, 96);
    ret->unseen = ONE_OF(&c, 0, 64, 512);
    if (!ret->fork)
        ret->wipe = 0;
    if (settings_focus == FOCUS_FORKS || settings_focus == FOCUS_CRASH) {
        ret->wipe = MAX(ret->wipe, 32u);
        ret->unseen = MAX(ret->unseen, 128u);
    }
}

uint32_t schedule_steps(uint64_t seed, struct step *steps)
{
    struct choice c = {seed};
    struct settings set;

    settings_from_seed(seed, &set);
    for (uint32_t i = 0; i < set.nr_steps; i++) {
        uint32_t pick = choice_below(&c, set.app_weight + set.kernel_weight + set.worker_weight);
        steps[i] = (struct step){.seed = choice_u64(&c)};
        steps[i].kind = pick < set.app_weight                       ? STEP_APP
                        : pick < set.app_weight + set.kernel_weight ? STEP_KERNEL
                                                                    : STEP_WORKER;
    }
    return set.nr_steps;
}

/* ---- steps ---- */

static void app_step(struct sim *s)
{
    struct world *w = s->world;
    uint32_t at = choice_below(&s->choice, w->apps.nr * KM_THREADS);

    for (uint32_t i = 0; i < w->apps.nr * KM_THREADS; i++) {
        uint32_t k = (at + i) % (w->apps.nr * KM_THREADS);
        struct app_mm *mm = w->apps.mm[k / KM_THREADS];
        if (mm->started && !mm->k.exited && app_thread_step(s, &w->apps, mm, k % KM_THREADS))
            return;
    }
}

/* Of some forked child that has none. */
static bool child_agent_comes(struct sim *s)
{
    struct world *w = s->world;
    uint32_t at = choice_below(&s->choice, w->apps.nr);

    for (uint32_t i = 0; i < w->apps.nr; i++) {
        struct app_mm *mm = w->apps.mm[(at + i) % w->apps.nr];
        if (mm->k.id < s->set.nr_roots || !mm->started || mm->agent_came || !mm->k.has_uffd ||
            mm->k.exited)
            continue;
        trace(s, "the agent of mm%u comes", mm->k.id);
        mm->agent_comes = mm->agent_came = true;
        return true;
    }
    return false;
}

static void kernel_step(struct sim *s)
{
    struct world *w = s->world;
    struct app_mm *mm = w->apps.mm[choice_below(&s->choice, w->apps.nr)];
    uint32_t tid = choice_below(&s->choice, KM_THREADS);

    if (mm->k.dead)
        return;
    if (mm->k.agent.state == JOB_MOVING && mm->k.agent.run >= RUN_ASLEEP &&
        choice_chance(&s->choice, 48)) {
        app_kill(s, mm, "with its agent"); /* out of memory, or all of a cgroup */
        km_die(&mm->k);
        return;
    }
    if (mm->k.exited && choice_chance(&s->choice, 256)) {
        trace(s, "the memory of mm%u goes", mm->k.id);
        km_die(&mm->k);
        return;
    }
    if (choice_chance(&s->choice, s->set.signals)) {
        if (mm->k.thread[tid].wait == KW_FAULT_READ || mm->k.thread[tid].wait == KW_FAULT_UNREAD) {
            trace(s, "mm%u thread %u gets a signal", mm->k.id, tid);
            km_signal(&mm->k, tid);
            if (choice_chance(&s->choice, 384)) /* its handler does not come back */
                mm->thread[tid] = (struct app_thread){0};
        }
        return;
    }
    if (choice_chance(&s->choice, s->set.child_agent) && child_agent_comes(s))
        return;
    if (s->set.lazy && choice_chance(&s->choice, 384) &&
        km_reclaim(&mm->k, choice_below(&s->choice, KM_PAGES), choice_between(&s->choice, 1, 8)))
        return;
    if (s->set.agent_dies && choice_chance(&s->choice, 8) && !mm->k.nr_held) {
        km_agent_die(&mm->k);
        return;
    }
    if (choice_chance(&s->choice, 64) && disk_orphan_step(&w->worker.disk))
        return;
    for (uint32_t i = 0; i < w->apps.nr; i++)
        if (km_agent_step(&w->apps.mm[(mm->k.id + i) % w->apps.nr]->k))
            return;
}

void sim_interleave(struct sim *s)
{
    if (crash_point && !s->depth)
        crash_point();
    if (s->depth || s->settling || s->flags & STEP_ALONE ||
        !choice_chance(&s->choice, s->set.interleave))
        return;
    s->depth++;
    for (uint32_t n = choice_between(&s->choice, 1, 4); n; n--) {
        if (choice_below(&s->choice, s->set.app_weight + s->set.kernel_weight) < s->set.app_weight)
            app_step(s);
        else
            kernel_step(s);
    }
    s->depth--;
}

/* ---- settling ---- */

static bool settle_round(struct sim *s)
{
    struct world *w = s->world;
    bool moved = false;

    for (uint32_t i = 0; i < w->apps.nr; i++) {
        struct app_mm *mm = w->apps.mm[i];
        if (mm->k.exited && !mm->k.dead) {
            km_die(&mm->k);
            moved = true;
        }
        for (uint32_t tid = 0; tid < KM_THREADS; tid++)
            while (mm->started && !mm->k.exited && app_thread_step(s, &w->apps, mm, tid))
                moved = true;
        while (km_agent_step(&mm->k))
            ;
    }
    while (disk_orphan_step(&w->worker.disk))
        ;
    worker_turn_all(&w->worker);
    return moved;
}

static const char *why_not_home(struct sim *s, bool worker_too, char *buf, size_t size)
{
    struct world *w = s->world;

    for (uint32_t i = 0; i < w->apps.nr; i++) {
        struct app_mm *mm = w->apps.mm[i];
        for (uint32_t tid = 0; tid < KM_THREADS; tid++) {
            struct km_thread *t = &mm->k.thread[tid];
            if (mm->k.exited || !t->alive ||
                (t->wait == KW_RUNNING && mm->thread[tid].op == OP_NONE))
                continue;
            bool fault = t->wait == KW_FAULT_UNREAD || t->wait == KW_FAULT_READ;
            if (fault)
                snprintf(buf, size, "mm%u thread %u waits for page %u for ever", mm->k.id, tid,
                         t->page);
            else
                snprintf(buf, size, "mm%u thread %u waits for its event to be read for ever",
                         mm->k.id, tid);
            return buf;
        }
    }
    return worker_too ? worker_is_quiet(&w->worker) : NULL;
}

/* A page that has been moved out is not in the program as well. */
static void check_places(struct sim *s)
{
    struct worker_model *w = &s->world->worker;

    for (uint32_t i = 0; i < KM_MAX_MMS; i++) {
        struct sim_client *sc = w->client[i];
        struct uaddr at = {0};
        if (!sc || sc->app->k.dead)
            continue;
        for (; pte_next_mapped(&sc->c.mm, &at, UINT64_MAX); at.v += PAGE_SIZE) {
            pte_t pte = pte_get(&sc->c.mm, at);
            const struct km_pte *k = &sc->app->k.pte[km_page(at.v)];
            /* A fork may have come between the agent's MOVE and its mremap(). */
            bool may_be_both = s->set.remap && i >= s->set.nr_roots;
            if (pte_is_stored(pte) && k->state != KP_NONE && !may_be_both)
                sim_fail(s, "two places", "mm%u page %u is moved out, and in the program", i,
                         km_page(at.v));
            /* A zero that was not a child's (MADV_DONTFORK) stays until its agent has made sure. */
            if (pte_is_stored(pte) && (pte_tag(pte) != PTE_ZERO || sc->c.has_agent) &&
                !(k->vma & KV_REGISTERED))
                sim_fail(s, "lost", "mm%u page %u is moved out, and nothing is registered there", i,
                         km_page(at.v));
        }
        for (uint32_t page = 0; page < KM_PAGES; page++)
            if (sc->c.has_agent && sc->app->k.pte[page].state == KP_PAGE &&
                pte_tag(pte_get(&sc->c.mm, uaddr(km_addr(page)))) == PTE_NONE)
                sim_count(s, STAT_UNMANAGED, 1);
    }
}

static void settle(struct sim *s)
{
    struct world *w = s->world;
    uint32_t nr = 0;
    char why[128];

    s->settling = true;
    s->flags = STEP_ALONE | STEP_NO_FAIL;
    worker_take_up(&w->worker);
    trace(s, "all settle: threads end what they do, and everything is read back");
    /* First with reclaim, which may go on for ever where nothing can be taken; then without. */
    for (unsigned phase = 0; phase < 2; phase++) {
        w->worker.no_reclaim = phase == 1;
        for (uint32_t i = 0; i < SIM_GROUPS && phase == 1; i++)
            w->worker.group[i]->limit_bytes = 0;
        const char *wrong = "nothing comes to rest";
        for (uint32_t idle = 0, round = 0; idle < 24 && round < 50000; round++) {
            s->step++;
            s->clock_ns += 2000000;
            s->choice.state = s->seed + nr++; /* the same, however many steps came before */
            idle = settle_round(s) ? 0 : idle + 1;
            wrong = why_not_home(s, phase == 1, why, sizeof(why));
            if (idle > 2 && !wrong)
                break;
        }
        if (wrong)
            sim_fail(s, "hang", "%s", wrong);
    }
    worker_check(&w->worker);
    check_places(s);
    for (uint32_t i = 0; i < w->apps.nr; i++)
        if (!w->apps.mm[i]->k.exited)
            app_compare_present(w->apps.mm[i]);
}

void schedule_run(struct arena *a, uint64_t seed, const struct step *steps, uint32_t nr,
                  bool tracing, struct sim_report *report)
{
    struct world w = {.arena = a};
    struct sim s = {.seed = seed, .report = report, .world = &w, .tracing = tracing};

    report->seed = seed;
    a->nr_free = a->nr_used = 0;
    settings_from_seed(seed, &s.set);
    s.choice.state = seed ^ 0x5eed;
    traced = &s;
    pte_trace = tracing ? trace_entry : NULL;
    worker_model_init(&w.worker, &s, &w.apps, a->state, a->frames);
    for (uint32_t i = 0; i < s.set.nr_roots; i++)
        worker_attach(&w.worker, app_start(&s, &w.apps));
    for (uint32_t i = 0; i < nr; i++) {
        s.step = report->failed_step = i;
        s.choice.state = steps[i].seed;
        s.flags = steps[i].flags;
        s.clock_ns += choice_below(&s.choice, s.set.clock_ns);
        switch ((enum step_kind)steps[i].kind) {
        case STEP_APP:
            app_step(&s);
            break;
        case STEP_KERNEL:
            kernel_step(&s);
            break;
        case STEP_WORKER:
            worker_step(&w.worker);
            break;
        }
        if (i % CHECK_EVERY == CHECK_EVERY - 1)
            worker_check(&w.worker);
    }
    settle(&s);
    for (uint32_t i = 0; i < w.apps.nr; i++) {
        if (!w.apps.mm[i]->k.exited)
            app_exit(w.apps.mm[i]);
        km_die(&w.apps.mm[i]->k);
    }
    worker_model_fini(&w.worker);
    app_set_free(&w.apps);
    pte_trace = NULL;
    sim_trace_end();
    sim_count(&s, STAT_STEPS, nr);
    report->nr_done++;
}
