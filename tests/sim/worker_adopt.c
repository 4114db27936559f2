/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adoption in slices, as src/worker/adopt.c does it: over the maps as they were read, which
 * may be of some turns ago, and again for a mapping while the mappings change, but not for ever.
 */
#include "worker_model.h"

#define ADOPT_TRIES 3

static enum kres adopt_vma(struct worker_model *w, struct sim_client *sc, struct vma_seen v)
{
    struct mm *mm = &sc->c.mm;
    const struct km_mm *k = &sc->app->k;

    if (!(k->pte[v.start].vma & KV_MAPPED))
        return KRES_GONE;
    uint64_t at = km_addr(km_vma_start(k, v.start)), end = km_addr(km_vma_end(k, v.start));

    sim_interleave(w->sim);
    while (at < end) {
        const struct area *a = mm_area_find(mm, at);
        if (a) {
            at = a->end;
            continue;
        }
        uint64_t thp_at = at, stop = MIN(end, mm_area_next_start(mm, at));
        trace(w->sim, "worker: adopts pages %u..%u of mm%u%s", km_page(at), km_page(stop) - 1,
              sc->app->k.id, v.registered ? "" : ", with what is present");
        enum kres r = client_adopt(&sc->c, urange(at, stop), !v.registered);
        if (r != KRES_DONE)
            return r;
        if (sc->app->k.pte[v.start].vma & KV_HUGE)
            mm_area_set_thp(mm, thp_at, choice_chance(&w->sim->choice, 768) ? AREA_THP_ADVISED
                                                                            : AREA_THP_SEQUENTIAL);
        at = stop;
    }
    return KRES_DONE;
}

static void read_maps(struct sim_client *sc)
{
    const struct km_mm *k = &sc->app->k;

    sc->nr_maps = 0;
    for (uint32_t i = 0, end; i < KM_PAGES && sc->nr_maps < SIM_MAPS; i = end) {
        end = km_vma_end(k, i);
        if (k->pte[i].vma & KV_MAPPED && !(k->pte[i].vma & (KV_READONLY | KV_NOT_CHILDS)))
            sc->maps[sc->nr_maps++] = (struct vma_seen){i, end, k->pte[i].vma & KV_REGISTERED};
    }
}

void worker_adopt(struct worker_model *w, struct sim_client *sc)
{
    struct sim *s = w->sim;
    uint32_t i = sc->next_map;

    sc->next_map = 0;
    if (!i || s->settling || choice_chance(&s->choice, 256)) { /* or too old */
        i = 0;
        read_maps(sc);
        sim_interleave(s);
    }
    for (; i < sc->nr_maps && !sc->c.mm.dead; i++) {
        if (!s->settling && choice_chance(&s->choice, 256))
            continue;
        switch (adopt_vma(w, sc, sc->maps[i])) {
        case KRES_RETRY:
            if (++sc->nr_tries > ADOPT_TRIES)
                break;
            sc->next_map = i;
            return;
        case KRES_DEAD:
            sc->c.mm.dead = true;
            break;
        case KRES_DONE:
        case KRES_RACED:
        case KRES_GONE:
        case KRES_FATAL:
            break;
        }
        sc->nr_tries = 0;
        if (!s->settling && choice_chance(&s->choice, 256)) { /* its slice is over */
            sc->next_map = i + 1;
            return;
        }
    }
}
