/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several threads change mappings, and their messages are read in another order than the
 * changes were made: what is then where, and what is lost when that cannot be told.
 *
 * More than 600 lines: some thirty stories of a dozen lines each, over one fixture.
 */
#include <check.h>
#include <string.h>

#include "client/order_priv.h"
#include "fake_domain.h"

#define NR_FRAMES PAGEBLOCK_FRAMES
#define NR_LEAVES 8

/* What the kernel has registered when the batch was read. */
static struct {
    bool has[FAKE_PAGES];
    bool changes; /* and a change has just begun */
    bool one_thread;
    struct target_ops ops;
} kernel;

static enum kres says_registered(void *t, struct uaddr page)
{
    (void)t;
    if (kernel.changes)
        return KRES_RETRY;
    return kernel.has[(page.v - FAKE_START) >> PAGE_SHIFT] ? KRES_DONE : KRES_GONE;
}

static bool says_one_thread(void *t)
{
    (void)t;
    return kernel.one_thread;
}

static void setup(void)
{
    dom_open(NR_LEAVES, NR_FRAMES);
    ck_assert_int_eq(mm_area_remove(&dom.c.mm, FAKE_START, FAKE_END), 0);
    memset(&kernel, 0, sizeof(kernel));
    kernel.ops = fake_ops;
    kernel.ops.is_registered = says_registered;
    kernel.ops.has_one_thread = says_one_thread;
    dom.c.mm.ops = &kernel.ops;
}

static void teardown(void)
{
    dom_close();
}

static bool is_lost(uint32_t n)
{
    return dom_tag(&dom.c, n) == PTE_NONE && client_is_doomed(&dom.c, fake_addr(n));
}

static bool has_area(uint32_t n)
{
    return mm_area_find(&dom.c.mm, fake_addr(n).v);
}

/* A mapping whose pages are present; and one whose pages are in frames. */
static void mapping(uint32_t first, uint32_t nr)
{
    ck_assert_int_eq(mm_area_add(&dom.c.mm, fake_addr(first).v, fake_addr(first + nr).v), 0);
    dom_adopt(first, nr, false);
}

static void stored(uint32_t first, uint32_t nr)
{
    mapping(first, nr);
    dom_store(first, nr);
}

static void ends_at(uint32_t first, uint32_t nr)
{
    memset(kernel.has + first, true, nr);
}

/* ---- what can be told ---- */

START_TEST(a_late_unmap_spares_what_was_moved_there_meanwhile)
{
    stored(0, 4);
    stored(20, 4);
    ends_at(700, 4);
    ends_at(0, 4);
    dom_hold();
    dom_remap(0, 700, 4);
    dom_remap(20, 0, 4); /* another thread's, before the first one's UNMAP was read */
    dom_unmap(0, 4);
    dom_unmap(20, 4);
    dom_apply_held();
    dom_check();
    for (uint32_t i = 0; i < 4; i++) {
        ck_assert(dom_holds(700 + i, i) && dom_holds(i, 20 + i));
        ck_assert(has_area(i) && has_area(700 + i) && !has_area(20 + i));
    }
    dom_unmap(0, 4); /* the next one of that place is the program's own munmap */
    ck_assert(dom_tag(&dom.c, 0) == PTE_NONE && !has_area(0));
}
END_TEST

START_TEST(who_left_is_first_though_read_last)
{
    stored(0, 2);
    stored(20, 2);
    ends_at(0, 2);
    ends_at(700, 2);
    dom_hold();
    dom_remap(20, 0, 2);
    dom_remap(0, 700, 2);
    dom_unmap(20, 2);
    dom_unmap(0, 2);
    dom_apply_held();
    dom_check();
    ck_assert(dom_holds(700, 0) && dom_holds(701, 1) && dom_holds(0, 20) && dom_holds(1, 21));
    ck_assert_uint_eq(dom.g->count.order_lost, 0);
}
END_TEST

START_TEST(what_was_brought_and_taken_on_is_gone_from_the_place)
{
    stored(20, 2);
    ends_at(700, 2);
    dom_hold();
    dom_remap(20, 0, 2);
    dom_unmap(20, 2);
    dom_remap(0, 700, 2);
    dom_unmap(0, 2);
    dom_apply_held();
    dom_check();
    ck_assert(dom_holds(700, 20) && dom_holds(701, 21));
    ck_assert(dom_tag(&dom.c, 0) == PTE_NONE && !has_area(0));
}
END_TEST

