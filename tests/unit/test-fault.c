/* SPDX-License-Identifier: Apache-2.0 */
/* One answer a fault: by state of the entry and by what the kernel says; and bringing back. */
#include <check.h>
#include <string.h>

#include "fake_target.h"
#include "fault/fault.h"

#define NR_FRAMES PAGEBLOCK_FRAMES
#define NR_RESULTS (KRES_FATAL + 1)

static struct world w;

static void setup(void)
{
    world_open(&w, 8, NR_FRAMES);
}

static void teardown(void)
{
    world_close(&w);
}

static const char *result_name(enum kres r)
{
    static const char *const names[NR_RESULTS] = {"done", "retry", "raced",
                                                   "gone", "dead",  "fatal"};

    return names[r];
}

/* What a page was before its fault. */
enum before { NONE, PRESENT, ZERO, FRAME, STAGED, CAPTURING, POISON, NR_BEFORE };

static const char *before_name(enum before b)
{
    static const char *const names[NR_BEFORE] = {"none",   "present",   "zero",  "frame",
                                                 "staged", "capturing", "poison"};

    return names[b];
}

static void prepare(uint32_t n, enum before b)
{
    struct uaddr addr = fake_addr(n);

    switch (b) {
    case NONE:
        break;
    case PRESENT: /* the kernel says it is missing all the same */
        world_adopt(&w, n, false);
        w.t.page[n] = FAKE_ABSENT;
        break;
    case ZERO:
    case FRAME:
        world_adopt(&w, n, b == ZERO);
        world_store(&w, n, 1);
        break;
    case STAGED:
        world_adopt(&w, n, false);
        world_stage(&w, n, 1);
        break;
    case CAPTURING:
        world_adopt(&w, n, false);
        ck_assert_int_eq(migrate_capture(&w.mm, &addr, 1, false, MIGRATE_DEMOTION), 1);
        break;
    case POISON:
        ck_assert_int_eq(pte_transition(&w.mm, addr, PTE_EV_IMPORT,
                                        (struct pte_arg){.value = PTE_POISON}, NULL),
                         0);
        break;
    case NR_BEFORE:
        break;
    }
    fake_forget_calls(&w.t);
    w.count = (struct counters){0};
}

/* Back to nothing, whatever came of it. */
static void clean(uint32_t n)
{
    uint8_t result[CAPTURE_MAX_PAGES] = {0};
    pte_t old;

    fake_plan_none(&w.t);
    if (migrate_is_capturing(&w.mm))
        migrate_captured(&w.mm, result);
    ck_assert_int_eq(
        pte_transition(&w.mm, fake_addr(n), PTE_EV_REMOVE, (struct pte_arg){0}, &old), 0);
    migrate_release_stored(&w.mm, fake_addr(n), old);
    migrate_commit(&w.mm, CAPTURE_MAX_PAGES);
    w.t.page[n] = FAKE_ABSENT;
    ck_assert_uint_eq(frame_nr_free(w.ram.frames), NR_FRAMES);
    world_check(&w);
}

static enum fake_op op_for(enum before b, bool write)
{
    if (b == POISON)
        return FAKE_POISON;
    return b == FRAME || b == STAGED || write ? FAKE_COPY : FAKE_ZERO;
}

static enum fault_outcome outcome_for(enum kres r)
{
    if (r == KRES_DEAD)
        return FAULT_DEAD;
    return r == KRES_RETRY ? FAULT_PARKED : r == KRES_FATAL ? FAULT_REFUSED : FAULT_ANSWERED;
}

