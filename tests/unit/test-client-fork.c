/* SPDX-License-Identifier: Apache-2.0 */
/* A fork, adoption and bringing back: the child sees its parent's bytes, whatever fails. */
#include <check.h>
#include <string.h>

#include "client/client_priv.h"
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

static bool all_hold(const struct client *c)
{
    for (uint32_t i = 0; i < 14; i++)
        if (i / 2 != 4 && !dom_client_holds(c, i, i))
            return false;
    return dom_bytes(c, 8) == NULL || migrate_page_is_zero(dom_bytes(c, 8));
}

/* ---- forks ---- */

START_TEST(a_child_shares_the_frames_and_the_captured_pages)
{
    dom_some_of_everything();
    dom_fork();
    dom_check();
    ck_assert(all_hold(&dom.c) && all_hold(&dom.child));
    for (uint32_t i = 0; i < 14; i++)
        ck_assert_int_eq(dom_tag(&dom.c, i), dom_tag(&dom.child, i));
    ck_assert_int_eq(dom_tag(&dom.child, 10), PTE_FRAME); /* committed before it was shared */
    ck_assert_uint_eq(frame_nr_free(dom.d.ram.frames), NR_FRAMES - 8);
    ck_assert_uint_eq(mm_area_bytes(&dom.child.mm), FAKE_END - FAKE_START);
    /* What is there is the parent's too, and counts there. */
    ck_assert_uint_eq(dom.child.resident_bytes, 0);
    ck_assert_uint_eq(dom.g->count.forks, 1);
}
END_TEST

START_TEST(a_shared_page_is_filled_in_both_and_its_frame_goes_with_the_last)
{
    struct uaddr all = {0};

    dom_some_of_everything();
    dom_fork();
    dom_fault(5, true);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    ck_assert_uint_eq(dom.g->count.cow_copied, 1);
    dom.t.mem[5 * PAGE_SIZE] = 'x'; /* the parent writes; the child does not see it */
    ck_assert(dom_client_holds(&dom.child, 5, 5));
    dom.child.cursor = all;
    while (!client_bring_back(&dom.child, 3))
        dom_check();
    ck_assert(all_hold(&dom.child));
    ck_assert_uint_eq(frame_nr_free(dom.d.ram.frames), NR_FRAMES - 7);
}
END_TEST

START_TEST(a_removed_page_stays_with_the_other)
{
    dom_some_of_everything();
    dom_fork();
    dom_remove(0, 14);
    dom_check();
    ck_assert_int_eq(dom_tag(&dom.c, 5), PTE_NONE);
    ck_assert(all_hold(&dom.child));
}
END_TEST

START_TEST(without_frames_the_child_gets_the_captured_bytes_first)
{
    dom_some_of_everything();
    dom_use_up_frames(1);
    dom_fork();
    dom_check();
    ck_assert_int_eq(dom_tag(&dom.c, 10), PTE_FRAME);
    for (uint32_t i = 11; i < 14; i++) {
        ck_assert_int_eq(dom_tag(&dom.child, i), PTE_PRESENT);
        ck_assert_int_eq(dom_tag(&dom.c, i), PTE_MIGRATING);
    }
    ck_assert(all_hold(&dom.c) && all_hold(&dom.child));
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
    ck_assert(all_hold(&dom.c) && all_hold(&dom.child));
    dom_give_frames_back();
}
END_TEST

START_TEST(a_child_without_leaves_gets_all_bytes_at_once)
{
    dom_some_of_everything();
    dom_use_up_frames(0);
    /* No leaf for the child's entries either: all that is stored has to be copied. */
    for (uint64_t k = 0; pgtable_nr_free_leaves(dom.d.pt); k++)
        ck_assert_int_eq(pte_transition(&dom.c.mm, uaddr(0x500000000000 + k * LEAF_SIZE),
                                        PTE_EV_ADOPT, (struct pte_arg){0}, NULL),
                         0);
    dom_fork();
    ck_assert_uint_eq(dom.child.mm.nr_leaves, 0);
    ck_assert_uint_eq(dom.child.saved->nr_doomed, 0);
    ck_assert_uint_eq(dom.child_t.nr[FAKE_COPY], 8);
    ck_assert(all_hold(&dom.c) && all_hold(&dom.child));
    ck_assert(!dom.child.saved->doomed_overflow);
    dom_check();
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
    dom_give_frames_back();
}
END_TEST

