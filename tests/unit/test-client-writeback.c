/* SPDX-License-Identifier: Apache-2.0 */
/* Write-back: which frames go to the file node and when, and what happens to them meanwhile. */
#include <check.h>
#include <string.h>

#include "client/client_priv.h"
#include "fault/fault.h"
#include "migrate/migrate.h"
#include "swapped_domain.h"

static pte_t entry(const struct client *c, uint32_t n)
{
    return pte_get(&c->mm, fake_addr(n));
}

/* ---- write-back ---- */

START_TEST(the_oldest_frames_go_to_the_disk_in_long_runs)
{
    some_swapped();
    uint32_t nr = 0;
    while (is_swapped(nr))
        nr++;
    for (uint32_t i = nr; i < NR_PAGES; i++)
        ck_assert_int_eq(dom_tag(&dom.c, i), PTE_FRAME);
    ck_assert_uint_ge(frame_nr_free(dom.d.ram.frames), node_low_mark(&dom.d.ram));
    ck_assert_uint_eq(dom.g->count.pswpout, nr);
    ck_assert_uint_le(dom.disk.nr_writes, 3);
    for (uint32_t i = 1; i < 128; i++)
        ck_assert_uint_eq(slot_of(i), slot_of(0) + i);
    all_is_right(&dom.c);
}
END_TEST

START_TEST(above_the_mark_nothing_is_written)
{
    dom_adopt(0, 300, false);
    dom_store(0, 300);
    dom_write_back(now);
    ck_assert_uint_eq(dom.disk.nr_writes, 0);
    ck_assert_int_eq(domain_room(&dom.d, now), DOMAIN_ROOM);
}
END_TEST

START_TEST(a_frame_serves_faults_while_it_is_written)
{
    dom_adopt(0, NR_PAGES, false);
    dom_store(0, NR_PAGES);
    ck_assert_uint_gt(dom.disk.nr_reqs, 0);
    ck_assert(writeback_makes_room(dom.d.writeback));
    dom_fault(3, true);
    ck_assert_uint_eq(dom_answer(&dom.c, now), 0);
    ck_assert(fake_has_pattern(&dom.t, 3));
    dom_remove(5, 1);
    dom_check();
    disk_run(&dom.disk);
    dom_check();
    ck_assert_int_eq(dom_tag(&dom.c, 3), PTE_PRESENT);
    ck_assert_int_eq(dom_tag(&dom.c, 5), PTE_NONE);
    ck_assert(is_swapped(4));
    ck_assert_uint_eq(frame_nr_total(dom.d.file.frames) - frame_nr_free(dom.d.file.frames),
                      dom.c.mm.nr[PTE_SWAPPED]);
}
END_TEST

START_TEST(all_that_share_a_frame_change_to_the_slot)
{
    dom_adopt(0, NR_PAGES, false);
    dom_store(0, NR_PAGES);
    dom_fork();
    disk_run(&dom.disk);
    dom_check();
    ck_assert(is_swapped(7));
    ck_assert_uint_eq(entry(&dom.child, 7), entry(&dom.c, 7));
    ck_assert_uint_eq(frame_refs(dom.d.file.frames, (struct pfn){slot_of(7)}), 2);
    all_is_right(&dom.c);
    all_is_right(&dom.child);
}
END_TEST

START_TEST(what_cannot_be_written_stays_and_is_tried_again_later)
{
    dom.disk.write_error = -ENOSPC;
    dom_adopt(0, NR_PAGES, false);
    dom_store(0, NR_PAGES);
    disk_run(&dom.disk);
    dom_check();
    ck_assert_uint_eq(dom.c.mm.nr[PTE_FRAME], NR_PAGES);
    ck_assert_uint_ge(dom.g->count.swap_write_error, 128);
    ck_assert_uint_eq(dom.g->count.pswpout, 0);
    ck_assert_uint_eq(frame_nr_free(dom.d.file.frames), NR_SLOTS);
    ck_assert(writeback_has_failed(dom.d.writeback));
    ck_assert_int_eq(domain_room(&dom.d, now), DOMAIN_FULL); /* until the pause is over */
    all_is_right(&dom.c);

    uint32_t writes = dom.disk.nr_writes;
    domain_writeback(&dom.d, now);
    domain_writeback(&dom.d, now + 10000000);
    ck_assert_uint_eq(dom.disk.nr_reqs, 0);
    dom.disk.write_error = 0;
    now += 1000000000;
    dom_write_back(now);
    ck_assert_uint_gt(dom.disk.nr_writes, writes);
    ck_assert(is_swapped(0) && !writeback_has_failed(dom.d.writeback));
    all_is_right(&dom.c);
}
END_TEST

