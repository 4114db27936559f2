/* SPDX-License-Identifier: Apache-2.0 */
/* When an address space is unregistered again, and when it must not be. */
#include <check.h>

#include "fake_domain.h"

#define LATER 9000000000u

static void setup(void)
{
    dom_open(8, PAGEBLOCK_FRAMES);
    dom.g->limit_bytes = (uint64_t)64 << 20;
    client_set_resident(&dom.c, (uint64_t)16 << 20);
    dom_adopt(0, 8, false);
}

static void teardown(void)
{
    dom_close();
}

static bool is_let_go(void)
{
    bool tried = client_release_quiet(&dom.c, LATER);

    dom_check();
    ck_assert(tried == (dom.t.nr[FAKE_UNREG] > 0));
    return tried && !dom.c.mm.nr_areas;
}

START_TEST(what_is_all_there_and_quiet_is_unregistered)
{
    ck_assert(is_let_go());
    ck_assert_uint_eq(dom.c.mm.nr[PTE_PRESENT], 0);
    ck_assert(fake_has_pattern(&dom.t, 3));
    fake_forget_calls(&dom.t);
    dom.t.nr[FAKE_UNREG] = 0;
    ck_assert(!is_let_go()); /* nothing is left to be done */
}
END_TEST

START_TEST(one_page_that_is_moved_out_keeps_all_registered)
{
    dom_adopt(9, 1, true);
    dom_store(9, 1);
    ck_assert(!is_let_go());
    dom_fault(9, false);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    ck_assert(is_let_go());
}
END_TEST

START_TEST(not_while_something_waits_or_is_under_way)
{
    dom_stage(4, 2);
    ck_assert(!is_let_go());
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
    dom_fault(4, false);
    ck_assert(!is_let_go()); /* not answered yet */
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    dom_fault(5, false);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    dom.c.held = true;
    ck_assert(!is_let_go());
    dom.c.held = false;
    dom.c.last_message_ns = LATER - 1000;
    ck_assert(!is_let_go());
    dom.c.last_message_ns = 0;
    ck_assert(is_let_go());
}
END_TEST

START_TEST(not_when_it_would_be_adopted_again_at_once)
{
    client_set_resident(&dom.c, (uint64_t)40 << 20);
    ck_assert(!is_let_go());
    dom.g->limit_bytes = 0; /* the limit was taken away */
    ck_assert(is_let_go());
}
END_TEST

START_TEST(a_kernel_that_refuses_is_asked_again_later)
{
    fake_plan(&dom.t, FAKE_UNREG, 1, KRES_RETRY, 0);
    ck_assert(!is_let_go());
    ck_assert_uint_eq(dom.c.mm.nr_areas, 1);
    ck_assert(is_let_go());
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client-quiet");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, what_is_all_there_and_quiet_is_unregistered);
    tcase_add_test(tc, one_page_that_is_moved_out_keeps_all_registered);
    tcase_add_test(tc, not_while_something_waits_or_is_under_way);
    tcase_add_test(tc, not_when_it_would_be_adopted_again_at_once);
    tcase_add_test(tc, a_kernel_that_refuses_is_asked_again_later);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
