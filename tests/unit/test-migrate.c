/* SPDX-License-Identifier: Apache-2.0 */
/* The second half of a move: commit and take back, and what can come in between. */
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

/* As an mremap does it. */
static void move_page(uint32_t from, uint32_t to)
{
    pte_t pte = pte_get(&w.mm, fake_addr(from));

    ck_assert_int_eq(pte_transition(&w.mm, fake_addr(to), PTE_EV_IMPORT,
                                    (struct pte_arg){.value = pte}, NULL),
                     0);
    migrate_moved(&w.mm, fake_addr(from), fake_addr(to));
    ck_assert_int_eq(
        pte_transition(&w.mm, fake_addr(from), PTE_EV_REMOVE, (struct pte_arg){0}, NULL), 0);
}

/* Leaves `left` frames free. */
static void use_up_frames(uint32_t left)
{
    struct pfn first;
    uint32_t nr;

    while (frame_nr_free(w.ram.frames) > left)
        ck_assert_int_eq(frame_alloc_run(w.ram.frames, frame_nr_free(w.ram.frames) - left, &first,
                                         &nr),
                         0);
}

/* Frees what use_up_frames() took: the frames that no entry names. */
static void give_frames_back(void)
{
    for (uint32_t n = 0; n < NR_FRAMES; n++)
        if (frame_is_allocated(w.ram.frames, (struct pfn){n}) &&
            !frame_refs(w.ram.frames, (struct pfn){n}))
            frame_free(w.ram.frames, (struct pfn){n});
}

/* ---- commit ---- */

START_TEST(a_page_goes_to_a_frame_and_zeros_need_none)
{
    for (uint32_t i = 0; i < 8; i++)
        world_adopt(&w, i, i % 2);
    world_stage(&w, 0, 8);
    for (uint32_t i = 0; i < 8; i++)
        ck_assert(world_page_is_whole(&w, i, i % 2));
    ck_assert_uint_eq(migrate_commit(&w.mm, CAPTURE_MAX_PAGES), 0);
    for (uint32_t i = 0; i < 8; i++) {
        ck_assert_int_eq(world_tag(&w, i), i % 2 ? PTE_ZERO : PTE_FRAME);
        ck_assert(world_page_is_whole(&w, i, i % 2));
    }
    ck_assert_uint_eq(frame_nr_free(w.ram.frames), NR_FRAMES - 4);
    ck_assert_uint_eq(w.count.pgmigrate_success, 8);
    ck_assert_uint_eq(w.count.pgsteal, 8);
    ck_assert_uint_eq(w.count.zero_pages, 4);
    ck_assert(!migrate_is_busy(&w.mm));
    ck_assert_uint_eq(w.t.nr[FAKE_COPY] + w.t.nr[FAKE_ZERO], 0);
}
END_TEST

START_TEST(neighbours_get_neighbouring_frames)
{
    for (uint32_t i = 0; i < 64; i++)
        world_adopt(&w, i, false);
    world_store(&w, 0, 64);
    for (uint32_t i = 0; i < 64; i++) {
        pte_t pte = pte_get(&w.mm, fake_addr(i));
        ck_assert_uint_eq(pte_index(pte), pte_index(pte_get(&w.mm, fake_addr(0))) + i);
        ck_assert_uint_eq(pte_node(pte), NODE_RAM);
    }
}
END_TEST

START_TEST(a_commit_goes_on_where_the_last_one_stopped)
{
    for (uint32_t i = 0; i < 10; i++)
        world_adopt(&w, i, false);
    world_stage(&w, 0, 10);
    for (uint32_t left = 10; left > 0;) {
        uint32_t now = migrate_commit(&w.mm, 3);
        ck_assert_uint_eq(now, left > 3 ? left - 3 : 0);
        left = now;
        ck_assert_uint_eq(w.mm.nr[PTE_FRAME], 10 - left);
        world_check(&w);
    }
    struct frame_count c;
    ck_assert_ptr_null(node_check(&w.ram, &c));
    ck_assert_uint_eq(c.cached, 0); /* no frame is kept behind a finished move */
}
END_TEST

START_TEST(a_move_by_request_is_not_stolen_by_reclaim)
{
    struct uaddr page = fake_addr(0);

    world_adopt(&w, 0, false);
    ck_assert_int_eq(migrate_capture(&w.mm, &page, 1, false, MIGRATE_SYSCALL), 1);
    fake_agent(&w.t, result);
    migrate_captured(&w.mm, result);
    migrate_commit(&w.mm, 1);
    ck_assert_uint_eq(w.count.pgmigrate_success, 1);
    ck_assert_uint_eq(w.count.pgsteal, 0);
}
END_TEST