static enum kres poison_in_child(void *t, struct uaddr at, uint64_t len, uint64_t *ret_done)
{
    return fake_ops.poison(t, at, len, ret_done);
}

START_TEST(a_child_without_record_has_all_poisoned_that_is_out)
{
    struct uaddr cursor = {0};

    dom_some_of_everything();
    fake_open(&dom.child_t);
    memcpy(dom.child_t.page, dom.t.page, sizeof(dom.t.page));
    fake_plan_every(&dom.child_t, FAKE_POISON, KRES_RETRY);
    ck_assert_int_eq(client_poison_out(&dom.c, poison_in_child, &dom.child_t, &cursor), KRES_RETRY);
    ck_assert_uint_eq(cursor.v, fake_addr(4).v);
    fake_plan_none(&dom.child_t);
    ck_assert_int_eq(client_poison_out(&dom.c, poison_in_child, &dom.child_t, &cursor), KRES_DONE);
    for (uint32_t i = 0; i < 14; i++)
        ck_assert_msg((dom.child_t.page[i] == FAKE_POISONED) == ((i >= 4 && i < 8) || i >= 10),
                      "page %u", i);
    fake_close(&dom.child_t);
}
END_TEST

START_TEST(what_a_child_cannot_be_given_is_poisoned_there_alone)
{
    for (enum kres r = KRES_RETRY; r <= KRES_FATAL; r++) {
        dom_close();
        dom_open(NR_LEAVES, NR_FRAMES);
        dom_some_of_everything();
        dom_use_up_frames(1);
        dom.child_copy = r;
        dom_fork();
        dom_check();
        ck_assert(all_hold(&dom.c));
        ck_assert_uint_eq(dom.child.saved->nr_doomed, r == KRES_DEAD ? 0 : 3);
        fake_plan_none(&dom.child_t);
        dom_answer(&dom.child, 2000);
        ck_assert_uint_eq(dom.child.saved->nr_doomed, 0);
        for (uint32_t i = 11; i < 14; i++)
            ck_assert_uint_eq(dom.child_t.page[i], r == KRES_DEAD ? FAKE_ABSENT : FAKE_POISONED);
        ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
        dom_give_frames_back();
    }
}
END_TEST

START_TEST(a_poisoned_page_is_poisoned_in_the_child_too)
{
    for (uint32_t leaves = 0; leaves < 2; leaves++) {
        dom_close();
        dom_open(NR_LEAVES, NR_FRAMES);
        ck_assert_int_eq(pte_transition(&dom.c.mm, fake_addr(3), PTE_EV_IMPORT,
                                        (struct pte_arg){.value = PTE_POISON}, NULL),
                         0);
        for (uint64_t k = 0; leaves == 0 && pgtable_nr_free_leaves(dom.d.pt); k++)
            ck_assert_int_eq(pte_transition(&dom.c.mm, uaddr(0x500000000000 + k * LEAF_SIZE),
                                            PTE_EV_ADOPT, (struct pte_arg){0}, NULL),
                             0);
        dom_fork();
        while (!client_bring_back(&dom.child, 64))
            dom_check();
        ck_assert_uint_eq(dom.child_t.page[3], FAKE_POISONED);
        ck_assert_int_eq(dom_tag(&dom.c, 3), PTE_POISON);
    }
}
END_TEST

START_TEST(a_fork_that_cannot_be_served_changes_nothing)
{
    dom_some_of_everything();
    dom.fork_fails = true;
    dom_fork();
    dom_check();
    ck_assert(all_hold(&dom.c));
    ck_assert_uint_eq(dom.g->count.forks, 1);
}
END_TEST

/* ---- adoption ---- */

static struct urange all(void)
{
    return urange(FAKE_START, FAKE_END);
}

/* ---- pages that a fork left shared ---- */

START_TEST(what_is_shared_is_not_copied_to_be_taken_while_a_relative_lives)
{
    ck_assert(client_may_unshare(&dom.c, 1000));
    dom_fork();
    ck_assert(!client_may_unshare(&dom.c, 1000));
    ck_assert(!client_may_unshare(&dom.child, 1000));
    dom.child.mm.dead = true;
    client_part(&dom.child);
    ck_assert(client_may_unshare(&dom.c, 1000));
}
END_TEST