START_TEST(each_state_and_each_answer_of_the_kernel)
{
    const uint32_t n = 40;

    for (enum before b = NONE; b < NR_BEFORE; b++)
        for (enum kres r = KRES_DONE; r < NR_RESULTS; r++)
            for (int write = 0; write < 2; write++) {
                enum fake_op op = op_for(b, write);
                uint32_t filled = 99;

                prepare(n, b);
                pte_t before = pte_get(&w.mm, fake_addr(n));
                if (r != KRES_DONE)
                    fake_plan(&w.t, op, 1, r, 0);
                enum fault_outcome o = fault_answer(&w.mm, fake_addr(n), write, 1, &filled);
                pte_t after = pte_get(&w.mm, fake_addr(n));
                enum fault_outcome want = b == CAPTURING ? FAULT_PARKED : outcome_for(r);
                ck_assert_msg(o == want, "%s, %s, %s: outcome %d, not %d", before_name(b),
                              write ? "write" : "read", result_name(r), o, want);

                /* The waiter is woken by a fill, else by a wake. */
                bool woken = w.t.nr[FAKE_WAKE] == 1;
                ck_assert_msg(woken == (b != CAPTURING && (r == KRES_RACED || r == KRES_GONE)),
                              "%s, %s: %u wakes", before_name(b), result_name(r),
                              w.t.nr[FAKE_WAKE]);
                ck_assert_uint_eq(w.t.nr_calls, b == CAPTURING ? 0 : 1u + woken);

                bool in = b != CAPTURING && b != POISON &&
                          (r == KRES_DONE || (r == KRES_RACED && b != NONE));
                /* A page that is there without an entry may be about to be dropped: not entered. */
                if (in || b == PRESENT)
                    ck_assert_msg(pte_tag(after) == PTE_PRESENT, "%s, %s: %s", before_name(b),
                                  result_name(r), pte_tag_name(pte_tag(after)));
                else
                    ck_assert_msg(after == before, "%s, %s: changed to %s", before_name(b),
                                  result_name(r), pte_tag_name(pte_tag(after)));
                if (in && b != PRESENT) /* a second chance in the clock */
                    ck_assert(b == STAGED ? pte_flags(after) == PTE_F_REFERENCED
                                          : workingset_is_fresh(&w.mm, after));
                ck_assert_uint_eq(w.mm.nr[PTE_FRAME], b == FRAME && !in);
                if (r == KRES_DONE && b != POISON && b != CAPTURING)
                    ck_assert(b == FRAME || b == STAGED ? fake_has_pattern(&w.t, n)
                                                        : fake_has_zeros(&w.t, n));
                world_check(&w);

                bool counted = b != POISON && want == FAULT_ANSWERED;
                ck_assert_uint_eq(w.count.pgfault, counted);
                if (r == KRES_DONE && b != POISON && b != CAPTURING) {
                    ck_assert_uint_eq(filled, 1);
                    ck_assert_uint_eq(w.count.pgmajfault, b == ZERO || b == FRAME || b == STAGED);
                    ck_assert_uint_eq(w.count.pgzerofill, b == NONE || b == PRESENT);
                }
                clean(n);
            }
}
END_TEST

START_TEST(a_wake_that_finds_the_program_dead)
{
    static const enum before some[] = {NONE, FRAME, ZERO, POISON};
    uint32_t filled;

    for (size_t i = 0; i < ARRAY_SIZE(some); i++)
        for (enum kres r = KRES_RACED; r <= KRES_GONE; r++) {
            prepare(3, some[i]);
            fake_plan(&w.t, op_for(some[i], false), 1, r, 0);
            fake_plan(&w.t, FAKE_WAKE, 1, KRES_DEAD, 0);
            ck_assert_int_eq(fault_answer(&w.mm, fake_addr(3), false, 1, &filled), FAULT_DEAD);
            clean(3);
        }
}
END_TEST

START_TEST(a_doubled_fault_is_answered_twice_without_harm)
{
    uint32_t filled;

    prepare(3, FRAME);
    ck_assert_int_eq(fault_answer(&w.mm, fake_addr(3), false, 8, &filled), FAULT_ANSWERED);
    w.t.mem[3 * PAGE_SIZE] = 'x'; /* the program goes on */
    ck_assert_int_eq(fault_answer(&w.mm, fake_addr(3), true, 8, &filled), FAULT_ANSWERED);
    ck_assert_uint_eq(filled, 0);
    ck_assert_uint_eq(w.t.nr[FAKE_WAKE], 1);
    ck_assert_int_eq(w.t.mem[3 * PAGE_SIZE], 'x');
    clean(3);
}
END_TEST

