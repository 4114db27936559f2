/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel's messages do to entries, areas, frames and faults that wait. */
#include <check.h>
#include <string.h>
#include <unistd.h>

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

static uint32_t nr_free(void)
{
    return frame_nr_free(dom.d.ram.frames);
}

/* Pages 0-3 in the program, 4-7 in frames, 8-9 zeros, 10-13 captured. */
static void some_of_everything(void)
{
    dom_adopt(4, 4, false);
    dom_adopt(8, 2, true);
    dom_store(4, 6);
    dom_adopt(0, 4, false);
    dom_adopt(10, 4, false);
    dom_stage(10, 4);
}

/* ---- REMOVE and UNMAP ---- */

START_TEST(a_removed_range_is_none_and_stays_an_area)
{
    some_of_everything();
    dom_remove(2, 10);
    dom_check();
    for (uint32_t i = 2; i < 12; i++)
        ck_assert_int_eq(dom_tag(&dom.c, i), PTE_NONE);
    ck_assert_uint_eq(nr_free(), NR_FRAMES);
    ck_assert_uint_eq(mm_area_bytes(&dom.c.mm), FAKE_END - FAKE_START);
    ck_assert_int_eq(dom_tag(&dom.c, 1), PTE_PRESENT);
    /* The captured pages that were dropped are not committed. */
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
    ck_assert_int_eq(dom_tag(&dom.c, 10), PTE_NONE);
    ck_assert(dom_holds(12, 12) && dom_holds(13, 13));
    ck_assert_uint_eq(nr_free(), NR_FRAMES - 2);
}
END_TEST

START_TEST(an_unmapped_range_is_cut_out_of_its_area)
{
    some_of_everything();
    dom_unmap(2, 10);
    dom_check();
    for (uint32_t i = 2; i < 12; i++) {
        ck_assert_int_eq(dom_tag(&dom.c, i), PTE_NONE);
        ck_assert_ptr_null(mm_area_find(&dom.c.mm, fake_addr(i).v));
    }
    ck_assert_ptr_nonnull(mm_area_find(&dom.c.mm, fake_addr(1).v));
    ck_assert_ptr_nonnull(mm_area_find(&dom.c.mm, fake_addr(12).v));
    ck_assert_uint_eq(nr_free(), NR_FRAMES);
}
END_TEST

START_TEST(what_was_never_there_can_be_removed)
{
    dom_remove(100, 500);
    dom_unmap(100, 500);
    dom_check();
    ck_assert_uint_eq(dom.c.mm.nr_leaves, 0);
}
END_TEST

START_TEST(a_doubled_remove_does_no_more_than_one)
{
    some_of_everything();
    dom_remove(4, 4);
    dom_remove(4, 4);
    dom_check();
    ck_assert_uint_eq(nr_free(), NR_FRAMES);
}
END_TEST

/* ---- REMAP ---- */

START_TEST(a_moved_range_takes_entries_frames_and_area_along)
{
    some_of_everything();
    dom_remap(0, 700, 14);
    dom_check();
    for (uint32_t i = 0; i < 14; i++) {
        enum pte_tag want = i < 4    ? PTE_PRESENT
                            : i < 8  ? PTE_FRAME
                            : i < 10 ? PTE_ZERO
                                     : PTE_MIGRATING;
        ck_assert_int_eq(dom_tag(&dom.c, i), PTE_NONE);
        ck_assert_int_eq(dom_tag(&dom.c, 700 + i), want);
        if (want != PTE_ZERO)
            ck_assert(dom_holds(700 + i, i));
    }
    ck_assert_uint_eq(nr_free(), NR_FRAMES - 4);
    ck_assert_ptr_nonnull(mm_area_find(&dom.c.mm, fake_addr(700).v));
    /* MREMAP_DONTUNMAP would leave the old place registered; its unmap says that this did not. */
    ck_assert_ptr_nonnull(mm_area_find(&dom.c.mm, fake_addr(0).v));
    dom_unmap(0, 14);
    ck_assert_ptr_null(mm_area_find(&dom.c.mm, fake_addr(0).v));
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
    dom_check();
    for (uint32_t i = 10; i < 14; i++)
        ck_assert(dom_tag(&dom.c, 700 + i) == PTE_FRAME && dom_holds(700 + i, i));
}
END_TEST

