/* SPDX-License-Identifier: Apache-2.0 */
/* Refault distances, the levels that come of them, and when a page is due. */
#include <check.h>

#include "pgtable/pgtable.h"

static struct counters count;
static struct mm mm;

static void setup(void)
{
    count = (struct counters){0};
    mm = (struct mm){.count = &count, .workingset_pages = 4000};
}

static pte_t stored(unsigned level, uint32_t age)
{
    return pte_make(PTE_FRAME, PTE_F_LEVEL(level), 1, 7) | (pte_t)age << 20;
}

static pte_t present(struct pte_arg arg)
{
    return pte_make(PTE_PRESENT, arg.flags, 0, 0) | (pte_t)arg.age << 20;
}

/* Level after a refault `distance` pages after the eviction. */
static unsigned level_after(unsigned level, uint64_t distance)
{
    pte_t pte = stored(level, workingset_eviction(&mm));

    count.pgsteal += distance;
    return pte_level(present(workingset_refault(&mm, pte)));
}

START_TEST(a_short_distance_raises_the_level_a_long_one_halves_it)
{
    static const struct {
        unsigned level;
        uint64_t distance;
        unsigned want;
    } table[] = {
        {0, 0, 1},     {0, 2900, 1},  {3, 1, 4},      {PTE_MAX_LEVEL, 1, PTE_MAX_LEVEL},
        {0, 3100, 0},  {1, 3100, 0},  {4, 3100, 2},   {3, 60000, 1},
    };

    for (uint64_t start = 0; start < 1000000; start += 99999) {
        count.pgsteal = start;
        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
            unsigned got = level_after(table[i].level, table[i].distance);
            ck_assert_msg(got == table[i].want, "level %u, distance %llu: %u", table[i].level,
                          (unsigned long long)table[i].distance, got);
        }
    }
}
END_TEST

START_TEST(refaults_are_counted_and_activations_among_them)
{
    level_after(0, 10);
    level_after(0, 5000);
    ck_assert_uint_eq(count.workingset_refault, 2);
    ck_assert_uint_eq(count.workingset_activate, 1);
    /* Not moved out by reclaim, or in a group without limit: nothing to be told. */
    workingset_refault(&mm, stored(2, 0));
    mm.workingset_pages = 0;
    ck_assert_uint_eq(workingset_eviction(&mm), 0);
    ck_assert_uint_eq(pte_level(present(workingset_refault(&mm, stored(2, 5)))), 2);
    ck_assert_uint_eq(count.workingset_refault, 2);
}
END_TEST

START_TEST(a_page_is_due_after_as_many_turns_as_its_level_says)
{
    static const uint32_t turns[] = {0, 1, 3, 7, 15};

    for (uint32_t turn = 0; turn < 100; turn += 7) {
        for (unsigned level = 0; level <= PTE_MAX_LEVEL; level++) {
            mm.clock_turn = turn;
            pte_t before = stored(level, 0);
            pte_t pte = present(workingset_refault(&mm, before));
            for (uint32_t left = turns[level]; left > 0; left--, mm.clock_turn++)
                ck_assert_uint_eq(workingset_turns_left(&mm, pte), left);
            for (int more = 0; more < 16; more++, mm.clock_turn++)
                ck_assert_uint_eq(workingset_turns_left(&mm, pte), 0);
        }
    }
    /* Adopted as it was found: due at any time. */
    ck_assert_uint_eq(workingset_turns_left(&mm, pte_make(PTE_PRESENT, 0, 0, 0)), 0);
}
END_TEST

START_TEST(a_page_brought_along_keeps_its_level_and_is_due_at_once)
{
    pte_t pte = present(workingset_prefetched(&mm, stored(3, 9)));

    ck_assert_uint_eq(pte_level(pte), 3);
    ck_assert_uint_eq(workingset_turns_left(&mm, pte), 0);
    ck_assert_uint_eq(count.workingset_refault, 0);
}
END_TEST

START_TEST(what_was_filled_is_fresh_for_two_captures)
{
    for (mm.fill_epoch = 60; mm.fill_epoch < 70; mm.fill_epoch++) {
        pte_t pte = present(workingset_filled(&mm));
        uint32_t then = mm.fill_epoch;
        ck_assert(workingset_is_fresh(&mm, pte));
        mm.fill_epoch++;
        ck_assert(workingset_is_fresh(&mm, pte));
        mm.fill_epoch++;
        ck_assert(!workingset_is_fresh(&mm, pte));
        mm.fill_epoch = then;
    }
    ck_assert(!workingset_is_fresh(&mm, pte_make(PTE_PRESENT, 0, 0, 0)));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pgtable-workingset");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, a_short_distance_raises_the_level_a_long_one_halves_it);
    tcase_add_test(tc, refaults_are_counted_and_activations_among_them);
    tcase_add_test(tc, a_page_is_due_after_as_many_turns_as_its_level_says);
    tcase_add_test(tc, a_page_brought_along_keeps_its_level_and_is_due_at_once);
    tcase_add_test(tc, what_was_filled_is_fresh_for_two_captures);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