START_TEST(nothing_is_committed_while_the_agent_works)
{
    uint32_t page = 0;

    world_adopt(&w, 0, false);
    ck_assert_int_eq(capture(&page, 1), 1);
    ck_assert_uint_eq(migrate_commit(&w.mm, CAPTURE_MAX_PAGES), 1);
    ck_assert_uint_eq(migrate_commit_stored(&w.mm), 1);
    ck_assert_int_eq(world_tag(&w, 0), PTE_MIGRATING);
}
END_TEST

START_TEST(without_frames_pages_go_back)
{
    use_up_frames(2);
    for (uint32_t i = 0; i < 6; i++)
        world_adopt(&w, i, i == 5);
    world_stage(&w, 0, 6);
    /* Those that there are frames for, and zeros, first without taking anything back. */
    ck_assert_uint_eq(migrate_commit_stored(&w.mm), 3);
    ck_assert_uint_eq(w.t.nr[FAKE_COPY], 0);
    ck_assert_uint_eq(w.mm.nr[PTE_FRAME], 2);
    ck_assert_uint_eq(w.mm.nr[PTE_ZERO], 1);
    ck_assert_uint_eq(w.mm.nr[PTE_MIGRATING], 3);
    world_check(&w);
    ck_assert_uint_eq(migrate_commit(&w.mm, CAPTURE_MAX_PAGES), 0);
    ck_assert_uint_eq(w.t.nr[FAKE_COPY], 3);
    ck_assert_uint_eq(w.mm.nr[PTE_PRESENT], 3);
    ck_assert_uint_eq(w.count.migrate_aborted, 3);
    ck_assert_uint_eq(w.count.pgmigrate_success, 3);
    for (uint32_t i = 0; i < 6; i++)
        ck_assert(world_page_is_whole(&w, i, i == 5));
    /* Not at once again. */
    for (uint32_t i = 2; i < 5; i++)
        ck_assert_uint_eq(pte_flags(pte_get(&w.mm, fake_addr(i))), PTE_F_REFERENCED);
    give_frames_back();
}
END_TEST

START_TEST(a_page_that_cannot_go_back_waits_and_holds_up_nobody)
{
    use_up_frames(0);
    for (uint32_t i = 0; i < 3; i++)
        world_adopt(&w, i, false);
    world_stage(&w, 0, 3);
    fake_plan(&w.t, FAKE_COPY, 1, KRES_RETRY, 0);
    ck_assert_uint_eq(migrate_commit(&w.mm, CAPTURE_MAX_PAGES), 1);
    ck_assert_int_eq(world_tag(&w, 0), PTE_MIGRATING);
    ck_assert_int_eq(world_tag(&w, 1), PTE_PRESENT);
    world_check(&w);
    ck_assert_uint_eq(migrate_commit(&w.mm, CAPTURE_MAX_PAGES), 0);
    ck_assert(fake_has_pattern(&w.t, 0));
    give_frames_back();
}
END_TEST

/* ---- take back ---- */

