/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of adoption (DESIGN D2): when everything is back and quiet, the mappings
 * are unregistered, first touches are the kernel's own again, and khugepaged may make
 * huge pages of them.
 *
 * Only when nothing at all of the address space is moved out: unregistering is not
 * stopped by unread events, and an mremap may just have moved another mapping, with
 * pages missing, to where the old one was (they would read as zeros).
 */
#include "client/client_priv.h"
#include "migrate/migrate.h"

/*
 * Without any message.  The kernel drops the pages of a madvise when its thread runs
 * again after its message was read; were they adopted anew before, what was dropped
 * would be captured and come back.  A thread is held off its processor for some 100 ms
 * at most (a throttled cgroup), and not stopped there by any signal.
 */
#define QUIET_NS 5000000000u

/* Far enough below the limit not to be adopted again at once. */
static bool group_is_relaxed(const struct group *g)
{
    return !g->limit_bytes || g->resident_bytes < g->limit_bytes / 2;
}

static bool is_all_back(const struct client *c)
{
    const uint64_t *nr = c->mm.nr;

    return !nr[PTE_ZERO] && !nr[PTE_FRAME] && !nr[PTE_SWAPPED] && !nr[PTE_MIGRATING] &&
           !nr[PTE_POISON] && !nr[PTE_MERGED] && !c->saved->nr_doomed && !c->saved->doomed_overflow;
}

bool client_release_quiet(struct client *c, uint64_t now_ns)
{
    struct mm *mm = &c->mm;

    if (!mm->nr_areas || c->held || c->nr_parked || c->leaving || c->request || mm->dead ||
        migrate_is_busy(mm) || !is_all_back(c) || !group_is_relaxed(c->group) ||
        now_ns - c->last_message_ns < QUIET_NS)
        return false;
    while (mm->nr_areas) {
        struct area a = mm->areas[0];
        /* In this order for a worker that dies: what is not registered has no entries. */
        client_forget(c, a.start, a.end);
        BUG_ON(mm_area_remove(mm, a.start, a.end) < 0); /* of a whole area: takes no memory */
        switch (mm->ops->unreg(mm->target, urange(a.start, a.end))) {
        case KRES_DONE:
        case KRES_GONE: /* unmapped, or moved: its event is on the way */
            continue;
        case KRES_DEAD:
            mm->dead = true;
            return true;
        case KRES_RETRY:
        case KRES_RACED:
        case KRES_FATAL:
            /* Still registered: its pages are served, and entered as they are missed. */
            BUG_ON(mm_area_add(mm, a.start, a.end) < 0);
            return true;
        }
    }
    return true;
}
