/* SPDX-License-Identifier: Apache-2.0 */
/* What is brought along with a fault, by the faults before it. */
#include <check.h>

#include "fake_target.h"
#include "fault/fault.h"

static struct world w;

static void setup(void)
{
    world_open(&w, 8, 4 * PAGEBLOCK_FRAMES);
    for (uint32_t i = 0; i < 1500; i++)
        world_adopt(&w, i, false);
    for (uint32_t i = 0; i < 1500; i += 500)
        world_store(&w, i, 500);
}

static void teardown(void)
{
    world_close(&w);
}

static uint32_t fault(uint32_t n)
{
    uint32_t filled = 0;

    ck_assert_int_eq(fault_answer(&w.mm, fake_addr(n), false, FAULT_MAX_WINDOW, &filled),
                     FAULT_ANSWERED);
    ck_assert(world_page_is_whole(&w, n, false));
    world_check(&w);
    return filled;
}

START_TEST(random_faults_bring_no_neighbour)
{
    static const uint32_t at[] = {700, 20, 1300, 410, 905, 130, 1100, 300, 560, 1400, 640, 1010};

    for (size_t i = 0; i < ARRAY_SIZE(at); i++)
        ck_assert_uint_eq(fault(at[i]), 1);
    ck_assert_uint_eq(w.count.pgprefetch, 0);
}
END_TEST

START_TEST(a_stride_is_seen_at_the_third_fault_and_grows)
{
    static const uint32_t want[] = {1, 1, 2, 4, 8, 16, 16};
    uint32_t n = 8;

    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        ck_assert_uint_eq(fault(n), want[i]);
        for (uint32_t k = 0; k < want[i]; k++) {
            ck_assert_int_eq(world_tag(&w, n + 8 * k), PTE_PRESENT);
            ck_assert_int_eq(world_tag(&w, n + 8 * k + 1), PTE_FRAME);
        }
        n += 8 * want[i];
    }
}
END_TEST

START_TEST(a_fault_inside_a_stride_that_is_none_of_its_pages_starts_anew)
{
    ck_assert_uint_eq(fault(100), 1);
    ck_assert_uint_eq(fault(164), 1); /* as far as one may be from another */
    ck_assert_uint_eq(fault(165), 1);
    ck_assert_uint_eq(fault(166), 2);
    ck_assert_uint_eq(fault(168), 4);
    ck_assert_uint_eq(fault(172), 8);
}
END_TEST

START_TEST(downwards_is_a_stride_too)
{
    ck_assert_uint_eq(fault(1000), 1);
    ck_assert_uint_eq(fault(999), 1);
    ck_assert_uint_eq(fault(998), 2);
    ck_assert_uint_eq(fault(996), 4);
    ck_assert_uint_eq(fault(992), 8);
    ck_assert_int_eq(world_tag(&w, 985), PTE_PRESENT);
    ck_assert_int_eq(world_tag(&w, 984), PTE_FRAME);
}
END_TEST

START_TEST(streams_side_by_side_do_not_disturb_each_other)
{
    for (uint32_t i = 0, at = 0, nr; i < 4; i++, at += nr) {
        nr = 1u << i;
        for (uint32_t stream = 0; stream < READAHEAD_STREAMS; stream++)
            ck_assert_uint_eq(fault(150 * stream + at), nr);
    }
}
END_TEST

START_TEST(what_was_brought_and_left_again_shrinks_the_window)
{
    uint32_t n = 0;

    for (uint32_t nr = 1; nr <= 32; n += nr, nr *= 2)
        ck_assert_uint_eq(fault(n), nr);
    /* Of the last 32, one is missed again: it has been taken out meanwhile. */
    world_store(&w, n - 10, 1);
    ck_assert_uint_eq(fault(n - 10), 1); /* its neighbours are there */
    ck_assert_uint_eq(w.mm.readahead[0].pages, 16);
}
END_TEST

