/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `pagerctl limit|reclaim`: what a group may keep resident, and what it shall give up
 * now.  Both name it by itself or by the pid of one of its programs.
 */
#define _GNU_SOURCE 1
#include <string.h>

#include "ctl/ctl.h"
#include "ctl/show.h"

static const struct column limit_columns[] = {
    {"GROUP", COLUMN_TEXT, "group", "its name"},
    {"LIMIT", COLUMN_BYTES, "limit_bytes", "what it may keep resident, or none"},
    {"USED", COLUMN_BYTES, "resident_bytes", "resident memory of all its programs"},
    {"PEAK", COLUMN_BYTES, "resident_peak_bytes", "the most that was ever resident"},
    {"NOTE", COLUMN_TEXT, "note", "what else is to be said of it"},
};

static const struct column reclaim_columns[] = {
    {"GROUP", COLUMN_TEXT, "group", "its name"},
    {"MOVED", COLUMN_BYTES, "moved_bytes", "how much left"},
    {"USED", COLUMN_BYTES, "resident_bytes", "resident memory of all its programs afterwards"},
    {"NOTE", COLUMN_TEXT, "note", "why it was not more"},
};

/* The operands TARGET [SIZE]. */
static int target_request(const struct ctl_command *self, char **operands, json_t **ret,
                          struct complaint *why)
{
    if (!operands[0] || !*operands[0])
        return complain(why, -EINVAL,
                        "which group? `pagerctl %s GROUP` or the PID of one of its programs; "
                        "`pagerctl status` lists them", self->name);
    if (operands[1] && operands[2])
        return complain(why, -EINVAL, "'%s' is one word too many: use `pagerctl %s %s`",
                        operands[2], self->name, self->usage);
    *ret = json_pack("{s:s, s:s}", "cmd", self->name, "target", operands[0]);
    return *ret ? 0 : complain(why, -EINVAL, "the name of the group is no valid text");
}

static int parse_bytes(const char *text, const char *what, uint64_t *ret, struct complaint *why)
{
    if (parse_size(text, ret) || *ret > INT64_MAX)
        return complain(why, -EINVAL, "'%s' is not a size: give %s", text, what);
    return 0;
}

static int limit_request(const struct ctl_command *self, char **operands, json_t **ret,
                         struct complaint *why)
{
    static const char what[] = "a number of bytes, or one with K, M, G or T, or none";
    uint64_t bytes = 0;
    int err;

    err = target_request(self, operands, ret, why);
    if (err || !operands[1])
        return err;
    if (strcmp(operands[1], "none")) {
        err = parse_bytes(operands[1], what, &bytes, why);
        if (!err && !bytes)
            err = complain(why, -EINVAL, "a limit of 0 cannot be kept: `none` removes the limit");
    }
    if (err)
        json_decref(*ret);
    else
        json_object_set_new(*ret, "limit_bytes", json_integer((json_int_t)bytes));
    return err;
}

static int reclaim_request(const struct ctl_command *self, char **operands, json_t **ret,
                           struct complaint *why)
{
    uint64_t bytes = 0;
    int err;

    err = target_request(self, operands, ret, why);
    if (err || !operands[1])
        return err;
    err = parse_bytes(operands[1], "a number of bytes, or one with K, M, G or T", &bytes, why);
    if (err)
        json_decref(*ret);
    else
        json_object_set_new(*ret, "bytes", json_integer((json_int_t)bytes));
    return err;
}

static json_int_t number(const json_t *reply, const char *key)
{
    return json_integer_value(json_object_get(reply, key));
}

/*
 * The daemon answers after a while at the latest: as long as something leaves, asks for the rest.
 */
static int reclaim_ask(struct link *l, json_t *request, json_t **ret_reply, struct complaint *why)
{
    json_int_t moved = 0, wanted = -1, now;
    json_t *reply;
    int err;

    do {
        err = link_ask(l, json_incref(request), &reply, why);
        if (err)
            break;
        now = number(reply, "moved_bytes");
        moved += now;
        if (wanted < 0)
            wanted = number(reply, "wanted_bytes");
        json_object_set_new(reply, "moved_bytes", json_integer(moved));
        json_object_set_new(reply, "wanted_bytes", json_integer(wanted));
        json_object_set_new(request, "bytes", json_integer(wanted > moved ? wanted - moved : 0));
        if (!json_is_true(json_object_get(reply, "timed_out")) || !now || moved >= wanted)
            break;
        json_decref(reply);
    } while (true);
    json_decref(request);
    if (!err)
        *ret_reply = reply;
    return err;
}

/* One row; no limit is "none". */
static json_t *one_row(const json_t *reply)
{
    json_t *row = json_copy((json_t *)reply), *limit = json_object_get(row, "limit_bytes");

    if (limit && !json_integer_value(limit))
        json_object_set_new(row, "limit_bytes", json_string("none"));
    return json_pack("[o]", row);
}

static const struct view limit_view = {
    .columns = limit_columns,
    .nr_columns = ARRAY_SIZE(limit_columns),
    .request = limit_request,
    .rows = one_row,
};
static const struct view reclaim_view = {
    .columns = reclaim_columns,
    .nr_columns = ARRAY_SIZE(reclaim_columns),
    .request = reclaim_request,
    .ask = reclaim_ask,
    .rows = one_row,
};

int ctl_limit(const struct ctl_command *self, int argc, char **argv)
{
    json_t *reply;
    int status = show(self, &limit_view, argc, argv, &reply);

    json_decref(reply);
    return status;
}

int ctl_reclaim(const struct ctl_command *self, int argc, char **argv)
{
    json_t *reply;
    int status = show(self, &reclaim_view, argc, argv, &reply);

    json_decref(reply);
    return status;
}
