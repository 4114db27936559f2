/* SPDX-License-Identifier: Apache-2.0 */
/* Reclaim that somebody asked for: how much leaves, and that it ends whatever is in the way. */
#include <check.h>
#include <string.h>

#include "fake_domain.h"

#define NR_FRAMES (2 * PAGEBLOCK_FRAMES)
#define NR_LEAVES 8

static struct reclaim_request r;
static bool is_pinned[FAKE_PAGES];
static uint32_t nr_captures;

static void setup(void)
{
    dom_open(NR_LEAVES, NR_FRAMES);
    memset(&r, 0, sizeof(r));
    memset(is_pinned, 0, sizeof(is_pinned));
    nr_captures = 0;
}

static void teardown(void)
{
    reclaim_request_end(&r);
    dom_close();
}

static void adopt(uint32_t first, uint32_t nr)
{
    dom_adopt(first, nr, false);
    client_set_resident(&dom.c, dom.c.resident_bytes + nr * PAGE_SIZE);
}

/* What the agent does: pinned pages stay. */
static void agent(void)
{
    uint8_t result[CAPTURE_MAX_PAGES], taken[CAPTURE_MAX_PAGES];
    struct fake_target *t = &dom.t;

    memset(result, CAPTURE_BUSY, sizeof(result));
    for (uint32_t i = 0; i < t->nr_vecs; i++) {
        struct capture_vec all = t->vec[i];
        for (uint32_t k = 0; k < all.nr_pages; k++) {
            uint64_t addr = all.addr.v + k * PAGE_SIZE;
            uint32_t nr_vecs = t->nr_vecs;
            struct capture_vec first = t->vec[0];
            if (is_pinned[(addr - FAKE_START) / PAGE_SIZE])
                continue;
            t->vec[0] = (struct capture_vec){uaddr(addr), 1, all.slot + k};
            t->nr_vecs = 1;
            fake_agent(t, taken);
            result[all.slot + k] = taken[all.slot + k];
            t->vec[0] = first;
            t->nr_vecs = nr_vecs;
        }
    }
    nr_captures++;
    client_captured(&dom.c, result);
}

static enum reclaim_outcome drive(void)
{
    for (uint32_t i = 0; i < 10000; i++) {
        enum reclaim_outcome o = reclaim_request_progress(&r);
        if (o != RECLAIM_UNDER_WAY)
            return o;
        if (migrate_is_capturing(&dom.c.mm))
            agent();
        client_commit(&dom.c, CAPTURE_MAX_PAGES);
    }
    ck_abort_msg("it does not end");
}

static enum reclaim_outcome run(uint64_t bytes)
{
    ck_assert_int_eq(reclaim_request_start(&r, dom.g, NULL, bytes), 0);
    enum reclaim_outcome o = drive();
    dom_check();
    return o;
}

START_TEST(all_of_a_group_without_limit_leaves)
{
    adopt(0, 700);
    ck_assert_int_eq(run(UINT64_MAX), RECLAIM_DONE);
    ck_assert_uint_eq(reclaim_request_moved_bytes(&r), 700 * PAGE_SIZE);
    ck_assert_uint_eq(dom.g->count.pgsteal_proactive, 700);
    ck_assert_uint_eq(dom.g->count.pgsteal, 0);
}
END_TEST

START_TEST(as_much_leaves_as_was_asked_for)
{
    adopt(0, 700);
    ck_assert_int_eq(run(600 * PAGE_SIZE), RECLAIM_DONE);
    ck_assert_uint_eq(reclaim_request_moved_bytes(&r), 600 * PAGE_SIZE);
    reclaim_request_end(&r);
    ck_assert_int_eq(run(1), RECLAIM_DONE);
    ck_assert_uint_eq(reclaim_request_moved_bytes(&r), PAGE_SIZE);
    reclaim_request_end(&r);
    ck_assert_int_eq(run(0), RECLAIM_DONE);
    ck_assert_uint_eq(reclaim_request_moved_bytes(&r), 0);
}
END_TEST

START_TEST(what_is_not_adopted_stays)
{
    adopt(0, 100);
    client_set_resident(&dom.c, 300 * PAGE_SIZE);
    ck_assert_int_eq(run(UINT64_MAX), RECLAIM_NOTHING_LEFT);
    ck_assert_uint_eq(reclaim_request_moved_bytes(&r), 100 * PAGE_SIZE);
}
END_TEST

START_TEST(pages_that_came_back_have_no_second_chance)
{
    adopt(0, 700);
    for (uint32_t i = 0; i < 700; i++)
        pte_change_flags(&dom.c.mm, fake_addr(i), PTE_F_REFERENCED, 0);
    ck_assert_int_eq(run(UINT64_MAX), RECLAIM_DONE);
    ck_assert_uint_eq(reclaim_request_moved_bytes(&r), 700 * PAGE_SIZE);
}
END_TEST

START_TEST(pinned_pages_stay_and_end_it)
{
    adopt(0, 900);
    for (uint32_t i = 100; i < 800; i++)
        is_pinned[i] = true;
    ck_assert_int_eq(run(UINT64_MAX), RECLAIM_REFUSED);
    ck_assert_uint_eq(reclaim_request_moved_bytes(&r), 200 * PAGE_SIZE);
    ck_assert_uint_lt(nr_captures, 40);
    reclaim_request_end(&r);
    memset(is_pinned, 0, sizeof(is_pinned));
    ck_assert_int_eq(run(UINT64_MAX), RECLAIM_DONE);
    ck_assert_uint_eq(reclaim_request_moved_bytes(&r), 700 * PAGE_SIZE);
}
END_TEST

