/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes: what is one, what is none, and what does not fit. */
#include <check.h>

#include "base/base.h"

static const struct {
    const char *text;
    int result;
    uint64_t bytes;
} cases[] = {
    {"0", 0, 0},
    {"4096", 0, 4096},
    {"007", 0, 7},
    {"1K", 0, 1024},
    {"1k", 0, 1024},
    {"96M", 0, (uint64_t)96 << 20},
    {"96m", 0, (uint64_t)96 << 20},
    {"2G", 0, (uint64_t)2 << 30},
    {"3T", 0, (uint64_t)3 << 40},
    {"18446744073709551615", 0, UINT64_MAX},
    {"16777215T", 0, (uint64_t)16777215 << 40},
    {"18446744073709551616", -ERANGE, 0},
    {"16777216T", -ERANGE, 0},
    {"18014398509481984K", -ERANGE, 0},
    {"99999999999999999999999999999999", -ERANGE, 0},
    {"99999999999999999999999999999999M", -ERANGE, 0},
    {"99999999999999999999999999999999x", -EINVAL, 0},
    {"99999999999999999999999999999999MM", -EINVAL, 0},
    {"", -EINVAL, 0},
    {"M", -EINVAL, 0},
    {" 1", -EINVAL, 0},
    {"1 ", -EINVAL, 0},
    {"+1", -EINVAL, 0},
    {"-1", -EINVAL, 0},
    {"0x10", -EINVAL, 0},
    {"1.5G", -EINVAL, 0},
    {"1MB", -EINVAL, 0},
    {"1MiB", -EINVAL, 0},
    {"1P", -EINVAL, 0},
    {"ten", -EINVAL, 0},
};

START_TEST(each_text_is_read_as_the_table_says)
{
    uint64_t bytes = 77;

    ck_assert_int_eq(parse_size(cases[_i].text, &bytes), cases[_i].result);
    /* Untouched on failure. */
    ck_assert_uint_eq(bytes, cases[_i].result ? 77 : cases[_i].bytes);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base-size");
    TCase *tc = tcase_create("all");

    tcase_add_loop_test(tc, each_text_is_read_as_the_table_says, 0, ARRAY_SIZE(cases));
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
