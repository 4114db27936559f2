/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What pagerctl shows: the replies to status, stat, nodes, check, group-stats.
 * Every number is counted where it is said to be; check counts each term on its own.
 */
#define _GNU_SOURCE
#include "config.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "worker/worker_priv.h"

static void set(json_t *o, const char *key, uint64_t value)
{
    json_object_set_new(o, key, json_integer((json_int_t)value));
}

static json_t *latency_json(const struct hist *h)
{
    json_t *o = json_object();

    set(o, "count", hist_count(h));
    set(o, "p50", hist_quantile(h, 0.50));
    set(o, "p99", hist_quantile(h, 0.99));
    set(o, "max", hist_max(h));
    return o;
}

static void set_counters(json_t *o, const struct counters *c)
{
#define SET(name) set(o, #name, c->name)
    SET(pgfault);
    SET(pgmajfault);
    SET(pgscan);
    SET(pgsteal);
    SET(pgsteal_proactive);
    SET(pgmigrate_success);
    SET(pgmigrate_fail);
    SET(pgprefetch);
    SET(pgzerofill);
    SET(zero_pages);
    SET(workingset_refault);
    SET(workingset_activate);
    SET(migrate_aborted);
    SET(capture_busy);
    SET(capture_hole);
    SET(capture_refused);
    SET(capture_events);
    SET(capture_huge);
    SET(capture_remapped);
    SET(fill_huge);
    SET(cow_copied);
    SET(cow_reused);
    SET(forks);
    SET(unshared);
    SET(limit_overshoot);
    SET(limit_overshoot_bytes);
    SET(fill_no_memory);
    SET(poisoned);
    SET(order_lost);
    SET(clean_dropped);
    SET(pswpin);
    SET(pswpout);
    SET(swap_read_error);
    SET(swap_corrupt);
    SET(swap_write_error);
#undef SET
}

/* Pages of the group's clients (NULL: of all) that are entered under a tag, in bytes. */
static uint64_t entries_bytes(struct worker *w, const struct group *g, enum pte_tag tag)
{
    struct client *c;
    uint64_t pages = 0;

    list_for_each_entry(c, &w->domain.clients, link)
        if (!g || c->group == g)
            pages += c->mm.nr[tag];
    return pages << PAGE_SHIFT;
}

static json_t *bytes_by_node(struct worker *w, const struct group *g, uint64_t resident)
{
    json_t *o = json_object();

    set(o, "resident", resident);
    set(o, "ram", entries_bytes(w, g, PTE_FRAME));
    set(o, "file", entries_bytes(w, g, PTE_SWAPPED));
    set(o, "zero", entries_bytes(w, g, PTE_ZERO));
    return o;
}

static json_t *peak_bytes_by_node(const struct group *g)
{
    json_t *o = json_object();

    set(o, "resident", g->resident_peak_bytes);
    set(o, "ram", g->peak_pages[PTE_FRAME] << PAGE_SHIFT);
    set(o, "file", g->peak_pages[PTE_SWAPPED] << PAGE_SHIFT);
    set(o, "zero", g->peak_pages[PTE_ZERO] << PAGE_SHIFT);
    return o;
}

/* Of what can never be moved out and counts, what its clients have most address space of. */
static enum unpageable main_unpageable(const struct worker *w, const struct group *g,
                                       uint64_t *ret_bytes)
{
    static const enum unpageable counted[] = {
        UNPAGEABLE_LOCKED,   UNPAGEABLE_STACK, UNPAGEABLE_NOFORK, UNPAGEABLE_FOREIGN,
        UNPAGEABLE_READONLY, UNPAGEABLE_EXEC,  UNPAGEABLE_OTHER,
    };
    enum unpageable most = UNPAGEABLE_NOT;
    struct client *c;

    *ret_bytes = 0;
    for (size_t i = 0; i < ARRAY_SIZE(counted); i++) {
        uint64_t bytes = 0;
        list_for_each_entry(c, &w->domain.clients, link)
            if (c->group == g)
                bytes += wclient_of(c)->unpageable_bytes[counted[i]];
        if (bytes > *ret_bytes) {
            most = counted[i];
            *ret_bytes = bytes;
        }
    }
    return most;
}

#define MIB (1 << 20)

struct note {
    char text[256];
};

static const char *group_cause(const struct group *g)
{
    if (g->stuck)
        return g->note ? g->note : "nothing more can be moved out";
    return g->left_to_each_bytes ? "what has no agent fills it, and cannot be moved out" : NULL;
}

/* What is to be said of a group; mostly nothing. */
static struct note group_note(const struct worker *w, const struct group *g)
{
    uint64_t above = g->resident_bytes > g->limit_bytes ? g->resident_bytes - g->limit_bytes : 0;
    const char *cause = group_cause(g);
    struct note n = {""};
    uint64_t bytes;