START_TEST(a_failure_among_writes_that_succeed_pauses_as_short_as_a_first_one)
{
    dom_adopt(0, NR_PAGES, false);
    dom_store(0, NR_PAGES);
    ck_assert_uint_eq(dom.disk.nr_reqs, 2);
    dom.disk.write_error = -EIO;
    disk_finish(&dom.disk, 0);
    dom.disk.write_error = 0;
    disk_finish(&dom.disk, 0);
    domain_writeback(&dom.d, now);
    ck_assert_uint_eq(dom.disk.nr_reqs, 0);
    now += 100000000;
    domain_writeback(&dom.d, now);
    ck_assert_uint_gt(dom.disk.nr_reqs, 0);
    disk_run(&dom.disk);
    dom_check();
    all_is_right(&dom.c);
}
END_TEST

START_TEST(a_device_that_takes_nothing_costs_nothing)
{
    dom.disk.submit_error = -EAGAIN;
    dom_adopt(0, NR_PAGES, false);
    dom_store(0, NR_PAGES);
    dom_check();
    dom.disk.submit_error = -EIO;
    dom_write_back(now);
    ck_assert_uint_eq(dom.c.mm.nr[PTE_FRAME], NR_PAGES);
    ck_assert_uint_eq(frame_nr_free(dom.d.file.frames), NR_SLOTS);
    dom.disk.submit_error = 0;
    all_is_right(&dom.c);
}
END_TEST

START_TEST(captured_pages_wait_for_the_room_that_write_back_makes)
{
    dom_adopt(0, NR_PAGES, false);
    dom_store(0, NR_PAGES);
    dom_use_up_frames(0);
    ck_assert_int_eq(domain_room(&dom.d, now), DOMAIN_WAIT);
    dom_adopt(600, 8, false);
    dom_stage(600, 8);
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 8);
    ck_assert_uint_eq(dom.g->count.migrate_aborted, 0);
    dom_fault(602, false); /* a fault does not wait for that */
    ck_assert_uint_eq(dom_answer(&dom.c, now), 0);
    ck_assert(fake_has_pattern(&dom.t, 602));
    disk_run(&dom.disk);
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
    ck_assert_int_eq(dom_tag(&dom.c, 600), PTE_FRAME);
    ck_assert(fake_is_pattern(dom_bytes(&dom.c, 607), 607));
    dom_check();
    dom_give_frames_back();
}
END_TEST

START_TEST(with_all_nodes_full_captured_pages_go_back)
{
    struct pfn first;
    uint32_t nr;

    while (frame_nr_free(dom.d.file.frames))
        ck_assert_int_eq(frame_alloc_run(dom.d.file.frames, NR_SLOTS, &first, &nr), 0);
    dom_use_up_frames(4);
    dom_adopt(0, 8, false);
    dom_stage(0, 8);
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
    ck_assert_int_eq(domain_room(&dom.d, now), DOMAIN_FULL);
    ck_assert_uint_eq(dom.g->count.migrate_aborted, 4);
    for (uint32_t i = 0; i < 8; i++)
        ck_assert(fake_is_pattern(dom_bytes(&dom.c, i), i));
    dom_give_frames_back();
    for (uint32_t n = 0; n < NR_SLOTS; n++)
        frame_free(dom.d.file.frames, (struct pfn){n});
}
END_TEST

/* ---- kept slots ---- */