/* ---- windows ---- */

/* Faults on n, and says how many pages came. */
static uint32_t fault(uint32_t n, bool write, uint32_t max)
{
    uint32_t filled = 0;

    ck_assert_int_eq(fault_answer(&w.mm, fake_addr(n), write, max, &filled), FAULT_ANSWERED);
    world_check(&w);
    return filled;
}

START_TEST(windows_grow_while_faults_follow_each_other)
{
    static const uint32_t want[] = {1, 2, 4, 8, 16, 32, 64, 128, 256};
    uint32_t n = 0;

    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        ck_assert_uint_eq(fault(n, false, FAULT_MAX_WINDOW), want[i]);
        n += want[i];
    }
    ck_assert_uint_eq(w.mm.nr[PTE_PRESENT], n);
    ck_assert_uint_eq(w.count.pgfault, ARRAY_SIZE(want));
    ck_assert_uint_eq(w.count.pgprefetch, n - ARRAY_SIZE(want));
    ck_assert_uint_eq(w.count.pgzerofill, n);
    /* Only the page that was asked for counts as used. */
    /* A jump brings one page, and no window is above what the caller allows. */
    ck_assert_uint_eq(fault(1000, false, FAULT_MAX_WINDOW), 1);
    ck_assert_uint_eq(fault(1001, false, FAULT_MAX_WINDOW), 2);
    ck_assert_uint_eq(fault(1003, false, 3), 3);
    ck_assert_uint_eq(fault(1006, false, FAULT_MAX_WINDOW), 8);
    ck_assert_uint_eq(fault(1014, false, FAULT_MAX_WINDOW), 10); /* a leaf ends there */
    /* A write is answered from a page of zeros of limited length. */
    ck_assert_uint_eq(fault(1024, true, FAULT_MAX_WINDOW), 32);
    for (uint32_t i = 1024; i < 1056; i++)
        ck_assert(fake_has_zeros(&w.t, i));
}
END_TEST

/* The next fault at n is in a sequence, with a full window. */
static void in_sequence(uint32_t n)
{
    w.mm.readahead[0] = (struct readahead_stream){.last = fake_addr(n).v - PAGE_SIZE,
                                                  .next = fake_addr(n).v,
                                                  .stride = PAGE_SIZE,
                                                  .pages = FAULT_MAX_WINDOW};
}

START_TEST(a_window_holds_pages_of_one_state_with_neighbouring_frames)
{
    for (uint32_t i = 0; i < 24; i++)
        world_adopt(&w, i, i >= 12);
    world_store(&w, 0, 10);
    world_store(&w, 12, 12);
    in_sequence(0);
    ck_assert_uint_eq(fault(0, false, FAULT_MAX_WINDOW), 10); /* 10 and 11 are in the program */
    in_sequence(12);
    ck_assert_uint_eq(fault(12, false, FAULT_MAX_WINDOW), 12);
    for (uint32_t i = 0; i < 24; i++)
        ck_assert(world_page_is_whole(&w, i, i >= 12));
    ck_assert_uint_eq(frame_nr_free(w.ram.frames), NR_FRAMES);
    ck_assert_uint_eq(w.count.cow_reused, 10);

    /* Taken out one by one, from above: their frames are not in the order of the pages. */
    for (uint32_t i = 10; i-- > 0;)
        world_store(&w, i, 1);
    in_sequence(0);
    fake_forget_calls(&w.t);
    ck_assert_uint_eq(fault(0, false, FAULT_MAX_WINDOW), 10);
    ck_assert_uint_eq(w.t.nr_calls, 10); /* each is a window of its own */
    ck_assert(fake_has_pattern(&w.t, 0));
}
END_TEST

