/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kept copies (DESIGN D5): a page that came back by a read keeps its frame, and only a
 * comparison decides whether that is still its copy.
 */
#include <check.h>
#include <string.h>

#include "client/client_priv.h"
#include "fake_domain.h"
#include "migrate/migrate.h"

#define NR_FRAMES (2 * PAGEBLOCK_FRAMES)

static void setup(void)
{
    dom_open(8, NR_FRAMES);
}

static void teardown(void)
{
    dom_close();
}

static pte_t entry(const struct client *c, uint32_t n)
{
    return pte_get(&c->mm, fake_addr(n));
}

static bool is_kept(uint32_t n)
{
    return pte_is_kept(entry(&dom.c, n));
}

static uint32_t nr_free(void)
{
    return frame_nr_free(dom.d.ram.frames);
}

/* Pages [0, nr) are moved out, and brought back by a fault each, without a window. */
static void back_again(uint32_t nr, bool write)
{
    dom_adopt(0, nr, false);
    dom_store(0, nr);
    for (uint32_t i = nr; i-- > 0;) {
        memset(dom.c.mm.readahead, 0, sizeof(dom.c.mm.readahead));
        dom_fault(i, write);
        ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    }
    dom_check();
}

START_TEST(a_read_keeps_the_frame_and_a_write_does_not)
{
    back_again(4, false);
    ck_assert_uint_eq(nr_free(), NR_FRAMES - 4);
    for (uint32_t i = 0; i < 4; i++)
        ck_assert(is_kept(i) && fake_has_pattern(&dom.t, i));
    ck_assert_uint_eq(frame_list_nr(dom.d.ram.frames, FRAME_KEPT), 4);
    ck_assert_uint_eq(dom.g->count.cow_reused, 0);
    dom_remove(0, 4);
    ck_assert_uint_eq(nr_free(), NR_FRAMES);
    back_again(4, true);
    ck_assert_uint_eq(nr_free(), NR_FRAMES);
    ck_assert_uint_eq(dom.g->count.cow_reused, 4);
}
END_TEST

START_TEST(an_equal_page_goes_back_to_its_frame_without_a_store)
{
    back_again(4, false);
    uint32_t before = pte_index(entry(&dom.c, 2));
    dom_store(0, 4);
    dom_check();
    ck_assert_uint_eq(dom.g->count.clean_dropped, 4);
    ck_assert_uint_eq(nr_free(), NR_FRAMES - 4);
    ck_assert_int_eq(dom_tag(&dom.c, 2), PTE_FRAME);
    ck_assert_uint_eq(pte_index(entry(&dom.c, 2)), before);
    ck_assert_uint_eq(frame_list_nr(dom.d.ram.frames, FRAME_KEPT), 0);
    for (uint32_t i = 0; i < 4; i++)
        ck_assert(fake_is_pattern(dom_bytes(&dom.c, i), i));
}
END_TEST

START_TEST(a_changed_page_is_stored_anew)
{
    back_again(4, false);
    dom.t.mem[2 * PAGE_SIZE + 4095] ^= 1; /* nobody tells us */
    dom_store(0, 4);
    dom_check();
    ck_assert_uint_eq(dom.g->count.clean_dropped, 3);
    ck_assert_uint_eq(nr_free(), NR_FRAMES - 4);
    const char *bytes = dom_bytes(&dom.c, 2);
    ck_assert(!fake_is_pattern(bytes, 2) && !memcmp(bytes, dom.t.slots + 2 * PAGE_SIZE, PAGE_SIZE));
}
END_TEST

START_TEST(a_page_that_became_zero_gives_its_frame_up)
{
    back_again(2, false);
    memset(dom.t.mem, 0, PAGE_SIZE);
    dom_store(0, 2);
    ck_assert_int_eq(dom_tag(&dom.c, 0), PTE_ZERO);
    ck_assert_uint_eq(nr_free(), NR_FRAMES - 1);
    dom_check();
}
END_TEST

START_TEST(what_is_not_taken_keeps_its_frame)
{
    struct uaddr pages[4];
    uint8_t result[CAPTURE_MAX_PAGES];

    back_again(4, false);
    for (uint32_t i = 0; i < 4; i++)
        pages[i] = fake_addr(i);
    ck_assert_int_eq(migrate_capture(&dom.c.mm, pages, 4, false, MIGRATE_DEMOTION), 4);
    dom_check();
    fake_agent(&dom.t, result);
    result[0] = CAPTURE_BUSY;
    result[1] = CAPTURE_HOLE;
    result[2] = CAPTURE_LOST;
    fake_put(&dom.t, 0, false);
    client_captured(&dom.c, result);
    dom_check();
    ck_assert(is_kept(0));
    ck_assert_int_eq(dom_tag(&dom.c, 1), PTE_NONE);
    ck_assert_int_eq(dom_tag(&dom.c, 2), PTE_POISON);
    ck_assert_uint_eq(nr_free(), NR_FRAMES - 2);
    ck_assert_uint_eq(frame_list_nr(dom.d.ram.frames, FRAME_KEPT), 2); /* of 0, and of 3 in its slot */
    /* Captured, and asked for before it was committed. */
    dom_fault(3, false);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    ck_assert(is_kept(3) && fake_has_pattern(&dom.t, 3));
    dom_check();
}
END_TEST

