/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups: a limit over the resident bytes of several clients.
 *
 * Marks, as the kernel's watermarks: above `high` pages are taken out in the
 * background until `low`; at the limit a fault waits until room was made.  When
 * a whole turn of the clock finds nothing to take, the group is `stuck`: faults
 * are let through (counted as limit_overshoot) rather than held up for ever.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/client.h"
#include "client/client_priv.h"
#include "migrate/migrate.h"
#include "reclaim/reclaim.h"

struct group *group_new(struct domain *d, const char *name, uint64_t limit_bytes)
{
    struct group *g = calloc(1, sizeof(*g));

    if (!g)
        return NULL;
    d->next_group++;
    if (name && name[0])
        snprintf(g->name, sizeof(g->name), "%s", name);
    else
        snprintf(g->name, sizeof(g->name), "%u", d->next_group);
    g->domain = d;
    list_init(&g->clients);
    g->limit_bytes = limit_bytes;
    list_add_tail(&g->link, &d->groups);
    return g;
}

struct group *group_find(struct domain *d, const char *name)
{
    struct group *g;

    list_for_each_entry(g, &d->groups, link)
        if (!strcmp(g->name, name))
            return g;
    return NULL;
}

void counters_add(struct counters *into, const struct counters *from)
{
    uint64_t *a = (uint64_t *)into;
    const uint64_t *b = (const uint64_t *)from;

    _Static_assert(sizeof(*into) % sizeof(*a) == 0, "counters are all 64-bit");
    for (size_t i = 0; i < sizeof(*into) / sizeof(*a); i++)
        a[i] += b[i];
}

static void group_free_if_unused(struct group *g)
{
    if (g->nr_clients || g->nr_holders)
        return;
    counters_add(&g->domain->retired, &g->count);
    hist_merge(&g->domain->retired_latency, &g->fault_latency);
    list_del(&g->link);
    free(g);
}

void group_hold(struct group *g)
{
    g->nr_holders++;
}

void group_release(struct group *g)
{
    BUG_ON(g->nr_holders == 0);
    g->nr_holders--;
    group_free_if_unused(g);
}

void group_set_limit(struct group *g, uint64_t bytes)
{
    g->limit_bytes = bytes;
    g->left_to_each_bytes = 0;
    g->stuck = false;
}

void group_join(struct group *g, struct client *c)
{
    c->group = g;
    c->mm.count = &g->count;
    list_add_tail(&c->in_group, &g->clients);
    g->nr_clients++;
}

void group_leave(struct client *c)
{
    struct group *g = c->group;

    client_set_resident(c, 0);
    list_del(&c->in_group);
    g->nr_clients--;
    c->group = NULL;
    group_free_if_unused(g);
}

static uint64_t margin(const struct group *g)
{
    return CLAMP(g->limit_bytes / 32, (uint64_t)1 << 20, (uint64_t)16 << 20);
}

/*
 * What clients without agent hold stays where it is.  Would it leave the others next to
 * nothing, then each page of theirs would go again before its thread has run on: some
 * faults a second, for ever.  So something is left to each of them, beyond the limit if it
 * must be; to all of them not more than the whole limit would leave.
 */
#define LEFT_TO_EACH_MAX ((uint64_t)2 << 20)

static uint64_t goal(const struct group *g)
{
    return g->left_to_each_bytes ? g->goal_bytes : g->limit_bytes;
}

static bool is_movable(const struct client *c)
{
    return c->has_agent && !c->leaving;
}

static void set_goal(struct group *g)
{
    uint64_t held = 0, each = MIN(g->limit_bytes / 8, LEFT_TO_EACH_MAX);
    uint64_t most = g->limit_bytes - 2 * margin(g);
    uint32_t nr_movable = 0;
    struct client *c;

    g->left_to_each_bytes = 0;
    list_for_each_entry(c, &g->clients, in_group) {
        if (is_movable(c) || c->awaits_agent)
            nr_movable++;
        else
            held += c->resident_bytes;
    }
    if (!held || !nr_movable)
        return;
    each = MIN(each, most / nr_movable);
    g->goal_bytes = held + nr_movable * each + 2 * margin(g);
    if (g->goal_bytes > g->limit_bytes)
        g->left_to_each_bytes = each;
}

uint64_t group_high_bytes(const struct group *g)
{
    return goal(g) - margin(g);
}

uint64_t group_low_bytes(const struct group *g)
{
    return goal(g) - 2 * margin(g);
}

uint64_t group_room_bytes(const struct group *g)
{
    uint64_t high = g->limit_bytes - margin(g);

    if (!g->limit_bytes)
        return UINT64_MAX;
    return high > g->resident_bytes ? high - g->resident_bytes : 0;
}

void group_account(struct group *g, int64_t delta_bytes)
{
    if (delta_bytes < 0 && (uint64_t)-delta_bytes > g->resident_bytes)
        g->resident_bytes = 0;
    else
        g->resident_bytes += (uint64_t)delta_bytes;
    g->resident_peak_bytes = MAX(g->resident_peak_bytes, g->resident_bytes);
}

