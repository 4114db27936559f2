/* SPDX-License-Identifier: Apache-2.0 */
/* Agents of forked children, as src/worker/forked.c takes them. */
#include "worker_model.h"

static bool fork_is_kept_back(const struct worker_model *w)
{
    for (uint32_t i = 0; i < KM_MAX_MMS; i++)
        for (uint32_t k = 0; w->client[i] && k < w->client[i]->nr_msgs; k++)
            if (w->client[i]->msgs[k].type == KUFFD_FORK)
                return true;
    return false;
}

void worker_attach_child_agents(struct worker_model *w)
{
    for (uint32_t i = 0; i < KM_MAX_MMS; i++) {
        struct sim_client *sc = w->client[i];
        if (!sc || !sc->app->agent_comes || sc->c.mm.dead || fork_is_kept_back(w))
            continue;
        sc->app->agent_comes = false;
        if (sc->app->k.exited || !sc->app->k.has_uffd)
            continue;
        trace(w->sim, "worker: the agent of mm%u is attached", i);
        sim_count(w->sim, STAT_CHILD_AGENTS, 1);
        sc->app->k.has_agent = sc->app->k.had_agent = true;
        sc->unsure = true;
        sc->c.leaving = false;
        sc->c.cursor = uaddr(0);
    }
}

/* ---- what a child gets ---- */

#define MAX_LOOKS 6
#define MAX_PAGES_ASKED 2

static bool read_flags(struct sim *s, const struct km_mm *k, uint8_t vma[KM_PAGES])
{
    sim_interleave(s);
    if (k->dead || (!s->settling && choice_chance(&s->choice, s->set.unseen)))
        return false;
    for (uint32_t i = 0; i < KM_PAGES; i++)
        vma[i] = k->pte[i].vma;
    sim_interleave(s);
    return true;
}

/* First page behind those of the same attributes. */
static uint32_t seen_end(const uint8_t vma[KM_PAGES], uint32_t page)
{
    uint8_t attributes = vma[page] & (uint8_t)~KV_BOUNDARY;

    for (page++; page < KM_PAGES && vma[page] == attributes; page++)
        ;
    return page;
}

static enum fork_gets look_into_child(struct worker_model *w, struct client *parent, uint32_t at,
                                      uint64_t *ret_end)
{
    const struct km_mm *k = &w->look.parent->k;
    uint32_t start = 0, end, nr = 0;
    uint64_t done;

    if (!w->look.child || !k->has_agent || k->dead || w->look.nr_looks++ >= MAX_LOOKS ||
        !(k->pte[at].vma & KV_MAPPED))
        return FORK_GETS_UNKNOWN;
    while ((end = km_vma_end(k, start)) <= at)
        start = end;
    struct uaddr page = uaddr(km_addr(start));
    for (; nr < MAX_PAGES_ASKED && pte_next_mapped(&parent->mm, &page, km_addr(end));
         page.v += PAGE_SIZE) {
        if (pte_tag(pte_get(&parent->mm, page)) != PTE_PRESENT || page.v == parent->tid_page.v)
            continue;
        nr++;
        switch (km_target_ops.zero(&w->look.child->k, page, PAGE_SIZE, &done)) {
        case KRES_RACED:
            *ret_end = km_addr(end);
            return FORK_GETS_BYTES;
        case KRES_DONE:
            break;
        case KRES_DEAD:
            *ret_end = FORK_GETS_ALL;
            return FORK_GETS_NOTHING;
        case KRES_RETRY:
        case KRES_GONE:
        case KRES_FATAL:
            return FORK_GETS_UNKNOWN;
        }
    }
    return FORK_GETS_UNKNOWN;
}

/* As forked_gets() of src/worker/forked.c. */
static enum fork_gets gets(struct worker_model *w, struct client *parent, struct uaddr at,
                           uint64_t *ret_end)
{
    const struct app_mm *app = container_of(parent, struct sim_client, c)->app;
    uint32_t page = km_page(at.v);

    *ret_end = FORK_GETS_ALL;
    if (!app->k.had_agent)
        return FORK_GETS_BYTES;
    parent->keeps_memory |= app->k.keeps_memory;
    if (w->look.parent != app)
        w->look = (struct fork_look){.parent = app};
    if (!w->look.flags_read) {
        enum fork_gets seen = look_into_child(w, parent, page, ret_end);
        if (seen != FORK_GETS_UNKNOWN)
            return seen;
        w->look.flags_shown = read_flags(w->sim, &app->k, w->look.vma);
    }
    w->look.flags_read = true;
    if (!w->look.flags_shown || !(w->look.vma[page] & KV_MAPPED)) {
        *ret_end = at.v + PAGE_SIZE;
        return FORK_GETS_UNKNOWN;
    }
    *ret_end = km_addr(seen_end(w->look.vma, page));
    return w->look.vma[page] & KV_NOT_CHILDS ? FORK_GETS_NOTHING : FORK_GETS_BYTES;
}

