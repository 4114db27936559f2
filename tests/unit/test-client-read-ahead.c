/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is read from the file node before its fault: it saves a wait, and costs nobody
 * anything when it was for nothing, cannot be read, or is in the way.
 */
#include <check.h>
#include <string.h>

#include "client/client_priv.h"
#include "fault/fault.h"
#include "swapped_domain.h"

static void setup(void)
{
    swapped_open();
    some_swapped();
    for (uint32_t n = 0; n < 130; n++)
        ck_assert(is_swapped(n));
}

static void fault_is_right(uint32_t n)
{
    fault(n, true);
    ck_assert(fake_has_pattern(&dom.t, n));
}

/* What is read ahead has come; then a fault there is answered without a wait. */
static uint32_t fault_at_once(uint32_t n)
{
    uint64_t there = dom.c.mm.nr[PTE_PRESENT];

    disk_run(&dom.disk);
    dom_fault(n, true);
    ck_assert_uint_eq(dom_answer(&dom.c, now), 0);
    ck_assert_uint_eq(dom.c.nr_parked, 0);
    ck_assert(fake_has_pattern(&dom.t, n));
    dom_check();
    return (uint32_t)(dom.c.mm.nr[PTE_PRESENT] - there);
}

START_TEST(the_next_window_of_a_stream_is_read_meanwhile)
{
    fault_is_right(10);
    ck_assert_uint_eq(dom.disk.nr_reqs, 0); /* nothing for what may be a random fault */
    fault_is_right(11);
    uint32_t wakes = dom.nr_wakes;
    for (uint32_t n = 13, nr = 4; nr <= 32; n += nr, nr *= 2) {
        ck_assert_uint_eq(dom.disk.nr_reqs, 1);
        ck_assert_uint_eq(fault_at_once(n), nr);
    }
    ck_assert_uint_eq(dom.nr_wakes, wakes);
    dom_remove(0, NR_PAGES);
}
END_TEST

START_TEST(a_fault_may_come_before_its_read_has_ended)
{
    fault_is_right(10);
    fault_is_right(11);
    ck_assert_uint_eq(dom.disk.nr_reqs, 1);
    uint32_t wakes = dom.nr_wakes;
    dom_fault(13, true);
    ck_assert_uint_eq(dom_answer(&dom.c, now), 0);
    ck_assert_uint_eq(dom.disk.nr_reqs, 1); /* it is not read twice */
    disk_finish(&dom.disk, 0);
    ck_assert_uint_eq(dom.nr_wakes, wakes + 1);
    ck_assert_uint_eq(dom_answer(&dom.c, now), 0);
    ck_assert(fake_has_pattern(&dom.t, 16));
}
END_TEST

START_TEST(a_stride_is_read_ahead_page_by_page)
{
    fault_is_right(8);
    fault_is_right(16);
    fault_is_right(24); /* the third: two pages */
    uint32_t nr = dom.disk.nr_reqs;
    ck_assert_uint_gt(nr, 0);
    for (uint32_t n = 32; n < 100; n += 8) {
        if (dom_tag(&dom.c, n) == PTE_SWAPPED)
            ck_assert_uint_gt(fault_at_once(n), 0);
        ck_assert_int_eq(dom_tag(&dom.c, n + 1), PTE_SWAPPED);
    }
}
END_TEST

START_TEST(an_error_in_it_is_nobodys)
{
    uint32_t bad = pte_index(pte_get(&dom.c.mm, fake_addr(14)));

    dom.disk.unreadable[bad] = true;
    fault_is_right(10);
    fault_is_right(11);
    disk_run(&dom.disk); /* 13 to 16, of which 14 is bad */
    ck_assert_uint_eq(dom.g->count.poisoned, 0);
    ck_assert_uint_eq(swapin_nr_in_use(dom.d.swapin), 0);
    dom_fault(13, true); /* after an error reading pauses for a while */
    ck_assert_uint_eq(dom_answer(&dom.c, now), 1);
    now = 10000000;
    dom.disk.unreadable[bad] = false;
    fault_is_right(13);
    fault_is_right(14);
    ck_assert_uint_eq(dom.g->count.poisoned, 0);
}
END_TEST

START_TEST(it_makes_way_when_reads_are_short)
{
    fault_is_right(8);
    fault_is_right(16);
    fault_is_right(24);
    for (uint32_t n = 32; n < 64; n += 8)
        (void)(dom_tag(&dom.c, n) == PTE_SWAPPED && fault_at_once(n));
    disk_run(&dom.disk);
    uint32_t ahead = swapin_nr_in_use(dom.d.swapin);
    ck_assert_uint_gt(ahead, 0);
    for (uint32_t i = 0; i < 32; i++)
        dom_fault(3 * i + (3 * i % 8 == 0), true);
    ck_assert_uint_eq(dom_answer(&dom.c, now), 0); /* none has to come again */
    while (dom.c.nr_parked) {
        disk_run(&dom.disk);
        (void)dom_answer(&dom.c, now);
    }
    dom_check();
}
END_TEST

START_TEST(what_goes_away_leaves_nothing_in_use)
{
    fault_is_right(10);
    fault_is_right(11);
    disk_run(&dom.disk);
    ck_assert_uint_eq(swapin_nr_in_use(dom.d.swapin), 1);
    dom_remove(0, NR_PAGES);
    ck_assert_uint_eq(dom_answer(&dom.c, now), 0);
    ck_assert_uint_eq(swapin_nr_in_use(dom.d.swapin), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client-read-ahead");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, swapped_close);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, the_next_window_of_a_stream_is_read_meanwhile);
    tcase_add_test(tc, a_fault_may_come_before_its_read_has_ended);
    tcase_add_test(tc, a_stride_is_read_ahead_page_by_page);
    tcase_add_test(tc, an_error_in_it_is_nobodys);
    tcase_add_test(tc, it_makes_way_when_reads_are_short);
    tcase_add_test(tc, what_goes_away_leaves_nothing_in_use);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
