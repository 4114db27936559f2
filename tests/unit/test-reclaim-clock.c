/* SPDX-License-Identifier: Apache-2.0 */
/* The clock: which pages leave, in what order, and what is spared. */
#include <check.h>
#include <string.h>

#include "fake_target.h"
#include "reclaim/reclaim.h"

#define LEAF PTES_PER_LEAF

static struct world w;

static void setup(void)
{
    world_open(&w, 8, 4 * PAGEBLOCK_FRAMES);
}

static void teardown(void)
{
    world_close(&w);
}

static void adopt(uint32_t first, uint32_t nr)
{
    for (uint32_t i = first; i < first + nr; i++)
        world_adopt(&w, i, true);
}

static void reference(uint32_t first, uint32_t nr)
{
    for (uint32_t i = first; i < first + nr; i++)
        pte_change_flags(&w.mm, fake_addr(i), PTE_F_REFERENCED, 0);
}

/* The pages that were picked end their move. */
static void finish(void)
{
    uint8_t result[CAPTURE_MAX_PAGES];

    fake_agent(&w.t, result);
    migrate_captured(&w.mm, result);
    ck_assert_uint_eq(migrate_commit(&w.mm, CAPTURE_MAX_PAGES), 0);
    world_check(&w);
}

static int shrink(uint32_t max)
{
    int nr = reclaim_shrink(&w.mm, max, MIGRATE_DEMOTION);

    world_check(&w);
    return nr;
}

START_TEST(nothing_to_take_in_an_empty_address_space)
{
    ck_assert_int_eq(shrink(512), 0);
    adopt(0, 4);
    world_store(&w, 0, 4);
    ck_assert_int_eq(shrink(512), 0);
    ck_assert_uint_eq(w.count.pgscan, 0);
}
END_TEST

START_TEST(the_hand_goes_on_where_it_stopped_and_round)
{
    adopt(10, 10);
    ck_assert_int_eq(shrink(4), 4);
    ck_assert_uint_eq(w.t.vec[0].addr.v, fake_addr(10).v);
    finish();
    adopt(0, 2); /* below the hand: next time round */
    ck_assert_int_eq(shrink(4), 4);
    ck_assert_uint_eq(w.t.vec[0].addr.v, fake_addr(14).v);
    finish();
    ck_assert_int_eq(shrink(4), 2); /* what is found up to the end goes at once */
    ck_assert_uint_eq(w.t.vec[0].addr.v, fake_addr(18).v);
    finish();
    ck_assert_int_eq(shrink(4), 2);
    ck_assert_uint_eq(w.t.vec[0].addr.v, fake_addr(0).v);
    finish();
    ck_assert_uint_eq(w.count.pgsteal, 12);
    ck_assert_uint_eq(w.count.pgscan, 12);
}
END_TEST

START_TEST(a_referenced_page_is_spared_once)
{
    adopt(0, 10);
    reference(2, 3);
    ck_assert_int_eq(shrink(512), 7);
    finish();
    for (uint32_t i = 2; i < 5; i++)
        ck_assert_int_eq(world_tag(&w, i), PTE_PRESENT);
    ck_assert_int_eq(shrink(512), 3);
    finish();
    ck_assert_uint_eq(w.count.pgscan, 13);
    ck_assert_uint_eq(w.count.pgsteal, 10);
}
END_TEST

START_TEST(when_all_are_referenced_the_second_turn_takes)
{
    adopt(0, 10);
    reference(0, 10);
    ck_assert_int_eq(shrink(5), 0);
    ck_assert_uint_eq(w.count.pgscan, 10);
    ck_assert_int_eq(shrink(5), 5);
    ck_assert_uint_eq(w.t.vec[0].addr.v, fake_addr(0).v);
    finish();
    ck_assert_uint_eq(w.count.pgscan, 15);
}
END_TEST

START_TEST(a_hand_behind_everything_starts_at_the_bottom)
{
    adopt(0, 3);
    w.mm.clock_hand = fake_addr(1000).v;
    ck_assert_int_eq(shrink(2), 2);
    ck_assert_uint_eq(w.t.vec[0].addr.v, fake_addr(0).v);
    finish();
    w.mm.clock_hand = UINT64_MAX & PAGE_MASK;
    ck_assert_int_eq(shrink(2), 1);
    finish();
}
END_TEST