START_TEST(a_window_ends_with_its_area_and_its_leaf)
{
    ck_assert_int_eq(mm_area_remove(&w.mm, fake_addr(20).v, fake_addr(30).v), 0);
    in_sequence(10);
    ck_assert_uint_eq(fault(10, false, FAULT_MAX_WINDOW), 10);
    in_sequence(25); /* in no area: its mapping grew there */
    ck_assert_uint_eq(fault(25, false, FAULT_MAX_WINDOW), 1);
    in_sequence(PTES_PER_LEAF - 3);
    ck_assert_uint_eq(fault(PTES_PER_LEAF - 3, false, FAULT_MAX_WINDOW), 3);
}
END_TEST

START_TEST(a_window_that_the_kernel_refuses_is_tried_with_one_page)
{
    in_sequence(10);
    fake_plan(&w.t, FAKE_ZERO, 1, KRES_GONE, 0);
    ck_assert_uint_eq(fault(10, false, FAULT_MAX_WINDOW), 1);
    ck_assert_uint_eq(w.t.nr[FAKE_ZERO], 2);
    ck_assert_uint_eq(w.t.call[1].len, PAGE_SIZE);
    ck_assert_uint_eq(w.t.nr[FAKE_WAKE], 0);
}
END_TEST

START_TEST(a_window_that_stops_half_way_answers_the_fault)
{
    for (enum kres r = KRES_RETRY; r < NR_RESULTS; r++) {
        uint32_t n = 64 * r, filled;

        for (uint32_t i = n; i < n + 8; i++)
            world_adopt(&w, i, false);
        world_store(&w, n, 8);
        in_sequence(n);
        fake_plan(&w.t, FAKE_COPY, 1, r, 3);
        ck_assert_int_eq(fault_answer(&w.mm, fake_addr(n), false, FAULT_MAX_WINDOW, &filled),
                         r == KRES_DEAD ? FAULT_DEAD : FAULT_ANSWERED);
        ck_assert_uint_eq(filled, 3);
        for (uint32_t i = n; i < n + 8; i++) {
            ck_assert_int_eq(world_tag(&w, i), i < n + 3 ? PTE_PRESENT : PTE_FRAME);
            ck_assert(world_page_is_whole(&w, i, false));
        }
        world_check(&w);
    }
}
END_TEST

START_TEST(a_window_stops_before_a_guard_and_forgets_what_it_guards)
{
    for (uint32_t i = 0; i < 8; i++)
        world_adopt(&w, i, false);
    world_store(&w, 0, 8);
    w.t.guard = fake_addr(5).v;
    in_sequence(0);
    ck_assert_uint_eq(fault(0, false, FAULT_MAX_WINDOW), 5);
    ck_assert_int_eq(world_tag(&w, 5), PTE_NONE);
    ck_assert_int_eq(world_tag(&w, 6), PTE_FRAME);
    ck_assert_uint_eq(w.mm.nr[PTE_FRAME], 2);
}
END_TEST

START_TEST(a_shared_frame_is_copied_and_stays_with_the_others)
{
    struct rmap_entry other = {99, fake_addr(0)};

    world_adopt(&w, 0, false);
    world_store(&w, 0, 1);
    struct pfn pfn = {pte_index(pte_get(&w.mm, fake_addr(0)))};
    ck_assert_int_eq(node_ref(&w.ram, pfn, other), 0);
    uint32_t filled;
    ck_assert_int_eq(fault_answer(&w.mm, fake_addr(0), true, 1, &filled), FAULT_ANSWERED);
    ck_assert(fake_has_pattern(&w.t, 0));
    ck_assert_uint_eq(w.count.cow_copied, 1);
    ck_assert_uint_eq(frame_refs(w.ram.frames, pfn), 1);
    node_unref(&w.ram, pfn, other);
    ck_assert_uint_eq(frame_nr_free(w.ram.frames), NR_FRAMES);
}
END_TEST

START_TEST(the_agents_own_memory_is_served_and_not_entered)
{
    w.mm.own = urange(fake_addr(16).v, fake_addr(32).v);
    in_sequence(14);
    ck_assert_uint_eq(fault(14, false, FAULT_MAX_WINDOW), FAULT_MAX_WINDOW);
    for (uint32_t i = 16; i < 32; i++)
        ck_assert_int_eq(world_tag(&w, i), PTE_NONE);
    ck_assert_int_eq(world_tag(&w, 14), PTE_PRESENT);
    ck_assert(fake_has_zeros(&w.t, 31));
}
END_TEST

