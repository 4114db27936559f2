/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `pagerctl run`: checks everything that can be told beforehand, gets a group
 * with the limit from a daemon, and runs the program under the preload
 * library.  A sentence and status 125 for each reason not to; with --optional
 * the sentence is a warning and the program runs unpaged.
 */
#define _GNU_SOURCE 1
#include <inttypes.h>
#include <string.h>

#include "ctl/ctl.h"
#include "ctl/job.h"
#include "ctl/link.h"
#include "ctl/private.h"
#include "ctl/program.h"
#include "ctl/statsfile.h"
#include "proto/proto.h"

#define LIMIT_MIN ((uint64_t)8 << 20)

enum { OPT_LIMIT = 256, OPT_STATS, OPT_SOCKET, OPT_OPTIONAL };

static const struct ctl_option options[] = {
    {"limit", "SIZE", OPT_LIMIT, "keep the program's memory below SIZE (K, M, G, T; from 8M on)"},
    {"stats", "FILE", OPT_STATS, "write the counters to FILE as JSON when the program has ended"},
    {"socket", "PATH", OPT_SOCKET, "use the daemon at PATH, and no other"},
    {"optional", NULL, OPT_OPTIONAL, "if it cannot be paged, warn and run it all the same"},
    {"help", NULL, 'h', "show this"},
    {0},
};

struct run {
    const char *limit_text, *stats_name, *socket_option;
    bool optional;
    char **argv;

    uint64_t limit_bytes;
    char preload[PATH_MAX];
    struct statsfile stats;
    struct link link;
    struct private_daemon daemon;
    char group[PROTO_GROUP_LEN];
};

static void print_help(const struct ctl_command *self)
{
    printf("Usage: pagerctl %s %s\n%s.\n\nOptions:\n", self->name, self->usage,
           "Run PROGRAM with a limit on its resident memory; the rest is moved out to pagerd");
    ctl_print_options(stdout, options);
    puts("\nWithout --socket, PAGERD_SOCKET names the daemon; without both, the user's or the\n"
         "system's daemon is asked, and when neither answers a private one is started.\n"
         "Exit status: PROGRAM's own; 125 not started, 126 not executable, 127 not found.");
}

/* What is wrong with the request or the program.  Only here are 126 and 127 told apart. */
static int check_request(struct run *run, int *ret_status, struct complaint *why)
{
    char path[PATH_MAX];
    int err;

    *ret_status = CTL_RUN_FAILED;
    err = program_find(run->argv[0], path, why);
    if (err) {
        *ret_status = err == -ENOENT ? CTL_RUN_NOT_FOUND : CTL_RUN_CANNOT;
        return err;
    }
    err = parse_size(run->limit_text, &run->limit_bytes);
    if (err)
        return complain(why, err,
                        "--limit=%s is not a size: give a number of bytes, or one with K, M, G or "
                        "T, such as 96M",
                        run->limit_text);
    if (run->limit_bytes < LIMIT_MIN)
        return complain(why, -ERANGE,
                        "--limit=%s is below 8M, the least that a program can run in: give more",
                        run->limit_text);
    err = program_check(path, why);
    if (err)
        return err;
    err = part_find(PART_PRELOAD, run->preload, why);
    if (err)
        return err;
    /* Both separate the entries of LD_PRELOAD, and nothing quotes them. */
    if (strpbrk(run->preload, " :"))
        return complain(why, -EINVAL,
                        "the path of the preload library, %s, has a space or a colon in it, which "
                        "LD_PRELOAD cannot express: move it, or set PAGERD_PRELOAD",
                        run->preload);
    return 0;
}

static int connect_daemon(struct run *run, struct complaint *why)
{
    struct link_places places;
    int err;

    err = link_places(run->socket_option, getenv("PAGERD_SOCKET"), getenv("XDG_RUNTIME_DIR"),
                      geteuid() == 0, &places, why);
    if (err)
        return err;
    err = link_open(&places, &run->link, why);
    if (err != -ENOENT || places.chosen)
        return err;
    err = private_start(&run->daemon, why);
    if (err)
        return err;
    places = (struct link_places){.nr = 1, .chosen = true};
    strcpy(places.path[0], run->daemon.socket);
    return link_open(&places, &run->link, why);
}

static int ask_group(struct run *run, struct complaint *why)
{
    json_t *reply;
    const char *group;
    int err;

    err = link_ask(&run->link,
                   json_pack("{s:s, s:I}", "cmd", "group", "limit_bytes",
                             (json_int_t)run->limit_bytes),
                   &reply, why);
    if (err)
        return err;
    group = json_string_value(json_object_get(reply, "group"));
    if (group && *group && strlen(group) < sizeof(run->group))
        strcpy(run->group, group);
    else
        err = complain(why, -EPROTO,
                       "pagerd at %s names no group: use a pagerctl of the same version",
                       run->link.path);
    json_decref(reply);
    return err;
}

