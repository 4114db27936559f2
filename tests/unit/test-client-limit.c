/* SPDX-License-Identifier: Apache-2.0 */
/* Faults and captures of a group that has a limit. */
#include <check.h>

#include "fake_domain.h"

#define NR_FRAMES PAGEBLOCK_FRAMES
#define NR_LEAVES 8

static void setup(void)
{
    dom_open(NR_LEAVES, NR_FRAMES);
}

static void teardown(void)
{
    dom_close();
}

static void at_the_limit(void)
{
    dom.g->limit_bytes = GROUP_MIN_LIMIT_BYTES;
    dom_adopt(4, 8, false);
    dom_store(4, 8);
    client_set_resident(&dom.c, GROUP_MIN_LIMIT_BYTES);
    fake_forget_calls(&dom.t);
}

START_TEST(at_the_limit_a_fault_waits_for_room)
{
    at_the_limit();
    dom_fault(4, false);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 1);
    ck_assert_uint_eq(dom.t.nr_calls, 0);
    client_set_resident(&dom.c, GROUP_MIN_LIMIT_BYTES - PAGE_SIZE);
    ck_assert_uint_eq(dom_answer(&dom.c, 3000), 0);
    ck_assert(dom_holds(4, 4));
    ck_assert_uint_eq(dom.g->resident_bytes, GROUP_MIN_LIMIT_BYTES);
    ck_assert_uint_eq(dom.g->count.limit_overshoot, 0);
}
END_TEST

START_TEST(what_a_measurement_finds_above_the_limit_is_counted_in_bytes)
{
    at_the_limit();
    client_measured(&dom.c, GROUP_MIN_LIMIT_BYTES);
    ck_assert_uint_eq(dom.g->count.limit_overshoot_bytes, 0);
    client_measured(&dom.c, GROUP_MIN_LIMIT_BYTES + 3 * PAGE_SIZE);
    ck_assert_uint_eq(dom.g->count.limit_overshoot_bytes, 3 * PAGE_SIZE);
    /* Found before, or let in by a fault: not once more. */
    client_measured(&dom.c, GROUP_MIN_LIMIT_BYTES + 3 * PAGE_SIZE);
    client_set_resident(&dom.c, GROUP_MIN_LIMIT_BYTES + 5 * PAGE_SIZE);
    client_measured(&dom.c, GROUP_MIN_LIMIT_BYTES + 5 * PAGE_SIZE);
    ck_assert_uint_eq(dom.g->count.limit_overshoot_bytes, 3 * PAGE_SIZE);
    client_measured(&dom.c, GROUP_MIN_LIMIT_BYTES - PAGE_SIZE);
    client_measured(&dom.c, GROUP_MIN_LIMIT_BYTES + PAGE_SIZE);
    ck_assert_uint_eq(dom.g->count.limit_overshoot_bytes, 4 * PAGE_SIZE);
    dom.g->limit_bytes = 0;
    client_measured(&dom.c, 2 * GROUP_MIN_LIMIT_BYTES);
    ck_assert_uint_eq(dom.g->count.limit_overshoot_bytes, 4 * PAGE_SIZE);
}
END_TEST

START_TEST(a_child_whose_agent_is_to_come_waits_for_room_too)
{
    at_the_limit();
    dom.c.has_agent = false;
    dom.c.leaving = dom.c.awaits_agent = true;
    dom_fault(4, false);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 1);
    ck_assert(!group_balance(dom.g));
    ck_assert(dom.g->stuck); /* nobody else has anything to give */
    ck_assert_uint_eq(group_low_bytes(dom.g), GROUP_MIN_LIMIT_BYTES - (2 << 20));
    dom.g->stuck = false;
    dom.c.awaits_agent = false;
    ck_assert_uint_eq(dom_answer(&dom.c, 3000), 0);
    ck_assert(dom_holds(4, 4));
    ck_assert_uint_eq(dom.g->count.limit_overshoot, 1);
}
END_TEST

START_TEST(a_stuck_group_lets_faults_through_one_page_each)
{
    at_the_limit();
    dom.c.mm.readahead[0] = (struct readahead_stream){
        .last = fake_addr(3).v, .next = fake_addr(4).v, .stride = PAGE_SIZE, .pages = 8};
    dom_fault(4, false);
    dom.g->stuck = true;
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    ck_assert_int_eq(dom_tag(&dom.c, 4), PTE_PRESENT);
    ck_assert_int_eq(dom_tag(&dom.c, 5), PTE_FRAME);
    ck_assert_uint_eq(dom.g->count.limit_overshoot, 1);
    ck_assert_uint_eq(dom.g->resident_peak_bytes, GROUP_MIN_LIMIT_BYTES + PAGE_SIZE);
}
END_TEST

START_TEST(who_has_no_agent_does_not_wait)
{
    at_the_limit();
    dom.c.has_agent = false;
    dom_fault(4, false);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    ck_assert_int_eq(dom_tag(&dom.c, 4), PTE_PRESENT);
}
END_TEST