START_TEST(a_fault_is_answered_although_no_leaf_is_left)
{
    world_close(&w);
    world_open(&w, 1, NR_FRAMES);
    world_adopt(&w, 0, false);
    ck_assert_uint_eq(fault(PTES_PER_LEAF, false, 1), 1);
    ck_assert(fake_has_zeros(&w.t, PTES_PER_LEAF));
    ck_assert_int_eq(world_tag(&w, PTES_PER_LEAF), PTE_NONE);
}
END_TEST

/* ---- bringing back ---- */

#define BACK_PAGES 30

/* Some of everything: frames, zeros, captured, in the program, and never there. */
static void store_some(void)
{
    for (uint32_t i = 0; i < BACK_PAGES; i++)
        if (i % 10 != 9)
            world_adopt(&w, i * 3, i % 5 == 4);
    for (uint32_t i = 0; i < BACK_PAGES; i++)
        if (i % 10 < 7)
            world_store(&w, i * 3, 1);
    for (uint32_t i = 0; i < 8; i++)
        world_adopt(&w, 600 + i, false);
    world_store(&w, 600, 8);
    for (uint32_t i = 0; i < 4; i++)
        world_adopt(&w, 700 + i, false);
    world_stage(&w, 700, 4);
}

static void check_some(bool all_back, uint32_t nth)
{
    for (uint32_t i = 0; i < BACK_PAGES; i++)
        ck_assert_msg(world_page_is_whole(&w, i * 3, i % 10 == 9 || i % 5 == 4),
                      "page %u is not whole, call %u failed", i * 3, nth);
    for (uint32_t i = 600; i < 608; i++)
        ck_assert(world_page_is_whole(&w, i, false));
    for (uint32_t i = 700; i < 704; i++)
        ck_assert(world_page_is_whole(&w, i, false));
    if (all_back) {
        ck_assert_uint_eq(w.mm.nr[PTE_FRAME] + w.mm.nr[PTE_ZERO] + w.mm.nr[PTE_MIGRATING], 0);
        ck_assert_uint_eq(frame_nr_free(w.ram.frames), NR_FRAMES);
        ck_assert_uint_eq(migrate_nr_open(&w.mm), 0);
    }
    world_check(&w);
}

START_TEST(everything_stored_comes_back_in_slices)
{
    struct uaddr cursor = {0};
    uint32_t filled, sum = 0, slices = 0;

    store_some();
    uint64_t stored = w.mm.nr[PTE_FRAME] + w.mm.nr[PTE_ZERO] + w.mm.nr[PTE_MIGRATING];
    while (cursor.v != UINT64_MAX) {
        ck_assert_int_eq(fault_bring_back(&w.mm, &cursor, UINT64_MAX, 5, &filled), KRES_DONE);
        ck_assert_uint_le(filled, 5);
        sum += filled;
        ck_assert_uint_lt(++slices, 40);
    }
    ck_assert_uint_eq(sum, stored);
    check_some(true, 0);
}
END_TEST

START_TEST(a_page_that_is_there_already_is_woken_and_kept)
{
    struct uaddr cursor = {0};
    uint32_t filled;

    world_adopt(&w, 0, false);
    world_adopt(&w, 1, false);
    world_store(&w, 0, 2);
    fake_put(&w.t, 0, false);
    w.t.mem[0] = 'x';
    ck_assert_int_eq(fault_bring_back(&w.mm, &cursor, UINT64_MAX, 5, &filled), KRES_DONE);
    ck_assert_int_eq(w.t.mem[0], 'x');
    ck_assert(fake_has_pattern(&w.t, 1));
    ck_assert_uint_eq(w.t.nr[FAKE_WAKE], 1);
    ck_assert_uint_eq(frame_nr_free(w.ram.frames), NR_FRAMES);
}
END_TEST

