/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One question to the daemon, its answer as a table or as JSON; and the questions
 * that have no operands: `pagerctl status|clients|stat|nodes|check`.
 */
#define _GNU_SOURCE 1
#include <string.h>

#include "ctl/ctl.h"
#include "ctl/link.h"
#include "ctl/show.h"

enum { OPT_SOCKET = 256, OPT_JSON, OPT_OUTPUT, OPT_NOHEADINGS, OPT_BYTES };

static const struct ctl_option options[] = {
    {"socket", "PATH", OPT_SOCKET, "ask the daemon at PATH"},
    {"json", NULL, OPT_JSON, "print the whole answer as JSON"},
    {"output", "COLUMNS", OPT_OUTPUT, "print these columns only (names with commas between)"},
    {"noheadings", NULL, OPT_NOHEADINGS, "print no headings"},
    {"bytes", NULL, OPT_BYTES, "print sizes as plain numbers"},
    {"help", NULL, 'h', "show this"},
    {0},
};

static const struct column status_columns[] = {
    {"PID", COLUMN_COUNT, "pid", "process"},
    {"COMMAND", COLUMN_TEXT, "comm", "its name"},
    {"GROUP", COLUMN_TEXT, "group", "the group whose limit it shares"},
    {"STATE", COLUMN_TEXT, "state", "managed; or served-only: nothing more is moved out"},
    {"RESIDENT", COLUMN_BYTES, "resident_bytes", "its anonymous memory that is resident"},
    {"OUT", COLUMN_BYTES, "out_bytes", "moved out"},
    {"REGISTERED", COLUMN_BYTES, "registered_bytes", "address space whose faults come to pagerd"},
    {"LIMIT", COLUMN_BYTES, "limit_bytes", "the group's limit"},
    {"USED", COLUMN_BYTES, "group_resident_bytes", "resident memory of the whole group"},
    {"PEAK", COLUMN_BYTES, "group_resident_peak_bytes", "the most that was ever resident in it"},
    {"NOTE", COLUMN_TEXT, "note", "what else is to be said of it"},
};

static const struct column client_columns[] = {
    {"PID", COLUMN_COUNT, "pid", "process"},
    {"COMMAND", COLUMN_TEXT, "comm", "its name"},
    {"GROUP", COLUMN_TEXT, "group", "the group whose limit it shares"},
    {"STATE", COLUMN_TEXT, "state", "managed; or served-only: nothing more is moved out"},
    {"RESIDENT", COLUMN_BYTES, "resident_bytes", "its anonymous memory that is resident"},
    {"OUT", COLUMN_BYTES, "out_bytes", "moved out: the sum of the next three"},
    {"RAM", COLUMN_BYTES, "ram_bytes", "to node ram; shared frames count for each"},
    {"FILE", COLUMN_BYTES, "file_bytes", "to node file"},
    {"ZERO", COLUMN_BYTES, "zero_bytes", "all zeros, held nowhere"},
    {"REGISTERED", COLUMN_BYTES, "registered_bytes", "address space whose faults come to pagerd"},
    {"UNPAGEABLE", COLUMN_BYTES, "unpageable_bytes", "address space that is never moved out"},
    {"SHARED", COLUMN_BYTES, "shared", "of it: shared mappings"},
    {"DATA", COLUMN_BYTES, "file", "of it: private mappings of files"},
    {"LOCKED", COLUMN_BYTES, "locked", "of it: locked"},
    {"STACK", COLUMN_BYTES, "stack", "of it: stacks"},
    {"NOFORK", COLUMN_BYTES, "nofork", "of it: kept from children or wiped in them"},
    {"FOREIGN", COLUMN_BYTES, "foreign", "of it: registered with another userfaultfd"},
    {"READONLY", COLUMN_BYTES, "readonly", "of it: cannot be written"},
    {"EXEC", COLUMN_BYTES, "exec", "of it: code"},
    {"OTHER", COLUMN_BYTES, "other", "of it: hugetlbfs, devices and the like"},
    {"NOTE", COLUMN_TEXT, "note", "what else is to be said of it"},
};

static const struct column stat_columns[] = {
    {"NAME", COLUMN_TEXT, "name", "the counter, by the kernel's name where it has one"},
    {"VALUE", COLUMN_NAMED, "value", "its value since the daemon's start"},
};

static const struct column node_columns[] = {
    {"NODE", COLUMN_COUNT, "node", "number; 0 is the programs' own memory"},
    {"TYPE", COLUMN_TEXT, "type", "resident, ram or file"},
    {"SIZE", COLUMN_BYTES, "size_bytes", "how much it can hold"},
    {"USED", COLUMN_BYTES, "used_bytes", "how much it holds"},
    {"FREE", COLUMN_BYTES, "free_bytes", "what is left"},
    {"NOTE", COLUMN_TEXT, "note", "why it is missing"},
};

