/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_CTL_H
#define PAGERD_CTL_H
/*
 * ctl: the command pagerctl.  The topmost room: nobody includes this but its
 * own files.  Here: what they share, the sentence that says what is wrong, and
 * the option tables that feed getopt_long(3) and --help alike.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/base.h"

/* Exit statuses. */
#define CTL_OK 0
#define CTL_NOT_SO 1        /* `check`: an invariant does not hold */
#define CTL_FAILED 2        /* all but run: bad use, or no answer */
#define CTL_RUN_FAILED 125  /* run: not started, for a reason of pagerctl's own */
#define CTL_RUN_CANNOT 126  /* run: PROGRAM is there but cannot be executed */
#define CTL_RUN_NOT_FOUND 127

/* One sentence with cause and remedy, for the user. */
struct complaint {
    char text[640];
};

/* Fills *why and returns err (a negative errno), for `return complain(why, -EINVAL, ...)`. */
int complain(struct complaint *why, int err, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* "pagerctl: SENTENCE" on standard error. */
void say(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* One option of a subcommand; the array ends with an all-zero entry. */
struct ctl_option {
    const char *name; /* long name, without dashes */
    const char *arg;  /* name of its argument, NULL: none */
    int id;           /* what ctl_getopt() returns; a letter is a short option too */
    const char *help;
};

/* As getopt_long(3), stopping at the first operand; '?' after having complained. */
int ctl_getopt(int argc, char **argv, const struct ctl_option *options);
void ctl_print_options(FILE *out, const struct ctl_option *options);

struct ctl_command {
    const char *name;
    const char *summary; /* one line of `pagerctl --help` */
    const char *usage;   /* what follows the name */
    int (*main)(const struct ctl_command *self, int argc, char **argv);
};

int ctl_run(const struct ctl_command *self, int argc, char **argv);
int ctl_status(const struct ctl_command *self, int argc, char **argv);
int ctl_clients(const struct ctl_command *self, int argc, char **argv);
int ctl_stat(const struct ctl_command *self, int argc, char **argv);
int ctl_nodes(const struct ctl_command *self, int argc, char **argv);
int ctl_limit(const struct ctl_command *self, int argc, char **argv);
int ctl_reclaim(const struct ctl_command *self, int argc, char **argv);
int ctl_check(const struct ctl_command *self, int argc, char **argv);

#endif