/* 1-5 was moved, of which 1 came along; 20-24 comes to 1-5; the tail's UNMAP is read last. */
START_TEST(the_tail_of_a_move_is_not_what_took_its_place)
{
    stored(1, 5);
    stored(20, 5);
    ends_at(700, 1);
    ends_at(1, 5);
    dom_hold();
    dom_remap(1, 700, 1);
    dom_remap(20, 1, 5);
    dom_unmap(2, 4);
    dom_unmap(1, 1);
    dom_unmap(20, 5);
    dom_apply_held();
    dom_check();
    ck_assert(dom_holds(700, 1));
    for (uint32_t i = 1; i < 6; i++)
        ck_assert(dom_holds(i, 19 + i) && has_area(i));
}
END_TEST

START_TEST(an_unmap_from_where_a_moved_mapping_ended_is_not_its_tail)
{
    stored(1, 1);
    stored(20, 5);
    ends_at(700, 1);
    ends_at(1, 1);
    dom_hold();
    dom_remap(1, 700, 1);
    dom_remap(20, 1, 5);
    dom_unmap(20, 5);
    dom_unmap(2, 4); /* the program's own */
    dom_unmap(1, 1);
    dom_apply_held();
    dom_check();
    ck_assert(dom_holds(700, 1) && dom_holds(1, 20));
    for (uint32_t i = 2; i < 6; i++)
        ck_assert(dom_tag(&dom.c, i) == PTE_NONE && !has_area(i));
}
END_TEST

START_TEST(a_tail_of_which_a_part_is_unmapped_again)
{
    stored(1, 5);
    stored(20, 5);
    ends_at(700, 1);
    ends_at(1, 1);
    ends_at(3, 3);
    dom_hold();
    dom_remap(1, 700, 1);
    dom_remap(20, 1, 5);
    dom_unmap(2, 4);
    dom_unmap(1, 1);
    dom_unmap(20, 5);
    dom_unmap(2, 1); /* the program's own */
    dom_apply_held();
    dom_check();
    ck_assert_int_eq(dom_tag(&dom.c, 2), PTE_NONE);
    ck_assert(dom_holds(1, 20));
    for (uint32_t i = 3; i < 6; i++)
        ck_assert(dom_holds(i, 19 + i));
}
END_TEST

START_TEST(who_leaves_a_place_that_the_tables_do_not_know_goes_first)
{
    stored(20, 2); /* at 0 something grew, or was registered and not entered */
    ends_at(0, 2);
    ends_at(700, 1);
    dom_hold();
    dom_remap(20, 0, 2);
    dom_remap(0, 700, 1);
    dom_unmap(20, 2);
    dom_unmap(0, 1);
    dom_apply_held();
    dom_check();
    ck_assert(dom_holds(0, 20) && dom_holds(1, 21));
    ck_assert_int_eq(dom_tag(&dom.c, 700), PTE_NONE);
}
END_TEST

START_TEST(a_move_that_keeps_its_old_place_leaves_it_to_nobody)
{
    stored(0, 2);
    stored(20, 2);
    ends_at(0, 2);
    ends_at(900, 2);
    ends_at(700, 1);
    dom_hold();
    dom_remap(20, 0, 2);
    dom_unmap(20, 2);
    dom_remap(0, 900, 2); /* MREMAP_DONTUNMAP, of what has just come */
    dom_remap(0, 700, 1); /* was first, its tail was cut off */
    dom_unmap(1, 1);
    dom_unmap(0, 1);
    dom_apply_held();
    dom_check();
    ck_assert(dom_holds(900, 20) && dom_holds(901, 21) && dom_holds(700, 0));
    ck_assert(has_area(0));
}
END_TEST

START_TEST(what_a_kept_place_got_is_moved_by_itself)
{
    stored(0, 2);
    ends_at(900, 2);
    ends_at(700, 1);
    dom_hold();
    dom_remap(0, 900, 2); /* MREMAP_DONTUNMAP */
    dom_remap(1, 700, 1); /* an empty page */
    dom_unmap(1, 1);
    dom_unmap(0, 2); /* by munmap, though it looks like the first one's end */
    dom_apply_held();
    dom_check();
    ck_assert(dom_holds(900, 0) && dom_holds(901, 1));
    ck_assert_int_eq(dom_tag(&dom.c, 700), PTE_NONE);
    ck_assert_uint_eq(dom.g->count.order_lost, 0);
}
END_TEST

