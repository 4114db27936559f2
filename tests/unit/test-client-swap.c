/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file node: write-back, reads, and what becomes of a page when the device fails,
 * lies, or is slow while the program goes on.
 */
#include <check.h>
#include <string.h>

#include "client/client_priv.h"
#include "fake_domain.h"
#include "fault/fault.h"
#include "migrate/migrate.h"

#define NR_FRAMES PAGEBLOCK_FRAMES
#define NR_SLOTS (2 * PAGEBLOCK_FRAMES)
#define NR_PAGES 400 /* so many of NR_FRAMES that write-back begins */

static uint64_t now;

static void setup(void)
{
    log_init("test", LOG_LEVEL_ERROR, -1);
    dom_open_with_file(8, NR_FRAMES, NR_SLOTS);
    now = 1000;
}

static void teardown(void)
{
    dom_close();
}

static pte_t entry(const struct client *c, uint32_t n)
{
    return pte_get(&c->mm, fake_addr(n));
}

static bool is_swapped(uint32_t n)
{
    return dom_tag(&dom.c, n) == PTE_SWAPPED;
}

static uint32_t slot_of(uint32_t n)
{
    ck_assert(is_swapped(n));
    return pte_index(entry(&dom.c, n));
}

/* Write-back until nothing more is called for. */
static void write_back(void)
{
    do {
        domain_writeback(&dom.d, now);
        disk_run(&dom.disk);
        dom_check();
        domain_writeback(&dom.d, now);
    } while (dom.disk.nr_reqs);
}

/* Pages [0, NR_PAGES) are moved out, the oldest of them to the disk. */
static void some_swapped(void)
{
    dom_adopt(0, NR_PAGES, false);
    dom_store(0, NR_PAGES);
    write_back();
    ck_assert(is_swapped(0) && is_swapped(100));
    ck_assert_int_eq(dom_tag(&dom.c, NR_PAGES - 1), PTE_FRAME);
    fake_forget_calls(&dom.t);
}

static void all_is_right(const struct client *c)
{
    for (uint32_t i = 0; i < NR_PAGES; i++) {
        const void *bytes = dom_bytes(c, i);
        ck_assert_msg(bytes && fake_is_pattern(bytes, i), "page %u is wrong", i);
    }
}

/* A fault, its read, and its answer. */
static void fault(uint32_t n, bool write)
{
    dom_fault(n, write);
    ck_assert_uint_eq(dom_answer(&dom.c, now), 0);
    while (dom.c.nr_parked) {
        ck_assert_uint_gt(dom.disk.nr_reqs, 0);
        uint32_t wakes = dom.nr_wakes;
        disk_finish(&dom.disk, 0);
        ck_assert_uint_gt(dom.nr_wakes, wakes);
        ck_assert_uint_eq(dom_answer(&dom.c, now), 0);
    }
    dom_check();
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
    write_back();
    ck_assert_uint_eq(dom.disk.nr_writes, 0);
    ck_assert_int_eq(domain_room(&dom.d, now), DOMAIN_WAIT); /* a whole capture does not fit */
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
    ck_assert_int_eq(domain_room(&dom.d, now), DOMAIN_ROOM); /* what is left of ram is used */
    all_is_right(&dom.c);

    uint32_t writes = dom.disk.nr_writes;
    domain_writeback(&dom.d, now);
    domain_writeback(&dom.d, now + 10000000);
    ck_assert_uint_eq(dom.disk.nr_reqs, 0);
    dom.disk.write_error = 0;
    now += 1000000000;
    write_back();
    ck_assert_uint_gt(dom.disk.nr_writes, writes);
    ck_assert(is_swapped(0) && !writeback_has_failed(dom.d.writeback));
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
    write_back();
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
    write_back();
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
    write_back();
    ck_assert_uint_eq(dom.disk.nr_writes, 0);
    ck_assert_uint_eq(dom.c.mm.nr[PTE_FRAME], 150);
    ck_assert_uint_ge(frame_nr_free(dom.d.ram.frames), node_low_mark(&dom.d.ram));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client-swap");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, the_oldest_frames_go_to_the_disk_in_long_runs);
    tcase_add_test(tc, above_the_mark_nothing_is_written);
    tcase_add_test(tc, a_frame_serves_faults_while_it_is_written);
    tcase_add_test(tc, all_that_share_a_frame_change_to_the_slot);
    tcase_add_test(tc, what_cannot_be_written_stays_and_is_tried_again_later);
    tcase_add_test(tc, a_device_that_takes_nothing_costs_nothing);
    tcase_add_test(tc, captured_pages_wait_for_the_room_that_write_back_makes);
    tcase_add_test(tc, with_all_nodes_full_captured_pages_go_back);
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
    tcase_add_test(tc, a_page_that_cannot_be_read_is_poisoned_and_no_other);
    tcase_add_test(tc, a_window_over_a_bad_block_loses_nothing_else);
    tcase_add_test(tc, a_flipped_bit_is_seen_and_costs_its_page_only);
    tcase_add_test(tc, a_flipped_bit_in_a_window_is_not_handed_out);
    tcase_add_test(tc, bytes_of_another_slot_are_not_taken_for_the_page);
    tcase_add_test(tc, each_relative_loses_the_page_by_itself);
    tcase_add_test(tc, a_passing_shortage_is_no_loss);
    tcase_add_test(tc, bringing_back_goes_over_a_lost_page);
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
