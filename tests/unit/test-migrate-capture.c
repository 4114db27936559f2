/* SPDX-License-Identifier: Apache-2.0 */
/* The first half of a move: what is captured, in what runs, and what comes of each result. */
#include <check.h>
#include <string.h>

#include "fake_target.h"

#define NR_FRAMES PAGEBLOCK_FRAMES

static struct world w;
static uint8_t result[CAPTURE_MAX_PAGES];

static void setup(void)
{
    world_open(&w, 8, NR_FRAMES);
}

static void teardown(void)
{
    world_close(&w);
}

static int capture(const uint32_t *pages, uint32_t nr)
{
    struct uaddr addr[CAPTURE_MAX_PAGES];

    for (uint32_t i = 0; i < nr; i++)
        addr[i] = fake_addr(pages[i]);
    return migrate_capture(&w.mm, addr, nr, false, MIGRATE_DEMOTION);
}

static void remove_page(uint32_t n)
{
    pte_t old;

    ck_assert_int_eq(
        pte_transition(&w.mm, fake_addr(n), PTE_EV_REMOVE, (struct pte_arg){0}, &old), 0);
    migrate_release_stored(&w.mm, fake_addr(n), old);
    w.t.page[n] = FAKE_ABSENT;
}

START_TEST(neighbours_are_captured_in_one_run)
{
    uint32_t pages[] = {3, 4, 5, 9, 20, 19, 21};

    for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
        world_adopt(&w, pages[i], false);
    ck_assert_int_eq(capture(pages, ARRAY_SIZE(pages)), ARRAY_SIZE(pages));
    ck_assert(migrate_is_busy(&w.mm) && migrate_is_capturing(&w.mm));
    ck_assert_uint_eq(migrate_nr_open(&w.mm), ARRAY_SIZE(pages));

    static const uint32_t want[][3] = {{3, 3, 0}, {9, 1, 3}, {20, 1, 4}, {19, 1, 5}, {21, 1, 6}};
    ck_assert_uint_eq(w.t.nr_vecs, ARRAY_SIZE(want));
    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        ck_assert_uint_eq(w.t.vec[i].addr.v, fake_addr(want[i][0]).v);
        ck_assert_uint_eq(w.t.vec[i].nr_pages, want[i][1]);
        ck_assert_uint_eq(w.t.vec[i].slot, want[i][2]);
    }
    ck_assert(!w.t.capture_huge);
    for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
        ck_assert_int_eq(world_tag(&w, pages[i]), PTE_MIGRATING);
        ck_assert_ptr_null(migrate_bytes(&w.mm, fake_addr(pages[i])));
    }
    world_check(&w);
}
END_TEST

START_TEST(pages_in_other_states_are_left_out)
{
    uint32_t pages[] = {0, 1, 2, 3, 0};

    world_adopt(&w, 1, false);
    world_store(&w, 1, 1);
    world_adopt(&w, 0, false);
    world_adopt(&w, 3, false);
    /* 1 is stored, 2 was never there, 0 is named twice. */
    ck_assert_int_eq(capture(pages, ARRAY_SIZE(pages)), 2);
    ck_assert_int_eq(world_tag(&w, 1), PTE_FRAME);
    ck_assert_int_eq(world_tag(&w, 2), PTE_NONE);
    world_check(&w);
}
END_TEST

static enum pte_tag tag_at[2];

static void look_at_the_entry(bool start)
{
    tag_at[start] = world_tag(&w, 0);
}

/* Else a successor would take the results of the command before for those of this one. */
START_TEST(the_target_is_prepared_before_an_entry_changes_and_started_after)
{
    uint32_t page = 0;

    world_adopt(&w, 0, false);
    w.t.at_capture = look_at_the_entry;
    ck_assert_int_eq(capture(&page, 1), 1);
    ck_assert_int_eq(tag_at[false], PTE_PRESENT);
    ck_assert_int_eq(tag_at[true], PTE_MIGRATING);
    ck_assert_uint_eq(w.t.nr_started, 1);
}
END_TEST