START_TEST(what_lay_at_the_new_place_is_gone)
{
    dom_adopt(0, 2, false);
    dom_adopt(700, 2, false);
    dom_store(700, 2);
    dom_store(0, 1);
    dom_remap(0, 700, 2);
    dom_check();
    ck_assert(dom_tag(&dom.c, 700) == PTE_FRAME && dom_holds(700, 0));
    ck_assert(dom_tag(&dom.c, 701) == PTE_PRESENT && dom_holds(701, 1));
    ck_assert_uint_eq(nr_free(), NR_FRAMES - 1);
}
END_TEST

START_TEST(a_page_moved_twice_under_a_move_and_taken_back)
{
    dom_adopt(0, 2, false);
    dom_stage(0, 2);
    dom_remap(0, 700, 2);
    dom_remap(700, 900, 2);
    dom_fault(901, false);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    dom_check();
    ck_assert(dom_tag(&dom.c, 901) == PTE_PRESENT && dom_holds(901, 1));
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
    ck_assert(dom_tag(&dom.c, 900) == PTE_FRAME && dom_holds(900, 0));
}
END_TEST

START_TEST(a_move_is_forgotten_when_its_batch_was_whole)
{
    dom_adopt(0, 4, false);
    dom_adopt(20, 4, false);
    dom_store(0, 4);
    dom_remap(0, 700, 4);
    dom_remap(20, 0, 4);
    ck_assert_uint_eq(dom.c.nr_moves, 0);
    dom_unmap(0, 4);
    ck_assert_int_eq(dom_tag(&dom.c, 0), PTE_NONE);
}
END_TEST

START_TEST(more_moves_than_are_remembered)
{
    dom_adopt(0, 1, false);
    dom_store(0, 1);
    dom_hold(); /* of other places, so that none is in another's way */
    for (uint32_t i = 0; i < 2 * CLIENT_MAX_MOVES; i++)
        dom_remap(100 + i, 300 + i, 1);
    dom_apply_held();
    dom_check();
    for (uint32_t i = 0; i < 3 * CLIENT_MAX_MOVES; i++) {
        dom_remap(i, i + 1, 1);
        dom_check();
    }
    ck_assert(dom_holds(3 * CLIENT_MAX_MOVES, 0));
}
END_TEST