enum fork_gets worker_fork_gets(struct client *parent, struct uaddr at, uint64_t *ret_end)
{
    static const char *const names[] = {
        [FORK_GETS_BYTES] = "the child's",
        [FORK_GETS_NOTHING] = "not the child's",
        [FORK_GETS_UNKNOWN] = "whose, nobody can tell",
    };
    struct worker_model *w = (struct worker_model *)parent->domain;
    enum fork_gets r = gets(w, parent, at, ret_end);

    trace(w->sim, "worker: what is moved out at pages %u..%u is %s", km_page(at.v),
          *ret_end > km_addr(KM_PAGES) ? KM_PAGES - 1 : km_page(*ret_end) - 1, names[r]);
    sim_count(w->sim, STAT_NOTHING, r == FORK_GETS_NOTHING);
    return r;
}

void worker_note_doubt(struct worker_model *w)
{
    for (uint32_t i = w->sim->set.nr_roots; i < KM_MAX_MMS; i++) {
        struct sim_client *sc = w->client[i];
        if (!sc || sc->c.saved->parent)
            continue;
        struct urange doubt = client_doubt(&sc->c);
        sim_count(w->sim, STAT_DOUBTS, doubt.len && !sc->app->has_tables);
        sc->app->has_tables = true;
        sc->app->is_settled |= !doubt.len;
        for (uint32_t page = 0; page < KM_PAGES && doubt.len; page++)
            sc->app->in_doubt[page] |= km_addr(page) - doubt.start.v < doubt.len;
    }
}

/* As settle_doubt(). */
static bool settle_doubt(struct worker_model *w, struct sim_client *sc,
                         const uint8_t vma[KM_PAGES])
{
    struct client *c = &sc->c;
    struct urange doubt = client_doubt(c);
    struct uaddr at = doubt.start;

    for (; pte_next_mapped(&c->mm, &at, urange_end(doubt)); at.v += PAGE_SIZE) {
        uint32_t page = km_page(at.v), end = seen_end(vma, page);
        if (!client_is_doubtful(c, at))
            continue;
        if (!(vma[page] & KV_MAPPED)) {
            client_forget(c, at.v, at.v + PAGE_SIZE);
            continue;
        }
        trace(w->sim, "worker: mm%u %s what is moved out at pages %u..%u", sc->app->k.id,
              vma[page] & KV_WIPE ? "does not get" : "gets", page, end - 1);
        if (vma[page] & KV_WIPE)
            (void)client_withhold(c, at.v, MIN(km_addr(end), urange_end(doubt)));
        at.v = km_addr(end - 1);
    }
    client_end_doubt(c);
    worker_note_doubt(w);
    return true;
}

void worker_give_up_doubt(struct sim_client *sc)
{
    struct urange doubt = client_doubt(&sc->c);

    if (!doubt.len)
        return;
    uint64_t nr = client_withhold(&sc->c, doubt.start.v, urange_end(doubt));
    client_end_doubt(&sc->c);
    trace(sc->app->sim, "worker: nobody can tell of %u pages of mm%u", (uint32_t)nr,
          sc->app->k.id);
    worker_note_doubt((struct worker_model *)sc->c.domain);
}

bool worker_make_sure(struct worker_model *w, struct sim_client *sc)
{
    struct km_mm *k = &sc->app->k;
    uint8_t vma[KM_PAGES];

    if (k->mmap_changing || !read_flags(w->sim, k, vma) || k->mmap_changing)
        return false;
    if (client_doubt(&sc->c).len && !settle_doubt(w, sc, vma))
        return false;
    if (MUTANT(MUTANT_CHILD_NOT_MADE_SURE))
        return true;
    for (uint32_t i = 0; i < KM_PAGES; i++) {
        if (vma[i] & KV_REGISTERED)
            continue;
        client_forget(&sc->c, km_addr(i), km_addr(i + 1));
        BUG_ON(mm_area_remove(&sc->c.mm, km_addr(i), km_addr(i + 1)) < 0);
    }
    return true;
}