    /* A little above it and on its way down again is nothing to tell of. */
    if (!g->limit_bytes || !above || (!cause && above < g->limit_bytes / 8))
        return n;
    enum unpageable most = main_unpageable(w, g, &bytes);
    int at = snprintf(n.text, sizeof(n.text), "%.1f MiB above its limit%s%s", (double)above / MIB,
                      cause ? ": " : "", cause ? cause : "");
    if (most != UNPAGEABLE_NOT && (size_t)at < sizeof(n.text))
        snprintf(n.text + at, sizeof(n.text) - (size_t)at,
                 "; what never moves is mostly of the kind %s, %.1f MiB of address space",
                 unpageable_name(most), (double)bytes / MIB);
    return n;
}

json_t *report_group(struct worker *w, struct group *g)
{
    json_t *o = json_object();

    set_counters(o, &g->count);
    set(o, "limit_bytes", g->limit_bytes);
    set(o, "resident_bytes", g->resident_bytes);
    set(o, "resident_peak_bytes", g->resident_peak_bytes);
    json_object_set_new(o, "bytes_by_node", bytes_by_node(w, g, g->resident_bytes));
    json_object_set_new(o, "peak_bytes_by_node", peak_bytes_by_node(g));
    json_object_set_new(o, "fault_latency_ns", latency_json(&g->fault_latency));
    return o;
}

void measure_all(struct worker *w)
{
    struct client *c;
    uint64_t bytes, mapped, now = now_ns();

    list_for_each_entry(c, &w->domain.clients, link) {
        struct wclient *wc = wclient_of(c);
        if (wc->ring && resident_of(wc, now, &bytes, &mapped) == 0)
            client_measured(c, bytes);
    }
}

json_t *report_limit(struct worker *w, struct group *g)
{
    measure_all(w);
    json_t *o = json_pack("{s:b, s:s, s:s}", "ok", 1, "group", g->name, "note",
                          group_note(w, g).text);

    set(o, "limit_bytes", g->limit_bytes);
    set(o, "resident_bytes", g->resident_bytes);
    set(o, "resident_peak_bytes", g->resident_peak_bytes);
    return o;
}

json_t *report_reclaim(const struct reclaim_request *r, enum reclaim_outcome o)
{
    return json_pack("{s:b, s:s, s:I, s:I, s:I, s:b, s:b, s:s}", "ok", 1, "group", r->group->name,
                     "moved_bytes", (json_int_t)reclaim_request_moved_bytes(r), "wanted_bytes",
                     (json_int_t)(r->want_pages << PAGE_SHIFT), "resident_bytes",
                     (json_int_t)r->group->resident_bytes, "done", o == RECLAIM_DONE, "timed_out",
                     o == RECLAIM_UNDER_WAY, "note", reclaim_outcome_sentence(o));
}

static const char *note_of(const struct wclient *wc, struct note *ret)
{
    if (!wc->ring)
        return "forked child without agent: it is brought back as there is room";
    if (worker_is_starved(wc, now_ns()))
        return "waits for memory: its cgroup is full (memory.max)";
    if (wc->agent_lost)
        return "its agent has ended: what is moved out is served, nothing more is moved";
    const struct domain *d = &wc->w->domain;
    bool is_full = domain_room(d, now_ns()) == DOMAIN_FULL;
    if (is_full && domain_has_file(d) && writeback_has_failed(d->writeback))
        return "the swap file cannot be written and memory for moved-out pages is used up: nothing "
               "more is moved";
    if (is_full && *wc->w->config->no_swap)
        return "node ram is full, and there is no node file (pagerctl nodes says why): nothing "
               "more is moved";
    if (is_full)
        return "all nodes are full: nothing more is moved";
    *ret = group_note(wc->w, wc->c.group);
    return ret->text;
}

/* What status and clients say of a client. */
static json_t *client_json(const struct client *c)
{
    const struct wclient *wc = wclient_of((struct client *)(uintptr_t)c);
    json_t *o = json_object();
    struct note note;

    set(o, "pid", (uint64_t)wc->program_pid);
    json_object_set_new(o, "comm", json_stringn_nocheck(wc->comm, strnlen(wc->comm, 16)));
    json_object_set_new(o, "group", json_string(c->group->name));
    json_object_set_new(o, "state", json_string(c->has_agent ? "managed" : "served-only"));
    set(o, "resident_bytes", c->resident_bytes);
    set(o, "out_bytes",
        (c->mm.nr[PTE_FRAME] + c->mm.nr[PTE_SWAPPED] + c->mm.nr[PTE_ZERO]) << PAGE_SHIFT);
    set(o, "registered_bytes", mm_area_bytes(&c->mm));
    json_object_set_new(o, "note", json_string(note_of(wc, &note)));
    return o;
}