static int set_environment(const struct run *run)
{
    const char *others = getenv("LD_PRELOAD");
    size_t len = strlen(run->preload);
    _cleanup_free_ char *preload = NULL;

    if (others && !strncmp(others, run->preload, len) && strchr(" :", others[len])) {
        preload = strdup(others); /* started by a program that we run already */
    } else if (asprintf(&preload, "%s%s%s", run->preload, others && *others ? ":" : "",
                        others ? others : "") < 0) {
        preload = NULL;
    }
    if (!preload || setenv("LD_PRELOAD", preload, 1) ||
        setenv("PAGERD_SOCKET", run->link.path, 1) || setenv("PAGERD_GROUP", run->group, 1))
        return -ENOMEM;
    return 0;
}

static void write_stats(struct run *run)
{
    struct complaint why;
    json_t *reply = NULL, *stats;
    char *text = NULL;
    int err;

    err = link_ask(&run->link,
                   json_pack("{s:s, s:s}", "cmd", "group-stats", "group", run->group), &reply,
                   &why);
    if (!err) {
        stats = json_object_get(reply, "stats");
        text = stats ? json_dumps(stats, JSON_INDENT(2)) : NULL;
        if (!text)
            err = complain(&why, -EPROTO, "pagerd at %s sent no statistics", run->link.path);
    }
    if (!err)
        err = statsfile_write(&run->stats, text, &why);
    free(text);
    json_decref(reply);
    if (err)
        say("%s", why.text);
}

static int exec_failed(const char *program, int err)
{
    say("cannot execute %s: %s", program, strerror(-err));
    switch (err) {
    case -ENOENT:
        return CTL_RUN_NOT_FOUND;
    case -EAGAIN: /* of the fork */
    case -ENOMEM:
        return CTL_RUN_FAILED;
    default:
        return CTL_RUN_CANNOT;
    }
}

static int run_unpaged(struct run *run)
{
    unsetenv("PAGERD_SOCKET");
    unsetenv("PAGERD_GROUP");
    execvp(run->argv[0], run->argv);
    return exec_failed(run->argv[0], -errno);
}

static void leave_daemon(struct run *run)
{
    link_close(&run->link);
    private_leave(&run->daemon);
}

/* Everything up to the start.  On failure nothing is left behind. */
static int prepare(struct run *run, int *ret_status, struct complaint *why)
{
    int err;

    err = check_request(run, ret_status, why);
    if (err)
        return err;
    err = connect_daemon(run, why);
    if (!err)
        err = ask_group(run, why);
    if (!err && set_environment(run))
        err = complain(why, -ENOMEM, "out of memory");
    if (err)
        leave_daemon(run);
    return err;
}

static int run_paged(struct run *run)
{
    struct job job;
    int err, status;

    err = job_run(run->argv, &job);
    if (err) {
        status = exec_failed(run->argv[0], err);
        leave_daemon(run);
        return status;
    }
    if (run->stats_name)
        write_stats(run);
    leave_daemon(run);
    job_end_alike(&job);
}

/* 0: go on; 1: end with *ret_status. */
static int parse(struct run *run, const struct ctl_command *self, int argc, char **argv,
                 int *ret_status)
{
    *ret_status = CTL_RUN_FAILED;
    for (int c; (c = ctl_getopt(argc, argv, options)) != -1;) {
        switch (c) {
        case OPT_LIMIT:
            run->limit_text = optarg;
            break;
        case OPT_STATS:
            run->stats_name = optarg;
            break;
        case OPT_SOCKET:
            run->socket_option = optarg;
            break;
        case OPT_OPTIONAL:
            run->optional = true;
            break;
        case 'h':
            print_help(self);
            *ret_status = CTL_OK;
            return 1;
        default:
            say("`pagerctl run --help` lists the options");
            return 1;
        }
    }
    if (optind >= argc) {
        say("no program is given: use `pagerctl run --limit=SIZE -- PROGRAM [ARG...]`");
        return 1;
    }
    if (!run->limit_text) {
        say("no limit is given: use `pagerctl run --limit=SIZE -- PROGRAM [ARG...]`");
        return 1;
    }
    run->argv = argv + optind;
    return 0;
}

int ctl_run(const struct ctl_command *self, int argc, char **argv)
{
    struct run run = {.link.fd = -1};
    struct complaint why;
    int err, status;

    if (parse(&run, self, argc, argv, &status))
        return status;
    if (run.stats_name && statsfile_prepare(run.stats_name, &run.stats, &why)) {
        say("%s", why.text);
        return CTL_RUN_FAILED;
    }
    err = prepare(&run, &status, &why);
    if (!err)
        return run_paged(&run);
    if (run.optional && status == CTL_RUN_FAILED) {
        say("running %s unpaged: %s", run.argv[0], why.text);
        return run_unpaged(&run);
    }
    say("%s", why.text);
    return status;
}
