/* SPDX-License-Identifier: Apache-2.0 */
/* First touches that are answered with a whole huge page. */
#include <check.h>
#include <errno.h>

#include "fake_target.h"
#include "fault/fault.h"

#define LEAF PTES_PER_LEAF

static struct world w;
static struct target_ops ops;
static uint64_t asked; /* where the target was asked for a huge page; 0: not */
static int answer;

static _Atomic uint64_t saved;
static uint32_t nr_given; /* commands */

static int fill_prepare(void *t, struct uaddr base)
{
    (void)t;
    if (!answer)
        asked = base.v;
    ck_assert_uint_eq(saved, 0); /* wiped out first, then noted, then given */
    return answer;
}

static void give(void *t)
{
    (void)t;
    ck_assert_uint_eq(saved, asked);
    nr_given++;
}

static void setup(void)
{
    world_open(&w, 8, PAGEBLOCK_FRAMES);
    ops = fake_ops;
    ops.fill_prepare = fill_prepare;
    ops.capture_start = give;
    saved = nr_given = 0;
    w.mm.saved_fill = &saved;
    w.mm.ops = &ops;
    mm_area_set_thp(&w.mm, FAKE_START, AREA_THP_ADVISED);
    asked = 0;
    answer = 0;
}

static void teardown(void)
{
    w.mm.ops = &fake_ops;
    world_close(&w);
}

static enum fault_outcome fault(uint32_t n, bool write, uint32_t max)
{
    uint32_t filled;
    enum fault_outcome o = fault_answer(&w.mm, fake_addr(n), write, max, &filled);

    world_check(&w);
    return o;
}

/* The agent has put `nr` pages there; else `why` stands for the first. */
static uint32_t finish(uint32_t first, uint32_t nr, uint8_t why)
{
    uint8_t result[CAPTURE_MAX_PAGES];

    for (uint32_t i = 0; i < CAPTURE_MAX_PAGES; i++)
        result[i] = i < nr ? CAPTURE_TAKEN : CAPTURE_NOT_TRIED;
    for (uint32_t i = 0; i < nr; i++)
        fake_put(&w.t, first + i, true);
    if (!nr)
        result[0] = why;
    ck_assert(migrate_is_capturing(&w.mm) && migrate_is_busy(&w.mm));
    uint32_t got = migrate_filled(&w.mm, result);
    ck_assert(!migrate_is_capturing(&w.mm) && !migrate_is_busy(&w.mm));
    ck_assert_uint_eq(saved, 0);
    ck_assert_uint_ge(nr_given, 1);
    world_check(&w);
    return got;
}

START_TEST(a_written_page_brings_the_huge_page_around_it)
{
    ck_assert_int_eq(fault(LEAF + 7, true, LEAF), FAULT_PARKED);
    ck_assert_uint_eq(asked, fake_addr(LEAF).v);
    ck_assert_uint_eq(finish(LEAF, LEAF, 0), LEAF);
    ck_assert_uint_eq(w.mm.nr[PTE_PRESENT], LEAF);
    ck_assert_uint_eq(w.count.fill_huge, 1);
    ck_assert_uint_eq(w.count.pgzerofill, LEAF);
    /* The fault that waits finds it there. */
    ck_assert_int_eq(fault(LEAF + 7, true, LEAF), FAULT_ANSWERED);
}
END_TEST

START_TEST(not_where_it_does_not_fit_or_was_not_asked_for)
{
    ck_assert_int_eq(fault(3, false, LEAF), FAULT_ANSWERED); /* read: zeros are enough */
    ck_assert_int_eq(fault(9, true, LEAF), FAULT_ANSWERED);  /* not all of it is untouched */
    ck_assert_int_eq(fault(LEAF + 1, true, LEAF - 1), FAULT_ANSWERED); /* no room */
    mm_area_remove(&w.mm, fake_addr(3 * LEAF + 1).v, FAKE_END);
    ck_assert_int_eq(fault(3 * LEAF, true, LEAF), FAULT_ANSWERED); /* beyond the mapping */
    mm_area_set_thp(&w.mm, FAKE_START, AREA_THP_NO);
    ck_assert_int_eq(fault(2 * LEAF, true, LEAF), FAULT_ANSWERED);
    ck_assert_uint_eq(asked, 0);
}
END_TEST

