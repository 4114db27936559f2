/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pagerctl: runs programs under pagerd and shows what pagerd does.  This file
 * finds the subcommand; run.c, show.c and change.c hold them.
 */
#include <string.h>

#include "config.h"
#include "ctl/ctl.h"

static const struct ctl_command commands[] = {
    {"run", "run a program with a memory limit", "[OPTION...] --limit=SIZE -- PROGRAM [ARG...]",
     ctl_run},
    {"status", "list the programs that are paged", "[OPTION...]", ctl_status},
    {"clients", "list the programs: where their memory is, and what cannot be moved", "[OPTION...]",
     ctl_clients},
    {"stat", "show the counters", "[OPTION...]", ctl_stat},
    {"nodes", "list the places that hold pages", "[OPTION...]", ctl_nodes},
    {"limit", "show or set the limit of a group", "[OPTION...] GROUP|PID [SIZE|none]", ctl_limit},
    {"reclaim", "move memory of a group out now", "[OPTION...] GROUP|PID [SIZE]", ctl_reclaim},
    {"check", "verify the daemon's tables; exit status 1 if they do not hold", "[OPTION...]",
     ctl_check},
};

static void print_help(FILE *out)
{
    fputs("Usage: pagerctl COMMAND [OPTION...]\n"
          "Run programs under pagerd, which moves their cold memory out and back in.\n\n"
          "Commands:\n",
          out);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        fprintf(out, "  %-8s  %s\n", commands[i].name, commands[i].summary);
    fputs("\nOptions:\n"
          "  -h, --help     show this; after a command: its own options\n"
          "  -V, --version  show the version\n\n"
          "See pagerctl(8).\n",
          out);
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;

    if (!word) {
        print_help(stderr);
        return CTL_FAILED;
    }
    if (!strcmp(word, "help") || !strcmp(word, "--help") || !strcmp(word, "-h")) {
        print_help(stdout);
        return CTL_OK;
    }
    if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
        puts("pagerctl " PACKAGE_VERSION);
        return CTL_OK;
    }
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (!strcmp(word, commands[i].name)) {
            /* getopt(3) names argv[0] in its complaints. */
            static char name[] = "pagerctl";

            argv[1] = name;
            return commands[i].main(&commands[i], argc - 1, argv + 1);
        }
    }
    say("there is no command '%s': `pagerctl --help` lists them", word);
    return CTL_FAILED;
}