START_TEST(without_a_leaf_for_the_new_place_pages_fail_closed)
{
    struct uaddr far = uaddr(0x600000000000);
    uint32_t others = 0;

    some_of_everything();
    dom_adopt(100, 1, false); /* stays, and so does the leaf of the old place */
    while (pgtable_nr_free_leaves(dom.d.pt)) /* all other leaves are used */
        ck_assert_int_eq(pte_transition(&dom.c.mm, uaddr(0x500000000000 + others++ * LEAF_SIZE),
                                        PTE_EV_ADOPT, (struct pte_arg){0}, NULL),
                         0);
    /* The fake has no page there: what matters is what is asked of it. */
    struct kuffd_msg m = {
        .type = KUFFD_REMAP, .from = fake_addr(0), .to = far, .len = 14 * PAGE_SIZE};
    client_upcalls(&dom.c, &m, 1, 1000);
    dom_check();
    while (pgtable_nr_free_leaves(dom.d.pt)) /* that of the old place, too */
        ck_assert_int_eq(pte_transition(&dom.c.mm, uaddr(0x500000000000 + others++ * LEAF_SIZE),
                                        PTE_EV_ADOPT, (struct pte_arg){0}, NULL),
                         0);
    /* Stored and captured ones; those in the program went along. */
    ck_assert_uint_eq(dom.c.saved->nr_doomed, 10);
    ck_assert_uint_eq(dom.g->count.poisoned, 10);
    ck_assert_uint_eq(nr_free(), NR_FRAMES);

    /* A fault waits until the kernel lets the poison be put down. */
    m = (struct kuffd_msg){.type = KUFFD_FAULT, .addr = uaddr(far.v + 4 * PAGE_SIZE)};
    client_upcalls(&dom.c, &m, 1, 1000);
    fake_forget_calls(&dom.t);
    fake_plan_every(&dom.t, FAKE_POISON, KRES_RETRY);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 1);
    ck_assert_uint_eq(dom.t.nr[FAKE_COPY] + dom.t.nr[FAKE_ZERO], 0);
    fake_plan_every(&dom.t, FAKE_POISON, KRES_DONE);
    dom_answer(&dom.c, 3000);
    ck_assert_uint_eq(dom.t.nr[FAKE_POISON], 22);
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);

    /* They stay known, as no entry can say it: nothing is ever filled there, nor asked again. */
    ck_assert_uint_eq(dom.c.saved->nr_doomed, 10);
    dom_answer(&dom.c, 4000);
    ck_assert_uint_eq(dom.t.nr[FAKE_POISON], 22);
    m = (struct kuffd_msg){
        .type = KUFFD_FAULT, .addr = uaddr(far.v + 5 * PAGE_SIZE), .write = true};
    client_upcalls(&dom.c, &m, 1, 4000);
    fake_plan_every(&dom.t, FAKE_POISON, KRES_RACED);
    ck_assert_uint_eq(dom_answer(&dom.c, 5000), 0);
    ck_assert_uint_eq(dom.t.nr[FAKE_COPY] + dom.t.nr[FAKE_ZERO], 0);
    ck_assert_uint_eq(dom.c.saved->nr_doomed, 10);
    m = (struct kuffd_msg){.type = KUFFD_UNMAP, .range = {far, 14 * PAGE_SIZE}};
    client_upcalls(&dom.c, &m, 1, 6000);
    ck_assert_uint_eq(dom.c.saved->nr_doomed, 0);
}
END_TEST

START_TEST(memory_that_is_unmapped_again_and_again_takes_no_leaves)
{
    uint32_t left = pgtable_nr_free_leaves(dom.d.pt);

    for (uint64_t k = 0; k < 10 * NR_LEAVES; k++) {
        uint64_t at = 0x500000000000 + k * LEAF_SIZE;
        ck_assert_int_eq(pte_transition(&dom.c.mm, uaddr(at), PTE_EV_ADOPT, (struct pte_arg){0}, NULL),
                         0);
        struct kuffd_msg m = {.type = KUFFD_UNMAP, .range = urange(at, at + LEAF_SIZE)};
        client_upcalls(&dom.c, &m, 1, 1000);
        dom_check();
    }
    ck_assert_uint_eq(pgtable_nr_free_leaves(dom.d.pt), left);
}
END_TEST

START_TEST(a_mapping_that_moves_on_and_on_takes_no_leaves)
{
    uint32_t left;

    some_of_everything();
    left = pgtable_nr_free_leaves(dom.d.pt);
    for (uint32_t k = 0; k < 3; k++) {
        dom_remap(k * PTES_PER_LEAF, (k + 1) * PTES_PER_LEAF, 14);
        dom_check();
    }
    ck_assert_uint_eq(pgtable_nr_free_leaves(dom.d.pt), left);
}
END_TEST