START_TEST(a_page_that_was_read_keeps_its_slot_and_goes_back_without_a_write)
{
    some_swapped();
    uint32_t slot = slot_of(10), writes = dom.disk.nr_writes;
    fault(10, false);
    ck_assert(pte_is_kept(entry(&dom.c, 10)) && pte_node(entry(&dom.c, 10)) == NODE_FILE);
    dom_store(10, 1);
    dom_check();
    ck_assert_uint_eq(slot_of(10), slot);
    ck_assert_uint_eq(dom.g->count.clean_dropped, 1);
    ck_assert_uint_eq(dom.disk.nr_writes, writes);

    fault(10, false);
    dom.t.mem[10 * PAGE_SIZE + 17] ^= 4;
    dom_store(10, 1);
    dom_check();
    ck_assert_int_eq(dom_tag(&dom.c, 10), PTE_FRAME);
    ck_assert_uint_eq(dom.g->count.clean_dropped, 1);
    ck_assert(!frame_is_allocated(dom.d.file.frames, (struct pfn){slot}));
}
END_TEST

START_TEST(a_slot_that_is_only_kept_is_given_up_for_a_page_that_needs_one)
{
    some_swapped();
    for (uint32_t i = 100; i-- > 0;)
        fault(i, false);
    ck_assert_uint_eq(frame_list_nr(dom.d.file.frames, FRAME_KEPT), 100);
    struct pfn first;
    uint32_t nr, used[NR_SLOTS], nr_used = 0;
    while (frame_nr_free(dom.d.file.frames)) {
        ck_assert_int_eq(frame_alloc_run(dom.d.file.frames, 1, &first, &nr), 0);
        used[nr_used++] = first.n;
    }
    dom_adopt(800, 200, false);
    dom_store(800, 200);
    dom_write_back(now);
    ck_assert(is_swapped(NR_PAGES / 2)); /* it was the next in age */
    for (uint32_t i = 0; i < 100; i++)
        ck_assert(dom_tag(&dom.c, i) == PTE_PRESENT && !pte_is_kept(entry(&dom.c, i)));
    while (nr_used)
        frame_free(dom.d.file.frames, (struct pfn){used[--nr_used]});
}
END_TEST

START_TEST(kept_frames_go_before_anything_is_written)
{
    dom_adopt(0, 300, false);
    dom_store(0, 300);
    for (uint32_t i = 300; i-- > 0;)
        fault(i, false);
    ck_assert_uint_eq(frame_list_nr(dom.d.ram.frames, FRAME_KEPT), 300);
    dom_adopt(600, 150, false);
    dom_store(600, 150);
    dom_write_back(now);
    ck_assert_uint_eq(dom.disk.nr_writes, 0);
    ck_assert_uint_eq(dom.c.mm.nr[PTE_FRAME], 150);
    ck_assert_uint_ge(frame_nr_free(dom.d.ram.frames), node_low_mark(&dom.d.ram));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client-writeback");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, swapped_open, swapped_close);
    tcase_add_test(tc, the_oldest_frames_go_to_the_disk_in_long_runs);
    tcase_add_test(tc, above_the_mark_nothing_is_written);
    tcase_add_test(tc, a_frame_serves_faults_while_it_is_written);
    tcase_add_test(tc, all_that_share_a_frame_change_to_the_slot);
    tcase_add_test(tc, what_cannot_be_written_stays_and_is_tried_again_later);
    tcase_add_test(tc, a_failure_among_writes_that_succeed_pauses_as_short_as_a_first_one);
    tcase_add_test(tc, a_device_that_takes_nothing_costs_nothing);
    tcase_add_test(tc, captured_pages_wait_for_the_room_that_write_back_makes);
    tcase_add_test(tc, with_all_nodes_full_captured_pages_go_back);
    tcase_add_test(tc, a_page_that_was_read_keeps_its_slot_and_goes_back_without_a_write);
    tcase_add_test(tc, a_slot_that_is_only_kept_is_given_up_for_a_page_that_needs_one);
    tcase_add_test(tc, kept_frames_go_before_anything_is_written);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