START_TEST(only_one_move_at_a_time)
{
    uint32_t first = 0, second = 1;

    world_adopt(&w, 0, false);
    world_adopt(&w, 1, false);
    ck_assert_int_eq(capture(&first, 1), 1);
    ck_assert_int_eq(capture(&second, 1), -EBUSY);
    fake_agent(&w.t, result);
    ck_assert_uint_eq(migrate_captured(&w.mm, result), 1);
    /* Still busy: the page waits for its commit, and a capture would use its slot. */
    ck_assert(migrate_is_busy(&w.mm) && !migrate_is_capturing(&w.mm));
    ck_assert_int_eq(capture(&second, 1), -EBUSY);
    ck_assert_int_eq(world_tag(&w, 1), PTE_PRESENT);
    ck_assert_uint_eq(migrate_commit(&w.mm, CAPTURE_MAX_PAGES), 0);
    ck_assert_int_eq(capture(&second, 1), 1);
}
END_TEST

START_TEST(nothing_present_is_nothing_to_capture)
{
    uint32_t pages[] = {0, 1};

    ck_assert_int_eq(capture(pages, 2), -EAGAIN);
    ck_assert(!migrate_is_busy(&w.mm));
    ck_assert_uint_eq(w.t.nr[FAKE_CAPTURE], 0);
}
END_TEST

START_TEST(a_capture_that_does_not_start_leaves_entries_as_they_were)
{
    uint32_t pages[] = {0, 1, 2};
    pte_t before[3];

    for (uint32_t i = 0; i < 3; i++)
        world_adopt(&w, i, false);
    pte_change_flags(&w.mm, fake_addr(1), PTE_F_REFERENCED | PTE_F_MERGEABLE, 0);
    for (uint32_t i = 0; i < 3; i++)
        before[i] = pte_get(&w.mm, fake_addr(i));
    fake_plan(&w.t, FAKE_CAPTURE, 1, -ENOTCONN, 0);
    ck_assert_int_eq(capture(pages, 3), -ENOTCONN);
    ck_assert(!migrate_is_busy(&w.mm) && !migrate_is_capturing(&w.mm));
    for (uint32_t i = 0; i < 3; i++)
        ck_assert_uint_eq(pte_get(&w.mm, fake_addr(i)), before[i]);
    world_check(&w);
    ck_assert_int_eq(capture(pages, 3), 3);
}
END_TEST

START_TEST(a_huge_page_is_captured_as_one_or_not_at_all_as_huge)
{
    struct uaddr pages[PTES_PER_LEAF];

    for (uint32_t i = 0; i < PTES_PER_LEAF; i++) {
        world_adopt(&w, PTES_PER_LEAF + i, true);
        pages[i] = fake_addr(PTES_PER_LEAF + i);
    }
    /* One page has gone since it was looked at: small pages then. */
    remove_page(PTES_PER_LEAF + 7);
    ck_assert_int_eq(migrate_capture(&w.mm, pages, PTES_PER_LEAF, true, MIGRATE_DEMOTION),
                     PTES_PER_LEAF - 1);
    ck_assert(!w.t.capture_huge);
    ck_assert_uint_eq(w.count.capture_huge, 0);
    memset(result, CAPTURE_NOT_TRIED, sizeof(result));
    migrate_captured(&w.mm, result);

    world_adopt(&w, PTES_PER_LEAF + 7, true);
    ck_assert_int_eq(migrate_capture(&w.mm, pages, PTES_PER_LEAF, true, MIGRATE_DEMOTION),
                     PTES_PER_LEAF);
    ck_assert(w.t.capture_huge);
    ck_assert_uint_eq(w.t.nr_vecs, 1);
    ck_assert_uint_eq(w.count.capture_huge, 1);
    fake_agent(&w.t, result);
    ck_assert_uint_eq(migrate_captured(&w.mm, result), PTES_PER_LEAF);
    ck_assert_uint_eq(migrate_commit(&w.mm, CAPTURE_MAX_PAGES), 0);
    ck_assert_uint_eq(w.mm.nr[PTE_ZERO], PTES_PER_LEAF);
}
END_TEST