START_TEST(who_loses_pages_is_told_of_but_not_of_each)
{
    char said[16384] = "";
    uint32_t others = 0, lines = 0;
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    log_init("test", LOG_LEVEL_ERROR, ends[1]);
    dom.c.mm.pid = 4711;
    dom_adopt(0, 20, false);
    dom_store(0, 20);
    while (pgtable_nr_free_leaves(dom.d.pt))
        ck_assert_int_eq(pte_transition(&dom.c.mm, uaddr(0x500000000000 + others++ * LEAF_SIZE),
                                        PTE_EV_ADOPT, (struct pte_arg){0}, NULL),
                         0);
    struct kuffd_msg m = {.type = KUFFD_REMAP,
                          .from = fake_addr(0),
                          .to = uaddr(0x600000000000),
                          .len = 20 * PAGE_SIZE};
    client_upcalls(&dom.c, &m, 1, 1000);
    fake_plan_every(&dom.t, FAKE_POISON, KRES_DONE);
    dom_answer(&dom.c, 2000);
    ck_assert_uint_eq(dom.c.saved->nr_doomed, 0);
    ck_assert_int_gt(read(ends[0], said, sizeof(said) - 1), 0);
    log_init("test", LOG_LEVEL_ERROR, -1);
    close(ends[0]);
    close(ends[1]);
    for (const char *p = said; (p = strchr(p, '\n')); p++)
        lines++;
    ck_assert_uint_lt(lines, 20);
    ck_assert_ptr_nonnull(strstr(said, "pid 4711: the page at 0x6000000"));
    ck_assert_ptr_nonnull(strstr(said, "The page tables are full: raise --ram or --swap"));
}
END_TEST

START_TEST(a_page_to_be_poisoned_that_is_unmapped_is_forgotten)
{
    some_of_everything();
    while (pgtable_nr_free_leaves(dom.d.pt))
        ck_assert_int_eq(
            pte_transition(&dom.c.mm,
                           uaddr(0x500000000000 + pgtable_nr_free_leaves(dom.d.pt) * LEAF_SIZE),
                           PTE_EV_ADOPT, (struct pte_arg){0}, NULL),
            0);
    struct kuffd_msg m = {.type = KUFFD_REMAP,
                          .from = fake_addr(4),
                          .to = uaddr(0x600000000000),
                          .len = 4 * PAGE_SIZE};
    client_upcalls(&dom.c, &m, 1, 1000);
    ck_assert_uint_eq(dom.c.saved->nr_doomed, 4);
    m = (struct kuffd_msg){.type = KUFFD_UNMAP,
                           .range = urange(0x600000000000 + PAGE_SIZE, 0x600000000000 + LEAF_SIZE)};
    client_upcalls(&dom.c, &m, 1, 1000);
    ck_assert_uint_eq(dom.c.saved->nr_doomed, 1);
}
END_TEST

START_TEST(a_full_reverse_map_does_not_stop_a_move)
{
    dom_adopt(0, 1, false);
    dom_store(0, 1);
    struct pfn pfn = {pte_index(pte_get(&dom.c.mm, fake_addr(0)))};
    uint32_t nr = 0;
    while (node_ref(&dom.d.ram, pfn, (struct rmap_entry){99, uaddr(nr * PAGE_SIZE)}) == 0)
        nr++;
    dom_remap(0, 700, 1);
    ck_assert(dom_tag(&dom.c, 700) == PTE_FRAME && dom_holds(700, 0));
    ck_assert_uint_eq(frame_refs(dom.d.ram.frames, pfn), nr + 1);
    while (nr-- > 0)
        node_unref(&dom.d.ram, pfn, (struct rmap_entry){99, uaddr(nr * PAGE_SIZE)});
    dom_check();
}
END_TEST

/* ---- faults ---- */

START_TEST(a_fault_that_overtook_a_remove_gets_zeros)
{
    dom_adopt(4, 1, false);
    dom_store(4, 1);
    dom_fault(4, false);
    dom_remove(4, 1);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    ck_assert(fake_has_zeros(&dom.t, 4));
    ck_assert_uint_eq(nr_free(), NR_FRAMES);
}
END_TEST

START_TEST(a_fault_that_overtook_a_move_is_woken)
{
    dom_adopt(4, 1, false);
    dom_store(4, 1);
    dom_fault(4, false);
    dom_remap(4, 700, 1);
    fake_plan(&dom.t, FAKE_ZERO, 1, KRES_GONE, 0);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    ck_assert_uint_eq(dom.t.nr[FAKE_WAKE], 1);
    ck_assert(dom_holds(700, 4));
}
END_TEST

