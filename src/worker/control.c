/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control connections: one JSON object a request packet, one JSON text with a
 * newline a reply, which may span packets.  What comes in is untrusted: bounded,
 * parsed by jansson, and answered with a sentence when it makes no sense.
 *
 * A connection that asked for a group holds it: the group ends with its last
 * client and holder.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "worker/worker_priv.h"

#define REQUEST_MAX 65536
#define REQUESTS 4 /* of one connection, answered in a turn */
#define REPLY_PACKET 32768
#define CONTROLS_MAX 256
#define CHECK_TIME_NS 5000000000u /* what a check waits for one agent */
#define FLUSH_POLL_NS 5000000u
#define REPLY_MAX (16u << 20) /* unsent: a peer that does not read is cut off */

struct control {
    struct source source;
    struct worker *w;
    struct list link;
    struct group *group; /* held; NULL: none */
    bool check_wanted;
    struct reclaim_request reclaim; /* under way; its answer comes later */
    uint64_t reclaim_deadline_ns;
    uint32_t nr_adopt_rounds; /* of it */
    char *out; /* not sent yet */
    size_t out_len, out_sent;
};

static void control_released(struct source *s)
{
    struct control *c = container_of(s, struct control, source);

    s->fd = fd_close(s->fd);
    free(c->out);
    free(c);
}

static void control_end(struct control *c)
{
    reclaim_request_end(&c->reclaim);
    if (c->group)
        group_release(c->group);
    c->group = NULL;
    list_del(&c->link);
    c->w->nr_ended++;
    c->w->nr_controls--;
    source_remove(c->w->reactor, &c->source);
}