START_TEST(a_full_node_ends_it_and_loses_nothing)
{
    adopt(0, 700);
    dom_use_up_frames(100);
    ck_assert_int_eq(run(UINT64_MAX), RECLAIM_NO_ROOM);
    ck_assert_uint_eq(reclaim_request_moved_bytes(&r), 100 * PAGE_SIZE);
    for (uint32_t i = 0; i < 700; i++)
        ck_assert(fake_is_pattern(dom_bytes(&dom.c, i), i));
    dom_give_frames_back();
}
END_TEST

START_TEST(nothing_is_taken_without_an_agent)
{
    adopt(0, 10);
    dom.c.has_agent = false;
    ck_assert_int_eq(run(UINT64_MAX), RECLAIM_NO_AGENT);
}
END_TEST

START_TEST(an_agent_that_goes_meanwhile_ends_it)
{
    adopt(0, 10);
    fake_plan_every(&dom.t, FAKE_CAPTURE, -ENOTCONN);
    ck_assert_int_eq(run(UINT64_MAX), RECLAIM_REFUSED);
    fake_plan_none(&dom.t);
}
END_TEST

START_TEST(a_program_that_wants_all_back_does_not_make_it_endless)
{
    adopt(0, 64);
    ck_assert_int_eq(reclaim_request_start(&r, dom.g, NULL, UINT64_MAX), 0);
    for (uint32_t i = 0; reclaim_request_progress(&r) == RECLAIM_UNDER_WAY; i++) {
        ck_assert_uint_lt(i, 1000);
        if (migrate_is_capturing(&dom.c.mm))
            agent();
        client_commit(&dom.c, CAPTURE_MAX_PAGES);
        for (uint32_t n = 0; n < 64; n++)
            if (dom_tag(&dom.c, n) == PTE_FRAME)
                dom_fault(n, true);
        dom_answer(&dom.c, 2000);
    }
    ck_assert_uint_eq(reclaim_request_moved_bytes(&r), 64 * PAGE_SIZE);
    dom_check();
}
END_TEST

START_TEST(only_the_client_that_is_meant_gives)
{
    adopt(0, 10);
    dom_fork();
    ck_assert_int_eq(reclaim_request_start(&r, dom.g, &dom.child, UINT64_MAX), 0);
    r.want_pages = 10;
    ck_assert_int_eq(drive(), RECLAIM_NO_AGENT);
    ck_assert_uint_eq(reclaim_request_moved_bytes(&r), 0);
    reclaim_request_end(&r);
    ck_assert_int_eq(reclaim_request_start(&r, dom.g, &dom.c, UINT64_MAX), 0);
    ck_assert_int_eq(drive(), RECLAIM_DONE);
    ck_assert_uint_eq(reclaim_request_moved_bytes(&r), 10 * PAGE_SIZE);
}
END_TEST

START_TEST(a_child_that_is_forked_meanwhile_is_not_meant)
{
    adopt(0, 10);
    ck_assert_int_eq(reclaim_request_start(&r, dom.g, NULL, UINT64_MAX), 0);
    dom_fork();
    ck_assert_int_eq(drive(), RECLAIM_DONE);
    reclaim_request_end(&r);
    ck_assert_ptr_null(dom.c.request);
}
END_TEST

START_TEST(there_is_one_at_a_time_in_a_group_and_it_holds_the_group)
{
    struct reclaim_request other = {0};
    struct group *g = group_new(&dom.d, "h", 0);

    group_hold(g);
    ck_assert_int_eq(reclaim_request_start(&r, g, NULL, 1), 0);
    ck_assert_int_eq(reclaim_request_start(&other, g, NULL, 1), -EBUSY);
    group_release(g);
    ck_assert_ptr_eq(group_find(&dom.d, "h"), g);
    ck_assert_int_eq(drive(), RECLAIM_DONE); /* nothing is resident in it */
    reclaim_request_end(&r);
    ck_assert_ptr_null(group_find(&dom.d, "h"));
    reclaim_request_end(&other);
    ck_assert_int_eq(reclaim_request_start(&other, dom.g, NULL, 1), 0);
    reclaim_request_end(&other);
}
END_TEST

START_TEST(every_outcome_has_its_sentence)
{
    for (enum reclaim_outcome o = RECLAIM_UNDER_WAY; o <= RECLAIM_NO_AGENT; o++)
        ck_assert_int_eq(*reclaim_outcome_sentence(o) == '\0', o == RECLAIM_DONE);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("reclaim_request");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, all_of_a_group_without_limit_leaves);
    tcase_add_test(tc, as_much_leaves_as_was_asked_for);
    tcase_add_test(tc, what_is_not_adopted_stays);
    tcase_add_test(tc, pages_that_came_back_have_no_second_chance);
    tcase_add_test(tc, pinned_pages_stay_and_end_it);
    tcase_add_test(tc, a_full_node_ends_it_and_loses_nothing);
    tcase_add_test(tc, nothing_is_taken_without_an_agent);
    tcase_add_test(tc, an_agent_that_goes_meanwhile_ends_it);
    tcase_add_test(tc, a_program_that_wants_all_back_does_not_make_it_endless);
    tcase_add_test(tc, only_the_client_that_is_meant_gives);
    tcase_add_test(tc, a_child_that_is_forked_meanwhile_is_not_meant);
    tcase_add_test(tc, there_is_one_at_a_time_in_a_group_and_it_holds_the_group);
    tcase_add_test(tc, every_outcome_has_its_sentence);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