START_TEST(a_cold_huge_page_leaves_as_a_whole)
{
    adopt(LEAF, LEAF);
    w.t.huge = true;
    ck_assert_int_eq(shrink(512), LEAF);
    ck_assert(w.t.capture_huge);
    ck_assert_uint_eq(w.t.nr_vecs, 1);
    ck_assert_uint_eq(w.mm.clock_hand, fake_addr(2 * LEAF).v);
    finish();
    ck_assert_uint_eq(w.count.pgscan, LEAF);
    ck_assert_uint_eq(w.mm.nr[PTE_ZERO], LEAF);
}
END_TEST

START_TEST(pages_picked_before_a_huge_page_go_first)
{
    adopt(LEAF - 3, LEAF + 3);
    w.t.huge = true;
    ck_assert_int_eq(shrink(512), 3);
    ck_assert(!w.t.capture_huge);
    finish();
    ck_assert_int_eq(shrink(512), LEAF);
    ck_assert(w.t.capture_huge);
    finish();
}
END_TEST

START_TEST(a_warm_or_partial_or_small_leaf_is_no_huge_page)
{
    w.t.huge = true;
    adopt(0, LEAF);
    reference(100, 1);
    ck_assert_int_eq(shrink(512), LEAF - 1);
    ck_assert(!w.t.capture_huge);
    finish();

    adopt(2 * LEAF, LEAF - 1); /* its last page is not there */
    w.mm.clock_hand = fake_addr(2 * LEAF).v;
    ck_assert_int_eq(shrink(512), LEAF - 1);
    ck_assert(!w.t.capture_huge);
    finish();

    w.t.huge = false;
    adopt(3 * LEAF, LEAF);
    w.mm.clock_hand = fake_addr(3 * LEAF).v;
    ck_assert_int_eq(shrink(512), LEAF);
    ck_assert(!w.t.capture_huge);
    finish();
}
END_TEST

START_TEST(a_scan_that_fails_makes_small_pages_of_it)
{
    w.t.huge = true;
    adopt(0, LEAF);
    fake_plan_every(&w.t, FAKE_SCAN, -ENOMEM);
    ck_assert_int_eq(shrink(512), LEAF);
    ck_assert(!w.t.capture_huge);
    finish();
}
END_TEST

START_TEST(not_while_a_move_is_under_way)
{
    adopt(0, 4);
    ck_assert_int_eq(shrink(2), 2);
    ck_assert_int_eq(shrink(2), -EBUSY);
    finish();
    ck_assert_int_eq(shrink(2), 2);
    finish();
}
END_TEST

START_TEST(without_an_agent_the_pages_stay)
{
    adopt(0, 4);
    fake_plan_every(&w.t, FAKE_CAPTURE, -ENOTCONN);
    ck_assert_int_eq(shrink(512), -ENOTCONN);
    ck_assert_uint_eq(w.mm.nr[PTE_PRESENT], 4);
    ck_assert(!migrate_is_busy(&w.mm));
}
END_TEST

START_TEST(never_more_than_a_batch)
{
    adopt(0, 700);
    ck_assert_int_eq(shrink(100000), CAPTURE_MAX_PAGES);
    finish();
    ck_assert_int_eq(shrink(1), 1);
    finish();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("reclaim-clock");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, nothing_to_take_in_an_empty_address_space);
    tcase_add_test(tc, the_hand_goes_on_where_it_stopped_and_round);
    tcase_add_test(tc, a_referenced_page_is_spared_once);
    tcase_add_test(tc, when_all_are_referenced_the_second_turn_takes);
    tcase_add_test(tc, a_hand_behind_everything_starts_at_the_bottom);
    tcase_add_test(tc, a_cold_huge_page_leaves_as_a_whole);
    tcase_add_test(tc, pages_picked_before_a_huge_page_go_first);
    tcase_add_test(tc, a_warm_or_partial_or_small_leaf_is_no_huge_page);
    tcase_add_test(tc, a_scan_that_fails_makes_small_pages_of_it);
    tcase_add_test(tc, not_while_a_move_is_under_way);
    tcase_add_test(tc, without_an_agent_the_pages_stay);
    tcase_add_test(tc, never_more_than_a_batch);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