/* False when the peer is gone or does not read. */
static bool flush(struct control *c)
{
    while (c->out_sent < c->out_len) {
        size_t n = MIN(c->out_len - c->out_sent, (size_t)REPLY_PACKET);
        ssize_t sent = send(c->source.fd, c->out + c->out_sent, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN || errno == EINTR;
        c->out_sent += (size_t)sent;
    }
    c->out_len = c->out_sent = 0;
    return true;
}

static bool reply(struct control *c, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    size_t len = text ? strlen(text) : 0;
    char *out;

    json_decref(json);
    if (!text || c->out_len + len > REPLY_MAX || !(out = realloc(c->out, c->out_len + len + 1))) {
        free(text);
        return false;
    }
    c->out = out;
    memcpy(out + c->out_len, text, len);
    out[c->out_len + len] = '\n';
    c->out_len += len + 1;
    free(text);
    return flush(c);
}

static json_t *refusal(const char *sentence)
{
    return json_pack("{s:b, s:s}", "ok", 0, "error", sentence);
}

static const char *limit_complaint(const json_t *bytes)
{
    if (!json_is_integer(bytes) || json_integer_value(bytes) < 0)
        return "limit_bytes is a number of bytes, 0 for none";
    if (json_integer_value(bytes) && json_integer_value(bytes) < GROUP_MIN_LIMIT_BYTES)
        return "a limit below 8M cannot be kept; give 8M or more";
    return NULL;
}

/* {"cmd":"group","limit_bytes":N} */
static json_t *make_group(struct control *c, json_t *request)
{
    json_t *limit = json_object_get(request, "limit_bytes");
    json_int_t bytes = json_integer_value(limit);

    if (limit && limit_complaint(limit))
        return refusal(limit_complaint(limit));
    if (c->group)
        return refusal("this connection has a group already; open another one");
    c->group = group_new(&c->w->domain, NULL, (uint64_t)bytes);
    if (!c->group)
        return refusal("pagerd is short of memory");
    group_hold(c->group);
    return json_pack("{s:b, s:s}", "ok", 1, "group", c->group->name);
}

static json_t *group_stats(struct control *c, json_t *request)
{
    const char *name = json_string_value(json_object_get(request, "group"));
    struct group *g = name ? group_find(&c->w->domain, name) : c->group;

    if (!g)
        return refusal("there is no such group; see pagerctl status for those that are");
    return json_pack("{s:b, s:o}", "ok", 1, "stats", report_group(c->w, g));
}

/* ---- limit and reclaim ---- */

/* "target": the name of a group, or the number of a program: then ret_client is it too. */
static json_t *find_target(struct control *c, json_t *request, struct group **ret_group,
                           struct wclient **ret_client)
{
    const char *target = json_string_value(json_object_get(request, "target"));
    struct client *client;

    *ret_client = NULL;
    if (!target)
        return refusal("\"target\" names a group or a program's pid");
    *ret_group = group_find(&c->w->domain, target);
    if (*ret_group)
        return NULL;
    list_for_each_entry(client, &c->w->domain.clients, link) {
        char pid[16];
        snprintf(pid, sizeof(pid), "%d", wclient_of(client)->program_pid);
        if (!strcmp(pid, target)) {
            *ret_client = wclient_of(client);
            *ret_group = client->group;
            return NULL;
        }
    }
    return refusal("there is no such group, and no such program that is paged; "
                   "see pagerctl status");
}

/* The clients have their turn soon, and in it their maps are looked at. */
static void stir(struct worker *w, const struct group *g)
{
    struct client *client;

    list_for_each_entry(client, &w->domain.clients, link) {
        struct wclient *wc = wclient_of(client);
        if (client->group != g)
            continue;
        wc->next_measure_ns = wc->next_adopt_ns = 0;
        wc->retry_ns = now_ns();
    }
    w->next_housekeeping_ns = 0;
}

/* {"cmd":"limit","target":T} shows, with "limit_bytes":N it sets; 0: none. */
static json_t *limit(struct control *c, json_t *request)
{
    json_t *bytes = json_object_get(request, "limit_bytes");
    struct wclient *unused;
    struct group *g;
    json_t *wrong = find_target(c, request, &g, &unused);

    if (wrong)
        return wrong;
    if (bytes) {
        const char *sentence = limit_complaint(bytes);
        if (sentence)
            return refusal(sentence);
        group_set_limit(g, (uint64_t)json_integer_value(bytes));
        stir(c->w, g);
    }
    return report_limit(c->w, g);
}

#define RECLAIM_TIME_NS 20000000000u /* below pagerctl's patience; it asks again for the rest */
#define RECLAIM_POLL_NS 5000000u     /* a client that is held, or adopted by slices */

/* What is adopted already goes first; what was just changing is left alone by one round. */
#define RECLAIM_ADOPT_ROUNDS 3

/*
 * {"cmd":"reclaim","target":T,"bytes":N}: without bytes all.  Answered by control_run_requests().
 */
static json_t *reclaim(struct control *c, json_t *request)
{
    json_t *bytes = json_object_get(request, "bytes");
    uint64_t most = UINT64_MAX;
    struct wclient *only;
    struct group *g;
    json_t *wrong = find_target(c, request, &g, &only);

    if (wrong)
        return wrong;
    if (bytes && (!json_is_integer(bytes) || json_integer_value(bytes) < 0))
        return refusal("\"bytes\" is a number of bytes");
    if (bytes)
        most = (uint64_t)json_integer_value(bytes);
    if (c->reclaim.group)
        return refusal("this connection has a reclaim under way; wait for its answer");
    measure_all(c->w);
    if (reclaim_request_start(&c->reclaim, g, only ? &only->c : NULL, most) < 0)
        return refusal("a reclaim of this group is under way; try again when it has ended");
    c->reclaim_deadline_ns = now_ns() + RECLAIM_TIME_NS;
    c->nr_adopt_rounds = 0;
    return NULL;
}

static void adopt_all(struct control *c)
{
    struct client *client;

    c->nr_adopt_rounds++;
    stir(c->w, c->reclaim.group);
    list_for_each_entry(client, &c->w->domain.clients, link)
        if (client->request == &c->reclaim && wclient_of(client)->ring)
            wclient_of(client)->adopt_wanted = true;
}

/* Is there a client whose mappings are still looked at? */
static bool is_adopting(const struct worker *w, const struct reclaim_request *r)
{
    struct client *client;

    list_for_each_entry(client, &w->domain.clients, link)
        if (client->request == r && wclient_of(client)->adopt_wanted)
            return true;
    return false;
}

/* NULL: not yet. */
static json_t *reclaim_answer(struct control *c)
{
    struct worker *w = c->w;
    bool late = now_ns() >= c->reclaim_deadline_ns;
    enum reclaim_outcome o = RECLAIM_UNDER_WAY;
    json_t *json;

    if (!w->check_wanted) /* which waits for captures to end */
        o = reclaim_request_progress(&c->reclaim);
    if (o != RECLAIM_DONE && o != RECLAIM_UNDER_WAY && !late && !is_adopting(w, &c->reclaim) &&
        c->nr_adopt_rounds < RECLAIM_ADOPT_ROUNDS)
        adopt_all(c);
    if (o != RECLAIM_DONE && !late && (o == RECLAIM_UNDER_WAY || is_adopting(w, &c->reclaim))) {
        bool at_once = c->reclaim.again && !w->check_wanted;
        w->next_housekeeping_ns =
            MIN(w->next_housekeeping_ns, at_once ? 0 : now_ns() + RECLAIM_POLL_NS);
        return NULL;
    }
    measure_all(w);
    json = report_reclaim(&c->reclaim, o);
    reclaim_request_end(&c->reclaim);
    return json;
}

static json_t *answer(struct control *c, const char *text, size_t len)
{
    json_error_t error;
    json_t *request = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    const char *cmd = json_string_value(json_object_get(request, "cmd"));
    json_t *json;

    if (!cmd)
        json = refusal("a request is one JSON object with a \"cmd\"");
    else if (!strcmp(cmd, "group"))
        json = make_group(c, request);
    else if (!strcmp(cmd, "group-stats"))
        json = group_stats(c, request);
    else if (!strcmp(cmd, "status"))
        json = report_status(c->w);
    else if (!strcmp(cmd, "clients"))
        json = report_clients(c->w);
    else if (!strcmp(cmd, "stat"))
        json = report_stat(c->w);
    else if (!strcmp(cmd, "nodes"))
        json = report_nodes(c->w);
    else if (!strcmp(cmd, "limit"))
        json = limit(c, request);
    else if (!strcmp(cmd, "reclaim"))
        json = reclaim(c, request);
    else if (!strcmp(cmd, "check")) {
        /* Answered once no capture is under way: see run_checks(). */
        c->check_wanted = c->w->check_wanted = true;
        json = NULL;
    } else
        json = refusal("there is no such command; this pagerd knows group, group-stats, limit, "
                       "reclaim, status, clients, stat, nodes and check");
    json_decref(request);
    return json;
}

static void control_ready(struct source *s)
{
    struct control *c = container_of(s, struct control, source);
    static char text[REQUEST_MAX + 1];
    ssize_t n;

    for (unsigned nr = 0; nr < REQUESTS; nr++) {
        if (!flush(c)) {
            control_end(c);
            return;
        }
        n = recv(s->fd, text, sizeof(text), MSG_DONTWAIT | MSG_TRUNC);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            control_end(c);
            return;
        }
        json_t *json = n > REQUEST_MAX ? refusal("a request is at most 64 KiB long")
                                       : answer(c, text, (size_t)n);
        if (json && !reply(c, json)) {
            control_end(c);
            return;
        }
    }
    source_again(c->w->reactor, s);
}

