/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms: quantiles are never below the truth and at most 1/16 above it. */
#include <check.h>

#include "base/base.h"

START_TEST(an_empty_histogram_says_zero)
{
    static struct hist h;

    ck_assert_uint_eq(hist_count(&h), 0);
    ck_assert_uint_eq(hist_max(&h), 0);
    ck_assert_uint_eq(hist_quantile(&h, 0.5), 0);
}
END_TEST

START_TEST(one_value_is_every_quantile)
{
    static const uint64_t values[] = {0, 1, 15, 16, 17, 31, 32, 33, 1000, 123456789,
                                      (uint64_t)1 << 40, UINT64_MAX};

    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        struct hist h = {0};

        hist_add(&h, values[i]);
        ck_assert_uint_eq(hist_quantile(&h, 0), values[i]);
        ck_assert_uint_eq(hist_quantile(&h, 0.5), values[i]);
        ck_assert_uint_eq(hist_quantile(&h, 1), values[i]);
    }
}
END_TEST

START_TEST(small_values_are_exact)
{
    static struct hist h;

    for (uint64_t v = 0; v < 10; v++)
        hist_add(&h, v);
    ck_assert_uint_eq(hist_quantile(&h, 0.1), 0);
    ck_assert_uint_eq(hist_quantile(&h, 0.5), 4);
    ck_assert_uint_eq(hist_quantile(&h, 1), 9);
}
END_TEST

START_TEST(quantiles_are_at_most_a_sixteenth_too_high)
{
    static struct hist h;
    uint64_t n = 100000;

    for (uint64_t v = 1; v <= n; v++)
        hist_add(&h, v * 37);
    for (double q = 0.01; q <= 1.0; q += 0.01) {
        double truth = q * (double)n * 37, said = (double)hist_quantile(&h, q);

        ck_assert_double_ge(said, truth - 38); /* q * n rounds */
        ck_assert_double_le(said, truth * 17 / 16 + 38);
    }
    ck_assert_uint_eq(hist_max(&h), n * 37);
    ck_assert_uint_eq(hist_count(&h), n);
}
END_TEST

START_TEST(values_beyond_the_top_count_and_the_maximum_is_exact)
{
    static struct hist h;

    hist_add(&h, 5);
    hist_add(&h, (uint64_t)1 << 60);
    hist_add(&h, ((uint64_t)1 << 41) + 7);
    ck_assert_uint_eq(hist_count(&h), 3);
    ck_assert_uint_eq(hist_quantile(&h, 0.3), 5);
    ck_assert_uint_eq(hist_quantile(&h, 1), (uint64_t)1 << 60);
}
END_TEST

START_TEST(merging_is_adding_all)
{
    static struct hist a, b, both;

    for (uint64_t v = 0; v < 1000; v++) {
        hist_add(v % 3 ? &a : &b, v * v);
        hist_add(&both, v * v);
    }
    hist_merge(&a, &b);
    ck_assert_mem_eq(&a, &both, sizeof(a));
}
END_TEST

START_TEST(a_quantile_outside_of_0_to_1_is_the_nearest_end)
{
    static struct hist h;

    hist_add(&h, 3);
    hist_add(&h, 9);
    ck_assert_uint_eq(hist_quantile(&h, -1), 3);
    ck_assert_uint_eq(hist_quantile(&h, 7), 9);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base-hist");
    TCase *tc = tcase_create("all");

    tcase_add_test(tc, an_empty_histogram_says_zero);
    tcase_add_test(tc, one_value_is_every_quantile);
    tcase_add_test(tc, small_values_are_exact);
    tcase_add_test(tc, quantiles_are_at_most_a_sixteenth_too_high);
    tcase_add_test(tc, values_beyond_the_top_count_and_the_maximum_is_exact);
    tcase_add_test(tc, merging_is_adding_all);
    tcase_add_test(tc, a_quantile_outside_of_0_to_1_is_the_nearest_end);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