/* The UNMAP of 10-15 is another thread's and the oldest; it tells as a whole or not at all. */
START_TEST(one_munmap_is_at_all_its_pages_at_once)
{
    stored(10, 6);
    stored(20, 4);
    ends_at(10, 3);
    ends_at(700, 1);
    dom_hold();
    dom_remap(20, 10, 4);
    dom_unmap(20, 4);
    dom_remap(13, 700, 1);
    dom_unmap(10, 6);
    dom_unmap(13, 1);
    dom_apply_held();
    dom_check();
    ck_assert(dom_holds(700, 23));
    for (uint32_t i = 0; i < 3; i++)
        ck_assert(dom_holds(10 + i, 20 + i));
    ck_assert(dom_tag(&dom.c, 14) == PTE_NONE && dom_tag(&dom.c, 15) == PTE_NONE);
}
END_TEST

START_TEST(an_unmap_cannot_have_been_before_what_it_would_leave_nothing_of)
{
    stored(10, 2); /* something that is not registered came to 11 later on, and was unmapped */
    ends_at(700, 1);
    dom_hold();
    dom_unmap(10, 2);
    dom_remap(11, 700, 1);
    dom_unmap(11, 1);
    dom_apply_held();
    dom_check();
    ck_assert(dom_holds(700, 11));
    ck_assert(dom_tag(&dom.c, 10) == PTE_NONE && !has_area(10));
}
END_TEST

START_TEST(a_mapping_that_grew_in_place_is_moved_whole)
{
    stored(10, 2); /* 12 and 13 are its growth, of which no message tells */
    ends_at(700, 4);
    dom_hold();
    dom_remap(10, 700, 4);
    dom_unmap(10, 4);
    dom_apply_held();
    ck_assert(dom_holds(700, 10) && dom_holds(701, 11) && has_area(703));
    ck_assert_uint_eq(dom.g->count.order_lost, 0);
}
END_TEST

START_TEST(a_mapping_may_have_grown_over_what_was_left)
{
    stored(0, 12);
    ends_at(40, 6);
    ends_at(0, 3);
    ends_at(9, 3);
    dom_hold();
    dom_remap(6, 40, 6); /* then 0-5 grows to 11, of which no message tells */
    dom_unmap(3, 6);     /* and this is cut out of it */
    dom_unmap(6, 6);
    dom_apply_held();
    dom_check();
    for (uint32_t i = 0; i < 6; i++)
        ck_assert(dom_holds(40 + i, 6 + i));
    ck_assert_uint_eq(dom.g->count.order_lost, 0);
}
END_TEST

START_TEST(one_thread_that_moves_to_and_fro_is_in_the_order_read)
{
    stored(0, 1);
    stored(1, 1);
    dom_hold();
    for (uint32_t i = 0; i < 10; i++) { /* 2 is the place in between */
        dom_remap(0, 2, 1);
        dom_unmap(0, 1);
        dom_remap(1, 0, 1);
        dom_unmap(1, 1);
        dom_remap(2, 1, 1);
        dom_unmap(2, 1);
    }
    ends_at(0, 2);
    dom_apply_held();
    dom_check();
    ck_assert(dom_holds(0, 0) && dom_holds(1, 1) && dom_tag(&dom.c, 2) == PTE_NONE);
    ck_assert_uint_eq(dom.g->count.order_lost, 0);
}
END_TEST

START_TEST(one_thread_s_memory_that_shrinks_and_grows_is_moved_whole)
{
    stored(10, 17);
    ends_at(10, 5);
    ends_at(40, 12);
    dom_hold();
    dom_unmap(21, 6); /* then 15-20 grows again, of which no message tells */
    dom_remap(15, 40, 12);
    dom_unmap(15, 12);
    dom_apply_held();
    dom_check();
    for (uint32_t i = 0; i < 6; i++)
        ck_assert(dom_holds(40 + i, 15 + i) && dom_tag(&dom.c, 46 + i) == PTE_NONE);
    ck_assert_uint_eq(dom.g->count.order_lost, 0);
}
END_TEST

