/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads of the file node, while the program goes on, and from devices that fail or lie: the
 * right bytes or none, and only the hit page is lost.
 */
#include <check.h>
#include <string.h>

#include "client/client_priv.h"
#include "fault/fault.h"
#include "migrate/migrate.h"
#include "swapped_domain.h"

/* ---- reads ---- */

START_TEST(a_fault_waits_for_its_read_and_is_answered_once)
{
    some_swapped();
    dom_fault(10, true);
    ck_assert_uint_eq(dom_answer(&dom.c, now), 0); /* parked, but not for the clock */
    ck_assert_uint_eq(dom.c.nr_parked, 1);
    dom_fault(10, true);
    ck_assert_uint_eq(dom_answer(&dom.c, now), 0);
    ck_assert_uint_eq(dom.disk.nr_reqs, 1);
    ck_assert_uint_eq(dom.nr_wakes, 0);
    disk_run(&dom.disk);
    ck_assert_uint_eq(dom.nr_wakes, 1);
    ck_assert_int_eq(dom.t.page[10], FAKE_ABSENT); /* the turn answers, not the device */
    ck_assert_uint_eq(dom_answer(&dom.c, now), 0);
    ck_assert_uint_eq(dom.c.nr_parked, 0);
    ck_assert(fake_has_pattern(&dom.t, 10));
    ck_assert_uint_eq(dom.t.nr[FAKE_COPY], 1);
    ck_assert_uint_eq(dom.g->count.pgmajfault, 1);
    ck_assert_uint_eq(dom.g->count.pswpin, 1);
    ck_assert_uint_eq(swapin_nr_in_use(dom.d.swapin), 0);
    dom_check();
}
END_TEST

START_TEST(neighbours_in_address_and_slot_are_read_along)
{
    some_swapped();
    fault(20, true);
    fault(21, true);
    uint32_t reads = dom.disk.nr_reads;
    fault(23, true);
    ck_assert_uint_gt(dom.g->count.pgprefetch, 3);
    ck_assert_uint_eq(dom.disk.nr_reads, reads + 1);
    for (uint32_t i = 20; i < 26; i++)
        ck_assert(fake_has_pattern(&dom.t, i));
    dom_check();
}
END_TEST

START_TEST(the_kernel_may_say_not_now_to_what_was_read)
{
    some_swapped();
    dom_fault(10, false);
    (void)dom_answer(&dom.c, now);
    disk_run(&dom.disk);
    fake_plan(&dom.t, FAKE_COPY, 1, KRES_RETRY, 0);
    ck_assert_uint_eq(dom_answer(&dom.c, now), 1);
    ck_assert_uint_eq(dom_answer(&dom.c, now), 0);
    ck_assert(fake_has_pattern(&dom.t, 10));
    ck_assert_uint_eq(dom.disk.nr_reads, 1);
    ck_assert_uint_eq(swapin_nr_in_use(dom.d.swapin), 0);
}
END_TEST

START_TEST(relatives_share_one_read)
{
    some_swapped();
    dom_fork();
    uint32_t slot = slot_of(10);
    uint32_t filled;

    dom_fault(10, true);
    (void)dom_answer(&dom.c, now);
    ck_assert_int_eq(fault_answer(&dom.child.mm, fake_addr(10), false, 1, &filled), FAULT_WAITING);
    ck_assert_uint_eq(dom.disk.nr_reqs, 1);
    disk_run(&dom.disk);
    ck_assert_uint_eq(dom.nr_wakes, 2);
    (void)dom_answer(&dom.c, now);
    dom.t.mem[10 * PAGE_SIZE] ^= 1; /* the parent goes on */
    ck_assert_uint_eq(frame_refs(dom.d.file.frames, (struct pfn){slot}), 1);
    ck_assert_int_eq(fault_answer(&dom.child.mm, fake_addr(10), false, 1, &filled), FAULT_ANSWERED);
    ck_assert(fake_has_pattern(&dom.child_t, 10));
    ck_assert(!frame_is_allocated(dom.d.file.frames, (struct pfn){slot}));
    dom_check();
}
END_TEST