START_TEST(each_answer_to_a_take_back)
{
    static const struct {
        enum kres copy, want;
        bool back, woken;
    } table[] = {
        {KRES_DONE, KRES_DONE, true, false},    {KRES_RETRY, KRES_RETRY, false, false},
        {KRES_RACED, KRES_DONE, true, true},    {KRES_GONE, KRES_GONE, false, false},
        {KRES_DEAD, KRES_DEAD, false, false},   {KRES_FATAL, KRES_FATAL, false, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        world_adopt(&w, 9, false);
        world_stage(&w, 9, 1);
        fake_forget_calls(&w.t);
        w.count = (struct counters){0};
        if (table[i].copy != KRES_DONE)
            fake_plan(&w.t, FAKE_COPY, 1, table[i].copy, 0);
        ck_assert_int_eq(migrate_take_back(&w.mm, fake_addr(9)), table[i].want);
        ck_assert_int_eq(world_tag(&w, 9), table[i].back ? PTE_PRESENT : PTE_MIGRATING);
        ck_assert_uint_eq(w.t.nr[FAKE_WAKE], table[i].woken);
        ck_assert_uint_eq(w.count.migrate_aborted, table[i].back);
        ck_assert_uint_eq(migrate_is_busy(&w.mm), !table[i].back);
        if (!table[i].back) /* its bytes stay where they are */
            ck_assert(fake_is_pattern(migrate_bytes(&w.mm, fake_addr(9)), 9));
        if (table[i].copy == KRES_DONE)
            ck_assert(fake_has_pattern(&w.t, 9));
        world_check(&w);
        remove_page(9);
        migrate_commit(&w.mm, CAPTURE_MAX_PAGES);
    }
}
END_TEST

START_TEST(nothing_is_taken_back_before_the_agent_has_finished)
{
    uint32_t page = 9;

    world_adopt(&w, 9, false);
    ck_assert_int_eq(capture(&page, 1), 1);
    ck_assert_int_eq(migrate_take_back(&w.mm, fake_addr(9)), KRES_RETRY);
    ck_assert_uint_eq(w.t.nr[FAKE_COPY], 0);
    ck_assert_int_eq(world_tag(&w, 9), PTE_MIGRATING);
}
END_TEST

START_TEST(what_was_taken_back_is_not_committed)
{
    for (uint32_t i = 0; i < 3; i++)
        world_adopt(&w, i, false);
    world_stage(&w, 0, 3);
    ck_assert_int_eq(migrate_take_back(&w.mm, fake_addr(1)), KRES_DONE);
    ck_assert_uint_eq(migrate_commit(&w.mm, CAPTURE_MAX_PAGES), 0);
    ck_assert_int_eq(world_tag(&w, 1), PTE_PRESENT);
    ck_assert_uint_eq(w.mm.nr[PTE_FRAME], 2);
    ck_assert_uint_eq(w.count.pgmigrate_success, 2);
}
END_TEST

START_TEST(a_take_back_that_ends_a_move_keeps_no_frame)
{
    struct frame_count c;

    for (uint32_t i = 0; i < 4; i++)
        world_adopt(&w, i, false);
    world_stage(&w, 0, 4);
    ck_assert_uint_eq(migrate_commit(&w.mm, 2), 2); /* a run of frames is set aside */
    ck_assert_int_eq(migrate_take_back(&w.mm, fake_addr(2)), KRES_DONE);
    ck_assert_int_eq(migrate_take_back(&w.mm, fake_addr(3)), KRES_DONE);
    ck_assert_uint_eq(migrate_commit(&w.mm, CAPTURE_MAX_PAGES), 0);
    ck_assert_ptr_null(node_check(&w.ram, &c));
    ck_assert_uint_eq(c.cached, 0);
}
END_TEST

/* ---- entries that change under the move ---- */

START_TEST(a_removed_page_is_dropped_by_the_move)
{
    uint32_t pages[] = {0, 1, 2, 3};

    for (uint32_t i = 0; i < 4; i++)
        world_adopt(&w, i, false);
    ck_assert_int_eq(capture(pages, 4), 4);
    remove_page(0); /* while the agent works: never read so, but by exec and exit */
    w.t.page[0] = FAKE_PRESENT;
    fake_agent(&w.t, result);
    ck_assert_uint_eq(migrate_captured(&w.mm, result), 4);
    world_check(&w);
    remove_page(1);
    world_check(&w);
    remove_page(2);
    world_adopt(&w, 2, false); /* and touched again: that page is newer */
    ck_assert_uint_eq(migrate_commit(&w.mm, CAPTURE_MAX_PAGES), 0);
    ck_assert_int_eq(world_tag(&w, 0), PTE_NONE);
    ck_assert_int_eq(world_tag(&w, 1), PTE_NONE);
    ck_assert_int_eq(world_tag(&w, 2), PTE_PRESENT);
    ck_assert_int_eq(world_tag(&w, 3), PTE_FRAME);
    ck_assert_uint_eq(w.count.pgmigrate_success, 1);
    ck_assert_uint_eq(frame_nr_free(w.ram.frames), NR_FRAMES - 1);
}
END_TEST

START_TEST(a_moved_page_is_committed_at_its_new_place)
{
    for (uint32_t i = 0; i < 3; i++)
        world_adopt(&w, i, false);
    world_stage(&w, 0, 3);
    move_page(1, 1000);
    world_check(&w);
    ck_assert(fake_is_pattern(migrate_bytes(&w.mm, fake_addr(1000)), 1));
    ck_assert_uint_eq(migrate_commit(&w.mm, CAPTURE_MAX_PAGES), 0);
    ck_assert_int_eq(world_tag(&w, 1), PTE_NONE);
    pte_t pte = pte_get(&w.mm, fake_addr(1000));
    ck_assert_int_eq(pte_tag(pte), PTE_FRAME);
    ck_assert(fake_is_pattern(node_bytes(&w.ram, (struct pfn){pte_index(pte)}), 1));

    struct rmap_entry ref;
    ck_assert_uint_eq(rmap_walk(w.ram.rmap, (struct pfn){pte_index(pte)}, &ref, 1), 1);
    ck_assert_uint_eq(ref.addr.v, fake_addr(1000).v);
}
END_TEST

START_TEST(a_page_moved_onto_another_of_the_same_move)
{
    world_adopt(&w, 0, false);
    world_adopt(&w, 1, false);
    world_stage(&w, 0, 2);
    remove_page(0);
    move_page(1, 0); /* two slots now name page 0; one of them owns it */
    world_check(&w);
    ck_assert_int_eq(migrate_take_back(&w.mm, fake_addr(0)), KRES_DONE);
    ck_assert(fake_is_pattern(w.t.mem, 1));
    ck_assert_uint_eq(migrate_commit(&w.mm, CAPTURE_MAX_PAGES), 0);
    ck_assert_int_eq(world_tag(&w, 0), PTE_PRESENT);
}
END_TEST

START_TEST(a_page_moved_during_its_capture_and_refused_stays_there)
{
    uint32_t page = 0;

    world_adopt(&w, 0, false);
    ck_assert_int_eq(capture(&page, 1), 1);
    move_page(0, 1000);
    memset(result, CAPTURE_BUSY, sizeof(result));
    migrate_captured(&w.mm, result);
    ck_assert_int_eq(world_tag(&w, 0), PTE_NONE);
    ck_assert_int_eq(world_tag(&w, 1000), PTE_PRESENT);
}
END_TEST

START_TEST(a_mm_that_ends_in_a_move_leaves_nothing_behind)
{
    for (uint32_t i = 0; i < 4; i++)
        world_adopt(&w, i, false);
    world_stage(&w, 0, 4);
    migrate_commit(&w.mm, 1); /* frames set aside for the other three */
    /* teardown ends it and counts the frames */
}
END_TEST

/* ---- the nth failure ---- */

#define NTH_PAGES 12

/* One move with too few frames, retried until it is through.  Returns calls that could fail. */
static uint32_t move_with_failure(uint32_t nth)
{
    uint32_t pages[NTH_PAGES], rounds = 0;

    world_open(&w, 8, NR_FRAMES);
    use_up_frames(5);
    for (uint32_t i = 0; i < NTH_PAGES; i++) {
        world_adopt(&w, i, i % 6 == 5);
        pages[i] = i;
    }
    w.t.fail_at = nth;
    w.t.nr_fallible = 0;
    if (!nth)
        w.t.fail_at = UINT32_MAX;
    while (capture(pages, NTH_PAGES) < 0) {
        ck_assert_uint_lt(++rounds, 4);
        world_check(&w);
        for (uint32_t i = 0; i < NTH_PAGES; i++)
            ck_assert_int_eq(world_tag(&w, i), PTE_PRESENT);
    }
    fake_agent(&w.t, result);
    migrate_captured(&w.mm, result);
    if (migrate_take_back(&w.mm, fake_addr(3)) == KRES_RETRY)
        ck_assert_int_eq(world_tag(&w, 3), PTE_MIGRATING);
    while (migrate_commit(&w.mm, 4)) {
        ck_assert_uint_lt(++rounds, 20);
        world_check(&w);
        for (uint32_t i = 0; i < NTH_PAGES; i++)
            ck_assert_msg(world_page_is_whole(&w, i, i % 6 == 5), "page %u, call %u failed", i,
                          nth);
    }
    for (uint32_t i = 0; i < NTH_PAGES; i++)
        ck_assert_msg(world_page_is_whole(&w, i, i % 6 == 5), "page %u, call %u failed", i, nth);
    uint32_t nr = w.t.nr_fallible;
    give_frames_back();
    world_close(&w);
    return nr;
}

START_TEST(whichever_call_fails_no_page_is_lost)
{
    uint32_t nr = move_with_failure(0);

    ck_assert_uint_ge(nr, 5);
    for (uint32_t nth = 1; nth <= nr; nth++)
        move_with_failure(nth);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("migrate");
    TCase *tc = tcase_create("one world"), *nth = tcase_create("nth failure");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_page_goes_to_a_frame_and_zeros_need_none);
    tcase_add_test(tc, neighbours_get_neighbouring_frames);
    tcase_add_test(tc, a_commit_goes_on_where_the_last_one_stopped);
    tcase_add_test(tc, a_move_by_request_is_not_stolen_by_reclaim);
    tcase_add_test(tc, nothing_is_committed_while_the_agent_works);
    tcase_add_test(tc, without_frames_pages_go_back);
    tcase_add_test(tc, a_page_that_cannot_go_back_waits_and_holds_up_nobody);
    tcase_add_test(tc, each_answer_to_a_take_back);
    tcase_add_test(tc, nothing_is_taken_back_before_the_agent_has_finished);
    tcase_add_test(tc, what_was_taken_back_is_not_committed);
    tcase_add_test(tc, a_take_back_that_ends_a_move_keeps_no_frame);
    tcase_add_test(tc, a_removed_page_is_dropped_by_the_move);
    tcase_add_test(tc, a_moved_page_is_committed_at_its_new_place);
    tcase_add_test(tc, a_page_moved_onto_another_of_the_same_move);
    tcase_add_test(tc, a_page_moved_during_its_capture_and_refused_stays_there);
    tcase_add_test(tc, a_mm_that_ends_in_a_move_leaves_nothing_behind);
    tcase_add_test(nth, whichever_call_fails_no_page_is_lost);
    suite_add_tcase(s, tc);
    suite_add_tcase(s, nth);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