START_TEST(a_poisoned_page_comes_back_as_poison)
{
    struct uaddr cursor = {0};
    uint32_t filled;

    prepare(5, POISON);
    ck_assert_int_eq(fault_bring_back(&w.mm, &cursor, UINT64_MAX, 5, &filled), KRES_DONE);
    fake_plan(&w.t, FAKE_POISON, 1, KRES_RETRY, 0);
    ck_assert(!fault_poison_all(&w.mm));
    ck_assert(fault_poison_all(&w.mm));
    ck_assert_uint_eq(w.t.page[5], FAKE_POISONED);
    /* The mm can be let go; as long as it is not, nothing is filled there. */
    ck_assert_int_eq(world_tag(&w, 5), PTE_POISON);
}
END_TEST

START_TEST(each_answer_of_the_kernel_stops_where_it_is)
{
    for (enum kres r = KRES_RETRY; r < NR_RESULTS; r++) {
        struct uaddr cursor = fake_addr(64 * r);
        uint64_t at = cursor.v;
        uint32_t filled;

        if (r == KRES_RACED)
            continue;
        world_adopt(&w, 64 * r, false);
        world_store(&w, 64 * r, 1);
        fake_plan(&w.t, FAKE_COPY, 1, r, 0);
        ck_assert_int_eq(fault_bring_back(&w.mm, &cursor, UINT64_MAX, 5, &filled), r);
        ck_assert_uint_eq(cursor.v, at);
        ck_assert_uint_eq(filled, 0);
        ck_assert(world_page_is_whole(&w, 64 * r, false));
    }
}
END_TEST

START_TEST(whichever_call_fails_everything_comes_back)
{
    uint32_t nr = UINT32_MAX;

    for (uint32_t nth = 1; nth <= nr; nth++) {
        struct uaddr cursor = {0};
        uint32_t filled, failures = 0;

        world_close(&w);
        world_open(&w, 8, NR_FRAMES);
        store_some();
        w.t.fail_at = nth;
        w.t.nr_fallible = 0;
        while (cursor.v != UINT64_MAX) {
            enum kres r = fault_bring_back(&w.mm, &cursor, UINT64_MAX, 7, &filled);
            if (r != KRES_DONE) {
                ck_assert_int_eq(r, KRES_RETRY);
                failures++;
            }
            check_some(false, nth);
        }
        check_some(true, nth);
        if (!failures) { /* there are no more calls than that */
            ck_assert_uint_gt(nth, 10);
            nr = nth;
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fault");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, each_state_and_each_answer_of_the_kernel);
    tcase_add_test(tc, a_wake_that_finds_the_program_dead);
    tcase_add_test(tc, a_doubled_fault_is_answered_twice_without_harm);
    tcase_add_test(tc, windows_grow_while_faults_follow_each_other);
    tcase_add_test(tc, a_window_holds_pages_of_one_state_with_neighbouring_frames);
    tcase_add_test(tc, a_window_ends_with_its_area_and_its_leaf);
    tcase_add_test(tc, a_window_that_the_kernel_refuses_is_tried_with_one_page);
    tcase_add_test(tc, a_window_that_stops_half_way_answers_the_fault);
    tcase_add_test(tc, a_window_stops_before_a_guard_and_forgets_what_it_guards);
    tcase_add_test(tc, a_shared_frame_is_copied_and_stays_with_the_others);
    tcase_add_test(tc, the_agents_own_memory_is_served_and_not_entered);
    tcase_add_test(tc, a_fault_is_answered_although_no_leaf_is_left);
    tcase_add_test(tc, everything_stored_comes_back_in_slices);
    tcase_add_test(tc, a_page_that_is_there_already_is_woken_and_kept);
    tcase_add_test(tc, a_poisoned_page_comes_back_as_poison);
    tcase_add_test(tc, each_answer_of_the_kernel_stops_where_it_is);
    tcase_add_test(tc, whichever_call_fails_everything_comes_back);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