json_t *report_clients(struct worker *w)
{
    json_t *clients = json_array();
    struct client *c;

    measure_all(w);
    list_for_each_entry(c, &w->domain.clients, link) {
        const struct wclient *wc = wclient_of(c);
        json_t *o = client_json(c), *why = json_object();
        uint64_t sum = 0;

        set(o, "ram_bytes", c->mm.nr[PTE_FRAME] << PAGE_SHIFT);
        set(o, "file_bytes", c->mm.nr[PTE_SWAPPED] << PAGE_SHIFT);
        set(o, "zero_bytes", c->mm.nr[PTE_ZERO] << PAGE_SHIFT);
        for (enum unpageable u = UNPAGEABLE_NOT + 1; u < UNPAGEABLE_NR; u++) {
            set(why, unpageable_name(u), wc->unpageable_bytes[u]);
            sum += wc->unpageable_bytes[u];
        }
        if (wc->unpageable_known) {
            set(o, "unpageable_bytes", sum);
            json_object_set(o, "unpageable_bytes_by_reason", why);
        } else { /* nobody has looked yet */
            json_object_set_new(o, "unpageable_bytes", json_null());
            json_object_set_new(o, "unpageable_bytes_by_reason", json_null());
        }
        json_decref(why);
        json_array_append_new(clients, o);
    }
    return json_pack("{s:b, s:o}", "ok", 1, "clients", clients);
}

json_t *report_status(struct worker *w)
{
    json_t *clients = json_array(), *groups = json_array();
    struct client *c;
    struct group *g;

    measure_all(w);
    list_for_each_entry(c, &w->domain.clients, link)
        json_array_append_new(clients, client_json(c));
    list_for_each_entry(g, &w->domain.groups, link) {
        json_t *o = json_object();
        json_object_set_new(o, "group", json_string(g->name));
        set(o, "limit_bytes", g->limit_bytes);
        set(o, "resident_bytes", g->resident_bytes);
        set(o, "resident_peak_bytes", g->resident_peak_bytes);
        set(o, "clients", g->nr_clients);
        json_object_set_new(o, "stuck", json_boolean(g->stuck));
        json_object_set_new(o, "note", json_string(group_note(w, g).text));
        json_array_append_new(groups, o);
    }
    return json_pack("{s:b, s:s, s:i, s:i, s:o, s:o}", "ok", 1, "version", PACKAGE_VERSION, "pid",
                     (int)getpid(), "uid", (int)w->config->uid, "clients", clients, "groups",
                     groups);
}

json_t *report_stat(struct worker *w)
{
    struct counters sum = w->domain.retired;
    struct hist latency = w->domain.retired_latency;
    uint64_t resident = 0;
    json_t *o = json_object();
    struct group *g;

    measure_all(w);
    list_for_each_entry(g, &w->domain.groups, link) {
        counters_add(&sum, &g->count);
        hist_merge(&latency, &g->fault_latency);
        resident += g->resident_bytes;
    }
    set_counters(o, &sum);
    json_object_set_new(o, "bytes_by_node", bytes_by_node(w, NULL, resident));
    json_object_set_new(o, "fault_latency_ns", latency_json(&latency));
    return json_pack("{s:b, s:o}", "ok", 1, "stats", o);
}

static json_t *node_json(const struct node *node)
{
    uint64_t size = node_size_bytes(node), used = node_used_bytes(node);

    return json_pack("{s:i, s:s, s:I, s:I, s:I}", "node", (int)node->id, "type", node->type,
                     "size_bytes", (json_int_t)size, "used_bytes", (json_int_t)used, "free_bytes",
                     (json_int_t)(size - used));
}

json_t *report_nodes(struct worker *w)
{
    uint64_t resident = 0;
    json_t *nodes = json_array();
    struct group *g;

    measure_all(w);
    list_for_each_entry(g, &w->domain.groups, link)
        resident += g->resident_bytes;
    json_array_append_new(nodes, json_pack("{s:i, s:s, s:n, s:I, s:n}", "node", NODE_RESIDENT,
                                           "type", "resident", "size_bytes", "used_bytes",
                                           (json_int_t)resident, "free_bytes"));
    json_array_append_new(nodes, node_json(&w->domain.ram));
    if (domain_has_file(&w->domain))
        json_array_append_new(nodes, node_json(&w->domain.file));
    else if (*w->config->no_swap)
        json_array_append_new(nodes, json_pack("{s:n, s:s, s:i, s:i, s:i, s:s}", "node", "type", "file",
                                               "size_bytes", 0, "used_bytes", 0, "free_bytes", 0,
                                               "note", w->config->no_swap));
    return json_pack("{s:b, s:o}", "ok", 1, "nodes", nodes);
}