START_TEST(one_thread_that_keeps_places_is_not_given_up)
{
    stored(0, 1);
    stored(10, 10);
    dom_hold();
    for (uint32_t i = 0; i < 10;
         i++) { /* what is at 0, and what is left there, go to places of their own */
        dom_remap(0, 100 + i, 1);
        dom_remap(0, 200 + i, 1);
        dom_unmap(0, 1);
        dom_remap(10 + i, 0, 1);
        dom_unmap(10 + i, 1);
    }
    ends_at(0, 1);
    ends_at(100, 10);
    ends_at(200, 10);
    dom_apply_held();
    dom_check();
    ck_assert(dom_holds(100, 0) && dom_holds(0, 19));
    for (uint32_t i = 1; i < 10; i++)
        ck_assert(dom_holds(100 + i, 9 + i));
    ck_assert_uint_eq(dom.g->count.order_lost, 0);
}
END_TEST

/* Of which no message tells: 15-19 grows again, and the mapping that comes to 30 grows to 33. */
START_TEST(what_one_thread_does_is_in_the_order_read)
{
    stored(10, 10);
    ends_at(10, 5);
    ends_at(40, 3);
    ends_at(15, 1);
    ends_at(19, 1);
    ends_at(30, 4);
    kernel.one_thread = true;
    dom_hold();
    dom_unmap(15, 5);
    dom_remap(16, 40, 3);
    dom_unmap(16, 3);
    dom_remap(10, 30, 1);
    dom_unmap(10, 1);
    dom_remove(30, 4);
    dom_apply_held();
    dom_check();
    for (uint32_t i = 0; i < 4; i++)
        ck_assert(dom_tag(&dom.c, 30 + i) == PTE_NONE && dom_tag(&dom.c, 40 + i) == PTE_NONE &&
                  !client_is_doomed(&dom.c, fake_addr(30 + i)) &&
                  !client_is_doomed(&dom.c, fake_addr(40 + i)));
    ck_assert(dom_holds(11, 11) && dom_holds(14, 14));
    ck_assert_uint_eq(dom.g->count.order_lost, 0);
}
END_TEST

/* ---- what cannot be told ---- */

/* What was at 0 and what came there from 20 went to 700 and 900; which is where? */
static void two_leave_what_one_took(uint32_t nr)
{
    dom_hold();
    dom_remap(20, 0, nr);
    dom_unmap(20, nr);
    dom_remap(0, 700, nr);
    dom_remap(0, 900, nr);
    dom_unmap(0, nr);
    dom_unmap(0, nr);
    ends_at(700, nr);
    ends_at(900, nr);
}

START_TEST(what_two_leave_that_one_took_is_lost)
{
    stored(0, 2);
    stored(20, 2);
    two_leave_what_one_took(2);
    dom_apply_held();
    dom_check();
    for (uint32_t i = 0; i < 2; i++)
        ck_assert(is_lost(700 + i) && is_lost(900 + i));
    ck_assert_uint_eq(dom.g->count.order_lost, 4);
    ck_assert_uint_eq(dom.g->count.poisoned, 4);
    ck_assert_uint_eq(frame_nr_free(dom.d.ram.frames), NR_FRAMES);
    memset(dom.t.page + 700, FAKE_ABSENT, 2);
    memset(dom.t.page + 900, FAKE_ABSENT, 2);
    dom_fault(700, false);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    ck_assert_int_eq(dom.t.page[700], FAKE_POISONED);
}
END_TEST

START_TEST(only_pages_that_were_stored_are_lost)
{
    mapping(0, 4);
    mapping(20, 4);
    dom_store(22, 1);
    two_leave_what_one_took(4);
    dom_apply_held();
    dom_check();
    for (uint32_t i = 0; i < 4; i++)
        ck_assert(client_is_doomed(&dom.c, fake_addr(700 + i)) == (i == 2) &&
                  client_is_doomed(&dom.c, fake_addr(900 + i)) == (i == 2));
    ck_assert_uint_eq(dom.g->count.order_lost, 2);
}
END_TEST