START_TEST(without_advice_only_for_touches_that_follow_each_other)
{
    mm_area_set_thp(&w.mm, FAKE_START, AREA_THP_SEQUENTIAL);
    ck_assert_int_eq(fault(LEAF + 5, true, LEAF), FAULT_ANSWERED);
    ck_assert_int_eq(fault(3 * LEAF, true, LEAF), FAULT_ANSWERED);
    ck_assert_uint_eq(asked, 0);
    w.mm.readahead[0] = (struct readahead_stream){.last = fake_addr(2 * LEAF - 32).v,
                                                  .next = fake_addr(2 * LEAF).v,
                                                  .stride = PAGE_SIZE,
                                                  .pages = 32};
    ck_assert_int_eq(fault(2 * LEAF, true, LEAF), FAULT_PARKED);
    ck_assert_uint_eq(asked, fake_addr(2 * LEAF).v);
    finish(2 * LEAF, LEAF, 0);
}
END_TEST

START_TEST(a_kernel_without_a_huge_page_at_hand_is_not_asked_for_ever)
{
    /* One page was to be had. */
    ck_assert_int_eq(fault(0, true, LEAF), FAULT_PARKED);
    ck_assert_uint_eq(finish(0, 1, 0), 1);
    ck_assert_int_eq(fault(LEAF, true, LEAF), FAULT_ANSWERED);
    /* An event came in between: again. */
    mm_area_set_thp(&w.mm, FAKE_START, AREA_THP_ADVISED);
    ck_assert_int_eq(fault(2 * LEAF, true, LEAF), FAULT_PARKED);
    ck_assert_uint_eq(finish(2 * LEAF, 0, CAPTURE_EVENTS), 0);
    ck_assert_int_eq(fault(2 * LEAF, true, LEAF), FAULT_PARKED);
    ck_assert_uint_eq(finish(2 * LEAF, 0, CAPTURE_REFUSED), 0);
    ck_assert_int_eq(fault(2 * LEAF, true, LEAF), FAULT_ANSWERED);
    ck_assert_uint_eq(w.count.fill_huge, 0);
}
END_TEST

START_TEST(without_an_agent_small_pages_are_the_answer)
{
    answer = -ENOTCONN;
    ck_assert_int_eq(fault(0, true, LEAF), FAULT_ANSWERED);
    ck_assert(!migrate_is_capturing(&w.mm));
    ck_assert_uint_eq(saved + nr_given, 0);
}
END_TEST

START_TEST(not_while_a_move_is_under_way)
{
    world_adopt(&w, 5, false);
    ops.capture_start = fake_ops.capture_start;
    world_stage(&w, 5, 1);
    ck_assert_int_eq(fault(LEAF, true, LEAF), FAULT_ANSWERED);
    ck_assert_uint_eq(asked, 0);
    ck_assert_uint_eq(migrate_commit(&w.mm, CAPTURE_MAX_PAGES), 0);
}
END_TEST

/* The worker dies: `nr` pages are there by then, of which it knows nothing. */
static void die_and_collect(uint32_t nr)
{
    migrate_op_free(&w.mm);
    ck_assert_int_eq(migrate_op_init(&w.mm), 0);
    migrate_recover(&w.mm);
    ck_assert(migrate_is_filling(&w.mm));
    ck_assert_uint_eq(finish(LEAF, nr, CAPTURE_NOT_TRIED), nr);
}

START_TEST(a_successor_waits_for_a_fill_that_is_under_way)
{
    ck_assert_int_eq(fault(LEAF + 7, true, LEAF), FAULT_PARKED);
    die_and_collect(LEAF);
    ck_assert_uint_eq(w.mm.nr[PTE_PRESENT], LEAF);
}
END_TEST

START_TEST(a_fill_that_was_not_tried_says_nothing_about_huge_pages)
{
    ck_assert_int_eq(fault(LEAF + 7, true, LEAF), FAULT_PARKED);
    die_and_collect(0);
    ck_assert_int_eq(fault(LEAF + 7, true, LEAF), FAULT_PARKED);
    finish(LEAF, LEAF, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fault-huge");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_written_page_brings_the_huge_page_around_it);
    tcase_add_test(tc, not_where_it_does_not_fit_or_was_not_asked_for);
    tcase_add_test(tc, without_advice_only_for_touches_that_follow_each_other);
    tcase_add_test(tc, a_kernel_without_a_huge_page_at_hand_is_not_asked_for_ever);
    tcase_add_test(tc, without_an_agent_small_pages_are_the_answer);
    tcase_add_test(tc, not_while_a_move_is_under_way);
    tcase_add_test(tc, a_successor_waits_for_a_fill_that_is_under_way);
    tcase_add_test(tc, a_fill_that_was_not_tried_says_nothing_about_huge_pages);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