START_TEST(what_cannot_be_taken_out_does_not_squeeze_the_others_to_nothing)
{
    const uint64_t held = 2 * GROUP_MIN_LIMIT_BYTES, each = GROUP_MIN_LIMIT_BYTES / 8;
    struct client other = {0};

    at_the_limit();
    ck_assert_int_eq(client_init(&other, &dom.d, dom.g, dom.c.mm.ops, &dom.t), 0);
    client_set_resident(&other, held);
    client_set_resident(&dom.c, each);
    ck_assert(!group_balance(dom.g));
    ck_assert(!dom.g->stuck);
    ck_assert_uint_eq(group_low_bytes(dom.g), held + each);
    ck_assert_uint_eq(group_room_bytes(dom.g), 0); /* nothing is brought back for it */
    dom_fault(4, false);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    ck_assert_int_eq(dom_tag(&dom.c, 4), PTE_PRESENT);
    ck_assert_uint_eq(dom.g->count.limit_overshoot, 1);
    client_set_resident(&dom.c, GROUP_MIN_LIMIT_BYTES);
    dom_fault(5, false);
    ck_assert_uint_eq(dom_answer(&dom.c, 3000), 1); /* more than that waits */
    client_set_resident(&other, 0);
    (void)group_balance(dom.g); /* what there is has come just now */
    ck_assert_uint_eq(group_low_bytes(dom.g), GROUP_MIN_LIMIT_BYTES - (2 << 20));
    client_fini(&other);
}
END_TEST

START_TEST(nothing_is_taken_from_who_has_only_what_is_left_to_each)
{
    struct client other = {0};

    at_the_limit();
    dom_adopt(20, 4, false);
    ck_assert_int_eq(client_init(&other, &dom.d, dom.g, dom.c.mm.ops, &dom.t), 0);
    client_set_resident(&other, 2 * GROUP_MIN_LIMIT_BYTES);
    client_set_resident(&dom.c, GROUP_MIN_LIMIT_BYTES / 2);
    ck_assert(group_balance(dom.g));
    ck_assert_uint_eq(dom.t.nr[FAKE_CAPTURE], 1);
    client_fini(&other);
}
END_TEST

START_TEST(nothing_is_taken_before_the_mappings_are_adopted)
{
    at_the_limit();
    dom_adopt(20, 4, false);
    client_set_resident(&dom.c, 2 * GROUP_MIN_LIMIT_BYTES);
    dom.c.adopting = true;
    ck_assert(group_balance(dom.g)); /* and faults wait for it, as for a capture */
    ck_assert_uint_eq(dom.t.nr[FAKE_CAPTURE], 0);
    dom.c.adopting = false;
    ck_assert(group_balance(dom.g));
    ck_assert_uint_eq(dom.t.nr[FAKE_CAPTURE], 1);
}
END_TEST

START_TEST(above_the_mark_a_capture_starts_and_without_prey_the_group_is_stuck)
{
    uint8_t result[CAPTURE_MAX_PAGES];

    dom.g->limit_bytes = GROUP_MIN_LIMIT_BYTES;
    client_set_resident(&dom.c, group_high_bytes(dom.g));
    dom_adopt(0, 4, false);
    ck_assert(!group_balance(dom.g)); /* not above it yet */
    ck_assert_uint_eq(dom.t.nr[FAKE_CAPTURE], 0);
    client_set_resident(&dom.c, group_high_bytes(dom.g) + PAGE_SIZE);
    ck_assert(group_balance(dom.g));
    ck_assert_uint_eq(dom.t.nr[FAKE_CAPTURE], 1);
    ck_assert(group_balance(dom.g)); /* under way: no second one */
    ck_assert_uint_eq(dom.t.nr[FAKE_CAPTURE], 1);
    ck_assert(!dom.g->stuck);
    fake_agent(&dom.t, result);
    client_captured(&dom.c, result);
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
    ck_assert_uint_eq(dom.g->resident_bytes, group_high_bytes(dom.g) - 3 * PAGE_SIZE);

    client_set_resident(&dom.c, dom.g->limit_bytes);
    for (uint32_t i = 0; i < 4 && group_balance(dom.g); i++)
        ;
    ck_assert(dom.g->stuck);
    client_set_resident(&dom.c, group_low_bytes(dom.g));
    ck_assert(!group_balance(dom.g));
    ck_assert(!dom.g->stuck);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client-limit");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, at_the_limit_a_fault_waits_for_room);
    tcase_add_test(tc, what_a_measurement_finds_above_the_limit_is_counted_in_bytes);
    tcase_add_test(tc, a_child_whose_agent_is_to_come_waits_for_room_too);
    tcase_add_test(tc, a_stuck_group_lets_faults_through_one_page_each);
    tcase_add_test(tc, who_has_no_agent_does_not_wait);
    tcase_add_test(tc, what_cannot_be_taken_out_does_not_squeeze_the_others_to_nothing);
    tcase_add_test(tc, nothing_is_taken_from_who_has_only_what_is_left_to_each);
    tcase_add_test(tc, nothing_is_taken_before_the_mappings_are_adopted);
    tcase_add_test(tc, above_the_mark_a_capture_starts_and_without_prey_the_group_is_stuck);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