START_TEST(zeros_moved_out_are_not_taken_for_a_page)
{
    dom_adopt(0, 2, true);
    ck_assert_int_eq(mm_area_add(&dom.c.mm, fake_addr(0).v, fake_addr(2).v), 0);
    dom_store(0, 2);
    ck_assert_int_eq(dom_tag(&dom.c, 0), PTE_ZERO);
    mapping(20, 1);
    two_leave_what_one_took(2);
    dom_apply_held();
    dom_check();
    ck_assert_uint_eq(dom.g->count.order_lost, 0);
    for (uint32_t i = 0; i < 2; i++) /* without an entry it is zeros where nothing is */
        ck_assert(dom_tag(&dom.c, 700 + i) != PTE_ZERO && dom_tag(&dom.c, 900 + i) != PTE_ZERO);
}
END_TEST

START_TEST(who_left_before_the_taker_had_returned_had_what_was_there_first)
{
    stored(0, 2);
    stored(20, 2);
    ends_at(700, 2);
    ends_at(900, 2);
    dom_hold();
    dom_remap(20, 0, 2);
    dom_remap(0, 900, 2);
    dom_unmap(20, 2);
    dom_remap(0, 700, 2);
    dom_unmap(0, 2);
    dom_unmap(0, 2);
    dom_apply_held();
    dom_check();
    ck_assert(dom_holds(900, 0) && dom_holds(901, 1) && dom_holds(700, 20) && dom_holds(701, 21));
    ck_assert_uint_eq(dom.g->count.order_lost, 0);
}
END_TEST

START_TEST(a_child_forked_meanwhile_loses_it_too)
{
    stored(0, 1);
    stored(20, 1);
    two_leave_what_one_took(1);
    dom_fork();
    dom_apply_held();
    dom_check();
    ck_assert(is_lost(700) && is_lost(900));
    ck_assert(dom.forked);
    ck_assert(client_is_doomed(&dom.child, fake_addr(700)));
    ck_assert(client_is_doomed(&dom.child, fake_addr(900)));
}
END_TEST

START_TEST(a_child_loses_what_only_the_fork_saw)
{
    stored(0, 1);
    stored(20, 1);
    dom_hold();
    dom_remap(20, 0, 1);
    dom_unmap(20, 1);
    dom_remap(0, 700, 1);
    dom_remap(0, 900, 1);
    dom_unmap(0, 1);
    dom_unmap(0, 1);
    dom_fork();
    dom_unmap(700, 1); /* whichever it was, it is gone */
    dom_unmap(900, 1);
    dom_apply_held();
    ck_assert(dom.forked);
    ck_assert(client_is_doomed(&dom.child, fake_addr(700)));
    ck_assert(client_is_doomed(&dom.child, fake_addr(900)));
}
END_TEST

START_TEST(while_something_changes_nothing_is_decided)
{
    stored(0, 1);
    stored(20, 1);
    two_leave_what_one_took(1);
    kernel.changes = true;
    ck_assert(!client_order(&dom.c, dom.held, dom.nr_held));
    ck_assert(!dom.c.saved->ordered);
    ck_assert(dom_holds(0, 0) && dom_holds(20, 20));
    dom.nr_held = 0;
}
END_TEST

/* 10 went on to 6 and left 10 empty; what was left there went to 9; 12 came to 10. */
START_TEST(an_unmap_of_two_that_left_may_be_either_s_end)
{
    mapping(10, 1);
    stored(12, 1);
    dom_hold();
    dom_remap(10, 6, 1); /* kept its old place, or was read before its UNMAP */
    dom_remap(12, 10, 1);
    dom_unmap(12, 1);
    dom_remap(10, 9, 1); /* was before 12 came, or takes that on and keeps its place */
    dom_unmap(10, 1);
    ends_at(6, 1);
    ends_at(9, 2);
    dom_apply_held();
    dom_check();
    ck_assert(is_lost(9) && is_lost(10));
}
END_TEST

/* ---- what it may cost ---- */

/* 64 threads whose moves keep their old places, all over each other. */
START_TEST(a_search_without_end_is_given_up_soon)
{
    struct change ch[ORDER_MAX_CHANGES];
    struct client_lost lost = {0};
    struct order_search search = {.c = &dom.c, .lost = &lost};
    uint32_t x = (uint32_t)_i;

    for (uint32_t i = 0; i < 1600; i += 5)
        mapping(i, 3);
    for (uint32_t i = 0; i < ORDER_MAX_CHANGES; i++) {
        uint32_t at[3];
        for (uint32_t k = 0; k < 3; k++)
            at[k] = (x = x * 1103515245 + 12345) >> 8;
        ch[i] = (struct change){
            .r = urange(fake_addr(at[0] % 1024).v, fake_addr(at[0] % 1024 + 1 + at[2] % 256).v),
            .to = fake_addr(at[1] % 1024 + 700).v,
            .type = KUFFD_REMAP,
            .msg = i,
            .known = i + 1,
            .end = NO_CHANGE,
        };
        search.ch[search.nr++] = &ch[i];
    }
    int r = order_search(&search);
    ck_assert_uint_lt(search.work, ORDER_MAX_WORK + 1000000);
    ck_assert(r == 0 || r == -E2BIG);
    ck_assert_uint_eq(lost.nr, 0); /* nothing is stored there */
}
END_TEST

