/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_CTL_SHOW_H
#define PAGERD_CTL_SHOW_H
/*
 * show: a command that asks the daemon one thing and prints the answer, as a table or
 * as JSON.  All of them have the same options.
 */
#include <jansson.h>

#include "ctl/ctl.h"
#include "ctl/link.h"
#include "ctl/table.h"

struct view {
    const struct column *columns;
    size_t nr_columns;
    const char *by_default; /* columns without --output; NULL: all */
    /*
     * What is asked for these operands (NULL-terminated), as a new reference; or -EINVAL.
     * NULL: no operands are taken, and the command's name is the request's.
     */
    int (*request)(const struct ctl_command *self, char **operands, json_t **ret,
                   struct complaint *why);
    /* Asks it, in the place of link_ask(); steals `request`.  NULL: link_ask(). */
    int (*ask)(struct link *l, json_t *request, json_t **ret_reply, struct complaint *why);
    /* Turns the reply into rows; new reference. */
    json_t *(*rows)(const json_t *reply);
    const char *json_part; /* --json prints this member; NULL: everything */
};

/* The exit status; and the reply (a new reference) when it was shown, else NULL. */
int show(const struct ctl_command *self, const struct view *view, int argc, char **argv,
         json_t **ret_reply);

#endif