START_TEST(a_fault_within_a_page_is_the_pages)
{
    struct kuffd_msg m = {.type = KUFFD_FAULT, .addr = uaddr(fake_addr(4).v + 17)};

    dom_adopt(4, 1, false);
    dom_store(4, 1);
    client_upcalls(&dom.c, &m, 1, 1000);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    ck_assert(fake_has_pattern(&dom.t, 4));
}
END_TEST

START_TEST(doubled_faults_are_one)
{
    dom_fault(4, false);
    dom_fault(4, true);
    dom_fault(4, false);
    ck_assert_uint_eq(dom.c.nr_parked, 1);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    ck_assert_uint_eq(dom.t.nr[FAKE_COPY], 1); /* as a write, since one of them was */
    ck_assert_uint_eq(dom.t.nr[FAKE_ZERO], 0);
    ck_assert_uint_eq(hist_count(&dom.g->fault_latency), 1);
    ck_assert_uint_eq(hist_max(&dom.g->fault_latency), 1000);
}
END_TEST

START_TEST(a_parked_fault_is_answered_later_in_its_own_time)
{
    dom_adopt(4, 2, false);
    dom_store(4, 2);
    dom_fault(4, false);
    dom_fault(5, false);
    fake_plan(&dom.t, FAKE_COPY, 1, KRES_RETRY, 0);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 1); /* the other one is not held up */
    ck_assert_int_eq(dom_tag(&dom.c, 4), PTE_FRAME);
    ck_assert_int_eq(dom_tag(&dom.c, 5), PTE_PRESENT);
    ck_assert_uint_eq(dom_answer(&dom.c, 51000), 0);
    ck_assert(fake_has_pattern(&dom.t, 4) && fake_has_pattern(&dom.t, 5));
    ck_assert_uint_eq(hist_max(&dom.g->fault_latency), 50000);
}
END_TEST

START_TEST(a_fault_waits_for_the_agent_and_takes_its_page_back)
{
    struct uaddr page = fake_addr(4);
    uint8_t result[CAPTURE_MAX_PAGES];

    dom_adopt(4, 1, false);
    dom_fault(4, true); /* read before the capture, kept waiting by it */
    ck_assert_int_eq(migrate_capture(&dom.c.mm, &page, 1, false, MIGRATE_DEMOTION), 1);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 1);
    fake_agent(&dom.t, result);
    client_captured(&dom.c, result);
    ck_assert_uint_eq(dom_answer(&dom.c, 3000), 0);
    ck_assert(dom_tag(&dom.c, 4) == PTE_PRESENT && dom_holds(4, 4));
    ck_assert_uint_eq(dom.g->count.pgmajfault, 1);
}
END_TEST

START_TEST(a_fault_too_many_is_woken_to_come_again)
{
    fake_plan_every(&dom.t, FAKE_ZERO, KRES_RETRY);
    for (uint32_t i = 0; i < CLIENT_MAX_PARKED + 3; i++)
        dom_fault(i, false);
    ck_assert_uint_eq(dom.c.nr_parked, CLIENT_MAX_PARKED);
    ck_assert_uint_eq(dom.t.nr[FAKE_WAKE], 3);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), CLIENT_MAX_PARKED);
    fake_plan_none(&dom.t);
    ck_assert_uint_eq(dom_answer(&dom.c, 3000), 0);
    dom_check();
}
END_TEST

START_TEST(a_page_that_the_kernel_refuses_fails_closed)
{
    log_init("test", LOG_LEVEL_ERROR, -1);
    some_of_everything();
    fake_plan_every(&dom.t, FAKE_COPY, KRES_FATAL);
    dom_fault(5, true);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 1);
    ck_assert_int_eq(dom_tag(&dom.c, 5), PTE_FRAME);
    ck_assert_uint_eq(dom_answer(&dom.c, 1100000000), 1);
    ck_assert_uint_eq(dom_answer(&dom.c, 1100001000), 0);
    ck_assert_int_eq(dom_tag(&dom.c, 5), PTE_POISON);
    ck_assert_int_eq(dom.t.page[5], FAKE_POISONED);
    ck_assert_uint_eq(dom.g->count.poisoned, 1);
    dom_check();
}
END_TEST