START_TEST(a_relative_that_was_let_go_may_still_share)
{
    dom_fork();
    client_part(&dom.child);
    ck_assert(!client_may_unshare(&dom.c, 1000));
}
END_TEST

START_TEST(at_the_limit_it_is_copied_when_there_is_nothing_else)
{
    dom_fork();
    dom.g->limit_bytes = GROUP_MIN_LIMIT_BYTES;
    client_set_resident(&dom.c, GROUP_MIN_LIMIT_BYTES);
    ck_assert(!client_may_unshare(&dom.c, 1000)); /* nothing else was tried yet */
    dom.c.nr_fruitless = 1;
    ck_assert(client_may_unshare(&dom.c, 1000));
    ck_assert(!client_may_unshare(&dom.child, 1000));
    /* For a while, so that it is not tried in vain before each page. */
    dom.c.nr_fruitless = 0;
    ck_assert(client_may_unshare(&dom.c, 2000));
    ck_assert(!client_may_unshare(&dom.c, 2000000000));
    client_set_resident(&dom.c, GROUP_MIN_LIMIT_BYTES / 2);
    dom.c.nr_fruitless = 1;
    ck_assert(!client_may_unshare(&dom.c, 2000000000));
    dom.c.nr_fruitless = 0;
    dom.g->limit_bytes = 0;
}
END_TEST

START_TEST(adoption_enters_what_is_present_but_the_tid_page)
{
    for (uint32_t i = 0; i < 300; i++)
        fake_put(&dom.t, i * 3, false); /* more runs than one scan returns */
    dom.c.tid_page = fake_addr(30);
    ck_assert_int_eq(client_adopt(&dom.c, all(), true), KRES_DONE);
    ck_assert_uint_eq(dom.c.mm.nr[PTE_PRESENT], 299);
    ck_assert_int_eq(dom_tag(&dom.c, 30), PTE_NONE);
    ck_assert_uint_gt(dom.t.nr[FAKE_SCAN], 1);
    /* A second time it finds the same. */
    ck_assert_int_eq(client_adopt(&dom.c, all(), true), KRES_DONE);
    ck_assert_uint_eq(dom.c.mm.nr[PTE_PRESENT], 299);
    dom_check();
}
END_TEST

START_TEST(what_the_kernel_registered_by_itself_is_not_entered)
{
    fake_put(&dom.t, 3, false);
    ck_assert_int_eq(client_adopt(&dom.c, all(), false), KRES_DONE);
    ck_assert_uint_eq(dom.c.mm.nr[PTE_PRESENT], 0);
    ck_assert_uint_eq(dom.t.nr[FAKE_SCAN], 0);
}
END_TEST

START_TEST(a_range_that_cannot_be_registered_is_no_area)
{
    dom_unmap(0, FAKE_PAGES);
    fake_put(&dom.t, 3, false);
    for (enum kres r = KRES_RETRY; r <= KRES_FATAL; r++) {
        fake_plan(&dom.t, FAKE_REG, 1, r, 0);
        ck_assert_int_eq(client_adopt(&dom.c, all(), true), r);
        ck_assert_uint_eq(dom.c.mm.nr_areas, 0);
        ck_assert_uint_eq(dom.c.mm.nr[PTE_PRESENT], 0);
    }
    fake_plan(&dom.t, FAKE_SCAN, 1, -ESRCH, 0);
    ck_assert_int_eq(client_adopt(&dom.c, all(), true), KRES_DEAD);
    fake_plan(&dom.t, FAKE_SCAN, 1, -ENOMEM, 0);
    ck_assert_int_eq(client_adopt(&dom.c, all(), true), KRES_RETRY);
    dom_check();
}
END_TEST

/* A change is seen under way: before the registration (1) or behind it (2). */
static void adopt_while_changing(uint32_t nth)
{
    dom_unmap(0, FAKE_PAGES);
    fake_put(&dom.t, 3, false);
    dom.t.nr_changing_asked = 0;
    dom.t.changing = nth;
    ck_assert_int_eq(client_adopt(&dom.c, all(), true), KRES_RETRY);
    ck_assert_uint_eq(dom.t.nr[FAKE_REG], nth - 1);
    ck_assert_uint_eq(dom.c.mm.nr_areas, 0);
    ck_assert_uint_eq(dom.c.mm.nr[PTE_PRESENT], 0);
    dom.t.changing = 0;
}

