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
        sc->app->k.has_agent = true;
        sc->unsure = true;
        sc->c.leaving = false;
        sc->c.cursor = uaddr(0);
    }
}

bool worker_make_sure(struct worker_model *w, struct sim_client *sc)
{
    struct km_mm *k = &sc->app->k;
    bool registered[KM_PAGES];

    if (MUTANT(MUTANT_CHILD_NOT_MADE_SURE))
        return true;
    if (k->mmap_changing)
        return false;
    sim_interleave(w->sim);
    for (uint32_t i = 0; i < KM_PAGES; i++)
        registered[i] = k->pte[i].vma & KV_REGISTERED;
    sim_interleave(w->sim);
    if (k->mmap_changing)
        return false;
    for (uint32_t i = 0; i < KM_PAGES; i++) {
        if (registered[i])
            continue;
        client_forget(&sc->c, km_addr(i), km_addr(i + 1));
        BUG_ON(mm_area_remove(&sc->c.mm, km_addr(i), km_addr(i + 1)) < 0);
    }
    return true;
}