START_TEST(a_child_that_cannot_share_a_slot_fails_closed)
{
    some_swapped();
    struct pfn slot = {slot_of(10)};
    uint64_t nr = 1;
    while (node_ref(&dom.d.file, slot, (struct rmap_entry){99, uaddr(nr * PAGE_SIZE)}) == 0)
        nr++;
    dom_fork();
    ck_assert(client_is_doomed(&dom.child, fake_addr(10)));
    ck_assert_int_eq(dom_tag(&dom.child, 10), PTE_NONE);
    while (--nr)
        node_unref(&dom.d.file, slot, (struct rmap_entry){99, uaddr(nr * PAGE_SIZE)});
}
END_TEST

START_TEST(what_was_read_for_a_page_that_is_gone_is_dropped)
{
    some_swapped();
    struct pfn slot = {slot_of(10)};
    dom_fault(10, false);
    (void)dom_answer(&dom.c, now);
    dom_remove(10, 1);
    ck_assert(frame_is_allocated(dom.d.file.frames, slot)); /* held by the device */
    dom_check();
    disk_run(&dom.disk);
    ck_assert(!frame_is_allocated(dom.d.file.frames, slot));
    (void)dom_answer(&dom.c, now);
    ck_assert_uint_eq(swapin_nr_in_use(dom.d.swapin), 0);
    ck_assert(fake_has_zeros(&dom.t, 10)); /* the fault is a first touch now */
    dom_check();
}
END_TEST

START_TEST(a_page_dropped_after_its_read_is_not_filled_with_it)
{
    some_swapped();
    dom_fault(10, false);
    (void)dom_answer(&dom.c, now);
    disk_run(&dom.disk);
    dom_remove(10, 1);
    (void)dom_answer(&dom.c, now);
    ck_assert(fake_has_zeros(&dom.t, 10));
    ck_assert_uint_eq(swapin_nr_in_use(dom.d.swapin), 0);
    dom_check();
}
END_TEST

START_TEST(a_page_that_moves_during_its_read_is_found_at_its_new_place)
{
    some_swapped();
    dom_fault(10, false);
    (void)dom_answer(&dom.c, now);
    dom_remap(10, 700, 1);
    dom_unmap(10, 1);
    dom_check();
    dom_fault(700, true); /* the kernel makes its thread look again */
    (void)dom_answer(&dom.c, now);
    ck_assert_uint_eq(dom.disk.nr_reqs, 1);
    disk_run(&dom.disk);
    (void)dom_answer(&dom.c, now);
    ck_assert(dom.t.page[700] == FAKE_PRESENT &&
              fake_is_pattern(dom.t.mem + 700 * PAGE_SIZE, 10));
    ck_assert_uint_eq(swapin_nr_in_use(dom.d.swapin), 0);
    dom_check();
}
END_TEST

START_TEST(an_end_during_a_read_gives_all_back)
{
    some_swapped();
    dom_fault(10, false);
    (void)dom_answer(&dom.c, now); /* dom_close() ends the client first, then the read */
}
END_TEST

START_TEST(everything_comes_back_when_a_client_leaves)
{
    some_swapped();
    dom.c.leaving = true;
    for (uint32_t i = 0; i < 10000 && !client_bring_back(&dom.c, 64); i++) {
        disk_run(&dom.disk);
        dom_check();
    }
    all_is_right(&dom.c);
    ck_assert_uint_eq(dom.c.mm.nr[PTE_PRESENT], NR_PAGES);
    ck_assert_uint_eq(frame_nr_free(dom.d.file.frames), NR_SLOTS);
}
END_TEST

START_TEST(more_faults_than_reads_come_again)
{
    some_swapped();
    for (uint32_t i = 0; i < 40; i++)
        dom_fault(2 * i, true);
    ck_assert_uint_eq(dom_answer(&dom.c, now), 40 - 32);
    ck_assert_uint_eq(dom.disk.nr_reqs, 32);
    while (dom.c.nr_parked) {
        disk_run(&dom.disk);
        (void)dom_answer(&dom.c, now);
    }
    for (uint32_t i = 0; i < 40; i++)
        ck_assert(fake_has_pattern(&dom.t, 2 * i));
    dom_check();
}
END_TEST