void client_set_resident(struct client *c, uint64_t bytes)
{
    group_account(c->group, (int64_t)bytes - (int64_t)c->resident_bytes);
    c->resident_bytes = bytes;
}

void client_measured(struct client *c, uint64_t bytes)
{
    struct group *g = c->group;
    uint64_t known = MAX(g->resident_bytes, g->limit_bytes);

    client_set_resident(c, bytes);
    if (g->limit_bytes && g->resident_bytes > known)
        g->count.limit_overshoot_bytes += g->resident_bytes - known;
}

void client_moved_pages(struct client *c, int64_t pages)
{
    int64_t bytes = (int64_t)c->resident_bytes + pages * (int64_t)PAGE_SIZE;

    client_set_resident(c, bytes > 0 ? (uint64_t)bytes : 0);
}

bool group_has_room(const struct group *g, uint64_t bytes)
{
    return !g->limit_bytes || g->resident_bytes + bytes <= goal(g);
}

/*
 * When a client is left alone for a while, and faults of its group are let through:
 *
 * - Captures took nothing for good: pages are pinned, locked or protected, or there
 *   is no frame for them and they go back.  After two such in a row, and longer each time.
 * - A whole turn of the clock found only pages brought back since the last one: what
 *   the program works on.  Taken at once they would go before the program has run on,
 *   again and again.
 */
#define DEFER_AFTER 2
#define DEFER_NS 100000u
#define DEFER_MAX_SHIFT 6
#define ALL_REFERENCED_NS 1000000u

static bool reclaim_is_deferred(struct client *c, uint64_t now_ns)
{
    if (c->capture_asked) {
        c->nr_fruitless = c->moved_out == c->moved_out_before ? c->nr_fruitless + 1 : 0;
        c->capture_asked = false;
        if (c->nr_fruitless >= DEFER_AFTER)
            c->deferred_until_ns =
                now_ns + ((uint64_t)DEFER_NS << MIN(c->nr_fruitless - DEFER_AFTER,
                                                    (uint32_t)DEFER_MAX_SHIFT));
    }
    return now_ns < c->deferred_until_ns;
}

static void note_peaks(struct group *g)
{
    static const enum pte_tag out[] = {PTE_FRAME, PTE_SWAPPED, PTE_ZERO};
    uint64_t pages[PTE_NR_TAGS] = {0};
    struct client *c;

    list_for_each_entry(c, &g->clients, in_group)
        for (size_t i = 0; i < ARRAY_SIZE(out); i++)
            pages[out[i]] += c->mm.nr[out[i]];
    for (size_t i = 0; i < ARRAY_SIZE(out); i++)
        g->peak_pages[out[i]] = MAX(g->peak_pages[out[i]], pages[out[i]]);
}

bool group_balance(struct group *g)
{
    struct client *c;
    bool under_way = false, is_above;

    note_peaks(g);
    if (!g->limit_bytes)
        return false;
    set_goal(g);
    is_above = g->resident_bytes > (g->nr_clients ? group_high_bytes(g) : UINT64_MAX);
    if (!is_above) {
        g->stuck = false;
        return false;
    }
    list_for_each_entry(c, &g->clients, in_group) {
        if (c->mm.dead)
            continue;
        if (!is_movable(c) || c->held)
            continue;
        /*
         * A capture would keep the rest of its mappings from being adopted for a while; and
         * what is not registered yet is what grows meanwhile.
         */
        if (c->adopting) {
            under_way = true;
            continue;
        }
        if (g->left_to_each_bytes && c->resident_bytes <= g->left_to_each_bytes)
            continue;
        c->mm.workingset_pages = (uint32_t)MIN(g->limit_bytes >> PAGE_SHIFT, (uint64_t)UINT32_MAX);
        if (migrate_is_busy(&c->mm)) {
            under_way = true;
            continue;
        }
        uint64_t now = c->mm.ops->now_ns(c->mm.target);
        if (reclaim_is_deferred(c, now))
            continue;
        enum domain_room room = domain_room(g->domain, now);
        if (room != DOMAIN_ROOM) { /* nowhere to put it, or not yet */
            under_way |= room == DOMAIN_WAIT;
            continue;
        }
        /*
         * Not more than what is too much: taking a hot page costs a fault.  But
         * always a batch that pays for the agent's wake-up.
         */
        c->mm.may_unshare = client_may_unshare(c, now);
        uint64_t too_much = MIN(g->resident_bytes - group_low_bytes(g),
                                c->resident_bytes - g->left_to_each_bytes) >> PAGE_SHIFT;
        int nr = reclaim_shrink(&c->mm, (uint32_t)CLAMP(too_much, (uint64_t)64, (uint64_t)512),
                                MIGRATE_DEMOTION);
        if (nr > 0) {
            under_way = c->capture_asked = true;
            c->moved_out_before = c->moved_out;
        } else if (nr == 0) {
            c->deferred_until_ns = now + ALL_REFERENCED_NS;
        }
    }
    g->stuck = !under_way;
    return under_way;
}
