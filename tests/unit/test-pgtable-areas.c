/* SPDX-License-Identifier: Apache-2.0 */
/* Areas: adding and cutting, against a model of one bit a page. */
#include <check.h>
#include <string.h>

#include "pgtable/pgtable.h"

#define NR_PAGES 256

static struct mm mm;
static bool model[NR_PAGES];
static uint64_t seed;

static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

static void setup(void)
{
    mm = (struct mm){0};
    memset(model, 0, sizeof(model));
    seed = 3;
}

static void teardown(void)
{
    free(mm.areas);
}

static void add(uint32_t from, uint32_t to)
{
    ck_assert_int_eq(mm_area_add(&mm, from * PAGE_SIZE, to * PAGE_SIZE), 0);
    for (uint32_t i = from; i < to; i++)
        model[i] = true;
}

static void cut(uint32_t from, uint32_t to)
{
    ck_assert_int_eq(mm_area_remove(&mm, from * PAGE_SIZE, to * PAGE_SIZE), 0);
    for (uint32_t i = from; i < to; i++)
        model[i] = false;
}

static void compare(void)
{
    uint64_t bytes = 0;

    ck_assert_ptr_null(pgtable_check(&mm));
    for (uint32_t i = 0; i < NR_PAGES; i++) {
        const struct area *a = mm_area_find(&mm, i * PAGE_SIZE);
        ck_assert_msg(!!a == model[i], "page %u is %s an area", i, a ? "in" : "in no");
        if (a)
            ck_assert(a->start <= i * PAGE_SIZE && (i + 1) * PAGE_SIZE <= a->end);
        bytes += model[i] * PAGE_SIZE;

        uint64_t next = UINT64_MAX;
        for (uint32_t k = mm.nr_areas; k-- > 0 && mm.areas[k].start >= i * PAGE_SIZE;)
            next = mm.areas[k].start;
        ck_assert_uint_eq(mm_area_next_start(&mm, i * PAGE_SIZE), next);
    }
    ck_assert_uint_eq(mm_area_bytes(&mm), bytes);
}

START_TEST(none_at_first)
{
    compare();
    cut(0, NR_PAGES);
    compare();
    ck_assert_uint_eq(mm_area_bytes(&mm), 0);
}
END_TEST

START_TEST(areas_of_one_mapping_are_joined_and_no_others)
{
    static struct area_store store;

    mm.area_store = &store;
    for (uint32_t i = 2; i < 20; i += 2) /* 2 to 20, and another one at its end */
        add(i, i + 2);
    add(20, 30);
    add(31, 33); /* behind a hole, */
    add(33, 40);
    mm_area_set_thp(&mm, 33 * PAGE_SIZE, AREA_THP_ADVISED); /* and another kind */
    mm_area_join(&mm, 2 * PAGE_SIZE, 20 * PAGE_SIZE);
    compare();
    ck_assert_uint_eq(mm.nr_areas, 4);
    ck_assert_uint_eq(mm_area_find(&mm, 5 * PAGE_SIZE)->start, 2 * PAGE_SIZE);
    ck_assert_uint_eq(mm_area_find(&mm, 5 * PAGE_SIZE)->end, 20 * PAGE_SIZE);
    mm_area_join(&mm, 3 * PAGE_SIZE, 40 * PAGE_SIZE); /* what begins before it is another mapping */
    mm_area_join(&mm, 2 * PAGE_SIZE, 29 * PAGE_SIZE); /* and what ends behind it */
    ck_assert_uint_eq(mm.nr_areas, 4);
    mm_area_join(&mm, 2 * PAGE_SIZE, 40 * PAGE_SIZE);
    compare();
    ck_assert_uint_eq(mm.nr_areas, 3);
    ck_assert_int_eq(mm_area_find(&mm, 33 * PAGE_SIZE)->thp, AREA_THP_ADVISED);
    ck_assert_int_eq(mm_area_find(&mm, 32 * PAGE_SIZE)->thp, AREA_THP_NO);
    ck_assert_uint_eq(store.nr[store.active], 3);
    ck_assert(!memcmp(store.area[store.active], mm.areas, 3 * sizeof(struct area)));
    mm_area_join(&mm, 100 * PAGE_SIZE, 110 * PAGE_SIZE);
    compare();
}
END_TEST

START_TEST(a_cut_in_the_middle_leaves_two_ends)
{
    add(10, 20);
    cut(13, 15);
    compare();
    ck_assert_uint_eq(mm.nr_areas, 2);
    cut(10, 11);
    cut(18, 20);
    compare();
    cut(0, 13);
    compare();
    ck_assert_uint_eq(mm.nr_areas, 1);
    cut(14, 19);
    compare();
    ck_assert_uint_eq(mm.nr_areas, 0);
}
END_TEST

START_TEST(neighbours_stay_two_and_their_border_is_the_upper_ones)
{
    add(10, 20);
    add(20, 30);
    compare();
    ck_assert_uint_eq(mm.nr_areas, 2);
    ck_assert_uint_eq(mm_area_find(&mm, 20 * PAGE_SIZE)->start, 20 * PAGE_SIZE);
    ck_assert_uint_eq(mm_area_find(&mm, 20 * PAGE_SIZE - 1)->end, 20 * PAGE_SIZE);
    ck_assert_ptr_null(mm_area_find(&mm, 30 * PAGE_SIZE));
}
END_TEST

START_TEST(an_added_area_replaces_what_it_overlaps)
{
    add(10, 20);
    add(30, 40);
    add(15, 35);
    compare();
    ck_assert_uint_eq(mm.nr_areas, 3);
    add(0, NR_PAGES);
    compare();
    ck_assert_uint_eq(mm.nr_areas, 1);
    add(50, 60); /* inside: both ends of the old one stay */
    compare();
    ck_assert_uint_eq(mm.nr_areas, 3);
}
END_TEST

START_TEST(any_sequence_agrees_with_a_bit_a_page)
{
    for (uint32_t i = 0; i < 3000; i++) {
        uint32_t from = draw(NR_PAGES - 1), to = from + 1 + draw(MIN(NR_PAGES - from - 1, 24u) + 1);

        to = MIN(to, (uint32_t)NR_PAGES);
        if (draw(2))
            add(from, to);
        else
            cut(from, to);
        compare();
    }
    ck_assert_uint_gt(mm.cap_areas, 16); /* it had to grow on the way */
}
END_TEST

START_TEST(the_check_sees_areas_that_are_wrong)
{
    add(10, 20);
    add(30, 40);
    mm.areas[0].end = 31 * PAGE_SIZE;
    ck_assert_ptr_nonnull(pgtable_check(&mm));
    mm.areas[0].end = 20 * PAGE_SIZE + 1;
    ck_assert_ptr_nonnull(pgtable_check(&mm));
    mm.areas[0].end = mm.areas[0].start;
    ck_assert_ptr_nonnull(pgtable_check(&mm));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pgtable-areas");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, none_at_first);
    tcase_add_test(tc, a_cut_in_the_middle_leaves_two_ends);
    tcase_add_test(tc, neighbours_stay_two_and_their_border_is_the_upper_ones);
    tcase_add_test(tc, areas_of_one_mapping_are_joined_and_no_others);
    tcase_add_test(tc, an_added_area_replaces_what_it_overlaps);
    tcase_add_test(tc, any_sequence_agrees_with_a_bit_a_page);
    tcase_add_test(tc, the_check_sees_areas_that_are_wrong);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