START_TEST(who_does_not_come_to_take_its_reads_holds_up_nobody)
{
    uint32_t filled;

    some_swapped();
    dom_fork();
    for (uint32_t i = 0; i < 32; i++)
        dom_fault(2 * i, true);
    ck_assert_uint_eq(dom_answer(&dom.c, now), 0);
    disk_run(&dom.disk); /* all reads are in use, and the client is not asked */
    ck_assert_int_eq(fault_answer(&dom.child.mm, fake_addr(101), false, 1, &filled), FAULT_WAITING);
    disk_run(&dom.disk);
    ck_assert_int_eq(fault_answer(&dom.child.mm, fake_addr(101), false, 1, &filled), FAULT_ANSWERED);
    ck_assert(fake_has_pattern(&dom.child_t, 101));
    (void)dom_answer(&dom.c, now);
    while (dom.c.nr_parked) { /* the one that made way is read again */
        disk_run(&dom.disk);
        (void)dom_answer(&dom.c, now);
    }
    for (uint32_t i = 0; i < 32; i++)
        ck_assert(fake_has_pattern(&dom.t, 2 * i));
    dom_check();
}
END_TEST

/* ---- devices that fail ---- */

static void only_this_one_is_lost(uint32_t n)
{
    ck_assert_int_eq(dom_tag(&dom.c, n), PTE_POISON);
    ck_assert_int_eq(dom.t.page[n], FAKE_POISONED);
    ck_assert_uint_eq(dom.g->count.poisoned, 1);
    ck_assert_uint_eq(dom.c.mm.nr[PTE_POISON], 1);
    for (uint32_t i = NR_PAGES; i-- > 0;) /* backwards: pages by themselves */
        if (i != n)
            fault(i, true);
    for (uint32_t i = 0; i < NR_PAGES; i++)
        ck_assert(i == n || fake_has_pattern(&dom.t, i));
    ck_assert_uint_eq(dom.g->count.poisoned, 1);
    /* Neighbours that came along may keep theirs. */
    ck_assert_uint_eq(NR_SLOTS - frame_nr_free(dom.d.file.frames),
                      frame_list_nr(dom.d.file.frames, FRAME_KEPT));
}

START_TEST(a_page_that_cannot_be_read_is_poisoned_and_no_other)
{
    some_swapped();
    dom.disk.unreadable[slot_of(10)] = true;
    fault(10, false);
    ck_assert_uint_eq(dom.g->count.swap_read_error, 1);
    only_this_one_is_lost(10);
}
END_TEST

START_TEST(a_window_over_a_bad_block_loses_nothing_else)
{
    some_swapped();
    dom.disk.unreadable[slot_of(34)] = true;
    fault(30, true); /* windows grow: 1, 2, 4 */
    fault(31, true);
    fault(33, true); /* 33 to 36, of which 34 is bad: read again alone */
    ck_assert(fake_has_pattern(&dom.t, 33));
    ck_assert_uint_eq(dom.g->count.poisoned, 0);
    fault(34, false);
    ck_assert_uint_eq(dom.g->count.swap_read_error, 1);
    only_this_one_is_lost(34);
}
END_TEST

START_TEST(a_flipped_bit_is_seen_and_costs_its_page_only)
{
    some_swapped();
    disk_flip_bit(&dom.disk, slot_of(10));
    fault(10, true);
    ck_assert_uint_eq(dom.g->count.swap_corrupt, 1);
    only_this_one_is_lost(10);
}
END_TEST

START_TEST(a_flipped_bit_in_a_window_is_not_handed_out)
{
    some_swapped();
    disk_flip_bit(&dom.disk, slot_of(34));
    fault(30, true);
    fault(31, true);
    fault(33, true);
    ck_assert(fake_has_pattern(&dom.t, 33));
    ck_assert_int_eq(dom.t.page[34], FAKE_ABSENT);
    fault(34, true);
    only_this_one_is_lost(34);
}
END_TEST