/* Pages are compared one by one; of a mapping of a tebibyte there are too many. */
START_TEST(the_length_of_what_was_moved_does_not_matter)
{
    const uint64_t base = (uint64_t)1 << 44, len = (uint64_t)1 << 40;
    struct change ch[3];
    struct client_lost lost = {0};
    struct order_search search = {.c = &dom.c, .lost = &lost};
    const uint64_t way[][2] = {{base, base + 2 * len}, {base + len, base}, {base, base + 3 * len}};

    ck_assert_int_eq(mm_area_add(&dom.c.mm, base, base + 2 * len), 0);
    for (uint32_t i = 0; i < 3; i++) {
        ch[i] = (struct change){.r = urange(way[i][0], way[i][0] + len),
                                .to = way[i][1],
                                .type = KUFFD_REMAP,
                                .msg = i,
                                .known = 4 + i,
                                .end = NO_CHANGE};
        search.ch[search.nr++] = &ch[i];
    }
    (void)order_search(&search);
    ck_assert_uint_lt(search.work, ORDER_MAX_WORK + 1000000);
    ck_assert_uint_eq(lost.nr, 0);
    ck_assert_int_eq(mm_area_remove(&dom.c.mm, base, base + 2 * len), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client-order");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_late_unmap_spares_what_was_moved_there_meanwhile);
    tcase_add_test(tc, who_left_is_first_though_read_last);
    tcase_add_test(tc, what_was_brought_and_taken_on_is_gone_from_the_place);
    tcase_add_test(tc, the_tail_of_a_move_is_not_what_took_its_place);
    tcase_add_test(tc, an_unmap_from_where_a_moved_mapping_ended_is_not_its_tail);
    tcase_add_test(tc, a_tail_of_which_a_part_is_unmapped_again);
    tcase_add_test(tc, who_leaves_a_place_that_the_tables_do_not_know_goes_first);
    tcase_add_test(tc, a_move_that_keeps_its_old_place_leaves_it_to_nobody);
    tcase_add_test(tc, what_a_kept_place_got_is_moved_by_itself);
    tcase_add_test(tc, one_munmap_is_at_all_its_pages_at_once);
    tcase_add_test(tc, an_unmap_cannot_have_been_before_what_it_would_leave_nothing_of);
    tcase_add_test(tc, a_mapping_that_grew_in_place_is_moved_whole);
    tcase_add_test(tc, a_mapping_may_have_grown_over_what_was_left);
    tcase_add_test(tc, one_thread_that_moves_to_and_fro_is_in_the_order_read);
    tcase_add_test(tc, one_thread_s_memory_that_shrinks_and_grows_is_moved_whole);
    tcase_add_test(tc, one_thread_that_keeps_places_is_not_given_up);
    tcase_add_test(tc, what_one_thread_does_is_in_the_order_read);
    tcase_add_test(tc, what_two_leave_that_one_took_is_lost);
    tcase_add_test(tc, only_pages_that_were_stored_are_lost);
    tcase_add_test(tc, zeros_moved_out_are_not_taken_for_a_page);
    tcase_add_test(tc, who_left_before_the_taker_had_returned_had_what_was_there_first);
    tcase_add_test(tc, a_child_forked_meanwhile_loses_it_too);
    tcase_add_test(tc, a_child_loses_what_only_the_fork_saw);
    tcase_add_test(tc, while_something_changes_nothing_is_decided);
    tcase_add_test(tc, an_unmap_of_two_that_left_may_be_either_s_end);
    tcase_add_loop_test(tc, a_search_without_end_is_given_up_soon, 0, 8);
    tcase_add_test(tc, the_length_of_what_was_moved_does_not_matter);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