/* ---- the outcome of a capture ---- */

START_TEST(each_result_leads_to_its_state_and_counter)
{
    static const struct {
        uint8_t result;
        enum pte_tag tag;
        uint32_t flags;
        size_t counter; /* of struct counters */
        bool fails;
    } table[] = {
        {CAPTURE_TAKEN, PTE_MIGRATING, 0, 0, false},
        {CAPTURE_EVENTS, PTE_PRESENT, 0, offsetof(struct counters, capture_events), false},
        {CAPTURE_NOT_TRIED, PTE_PRESENT, 0, offsetof(struct counters, capture_events), false},
        {CAPTURE_BUSY, PTE_PRESENT, PTE_F_REFERENCED, offsetof(struct counters, capture_busy),
         true},
        {CAPTURE_HOLE, PTE_NONE, 0, offsetof(struct counters, capture_hole), false},
        {CAPTURE_REFUSED, PTE_PRESENT, PTE_F_REFERENCED, offsetof(struct counters, capture_refused),
         true},
        {CAPTURE_LOST, PTE_POISON, 0, offsetof(struct counters, poisoned), false},
        {CAPTURE_LOST + 1, PTE_PRESENT, PTE_F_REFERENCED,
         offsetof(struct counters, capture_refused), true},
        {255, PTE_PRESENT, PTE_F_REFERENCED, offsetof(struct counters, capture_refused), true},
    };
    uint32_t pages[] = {5};

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        world_adopt(&w, 5, false);
        ck_assert_int_eq(capture(pages, 1), 1);
        w.count = (struct counters){0};
        /* What is behind the move is not looked at. */
        memset(result, CAPTURE_TAKEN, sizeof(result));
        result[0] = table[i].result;
        bool taken = table[i].result == CAPTURE_TAKEN;
        ck_assert_uint_eq(migrate_captured(&w.mm, result), taken);
        pte_t pte = pte_get(&w.mm, fake_addr(5));
        ck_assert_msg(pte_tag(pte) == table[i].tag, "result %u: %s", table[i].result,
                      pte_tag_name(pte_tag(pte)));
        ck_assert_uint_eq(pte_flags(pte), table[i].flags);
        if (table[i].counter)
            ck_assert_uint_eq(*(uint64_t *)(void *)((char *)&w.count + table[i].counter), 1);
        ck_assert_uint_eq(w.count.pgmigrate_fail, table[i].fails);
        ck_assert_uint_eq(migrate_is_busy(&w.mm), taken);
        world_check(&w);
        remove_page(5);
        ck_assert_uint_eq(migrate_commit(&w.mm, CAPTURE_MAX_PAGES), 0);
    }
}
END_TEST

START_TEST(a_hole_where_the_entry_is_new_meanwhile_is_no_loss)
{
    uint32_t pages[] = {5};

    world_adopt(&w, 5, false);
    ck_assert_int_eq(capture(pages, 1), 1);
    remove_page(5);
    world_adopt(&w, 5, false); /* dropped and touched again */
    memset(result, CAPTURE_HOLE, sizeof(result));
    migrate_captured(&w.mm, result);
    ck_assert_int_eq(world_tag(&w, 5), PTE_PRESENT);
    world_check(&w);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("migrate-capture");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, neighbours_are_captured_in_one_run);
    tcase_add_test(tc, pages_in_other_states_are_left_out);
    tcase_add_test(tc, the_target_is_prepared_before_an_entry_changes_and_started_after);
    tcase_add_test(tc, only_one_move_at_a_time);
    tcase_add_test(tc, nothing_present_is_nothing_to_capture);
    tcase_add_test(tc, a_capture_that_does_not_start_leaves_entries_as_they_were);
    tcase_add_test(tc, a_huge_page_is_captured_as_one_or_not_at_all_as_huge);
    tcase_add_test(tc, each_result_leads_to_its_state_and_counter);
    tcase_add_test(tc, a_hole_where_the_entry_is_new_meanwhile_is_no_loss);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
