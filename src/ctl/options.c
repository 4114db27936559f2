/* SPDX-License-Identifier: Apache-2.0 */
/* options: one table for getopt_long(3) and for --help. */
#include "ctl/ctl.h"

#define MAX_OPTIONS 16

int ctl_getopt(int argc, char **argv, const struct ctl_option *options)
{
    struct option longs[MAX_OPTIONS + 1] = {0};
    char shorts[2 * MAX_OPTIONS + 2] = "+";
    size_t nr_shorts = 1;

    for (size_t i = 0; options[i].name; i++) {
        BUG_ON(i >= MAX_OPTIONS);
        longs[i] = (struct option){
            .name = options[i].name,
            .has_arg = options[i].arg ? required_argument : no_argument,
            .val = options[i].id,
        };
        if (options[i].id < 128) {
            shorts[nr_shorts++] = (char)options[i].id;
            if (options[i].arg)
                shorts[nr_shorts++] = ':';
        }
    }
    return getopt_long(argc, argv, shorts, longs, NULL);
}

void ctl_print_options(FILE *out, const struct ctl_option *options)
{
    for (const struct ctl_option *o = options; o->name; o++) {
        char left[64];

        snprintf(left, sizeof(left), "--%s%s%s", o->name, o->arg ? "=" : "", o->arg ? o->arg : "");
        if (o->id < 128)
            fprintf(out, "  -%c, %-18s  %s\n", o->id, left, o->help);
        else
            fprintf(out, "      %-18s  %s\n", left, o->help);
    }
}