void control_open(struct worker *w, int fd)
{
    struct control *c = w->nr_controls < CONTROLS_MAX ? calloc(1, sizeof(*c)) : NULL;

    if (!c) { /* the peer sees its connection end */
        log_warning("a control connection is refused: there are %u", w->nr_controls);
        fd_close(fd);
        w->nr_ended++;
        return;
    }
    c->w = w;
    w->nr_controls++;
    list_add_tail(&c->link, &w->controls);
    source_add(w->reactor, &c->source, fd, control_ready, control_released);
}

void control_flush_all(struct worker *w)
{
    struct control *c;

    list_for_each_entry(c, &w->controls, link)
        (void)flush(c);
}

/* Meanwhile nothing is taken out of anybody: not for as long as one is stopped or frozen. */
static json_t *too_late(const struct wclient *wc)
{
    char sentence[160];

    snprintf(sentence, sizeof(sentence),
             "the agent of pid %d (%s) is at work and does not end; is the program stopped or "
             "frozen?  try again when it runs", wc->program_pid, wc->comm);
    return refusal(sentence);
}

static void run_checks(struct worker *w)
{
    const struct wclient *late = NULL;
    uint64_t now = now_ns();
    struct client *client;
    struct control *c, *n;

    if (!w->check_wanted)
        return;
    list_for_each_entry(client, &w->domain.clients, link) {
        if (!migrate_is_capturing(&client->mm))
            continue;
        late = wclient_of(client);
        if (now <= late->posted_ns + CHECK_TIME_NS)
            return; /* its end is a turn, after which we are asked again */
    }
    w->check_wanted = false;
    list_for_each_entry_safe(c, n, &w->controls, link) {
        if (!c->check_wanted)
            continue;
        c->check_wanted = false;
        if (!reply(c, late ? too_late(late) : report_check(w)))
            control_end(c);
    }
}

static void run_reclaims(struct worker *w)
{
    struct control *c, *n;
    json_t *json;

    list_for_each_entry_safe(c, n, &w->controls, link)
        if (c->reclaim.group && (json = reclaim_answer(c)) && !reply(c, json))
            control_end(c);
}

/*
 * An answer may be longer than what the socket holds.  The reactor wakes for what comes in only:
 * whether the peer has read is looked at by the clock.
 */
static void send_the_rest(struct worker *w)
{
    struct control *c, *n;

    list_for_each_entry_safe(c, n, &w->controls, link) {
        if (!c->out_len)
            continue;
        if (!flush(c))
            control_end(c);
        else if (c->out_len)
            w->next_housekeeping_ns = MIN(w->next_housekeeping_ns, now_ns() + FLUSH_POLL_NS);
    }
}

void control_run_requests(struct worker *w)
{
    run_checks(w);
    run_reclaims(w);
    send_the_rest(w);
}