static const struct column check_columns[] = {
    {"NAME", COLUMN_TEXT, "name", "what was counted"},
    {"VALUE", COLUMN_COUNT, "value", "how many there are"},
};

/* What a client's row shows of its group. */
static json_t *group_cells(const json_t *group)
{
    return json_pack("{s:O*, s:O*, s:O*, s:O*}",
                     "group", json_object_get(group, "group"),
                     "limit_bytes", json_object_get(group, "limit_bytes"),
                     "group_resident_bytes", json_object_get(group, "resident_bytes"),
                     "group_resident_peak_bytes", json_object_get(group, "resident_peak_bytes"));
}

/* One row a client, and one for each group that has none. */
static json_t *status_rows(const json_t *reply)
{
    json_t *unseen = json_object(), *by_name = json_object(), *rows = json_array();
    const json_t *client, *group;
    const char *name;
    json_t *cells;
    size_t i;

    json_array_foreach (json_object_get(reply, "groups"), i, group) {
        name = json_string_value(json_object_get(group, "group"));
        if (name)
            json_object_set_new(by_name, name, group_cells(group));
    }
    json_object_update(unseen, by_name);
    json_array_foreach (json_object_get(reply, "clients"), i, client) {
        json_t *row = json_copy((json_t *)client);

        name = json_string_value(json_object_get(client, "group"));
        cells = name ? json_object_get(by_name, name) : NULL;
        if (cells) {
            json_object_update_missing(row, cells);
            json_object_del(unseen, name);
        }
        json_array_append_new(rows, row);
    }
    json_object_foreach (unseen, name, cells)
        json_array_append(rows, cells);
    json_decref(unseen);
    json_decref(by_name);
    return rows;
}

static json_t *client_rows(const json_t *reply)
{
    json_t *rows = json_array();
    const json_t *client;
    size_t i;

    json_array_foreach (json_object_get(reply, "clients"), i, client) {
        json_t *row = json_copy((json_t *)client);
        json_t *reasons = json_object_get(client, "unpageable_bytes_by_reason");

        if (json_is_object(reasons))
            json_object_update_missing(row, reasons);
        json_array_append_new(rows, row);
    }
    return rows;
}

/* Nested objects become dotted names. */
static void flatten(json_t *rows, const char *prefix, const json_t *object)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)object, key, value) {
        char name[128];

        snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix ? "." : "", key);
        if (json_is_object(value))
            flatten(rows, name, value);
        else if (!json_is_array(value))
            json_array_append_new(rows, json_pack("{s:s, s:O}", "name", name, "value", value));
    }
}

static json_t *stat_rows(const json_t *reply)
{
    json_t *rows = json_array();

    flatten(rows, "", json_object_get(reply, "stats"));
    return rows;
}

static json_t *node_rows(const json_t *reply)
{
    json_t *nodes = json_object_get(reply, "nodes");

    return json_is_array(nodes) ? json_incref(nodes) : json_array();
}

static json_t *check_rows(const json_t *reply)
{
    json_t *rows = json_array();

    flatten(rows, "", reply);
    for (size_t i = json_array_size(rows); i-- > 0;)
        if (json_is_boolean(json_object_get(json_array_get(rows, i), "value")))
            json_array_remove(rows, i); /* the verdict: print_verdict() says it */
    return rows;
}

static const struct view status_view = {
    .columns = status_columns,
    .nr_columns = ARRAY_SIZE(status_columns),
    .rows = status_rows,
};
static const struct view clients_view = {
    .columns = client_columns,
    .nr_columns = ARRAY_SIZE(client_columns),
    .by_default = "PID,COMMAND,GROUP,STATE,RESIDENT,OUT,RAM,FILE,ZERO,REGISTERED,UNPAGEABLE,NOTE",
    .rows = client_rows,
    .json_part = "clients",
};
static const struct view stat_view = {
    .columns = stat_columns,
    .nr_columns = ARRAY_SIZE(stat_columns),
    .rows = stat_rows,
    .json_part = "stats",
};
static const struct view nodes_view = {
    .columns = node_columns,
    .nr_columns = ARRAY_SIZE(node_columns),
    .rows = node_rows,
    .json_part = "nodes",
};
static const struct view check_view = {
    .columns = check_columns,
    .nr_columns = ARRAY_SIZE(check_columns),
    .rows = check_rows,
};

struct request {
    const char *socket_option;
    bool json, help;
    struct table_style style;
};