START_TEST(bytes_of_another_slot_are_not_taken_for_the_page)
{
    some_swapped();
    memcpy(dom.disk.bytes + slot_of(10) * PAGE_SIZE, dom.disk.bytes + slot_of(11) * PAGE_SIZE,
           PAGE_SIZE);
    fault(10, true);
    ck_assert_uint_eq(dom.g->count.swap_corrupt, 1);
    only_this_one_is_lost(10);
}
END_TEST

START_TEST(each_relative_loses_the_page_by_itself)
{
    uint32_t filled;

    some_swapped();
    disk_flip_bit(&dom.disk, slot_of(10));
    dom_fork();
    fault(10, false);
    ck_assert_int_eq(dom_tag(&dom.child, 10), PTE_SWAPPED);
    ck_assert_int_eq(fault_answer(&dom.child.mm, fake_addr(10), false, 1, &filled), FAULT_WAITING);
    disk_run(&dom.disk);
    ck_assert_int_eq(fault_answer(&dom.child.mm, fake_addr(10), false, 1, &filled), FAULT_ANSWERED);
    ck_assert_int_eq(dom.child_t.page[10], FAKE_POISONED);
    dom_check();
}
END_TEST

START_TEST(a_passing_shortage_is_no_loss)
{
    some_swapped();
    dom.disk.read_error_once = -ENOMEM;
    dom_fault(10, true);
    (void)dom_answer(&dom.c, now);
    disk_run(&dom.disk);
    ck_assert_uint_eq(dom_answer(&dom.c, now), 1); /* not at once: by the clock */
    now += 10000000;
    ck_assert_uint_eq(dom_answer(&dom.c, now), 0);
    disk_run(&dom.disk);
    (void)dom_answer(&dom.c, now);
    ck_assert(fake_has_pattern(&dom.t, 10));
    ck_assert_uint_eq(dom.g->count.poisoned, 0);
}
END_TEST

START_TEST(bringing_back_goes_over_a_lost_page)
{
    some_swapped();
    disk_flip_bit(&dom.disk, slot_of(10));
    dom.disk.unreadable[slot_of(50)] = true;
    dom.c.leaving = true;
    for (uint32_t i = 0; i < 10000 && !client_bring_back(&dom.c, 64); i++)
        disk_run(&dom.disk);
    for (uint32_t i = 0; i < NR_PAGES; i++)
        ck_assert(i == 10 || i == 50 ? dom.t.page[i] == FAKE_POISONED
                                     : fake_has_pattern(&dom.t, i));
    dom_check();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client-swapin");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, swapped_open, swapped_close);
    tcase_add_test(tc, a_fault_waits_for_its_read_and_is_answered_once);
    tcase_add_test(tc, neighbours_in_address_and_slot_are_read_along);
    tcase_add_test(tc, the_kernel_may_say_not_now_to_what_was_read);
    tcase_add_test(tc, relatives_share_one_read);
    tcase_add_test(tc, a_child_that_cannot_share_a_slot_fails_closed);
    tcase_add_test(tc, what_was_read_for_a_page_that_is_gone_is_dropped);
    tcase_add_test(tc, a_page_dropped_after_its_read_is_not_filled_with_it);
    tcase_add_test(tc, a_page_that_moves_during_its_read_is_found_at_its_new_place);
    tcase_add_test(tc, an_end_during_a_read_gives_all_back);
    tcase_add_test(tc, everything_comes_back_when_a_client_leaves);
    tcase_add_test(tc, more_faults_than_reads_come_again);
    tcase_add_test(tc, who_does_not_come_to_take_its_reads_holds_up_nobody);
    tcase_add_test(tc, a_page_that_cannot_be_read_is_poisoned_and_no_other);
    tcase_add_test(tc, a_window_over_a_bad_block_loses_nothing_else);
    tcase_add_test(tc, a_flipped_bit_is_seen_and_costs_its_page_only);
    tcase_add_test(tc, a_flipped_bit_in_a_window_is_not_handed_out);
    tcase_add_test(tc, bytes_of_another_slot_are_not_taken_for_the_page);
    tcase_add_test(tc, each_relative_loses_the_page_by_itself);
    tcase_add_test(tc, a_passing_shortage_is_no_loss);
    tcase_add_test(tc, bringing_back_goes_over_a_lost_page);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
