/* SPDX-License-Identifier: Apache-2.0 */
/* table: see table.h. */
#define _GNU_SOURCE 1
#include "ctl/table.h"

#include <inttypes.h>
#include <libsmartcols/libsmartcols.h>
#include <string.h>
#include <strings.h>

#define MAX_COLUMNS 32

void table_human(uint64_t bytes, char *buf, size_t size)
{
    static const char units[] = "BKMGTPE";
    unsigned unit = 0;
    uint64_t whole = bytes, tenths = 0;

    while (whole >= 1024) {
        tenths = (whole % 1024) * 10 / 1024;
        whole /= 1024;
        unit++;
    }
    if (tenths)
        snprintf(buf, size, "%" PRIu64 ".%" PRIu64 "%c", whole, tenths, units[unit]);
    else
        snprintf(buf, size, "%" PRIu64 "%c", whole, units[unit]);
}

int table_choose(const char *output, const struct column *columns, size_t nr_columns,
                 unsigned *ret_index, size_t max, struct complaint *why)
{
    size_t nr = 0;

    BUG_ON(nr_columns > max);
    if (!output) {
        for (; nr < nr_columns; nr++)
            ret_index[nr] = (unsigned)nr;
        return (int)nr;
    }
    for (const char *word = output, *end; word; word = *end ? end + 1 : NULL) {
        unsigned i;

        end = strchrnul(word, ',');
        for (i = 0; i < nr_columns; i++)
            if (strlen(columns[i].name) == (size_t)(end - word) &&
                !strncasecmp(columns[i].name, word, (size_t)(end - word)))
                break;
        if (i == nr_columns)
            return complain(why, -EINVAL,
                            "--output names no column '%.*s': `--help` lists the columns",
                            (int)MIN(end - word, (ptrdiff_t)64), word);
        if (nr == max)
            return complain(why, -EINVAL, "--output names more than %zu columns: name fewer", max);
        ret_index[nr++] = i;
    }
    return (int)nr;
}

static void format_cell(const struct column *c, const json_t *row, bool plain, char *buf,
                        size_t size)
{
    const json_t *value = json_object_get(row, c->key);
    const char *name = json_string_value(json_object_get(row, "name"));
    bool is_size = c->type == COLUMN_BYTES ||
                   (c->type == COLUMN_NAMED && name && strstr(name, "bytes"));

    if (json_is_string(value))
        snprintf(buf, size, "%s", json_string_value(value));
    else if (json_is_integer(value) && is_size && !plain && json_integer_value(value) >= 0)
        table_human((uint64_t)json_integer_value(value), buf, size);
    else if (json_is_integer(value))
        snprintf(buf, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        snprintf(buf, size, "%.6g", json_real_value(value));
    else if (json_is_boolean(value))
        snprintf(buf, size, "%s", json_is_true(value) ? "yes" : "no");
    else
        *buf = '\0';
}

static int fill(struct libscols_table *table, const struct column *columns, const unsigned *index,
                int nr, const json_t *rows, bool plain)
{
    const json_t *row;
    size_t r;

    for (int i = 0; i < nr; i++) {
        const struct column *c = &columns[index[i]];
        int flags = c->type == COLUMN_TEXT ? 0 : SCOLS_FL_RIGHT;

        if (!scols_table_new_column(table, c->name, 0, flags))
            return -ENOMEM;
    }
    json_array_foreach (rows, r, row) {
        struct libscols_line *line = scols_table_new_line(table, NULL);
        char cell[512];

        if (!line)
            return -ENOMEM;
        for (int i = 0; i < nr; i++) {
            format_cell(&columns[index[i]], row, plain, cell, sizeof(cell));
            if (scols_line_set_data(line, (size_t)i, cell))
                return -ENOMEM;
        }
    }
    return 0;
}

int table_print(FILE *out, const struct column *columns, size_t nr_columns, const json_t *rows,
                const struct table_style *style, struct complaint *why)
{
    unsigned index[MAX_COLUMNS];
    struct libscols_table *table;
    int nr, err;

    nr = table_choose(style->output, columns, nr_columns, index, ARRAY_SIZE(index), why);
    if (nr < 0)
        return nr;
    scols_init_debug(0);
    table = scols_new_table();
    if (!table)
        return complain(why, -ENOMEM, "out of memory");
    scols_table_set_stream(table, out);
    scols_table_enable_noheadings(table, style->noheadings);
    err = fill(table, columns, index, nr, rows, style->bytes);
    if (!err && json_array_size(rows))
        err = scols_print_table(table);
    scols_unref_table(table);
    return err ? complain(why, err, "cannot print the table: %s", strerror(-err)) : 0;
}

void table_print_columns(FILE *out, const struct column *columns, size_t nr_columns)
{
    for (size_t i = 0; i < nr_columns; i++)
        fprintf(out, "  %-12s  %s\n", columns[i].name, columns[i].help);
}