static int parse(struct request *r, int argc, char **argv)
{
    for (int c; (c = ctl_getopt(argc, argv, options)) != -1;) {
        switch (c) {
        case OPT_SOCKET:
            r->socket_option = optarg;
            break;
        case OPT_JSON:
            r->json = true;
            break;
        case OPT_OUTPUT:
            r->style.output = optarg;
            break;
        case OPT_NOHEADINGS:
            r->style.noheadings = true;
            break;
        case OPT_BYTES:
            r->style.bytes = true;
            break;
        case 'h':
            r->help = true;
            return 0;
        default:
            return -EINVAL;
        }
    }
    return 0;
}

/* What is asked when there are no operands. */
static int plain_request(const struct ctl_command *self, char **operands, json_t **ret,
                         struct complaint *why)
{
    if (*operands)
        return complain(why, -EINVAL, "'%s' is one word too many: this command takes options only",
                        *operands);
    *ret = json_pack("{s:s}", "cmd", self->name);
    return 0;
}

static void print_help(const struct ctl_command *self, const struct view *view)
{
    printf("Usage: pagerctl %s %s\n%c%s.\n\nOptions:\n", self->name, self->usage,
           self->summary[0] - 'a' + 'A', self->summary + 1);
    ctl_print_options(stdout, options);
    puts("\nColumns:");
    table_print_columns(stdout, view->columns, view->nr_columns);
    if (view->by_default)
        printf("\nWithout --output: %s\n", view->by_default);
}

static int print_json(const json_t *reply, const char *part)
{
    const json_t *what = part ? json_object_get(reply, part) : reply;

    if (!what || json_dumpf(what, stdout, JSON_INDENT(2)))
        return -EPROTO;
    putchar('\n');
    return 0;
}

int show(const struct ctl_command *self, const struct view *view, int argc, char **argv,
         json_t **ret_reply)
{
    struct request r = {.style.output = view->by_default};
    unsigned unused[32];
    struct complaint why;
    struct link link;
    json_t *request = NULL, *reply = NULL, *rows;
    int err;

    *ret_reply = NULL;
    if (parse(&r, argc, argv)) {
        say("`pagerctl %s --help` lists the options", self->name);
        return CTL_FAILED;
    }
    if (r.help) {
        print_help(self, view);
        return CTL_OK;
    }
    err = table_choose(r.style.output, view->columns, view->nr_columns, unused, ARRAY_SIZE(unused),
                       &why);
    if (err >= 0)
        err = (view->request ? view->request : plain_request)(self, argv + optind, &request, &why);
    if (!err) {
        err = link_open_default(r.socket_option, &link, &why);
        if (err)
            json_decref(request);
    }
    if (!err) {
        err = (view->ask ? view->ask : link_ask)(&link, request, &reply, &why);
        link_close(&link);
    }
    if (!err && r.json) {
        if (print_json(reply, view->json_part))
            err = complain(&why, -EPROTO, "pagerd's answer lacks '%s': use a pagerctl of the same "
                           "version", view->json_part);
    } else if (!err) {
        rows = view->rows(reply);
        err = table_print(stdout, view->columns, view->nr_columns, rows, &r.style, &why);
        json_decref(rows);
    }
    if (!err && fflush(stdout))
        err = complain(&why, -errno, "cannot write to standard output: %s", strerror(errno));
    if (err) {
        json_decref(reply);
        say("%s", why.text);
        return CTL_FAILED;
    }
    *ret_reply = reply;
    return CTL_OK;
}

static int show_and_forget(const struct ctl_command *self, const struct view *view, int argc,
                           char **argv)
{
    json_t *reply;
    int status = show(self, view, argc, argv, &reply);

    json_decref(reply);
    return status;
}

int ctl_status(const struct ctl_command *self, int argc, char **argv)
{
    return show_and_forget(self, &status_view, argc, argv);
}

int ctl_clients(const struct ctl_command *self, int argc, char **argv)
{
    return show_and_forget(self, &clients_view, argc, argv);
}

int ctl_stat(const struct ctl_command *self, int argc, char **argv)
{
    return show_and_forget(self, &stat_view, argc, argv);
}

int ctl_nodes(const struct ctl_command *self, int argc, char **argv)
{
    return show_and_forget(self, &nodes_view, argc, argv);
}

int ctl_check(const struct ctl_command *self, int argc, char **argv)
{
    json_t *reply, *violation;
    size_t i;
    int status = show(self, &check_view, argc, argv, &reply);

    if (status == CTL_OK && reply && !json_is_true(json_object_get(reply, "holds"))) {
        status = CTL_NOT_SO;
        json_array_foreach (json_object_get(reply, "violations"), i, violation)
            say("does not hold: %s", json_string_value(violation));
        if (!i)
            say("does not hold, and the daemon does not say what: look at its log");
    }
    json_decref(reply);
    return status;
}