START_TEST(the_end_of_the_program_ends_its_faults)
{
    for (uint32_t i = 0; i < 10; i++)
        dom_fault(i * 3, false);
    fake_plan(&dom.t, FAKE_ZERO, 4, KRES_DEAD, 0);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    ck_assert(dom.c.mm.dead);
    ck_assert_uint_eq(dom.t.nr[FAKE_ZERO], 4); /* nothing is asked of a dead one */
}
END_TEST

/*
 * A capture by mremap() lets messages be read before it has ended.  When the parent and its agent
 * are killed there, what was taken went with them, and the child, which runs, is without it.
 */
START_TEST(a_child_never_reads_zeros_for_what_went_with_its_parent)
{
    const struct kuffd_msg fork[] = {{.type = KUFFD_FAULT}, {.type = KUFFD_FORK, .fd = 77}};
    struct uaddr pages[] = {fake_addr(0), fake_addr(1)};
    uint8_t result[CAPTURE_MAX_PAGES];

    ck_assert_int_eq(client_result_of_missing(fork, 1), CAPTURE_HOLE); /* nobody misses it */
    dom_adopt(0, 2, false);
    ck_assert_int_eq(migrate_capture(&dom.c.mm, pages, 2, false, MIGRATE_DEMOTION), 2);
    memset(result, client_result_of_missing(fork, 2), sizeof(result));
    client_captured(&dom.c, result);
    dom_fork();
    dom_check();
    for (uint32_t i = 0; i < 2; i++)
        ck_assert_int_eq(dom_tag(&dom.child, i), PTE_POISON);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client-messages");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_removed_range_is_none_and_stays_an_area);
    tcase_add_test(tc, an_unmapped_range_is_cut_out_of_its_area);
    tcase_add_test(tc, what_was_never_there_can_be_removed);
    tcase_add_test(tc, a_doubled_remove_does_no_more_than_one);
    tcase_add_test(tc, a_moved_range_takes_entries_frames_and_area_along);
    tcase_add_test(tc, what_lay_at_the_new_place_is_gone);
    tcase_add_test(tc, a_page_moved_twice_under_a_move_and_taken_back);
    tcase_add_test(tc, a_move_is_forgotten_when_its_batch_was_whole);
    tcase_add_test(tc, more_moves_than_are_remembered);
    tcase_add_test(tc, without_a_leaf_for_the_new_place_pages_fail_closed);
    tcase_add_test(tc, memory_that_is_unmapped_again_and_again_takes_no_leaves);
    tcase_add_test(tc, a_mapping_that_moves_on_and_on_takes_no_leaves);
    tcase_add_test(tc, who_loses_pages_is_told_of_but_not_of_each);
    tcase_add_test(tc, a_page_to_be_poisoned_that_is_unmapped_is_forgotten);
    tcase_add_test(tc, a_full_reverse_map_does_not_stop_a_move);
    tcase_add_test(tc, a_fault_that_overtook_a_remove_gets_zeros);
    tcase_add_test(tc, a_fault_that_overtook_a_move_is_woken);
    tcase_add_test(tc, a_fault_within_a_page_is_the_pages);
    tcase_add_test(tc, doubled_faults_are_one);
    tcase_add_test(tc, a_parked_fault_is_answered_later_in_its_own_time);
    tcase_add_test(tc, a_fault_waits_for_the_agent_and_takes_its_page_back);
    tcase_add_test(tc, a_fault_too_many_is_woken_to_come_again);
    tcase_add_test(tc, a_page_that_the_kernel_refuses_fails_closed);
    tcase_add_test(tc, the_end_of_the_program_ends_its_faults);
    tcase_add_test(tc, a_child_never_reads_zeros_for_what_went_with_its_parent);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
