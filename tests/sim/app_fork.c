/* SPDX-License-Identifier: Apache-2.0 */
/* Forks of modelled programs: what the child must read, and what it is kept from. */
#include <string.h>

#include "app_model.h"

bool app_may_withhold(const struct app_mm *mm, uint32_t page)
{
    uint32_t origin = mm->origin[page];

    for (; origin; mm = mm->parent) {
        if (mm->in_doubt[origin - 1])
            return true;
        origin = mm->origin_in_parent[origin - 1];
    }
    return false;
}

/* The child's copy of what is known of a page. */
static void copy_shadow(const struct app_mm *mm, struct app_mm *child, uint32_t i)
{
    child->origin[i] = (uint16_t)(i + 1);
    child->origin_in_parent[i] = mm->origin[i];
    if (mm->k.pte[i].vma & KV_NOFORK) {
        child->nr_mapped -= (mm->flags[i] & AP_MAPPED) != 0;
        return;
    }
    child->flags[i] = mm->flags[i] & (AP_MAPPED | AP_READONLY);
    if (mm->k.pte[i].vma & KV_WIPE) {
        sim_count(mm->sim, STAT_WIPED, mm->shadow[i] != NULL);
        return;
    }
    child->flags[i] |= mm->flags[i] & (AP_MAYBE_ZERO | AP_LAZY);
    if (mm->flags[i] & AP_DROPPING)
        child->flags[i] |= AP_MAYBE_ZERO;
    if (mm->shadow[i])
        memcpy(app_shadow_for_write(child, i), mm->shadow[i], PAGE_SIZE);
}

bool app_is_forking(const struct app_set *set, const struct app_mm *mm)
{
    for (uint32_t i = 0; i < set->nr; i++) {
        const struct app_mm *child = set->mm[i];
        if (child->parent == mm && child->k.has_uffd && !child->has_tables && !child->k.exited)
            return true;
    }
    return false;
}

void app_step_fork(struct sim *s, struct app_set *set, struct app_mm *mm, uint32_t tid)
{
    struct app_thread *t = &mm->thread[tid];
    struct app_mm *child = t->child;

    if (!child) {
        child = app_new(s, set);
        if (!child) {
            app_done(mm, tid);
            return;
        }
        t->child = child;
        trace(s, "mm%u thread %u forks mm%u", mm->k.id, tid, child->k.id);
        km_fork(&mm->k, tid, &child->k);
        child->parent = mm;
        mm->wipes = false;
        child->nr_mapped = mm->nr_mapped;
        for (uint32_t i = 0; i < KM_PAGES; i++)
            copy_shadow(mm, child, i);
        return;
    }
    trace(s, "mm%u is forked; mm%u runs", mm->k.id, child->k.id);
    child->started = true;
    child->k.thread[0].alive = !child->k.dead;
    if (choice_chance(&s->choice, 16 * s->set.exec))
        child->thread[0] = (struct app_thread){.op = OP_EXEC};
    else if (choice_chance(&s->choice, 512))
        child->thread[0] = (struct app_thread){.op = OP_VERIFY, .end = KM_PAGES};
    app_done(mm, tid);
}

void app_step_wipe(const struct app_set *set, struct app_mm *mm, uint32_t tid)
{
    struct app_thread *t = &mm->thread[tid];
    bool wipe = !(mm->k.pte[t->page].vma & KV_NOT_CHILDS);
    uint8_t flag = (uint8_t)(!wipe ? 0 : choice_chance(&mm->sim->choice, 256) ? KV_NOFORK : KV_WIPE);

    if ((wipe || !mm->k.has_uffd || !mm->parent || mm->is_settled) && !app_is_forking(set, mm)) {
        trace(mm->sim, "mm%u thread %u: madvise pages %u..%u %s", mm->k.id, tid, t->page,
              t->end - 1,
              flag == KV_WIPE   ? "MADV_WIPEONFORK"
              : flag            ? "MADV_DONTFORK"
                                : "MADV_KEEPONFORK and MADV_DOFORK");
        km_advise_fork(&mm->k, t->page, t->end - t->page, flag);
        mm->wipes |= wipe;
        mm->wiped_unseen |= wipe && !mm->k.had_agent;
    }
    app_done(mm, tid);
}
