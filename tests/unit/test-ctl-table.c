/* SPDX-License-Identifier: Apache-2.0 */
/* One table of columns: sizes for people, choice of columns, cells of every kind. */
#define _GNU_SOURCE 1
#include <check.h>
#include <string.h>

#include "ctl/table.h"

static const struct column columns[] = {
    {"PID", COLUMN_COUNT, "pid", "process"},
    {"NAME", COLUMN_TEXT, "name", "name"},
    {"SIZE", COLUMN_BYTES, "size_bytes", "size"},
    {"VALUE", COLUMN_NAMED, "value", "value"},
};

static struct complaint why;

static const char *human(uint64_t bytes)
{
    static char buf[32];

    table_human(bytes, buf, sizeof(buf));
    return buf;
}

START_TEST(sizes_are_short_and_never_rounded_up)
{
    ck_assert_str_eq(human(0), "0B");
    ck_assert_str_eq(human(1023), "1023B");
    ck_assert_str_eq(human(1024), "1K");
    ck_assert_str_eq(human(1536), "1.5K");
    ck_assert_str_eq(human((1 << 20) - 1), "1023.9K");
    ck_assert_str_eq(human((uint64_t)96 << 20), "96M");
    ck_assert_str_eq(human((uint64_t)3 << 29), "1.5G");
    ck_assert_str_eq(human(UINT64_MAX), "15.9E");
}
END_TEST

START_TEST(all_columns_when_none_are_named)
{
    unsigned index[4];

    ck_assert_int_eq(table_choose(NULL, columns, 4, index, 4, &why), 4);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_uint_eq(index[i], i);
}
END_TEST

START_TEST(named_columns_in_the_order_named)
{
    unsigned index[4];

    ck_assert_int_eq(table_choose("size,PID", columns, 4, index, 4, &why), 2);
    ck_assert_uint_eq(index[0], 2);
    ck_assert_uint_eq(index[1], 0);
    ck_assert_int_eq(table_choose("NAME,NAME", columns, 4, index, 4, &why), 2);
}
END_TEST

START_TEST(unknown_or_too_many_columns_are_refused)
{
    static const char *const bad[] = {"", "PI", "PIDS", "PID,", ",PID", "PID,,NAME", "PID NAME",
                                      "PID,PID,PID,PID,PID"};
    unsigned index[4];

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ck_assert_int_eq(table_choose(bad[i], columns, 4, index, 4, &why), -EINVAL);
}
END_TEST

/* What table_print() writes, without blanks at line ends. */
static void expect_print(const struct table_style *style, const char *rows_text, const char *want)
{
    json_t *rows = json_loads(rows_text, 0, NULL);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    ck_assert_ptr_nonnull(rows);
    ck_assert_int_eq(table_print(out, columns, 4, rows, style, &why), 0);
    fclose(out);
    ck_assert_str_eq(text, want);
    free(text);
    json_decref(rows);
}

#define ROWS                                                                                       \
    "[{\"pid\":7,\"name\":\"sh\",\"size_bytes\":1536,\"value\":3},"                                \
    " {\"pid\":12,\"name\":\"peak_bytes\",\"size_bytes\":0,\"value\":2048}]"

START_TEST(cells_by_kind_of_column)
{
    struct table_style style = {0};

    expect_print(&style, ROWS,
                 "PID NAME       SIZE VALUE\n"
                 "  7 sh         1.5K     3\n"
                 " 12 peak_bytes   0B    2K\n");
}
END_TEST

START_TEST(plain_bytes_without_headings)
{
    struct table_style style = {.noheadings = true, .bytes = true, .output = "pid,size,value"};

    expect_print(&style, ROWS,
                 "  7 1536     3\n"
                 " 12    0  2048\n");
}
END_TEST

START_TEST(missing_members_are_empty_cells)
{
    struct table_style style = {.noheadings = true, .output = "PID,NAME"};

    expect_print(&style, "[{\"pid\":1},{\"name\":\"x\"}]", "  1 \n    x\n");
}
END_TEST

START_TEST(no_rows_no_output)
{
    struct table_style style = {0};

    expect_print(&style, "[]", "");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl table");
    TCase *t = tcase_create("table");
    SRunner *r;
    int failed;

    tcase_add_test(t, sizes_are_short_and_never_rounded_up);
    tcase_add_test(t, all_columns_when_none_are_named);
    tcase_add_test(t, named_columns_in_the_order_named);
    tcase_add_test(t, unknown_or_too_many_columns_are_refused);
    tcase_add_test(t, cells_by_kind_of_column);
    tcase_add_test(t, plain_bytes_without_headings);
    tcase_add_test(t, missing_members_are_empty_cells);
    tcase_add_test(t, no_rows_no_output);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
