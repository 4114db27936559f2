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

static struct urange pages(uint32_t first, uint32_t nr)
{
    return (struct urange){fake_addr(first), nr * PAGE_SIZE};
}

/* The message of a madvise that began before; its thread has not run on. */
static void hear_that_it_drops(uint32_t first, uint32_t nr)
{
    struct kuffd_msg m = {.type = KUFFD_REMOVE, .range = pages(first, nr)};

    client_upcalls(&dom.c, &m, 1, 1000);
}

START_TEST(what_a_late_message_says_is_dropped_is_not_entered_while_it_is_seen)
{
    ck_assert(is_let_go());
    hear_that_it_drops(2, 3);
    ck_assert_int_eq(client_adopt(&dom.c, pages(0, 8), true), KRES_DONE);
    ck_assert_uint_eq(dom.c.mm.nr[PTE_PRESENT], 5);
    for (uint32_t n = 2; n < 5; n++)
        ck_assert_int_eq(dom_tag(&dom.c, n), PTE_NONE);

    /* Seen to be gone: what comes there from then on is a page like any other. */
    memset(dom.t.page + 2, FAKE_ABSENT, 3);
    ck_assert_int_eq(client_adopt(&dom.c, pages(0, 8), true), KRES_DONE);
    ck_assert_uint_eq(dom.c.saved->nr_late, 0);
    dom_fault(3, true);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    ck_assert_int_eq(dom_tag(&dom.c, 3), PTE_PRESENT);
}
END_TEST

START_TEST(more_late_messages_than_are_kept_leave_more_alone)
{
    ck_assert(is_let_go());
    for (uint32_t i = 0; i < CLIENT_MAX_LATE + 2; i++)
        hear_that_it_drops(100 + 2 * i, 1);
    hear_that_it_drops(1, 1);
    ck_assert_uint_eq(dom.c.saved->nr_late, CLIENT_MAX_LATE);
    ck_assert_int_eq(client_adopt(&dom.c, pages(0, 200), true), KRES_DONE);
    ck_assert_int_eq(dom_tag(&dom.c, 0), PTE_PRESENT);
    ck_assert_int_eq(dom_tag(&dom.c, 1), PTE_NONE);
    ck_assert_int_eq(dom_tag(&dom.c, 7), PTE_NONE);
}
END_TEST

START_TEST(the_message_of_what_is_registered_is_not_late)
{
    uint64_t cut = fake_addr(10).v;

    hear_that_it_drops(2, 3);
    ck_assert_uint_eq(dom.c.saved->nr_late, 0);
    /* A mapping that grew has more than one area. */
    ck_assert_int_eq(mm_area_remove(&dom.c.mm, cut, FAKE_END), 0);
    ck_assert_int_eq(mm_area_add(&dom.c.mm, cut, fake_addr(20).v), 0);
    hear_that_it_drops(5, 10);
    ck_assert_uint_eq(dom.c.saved->nr_late, 0);
    hear_that_it_drops(15, 10); /* the second half is not registered */
    ck_assert_uint_eq(dom.c.saved->nr_late, 1);
    ck_assert_uint_eq(dom.c.saved->late[0].start.v, fake_addr(20).v);
    ck_assert_uint_eq(dom.c.saved->late[0].len, 5 * PAGE_SIZE);
}
END_TEST

START_TEST(what_is_mapped_after_a_late_message_is_entered)
{
    ck_assert(is_let_go());
    hear_that_it_drops(10, 10);
    dom_unmap(8, 4);
    dom_unmap(18, 9);
    ck_assert_uint_eq(dom.c.saved->nr_late, 1);
    ck_assert_uint_eq(dom.c.saved->late[0].start.v, fake_addr(12).v);
    ck_assert_uint_eq(dom.c.saved->late[0].len, 6 * PAGE_SIZE);
    dom_remap(200, 0, 30);
    ck_assert_uint_eq(dom.c.saved->nr_late, 0);
}
END_TEST

START_TEST(no_thread_takes_that_long)
{
    ck_assert(is_let_go());
    hear_that_it_drops(2, 3);
    dom.t.now_ns += 70000000000u;
    ck_assert_int_eq(client_adopt(&dom.c, pages(0, 8), true), KRES_DONE);
    ck_assert_uint_eq(dom.c.mm.nr[PTE_PRESENT], 8);
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
    tcase_add_test(tc, what_a_late_message_says_is_dropped_is_not_entered_while_it_is_seen);
    tcase_add_test(tc, more_late_messages_than_are_kept_leave_more_alone);
    tcase_add_test(tc, the_message_of_what_is_registered_is_not_late);
    tcase_add_test(tc, what_is_mapped_after_a_late_message_is_entered);
    tcase_add_test(tc, no_thread_takes_that_long);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