START_TEST(nothing_is_entered_while_mappings_change)
{
    adopt_while_changing(1);
    ck_assert_int_eq(client_adopt(&dom.c, all(), false), KRES_DONE);
    ck_assert_uint_eq(dom.c.mm.nr[PTE_PRESENT], 0);
}
END_TEST

START_TEST(what_was_registered_while_mappings_changed_is_entered_later)
{
    adopt_while_changing(2);
    ck_assert_int_eq(client_adopt(&dom.c, urange(FAKE_START, FAKE_START + LEAF_SIZE), false),
                     KRES_DONE);
    ck_assert_uint_eq(dom.c.mm.nr[PTE_PRESENT], 1);
}
END_TEST

START_TEST(what_changed_since_it_was_registered_is_not_entered)
{
    adopt_while_changing(2);
    dom_remove(5, 1);
    ck_assert_int_eq(client_adopt(&dom.c, all(), false), KRES_DONE);
    ck_assert_uint_eq(dom.c.mm.nr[PTE_PRESENT], 0);
}
END_TEST

/* ---- bringing back ---- */

START_TEST(all_comes_back_and_what_has_no_mapping_is_forgotten)
{
    uint32_t rounds = 0;

    dom_some_of_everything();
    fake_plan(&dom.t, FAKE_COPY, 1, KRES_GONE, 0); /* the window of 4-7, */
    dom.t.plan[FAKE_COPY].every = true;            /* and each page of it, */
    while (dom_tag(&dom.c, 4) != PTE_NONE)
        client_bring_back(&dom.c, 64);
    fake_plan_none(&dom.t); /* but no further */
    while (!client_bring_back(&dom.c, 64)) {
        ck_assert_uint_lt(++rounds, 20);
        dom_check();
    }
    for (uint32_t i = 0; i < 14; i++)
        if (i != 4)
            ck_assert_int_eq(dom_tag(&dom.c, i), PTE_PRESENT);
    ck_assert_uint_eq(frame_nr_free(dom.d.ram.frames), NR_FRAMES);
}
END_TEST

START_TEST(a_dead_program_needs_nothing_back)
{
    dom_some_of_everything();
    fake_plan(&dom.t, FAKE_COPY, 1, KRES_DEAD, 0);
    ck_assert(client_bring_back(&dom.c, 64));
    ck_assert(dom.c.mm.dead);
    dom.c.mm.dead = true;
    uint32_t nr = dom.t.nr_calls;
    ck_assert(client_bring_back(&dom.c, 64));
    ck_assert_uint_eq(dom.t.nr_calls, nr);
}
END_TEST

START_TEST(a_poisoned_page_does_not_keep_a_client)
{
    uint32_t rounds = 0;

    ck_assert_int_eq(pte_transition(&dom.c.mm, fake_addr(3), PTE_EV_IMPORT,
                                    (struct pte_arg){.value = PTE_POISON}, NULL),
                     0);
    while (!client_bring_back(&dom.c, 64))
        ck_assert_uint_lt(++rounds, 20);
    ck_assert_uint_eq(dom.t.page[3], FAKE_POISONED);
}
END_TEST

/* ---- the nth failure ---- */

/* The child may have lost a page, if it is poisoned there. */
static bool child_fails_closed(void)
{
    for (uint32_t i = 0; i < 14; i++)
        if (i / 2 != 4 && !dom_client_holds(&dom.child, i, i) && !client_is_doomed(&dom.child, fake_addr(i)) &&
            dom.child_t.page[i] != FAKE_POISONED)
            return false;
    return true;
}

/* The child's nth call fails.  Returns whether there was an nth. */
static bool childhood(uint32_t nth)
{
    uint32_t rounds = 0;

    dom_open(NR_LEAVES, NR_FRAMES);
    dom_some_of_everything();
    dom_use_up_frames(2);
    dom.child_fail_at = nth;
    dom_fork();
    ck_assert(all_hold(&dom.c) && child_fails_closed());
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
    while (!client_bring_back(&dom.child, 3)) {
        ck_assert_uint_lt(++rounds, 60);
        dom_check();
        ck_assert_msg(all_hold(&dom.c) && child_fails_closed(), "call %u", nth);
    }
    ck_assert(child_fails_closed());
    bool hit = dom.child_t.nr_fallible >= nth;
    dom_give_frames_back();
    dom_close();
    return hit;
}

