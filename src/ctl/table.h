/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_CTL_TABLE_H
#define PAGERD_CTL_TABLE_H
/*
 * table: rows (JSON objects) through a table of columns.  The one array of
 * columns a subcommand has serves --help, the text and --output.
 */
#include <jansson.h>

#include "ctl/ctl.h"

enum column_type {
    COLUMN_TEXT,
    COLUMN_COUNT,
    COLUMN_BYTES,  /* 1.5G; plain with --bytes */
    COLUMN_NAMED,  /* as bytes if the row's "name" has "bytes" in it, else as a count */
};

struct column {
    const char *name;
    enum column_type type;
    const char *key; /* member of the row; absent: an empty cell */
    const char *help;
};

struct table_style {
    const char *output; /* names of columns with commas between, NULL: all */
    bool noheadings;
    bool bytes;
};

/* `rows` is an array of objects.  -EINVAL: --output names an unknown column. */
MUST_CHECK int table_print(FILE *out, const struct column *columns, size_t nr_columns,
                           const json_t *rows, const struct table_style *style,
                           struct complaint *why);
void table_print_columns(FILE *out, const struct column *columns, size_t nr_columns);

/* Which columns `output` asks for, as indices: their number, or -EINVAL.  Pure. */
MUST_CHECK int table_choose(const char *output, const struct column *columns, size_t nr_columns,
                            unsigned *ret_index, size_t max, struct complaint *why);
/* "0B", "1023B", "1K", "1.5G": at most one decimal, never rounded up to 1024 of a unit.  Pure. */
void table_human(uint64_t bytes, char *buf, size_t size);

#endif
