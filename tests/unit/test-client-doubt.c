/* SPDX-License-Identifier: Apache-2.0 */
/* What a program keeps from its forked children (MADV_WIPEONFORK), or may keep. */
#include <check.h>
#include <stdlib.h>

#include "client/client_priv.h"
#include "fake_domain.h"

#define NR_FRAMES PAGEBLOCK_FRAMES
#define NR_LEAVES 8

static bool keeps; /* the parent is known to keep memory from its children */

static void setup(void)
{
    dom_open(NR_LEAVES, NR_FRAMES);
    keeps = true;
}

static void teardown(void)
{
    dom_close();
}

static bool all_hold(const struct client *c)
{
    for (uint32_t i = 0; i < 8; i++)
        if (!dom_client_holds(c, i, i))
            return false;
    return true;
}

/* Frames are in pages 4-7; of a fork's view: */
static enum fork_gets of_5, of_6;

static enum fork_gets gets(struct client *parent, struct uaddr at, uint64_t *ret_end)
{
    ck_assert_ptr_eq(parent, &dom.c);
    parent->keeps_memory = keeps;
    *ret_end = at.v + PAGE_SIZE;
    if (at.v == fake_addr(5).v)
        return of_5;
    return at.v == fake_addr(6).v ? of_6 : FORK_GETS_BYTES;
}

START_TEST(what_the_parent_keeps_from_children_is_not_given)
{
    dom_stored_and_present();
    dom.d.fork_gets = gets;
    of_5 = of_6 = FORK_GETS_NOTHING;
    dom_fork();
    dom_check();
    ck_assert(all_hold(&dom.c));
    ck_assert_int_eq(dom_tag(&dom.child, 5), PTE_NONE);
    ck_assert_int_eq(dom_tag(&dom.child, 6), PTE_NONE);
    ck_assert(dom_client_holds(&dom.child, 4, 4) && dom_client_holds(&dom.child, 7, 7));
    ck_assert_uint_eq(client_doubt(&dom.child).len, 0);
}
END_TEST

START_TEST(what_nobody_can_tell_waits_and_fails_closed_or_is_given)
{
    dom_stored_and_present();
    dom.d.fork_gets = gets;
    of_5 = of_6 = FORK_GETS_UNKNOWN;
    dom_fork();
    ck_assert_uint_eq(client_doubt(&dom.child).start.v, fake_addr(5).v);
    ck_assert_uint_eq(client_doubt(&dom.child).len, 2 * PAGE_SIZE);
    for (uint32_t i = 4; i < 8; i++) {
        struct kuffd_msg m = {.type = KUFFD_FAULT, .addr = fake_addr(i), .fd = -1};
        client_upcalls(&dom.child, &m, 1, 1000);
    }
    ck_assert_uint_eq(dom_answer(&dom.child, 2000), 2);
    ck_assert_int_eq(dom_tag(&dom.child, 4), PTE_PRESENT);
    ck_assert_int_eq(dom_tag(&dom.child, 5), PTE_FRAME);
    ck_assert_int_eq(dom_tag(&dom.child, 7), PTE_PRESENT);
    ck_assert_uint_eq(client_withhold(&dom.child, fake_addr(6).v, fake_addr(8).v), 1);
    client_end_doubt(&dom.child);
    ck_assert_uint_eq(dom_answer(&dom.child, 3000), 0);
    ck_assert(dom_client_holds(&dom.child, 5, 5));
    ck_assert_uint_eq(dom.child_t.page[6], FAKE_POISONED);
    ck_assert(all_hold(&dom.c));
    dom_check();
}
END_TEST

START_TEST(what_nobody_can_tell_is_the_childs_where_nothing_was_ever_kept_from_children)
{
    dom_stored_and_present();
    dom.d.fork_gets = gets;
    keeps = false;
    dom.t.changing = 1;
    of_5 = FORK_GETS_UNKNOWN;
    of_6 = FORK_GETS_NOTHING; /* but that is told */
    dom_fork();
    dom.t.changing = 0;
    ck_assert_uint_eq(client_doubt(&dom.child).len, 0);
    ck_assert(dom_client_holds(&dom.child, 4, 4) && dom_client_holds(&dom.child, 5, 5) && dom_client_holds(&dom.child, 7, 7));
    ck_assert_int_eq(dom_tag(&dom.child, 6), PTE_NONE);
    dom_check();
}
END_TEST

/* The fork's own message, and what came after it in the same batch. */
static void fork_and_then(void (*then)(void))
{
    dom_stored_and_present();
    dom.d.fork_gets = gets;
    of_5 = of_6 = FORK_GETS_BYTES;
    dom_hold();
    dom_fork();
    then();
    dom_apply_held();
    ck_assert(dom.forked);
    dom_check();
}

static void unmap_5_and_6(void)
{
    dom_unmap(5, 2);
}

static void move_5_and_6(void)
{
    dom_remap(5, 100, 2);
    dom_unmap(5, 2);
}

/* What is mapped there now tells nothing of the flag that it had. */
START_TEST(where_the_parent_has_changed_its_mappings_since_nobody_can_tell)
{
    fork_and_then(_i ? move_5_and_6 : unmap_5_and_6);
    ck_assert_uint_eq(client_doubt(&dom.child).start.v, fake_addr(5).v);
    ck_assert_uint_eq(client_doubt(&dom.child).len, 2 * PAGE_SIZE);
    ck_assert(dom_client_holds(&dom.child, 5, 5) && dom_client_holds(&dom.child, 6, 6)); /* but not given yet */
    ck_assert(client_is_doubtful(&dom.child, fake_addr(6)));
    ck_assert(!client_is_doubtful(&dom.child, fake_addr(7)));
}
END_TEST

START_TEST(while_the_parent_changes_its_mappings_nobody_can_tell)
{
    dom_stored_and_present();
    dom.d.fork_gets = gets;
    of_5 = FORK_GETS_NOTHING;
    of_6 = FORK_GETS_BYTES;
    dom.t.changing = 1;
    dom_fork();
    dom.t.changing = 0;
    ck_assert(client_is_doubtful(&dom.child, fake_addr(5)));
    ck_assert(client_is_doubtful(&dom.child, fake_addr(6)));
    dom_check();
}
END_TEST

START_TEST(without_leaves_what_nobody_can_tell_is_not_copied)
{
    dom_close();
    dom_open(1, NR_FRAMES);
    dom_stored_and_present();
    dom.d.fork_gets = gets;
    of_5 = FORK_GETS_NOTHING;
    of_6 = FORK_GETS_UNKNOWN;
    dom_fork();
    dom_answer(&dom.child, 2000);
    ck_assert_uint_eq(dom.child_t.page[5], FAKE_ABSENT);
    ck_assert_uint_eq(dom.child_t.page[6], FAKE_POISONED);
    ck_assert(dom_client_holds(&dom.child, 4, 4) && dom_client_holds(&dom.child, 7, 7));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client-doubt");
    TCase *tc = tcase_create("one domain");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, what_the_parent_keeps_from_children_is_not_given);
    tcase_add_test(tc, what_nobody_can_tell_waits_and_fails_closed_or_is_given);
    tcase_add_test(tc, what_nobody_can_tell_is_the_childs_where_nothing_was_ever_kept_from_children);
    tcase_add_loop_test(tc, where_the_parent_has_changed_its_mappings_since_nobody_can_tell, 0, 2);
    tcase_add_test(tc, while_the_parent_changes_its_mappings_nobody_can_tell);
    tcase_add_test(tc, without_leaves_what_nobody_can_tell_is_not_copied);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