/* A life with every kind of call; the nth one fails once.  Returns whether there was an nth. */
static bool life(uint32_t nth)
{
    uint32_t rounds = 0;

    dom_open(NR_LEAVES, NR_FRAMES);
    dom_some_of_everything();
    dom_use_up_frames(2);
    dom.t.fail_at = nth;
    dom.t.nr_fallible = 0;
    dom_fork();
    ck_assert_msg(all_hold(&dom.c) && all_hold(&dom.child), "after the fork, call %u", nth);
    for (uint32_t i = 0; i < 14; i += 3)
        dom_fault(i + 4 < 14 ? i + 4 : 4, i & 1);
    while (dom_answer(&dom.c, 2000) || client_commit(&dom.c, 2)) {
        ck_assert_uint_lt(++rounds, 20);
        dom_check();
        ck_assert_msg(all_hold(&dom.c) && all_hold(&dom.child), "in answers, call %u", nth);
    }
    dom_remap(0, 600, 14);
    dom_unmap(0, 14);
    dom_remap(600, 0, 14);
    dom_unmap(600, 14);
    while (!client_bring_back(&dom.c, 3)) {
        ck_assert_uint_lt(++rounds, 60);
        dom_check();
        ck_assert_msg(all_hold(&dom.c) && all_hold(&dom.child), "coming back, call %u", nth);
    }
    ck_assert(all_hold(&dom.c) && all_hold(&dom.child));
    bool hit = dom.t.nr_fallible >= nth;
    dom_give_frames_back();
    dom_close();
    return hit;
}

START_TEST(whichever_call_fails_parent_and_child_are_whole)
{
    uint32_t nth = 1;

    while (life(nth))
        nth++;
    ck_assert_uint_gt(nth, 8);
    for (nth = 1; childhood(nth);)
        nth++;
    ck_assert_uint_gt(nth, 4);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client-fork");
    TCase *tc = tcase_create("one domain"), *nth = tcase_create("nth failure");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_child_shares_the_frames_and_the_captured_pages);
    tcase_add_test(tc, a_shared_page_is_filled_in_both_and_its_frame_goes_with_the_last);
    tcase_add_test(tc, a_removed_page_stays_with_the_other);
    tcase_add_test(tc, without_frames_the_child_gets_the_captured_bytes_first);
    tcase_add_test(tc, a_child_without_leaves_gets_all_bytes_at_once);
    tcase_add_test(tc, a_child_without_record_has_all_poisoned_that_is_out);
    tcase_add_test(tc, what_a_child_cannot_be_given_is_poisoned_there_alone);
    tcase_add_test(tc, a_poisoned_page_is_poisoned_in_the_child_too);
    tcase_add_test(tc, a_fork_that_cannot_be_served_changes_nothing);
    tcase_add_test(tc, what_is_shared_is_not_copied_to_be_taken_while_a_relative_lives);
    tcase_add_test(tc, a_relative_that_was_let_go_may_still_share);
    tcase_add_test(tc, at_the_limit_it_is_copied_when_there_is_nothing_else);
    tcase_add_test(tc, adoption_enters_what_is_present_but_the_tid_page);
    tcase_add_test(tc, what_the_kernel_registered_by_itself_is_not_entered);
    tcase_add_test(tc, a_range_that_cannot_be_registered_is_no_area);
    tcase_add_test(tc, nothing_is_entered_while_mappings_change);
    tcase_add_test(tc, what_was_registered_while_mappings_changed_is_entered_later);
    tcase_add_test(tc, what_changed_since_it_was_registered_is_not_entered);
    tcase_add_test(tc, all_comes_back_and_what_has_no_mapping_is_forgotten);
    tcase_add_test(tc, a_dead_program_needs_nothing_back);
    tcase_add_test(tc, a_poisoned_page_does_not_keep_a_client);
    tcase_add_test(nth, whichever_call_fails_parent_and_child_are_whole);
    suite_add_tcase(s, tc);
    suite_add_tcase(s, nth);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
