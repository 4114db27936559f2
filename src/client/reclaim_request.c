/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reclaim on request, as the kernel's memory.reclaim: pages of a group are moved out
 * until so many have left, in groups without a limit too.  All is asked for, so
 * the second chance of a page that came back is spent at once.
 *
 * It ends by itself.  A client is given up when as many pages as two turns of the clock
 * hold, and some captures in a row, were tried and none of them left for good: they are
 * pinned or locked, no node has room for them, or the program wants them back at once.
 * A program that uses its memory meanwhile cannot make it go on for ever either: no more
 * than what was resident at the start is moved.
 */
#include <errno.h>

#include "client/client_priv.h"
#include "migrate/migrate.h"
#include "reclaim/reclaim.h"

#define FRUITLESS_TURNS 2
#define FRUITLESS_CAPTURES 8

static bool can_give(const struct client *c)
{
    return c->has_agent && !c->leaving && !c->mm.dead;
}

int reclaim_request_start(struct reclaim_request *r, struct group *g, struct client *only,
                          uint64_t bytes)
{
    uint64_t resident = 0;
    struct client *c;

    if (g->has_request)
        return -EBUSY;
    *r = (struct reclaim_request){.group = g, .moved_before = g->count.pgsteal_proactive};
    list_for_each_entry(c, &g->clients, in_group) {
        if (only && c != only)
            continue;
        c->request = r;
        c->nr_request_pages = c->nr_request_fruitless = 0;
        c->nr_request_tried = 0;
        resident += c->resident_bytes;
    }
    bytes = MIN(bytes, resident);
    r->want_pages = (bytes + PAGE_SIZE - 1) >> PAGE_SHIFT;
    g->has_request = true;
    group_hold(g);
    return 0;
}

void reclaim_request_end(struct reclaim_request *r)
{
    struct group *g = r->group;
    struct client *c;

    if (!g)
        return;
    list_for_each_entry(c, &g->clients, in_group)
        if (c->request == r)
            c->request = NULL;
    r->group = NULL;
    g->has_request = false;
    group_release(g);
}

static uint64_t moved_pages(const struct reclaim_request *r)
{
    return r->group->count.pgsteal_proactive - r->moved_before;
}

uint64_t reclaim_request_moved_bytes(const struct reclaim_request *r)
{
    return moved_pages(r) << PAGE_SHIFT;
}

/* Nothing of its is under way: did the last capture do anything, and is it worth another? */
static bool is_given_up(struct client *c)
{
    if (c->nr_request_pages) {
        bool moved = c->moved_out != c->request_moved_before;
        c->nr_request_fruitless = moved ? 0 : c->nr_request_fruitless + 1;
        c->nr_request_tried = moved ? 0 : c->nr_request_tried + c->nr_request_pages;
        c->nr_request_pages = 0;
    }
    return !c->mm.nr[PTE_PRESENT] ||
           (c->nr_request_fruitless >= FRUITLESS_CAPTURES &&
            c->nr_request_tried >= FRUITLESS_TURNS * c->mm.nr[PTE_PRESENT]);
}

/* Pages under capture now. */
static uint32_t capture(struct client *c, uint32_t max)
{
    int nr = reclaim_shrink(&c->mm, max, MIGRATE_SYSCALL);

    if (nr == 0) /* each had a second chance, which it has spent now */
        nr = reclaim_shrink(&c->mm, max, MIGRATE_SYSCALL);
    if (nr <= 0) {
        c->nr_request_fruitless++;
        c->nr_request_tried += c->mm.nr[PTE_PRESENT];
        c->request->again |= nr == 0;
        return 0;
    }
    c->nr_request_pages = (uint32_t)nr;
    c->request_moved_before = c->moved_out;
    return (uint32_t)nr;
}

static enum reclaim_outcome why_no_more(const struct reclaim_request *r)
{
    const struct domain *d = r->group->domain;
    bool any = false, left = false;
    uint64_t now_ns = 0;
    struct client *c;

    list_for_each_entry(c, &d->clients, link) {
        if (c->request != r || !can_give(c))
            continue;
        any = true;
        now_ns = c->mm.ops->now_ns(c->mm.target);
        left |= c->mm.nr[PTE_PRESENT] != 0;
    }
    if (!any)
        return RECLAIM_NO_AGENT;
    if (!left)
        return RECLAIM_NOTHING_LEFT;
    return domain_room(d, now_ns) == DOMAIN_FULL ? RECLAIM_NO_ROOM : RECLAIM_REFUSED;
}

enum reclaim_outcome reclaim_request_progress(struct reclaim_request *r)
{
    uint64_t open = 0, left = r->want_pages - MIN(moved_pages(r), r->want_pages);
    bool under_way = false;
    struct client *c;

    r->again = false;
    list_for_each_entry(c, &r->group->clients, in_group)
        if (c->request == r)
            open += migrate_nr_open(&c->mm);
    if (!left)
        return RECLAIM_DONE;
    list_for_each_entry(c, &r->group->clients, in_group) {
        if (c->request != r || !can_give(c))
            continue;
        if (migrate_is_busy(&c->mm) || c->held) {
            under_way = true;
            continue;
        }
        if (is_given_up(c))
            continue;
        /* What is under way may be enough, if it all leaves. */
        if (left > open)
            open += capture(c, (uint32_t)MIN(left - open, (uint64_t)CAPTURE_MAX_PAGES));
        under_way = true;
    }
    return under_way ? RECLAIM_UNDER_WAY : why_no_more(r);
}

const char *reclaim_outcome_sentence(enum reclaim_outcome o)
{
    switch (o) {
    case RECLAIM_UNDER_WAY:
        return "the time was over";
    case RECLAIM_DONE:
        return "";
    case RECLAIM_NOTHING_LEFT:
        return "nothing more that can be moved is resident";
    case RECLAIM_NO_ROOM:
        return "no node has room for more";
    case RECLAIM_REFUSED:
        return "what is left is pinned, locked, or wanted back at once";
    case RECLAIM_NO_AGENT:
        return "it has no agent that could take pages out: a forked child, or one whose agent has "
               "ended";
    }
    return "";
}
