/* SPDX-License-Identifier: Apache-2.0 */
/* Fail points fire as named, once or always; mutants have names. */
#include <check.h>

#include "base/base.h"

START_TEST(nothing_fires_when_nothing_is_set)
{
    unsetenv("PAGERD_FAILPOINTS");
    ck_assert(!failpoint("a"));
    ck_assert_int_eq(failpoints_state, 0);
    ck_assert(!failpoint("a"));
}
END_TEST

START_TEST(the_environment_is_read_once)
{
    setenv("PAGERD_FAILPOINTS", "a,b=2", 1);
    ck_assert(failpoint("a"));
    setenv("PAGERD_FAILPOINTS", "c", 1);
    ck_assert(!failpoint("c"));
    ck_assert(failpoint("a"));
    ck_assert(!failpoint("b"));
    ck_assert(failpoint("b"));
    ck_assert(!failpoint("b"));
}
END_TEST

START_TEST(only_the_nth_hit_fires)
{
    failpoint_set("x=3");
    for (int i = 1; i <= 6; i++)
        ck_assert_int_eq(failpoint("x"), i == 3);
}
END_TEST

START_TEST(setting_replaces_and_null_clears)
{
    failpoint_set("x");
    ck_assert(failpoint("x"));
    failpoint_set("y");
    ck_assert(!failpoint("x") && failpoint("y"));
    failpoint_set(NULL);
    ck_assert(!failpoint("y"));
}
END_TEST

START_TEST(names_match_as_a_whole)
{
    failpoint_set("probe-move");
    ck_assert(!failpoint("probe"));
    ck_assert(!failpoint("probe-move-more"));
    ck_assert(failpoint("probe-move"));
}
END_TEST

START_TEST(empty_and_overlong_names_do_no_harm)
{
    log_init("t", LOG_LEVEL_ERROR, -1);
    failpoint_set(",,=3,"
                  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx,ok,");
    ck_assert(!failpoint(""));
    ck_assert(failpoint("ok"));
}
END_TEST

START_TEST(each_mutant_is_found_by_its_name)
{
    enum mutant m = MUTANT_NONE;

    for (unsigned i = 0; i < NR_MUTANTS; i++) {
        ck_assert_ptr_nonnull(mutant_name((enum mutant)i));
        ck_assert_int_eq(mutant_by_name(mutant_name((enum mutant)i), &m), 0);
        ck_assert_uint_eq(m, i);
    }
    ck_assert_ptr_null(mutant_name((enum mutant)NR_MUTANTS));
    ck_assert_int_eq(mutant_by_name("no-such", &m), -EINVAL);
}
END_TEST

START_TEST(a_production_build_has_no_mutants)
{
    ck_assert(!MUTANT(MUTANT_NONE));
    ck_assert(!MUTANT(MUTANT_COMMIT_BEFORE_COPY));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base-failpoint");
    TCase *tc = tcase_create("all");

    tcase_add_test(tc, nothing_fires_when_nothing_is_set);
    tcase_add_test(tc, the_environment_is_read_once);
    tcase_add_test(tc, only_the_nth_hit_fires);
    tcase_add_test(tc, setting_replaces_and_null_clears);
    tcase_add_test(tc, names_match_as_a_whole);
    tcase_add_test(tc, empty_and_overlong_names_do_no_harm);
    tcase_add_test(tc, each_mutant_is_found_by_its_name);
    tcase_add_test(tc, a_production_build_has_no_mutants);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