START_TEST(a_stride_stops_before_what_is_not_moved_out_or_is_guarded)
{
    ck_assert_uint_eq(fault(100), 1);
    ck_assert_uint_eq(fault(110), 1);
    w.t.guard = fake_addr(130).v;
    ck_assert_uint_eq(fault(120), 1);
    w.t.guard = 0;
    ck_assert_uint_eq(fault(160), 1); /* another stride */
    ck_assert_uint_eq(fault(200), 2);
    ck_assert_uint_eq(fault(280), 4);
    ck_assert_uint_eq(fault(1470), 1);
    ck_assert_uint_eq(fault(1480), 1);
    ck_assert_uint_eq(fault(1490), 1); /* behind it nothing is stored */
}
END_TEST

START_TEST(the_page_that_is_waited_for_comes_last_of_its_stride)
{
    fault(8);
    fault(16);
    fault(24);
    fake_forget_calls(&w.t);
    ck_assert_uint_eq(fault(40), 4);
    ck_assert_uint_eq(w.t.nr_calls, 4);
    for (uint32_t i = 0; i < 4; i++) {
        ck_assert_int_eq(w.t.call[i].op, FAKE_COPY);
        ck_assert_uint_eq(w.t.call[i].addr, fake_addr(i < 3 ? 48 + 8 * i : 40).v);
    }
}
END_TEST

START_TEST(what_a_stride_brought_counts_although_its_fault_has_to_wait)
{
    uint32_t filled = 0;

    fault(8);
    fault(16);
    fault(24);
    uint64_t prefetched = w.count.pgprefetch;
    fake_plan(&w.t, FAKE_COPY, 4, KRES_RETRY, 0);
    ck_assert_int_eq(fault_answer(&w.mm, fake_addr(40), false, FAULT_MAX_WINDOW, &filled),
                     FAULT_PARKED);
    ck_assert_uint_eq(filled, 3);
    ck_assert_uint_eq(w.count.pgprefetch, prefetched + 3);
    ck_assert_int_eq(world_tag(&w, 40), PTE_FRAME);
    ck_assert_int_eq(world_tag(&w, 48), PTE_PRESENT);
    world_check(&w);
}
END_TEST

START_TEST(a_window_goes_on_over_frames_that_are_no_neighbours)
{
    for (uint32_t i = 1500; i < 1516; i++)
        world_adopt(&w, i, false);
    for (uint32_t i = 1516; i-- > 1500;) /* their frames are in the other order */
        world_store(&w, i, 1);
    ck_assert_uint_eq(fault(1496), 1);
    ck_assert_uint_eq(fault(1497), 2);
    fake_forget_calls(&w.t);
    ck_assert_uint_eq(fault(1499), 4);
    static const uint32_t want[] = {1500, 1501, 1502, 1499}; /* what is waited for comes last */
    ck_assert_uint_eq(w.t.nr_calls, ARRAY_SIZE(want));
    for (uint32_t i = 0; i < ARRAY_SIZE(want); i++) {
        ck_assert_uint_eq(w.t.call[i].addr, fake_addr(want[i]).v);
        ck_assert(world_page_is_whole(&w, want[i], false));
    }
    ck_assert_uint_eq(fault(1503), 8);
    world_check(&w);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fault-readahead");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, random_faults_bring_no_neighbour);
    tcase_add_test(tc, a_stride_is_seen_at_the_third_fault_and_grows);
    tcase_add_test(tc, a_fault_inside_a_stride_that_is_none_of_its_pages_starts_anew);
    tcase_add_test(tc, downwards_is_a_stride_too);
    tcase_add_test(tc, streams_side_by_side_do_not_disturb_each_other);
    tcase_add_test(tc, what_was_brought_and_left_again_shrinks_the_window);
    tcase_add_test(tc, a_stride_stops_before_what_is_not_moved_out_or_is_guarded);
    tcase_add_test(tc, the_page_that_is_waited_for_comes_last_of_its_stride);
    tcase_add_test(tc, what_a_stride_brought_counts_although_its_fault_has_to_wait);
    tcase_add_test(tc, a_window_goes_on_over_frames_that_are_no_neighbours);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