/* ---- check ---- */

#define CHECK_RUNS 64
#define CHECK_TRIES 50

/* Is a page in the program although its entry says that it was moved out? */
static bool is_doubled(struct wclient *wc, uint64_t v)
{
    uint64_t pages = 0;

    return pte_is_stored(pte_get(&wc->c.mm, uaddr(v))) &&
           kscan_count_present(wc->pagemap_fd, urange(v, v + PAGE_SIZE), &pages) == 0 && pages;
}

/*
 * An event that is still unread explains a doubled page (unmapped, and mapped
 * anew): messages are read and the page is looked at again.  False: the client ended.
 */
static bool stays_doubled(struct wclient *wc, uint64_t v, bool *ret)
{
    *ret = true;
    for (int i = 0; i < CHECK_TRIES && *ret; i++) {
        if (!client_turn(wc))
            return false;
        *ret = is_doubled(wc, v) && !wc->c.held;
        sched_yield();
    }
    return true;
}

static void violation(json_t *violations, const struct wclient *wc, uint64_t v, const char *what)
{
    char sentence[160];

    snprintf(sentence, sizeof(sentence), "pid %d: page %#llx %s", wc->program_pid,
             (unsigned long long)v, what);
    json_array_append_new(violations, json_string(sentence));
}

/* The stored entries of [at, end), of one leaf, against the pages that are present there. */
static bool check_leaf(struct wclient *wc, uint64_t at, uint64_t end, json_t *violations)
{
    struct scan_run runs[CHECK_RUNS];

    for (struct uaddr next = uaddr(at); at < end; at = next.v) {
        int nr = kscan_present(wc->pagemap_fd, urange(at, end), runs, CHECK_RUNS, &next);
        if (nr < 0) {
            if (!mm_is_dead(wc))
                violation(violations, wc, at, "cannot be looked for in its pagemap");
            return false;
        }
        for (int i = 0; i < nr; i++) {
            for (uint64_t v = runs[i].r.start.v; v < urange_end(runs[i].r); v += PAGE_SIZE) {
                bool wrong;
                if (!pte_is_stored(pte_get(&wc->c.mm, uaddr(v))))
                    continue;
                if (!stays_doubled(wc, v, &wrong))
                    return false;
                if (wrong)
                    violation(violations, wc, v, "is moved out and present at once");
            }
        }
    }
    return true;
}

/* Every leaf that holds a stored entry. */
static void check_presence(struct wclient *wc, json_t *violations)
{
    struct uaddr at = {0};

    while (pte_next_mapped(&wc->c.mm, &at, UINT64_MAX)) {
        uint64_t base = at.v & ~(LEAF_SIZE - 1);
        if (!pte_is_stored(pte_get(&wc->c.mm, at))) {
            at.v += PAGE_SIZE;
            continue;
        }
        if (!check_leaf(wc, base, base + LEAF_SIZE, violations))
            return;
        at.v = base + LEAF_SIZE;
    }
}

static void set_frame_count(json_t *o, const struct frame_count *c)
{
    set(o, "total", c->total);
    set(o, "allocated", c->allocated);
    set(o, "referenced", c->referenced);
    set(o, "cached", c->cached);
    set(o, "free", c->free);
}

json_t *report_check(struct worker *w)
{
    json_t *violations = json_array(), *entries = json_object(), *frames = json_object(),
           *slots = json_object();
    struct domain_report report;
    struct client *c, *n;
    int not_looked_at = 0;

    w->no_new_captures = true;
    list_for_each_entry_safe(c, n, &w->domain.clients, link) {
        /* Of a forked child only the userfaultfd is known, not the process. */
        if (wclient_of(c)->pagemap_fd >= 0)
            check_presence(wclient_of(c), violations);
        else
            not_looked_at++;
    }
    w->no_new_captures = false;
    domain_check(&w->domain, &report);
    if (report.wrong)
        json_array_append_new(violations, json_string(report.wrong));
    for (unsigned tag = 0; tag < PTE_NR_TAGS; tag++)
        set(entries, pte_tag_name((enum pte_tag)tag), report.entries[tag]);
    set_frame_count(frames, &report.frames);
    set(frames, "named_by_entries", report.frames_by_entries);
    if (domain_has_file(&w->domain)) {
        set_frame_count(slots, &report.slots);
        set(slots, "named_by_entries", report.slots_by_entries);
    }
    set(entries, "kept", report.kept);
    return json_pack("{s:b, s:b, s:o, s:o, s:o, s:i, s:o}", "ok", 1, "holds",
                     json_array_size(violations) == 0, "entries", entries, "frames", frames, "slots",
                     slots,
                     "forked_children_not_looked_at", not_looked_at, "violations", violations);
}