START_TEST(during_a_move_the_frame_follows_and_goes_with_its_page)
{
    back_again(4, false);
    dom_stage(0, 4);
    dom_remap(0, 700, 2);
    dom_unmap(0, 2);
    dom_check();
    dom_remove(2, 1);
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
    dom_check();
    ck_assert_uint_eq(dom.g->count.clean_dropped, 3);
    ck_assert(fake_is_pattern(dom_bytes(&dom.c, 700), 0));
    ck_assert(fake_is_pattern(dom_bytes(&dom.c, 3), 3));
    ck_assert_uint_eq(nr_free(), NR_FRAMES - 3);
}
END_TEST

START_TEST(an_end_during_a_move_gives_all_back)
{
    back_again(4, false);
    dom_stage(0, 3); /* dom_close() looks for what is left */
}
END_TEST

START_TEST(an_mremap_takes_what_is_kept_along)
{
    back_again(4, false);
    dom_remap(0, 700, 4);
    dom_unmap(0, 4);
    dom_check();
    for (uint32_t i = 0; i < 4; i++)
        ck_assert(is_kept(700 + i) && !is_kept(i));
    dom_store(700, 4);
    ck_assert_uint_eq(dom.g->count.clean_dropped, 4);
    dom_check();
}
END_TEST

START_TEST(a_forked_child_keeps_nothing)
{
    back_again(4, false);
    dom_adopt(4, 4, false);
    dom_store(4, 4);
    dom_fork();
    dom_check();
    for (uint32_t i = 0; i < 4; i++) {
        ck_assert_int_eq(dom_tag(&dom.child, i), PTE_PRESENT);
        ck_assert(!pte_is_kept(entry(&dom.child, i)) && is_kept(i));
    }
    /* A frame that both share is kept by the parent's read, and still the child's page. */
    dom_fault(5, false);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    ck_assert(is_kept(5));
    ck_assert_int_eq(frame_list_of(dom.d.ram.frames, (struct pfn){pte_index(entry(&dom.c, 5))}),
                     FRAME_STORED);
    client_forget(&dom.child, 0, UINT64_MAX);
    dom_check();
    ck_assert_int_eq(frame_list_of(dom.d.ram.frames, (struct pfn){pte_index(entry(&dom.c, 5))}),
                     FRAME_KEPT);
}
END_TEST

START_TEST(kept_frames_are_dropped_when_frames_are_short)
{
    back_again(100, false);
    dom_use_up_frames(10);
    dom_adopt(600, 40, false);
    dom_store(600, 40);
    dom_check();
    ck_assert_uint_eq(dom.g->count.migrate_aborted, 0);
    for (uint32_t i = 600; i < 640; i++)
        ck_assert_int_eq(dom_tag(&dom.c, i), PTE_FRAME);
    ck_assert_uint_lt(frame_list_nr(dom.d.ram.frames, FRAME_KEPT), 100);
    for (uint32_t i = 0; i < 100; i++)
        ck_assert(dom_tag(&dom.c, i) == PTE_PRESENT && fake_has_pattern(&dom.t, i));
    dom_give_frames_back();
}
END_TEST

START_TEST(with_little_room_nothing_is_kept)
{
    dom_adopt(0, 4, false);
    dom_store(0, 4);
    dom_use_up_frames(node_high_mark(&dom.d.ram));
    dom_fault(0, false);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    ck_assert(!is_kept(0));
    dom_give_frames_back();
    dom_use_up_frames(0);
    ck_assert_int_eq(domain_room(&dom.d, 0), DOMAIN_FULL);
    dom_give_frames_back();
}
END_TEST

START_TEST(a_client_that_leaves_keeps_nothing)
{
    dom_adopt(0, 8, false);
    dom_store(0, 8);
    dom.c.leaving = true;
    dom_fault(0, false);
    ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    while (!client_bring_back(&dom.c, 3))
        dom_check();
    ck_assert_uint_eq(nr_free(), NR_FRAMES);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client-kept");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_read_keeps_the_frame_and_a_write_does_not);
    tcase_add_test(tc, an_equal_page_goes_back_to_its_frame_without_a_store);
    tcase_add_test(tc, a_changed_page_is_stored_anew);
    tcase_add_test(tc, a_page_that_became_zero_gives_its_frame_up);
    tcase_add_test(tc, what_is_not_taken_keeps_its_frame);
    tcase_add_test(tc, during_a_move_the_frame_follows_and_goes_with_its_page);
    tcase_add_test(tc, an_end_during_a_move_gives_all_back);
    tcase_add_test(tc, an_mremap_takes_what_is_kept_along);
    tcase_add_test(tc, a_forked_child_keeps_nothing);
    tcase_add_test(tc, kept_frames_are_dropped_when_frames_are_short);
    tcase_add_test(tc, with_little_room_nothing_is_kept);
    tcase_add_test(tc, a_client_that_leaves_keeps_nothing);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
