/* SPDX-License-Identifier: Apache-2.0 */
/* A worker dies; the next one finds every page, message and fault. */
#include <check.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "client/client_priv.h"
#include "fake_domain.h"
#include "kernel/uapi.h"
#include "migrate/migrate.h"

#define NR_FRAMES PAGEBLOCK_FRAMES
#define NR_LEAVES 8

static uint8_t results[CAPTURE_MAX_PAGES]; /* as the agent's ring has them */
static jmp_buf death;
static uint32_t dies_at; /* the nth change of an entry from now; 0: never */

static void count_down(const struct mm *mm, struct uaddr addr, enum pte_event event, pte_t old,
                       pte_t new_pte)
{
    (void)mm, (void)addr, (void)event, (void)old, (void)new_pte;
    if (dies_at && !--dies_at)
        longjmp(death, 1);
}

static void setup(void)
{
    dom_open(NR_LEAVES, NR_FRAMES);
    memset(results, CAPTURE_NOT_TRIED, sizeof(results));
    pte_trace = count_down;
    dies_at = 0;
}

static void teardown(void)
{
    pte_trace = NULL;
    dom_close();
}

static void die_and_take_up(void)
{
    dies_at = 0;
    dom_die_and_take_up(results);
}

static void some_of_everything(void)
{
    dom_some_of_everything();
    memset(results, CAPTURE_TAKEN, 4);
}

/* ---- pages ---- */

START_TEST(every_page_is_where_it_was)
{
    some_of_everything();
    die_and_take_up();
    for (uint32_t i = 0; i < 14; i++) {
        ck_assert_int_eq(dom_tag(&dom.c, i), i < 4    ? PTE_PRESENT
                                 : i < 8  ? PTE_FRAME
                                 : i < 10 ? PTE_ZERO
                                          : PTE_MIGRATING);
        if (dom_tag(&dom.c, i) != PTE_ZERO)
            ck_assert(dom_holds(i, i));
    }
    ck_assert_uint_eq(frame_nr_free(dom.d.ram.frames), NR_FRAMES - 4);
    ck_assert_uint_eq(mm_area_bytes(&dom.c.mm), FAKE_END - FAKE_START);
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
    for (uint32_t i = 10; i < 14; i++)
        ck_assert(dom_tag(&dom.c, i) == PTE_FRAME && dom_holds(i, i));
}
END_TEST

START_TEST(a_capture_that_was_never_started_took_nothing)
{
    struct uaddr page = fake_addr(3);

    dom_adopt(3, 1, false);
    ck_assert_int_eq(migrate_capture(&dom.c.mm, &page, 1, false, MIGRATE_DEMOTION), 1);
    die_and_take_up();
    ck_assert_int_eq(dom_tag(&dom.c, 3), PTE_PRESENT);
    ck_assert_uint_eq(migrate_nr_open(&dom.c.mm), 0);
}
END_TEST

START_TEST(whenever_it_dies_in_a_commit_the_pages_are_whole)
{
    some_of_everything();
    dies_at = (uint32_t)_i;
    if (!setjmp(death))
        client_commit(&dom.c, CAPTURE_MAX_PAGES);
    die_and_take_up();
    client_commit(&dom.c, CAPTURE_MAX_PAGES);
    for (uint32_t i = 10; i < 14; i++)
        ck_assert(dom_tag(&dom.c, i) == PTE_FRAME && dom_holds(i, i));
    ck_assert_uint_eq(frame_nr_free(dom.d.ram.frames), NR_FRAMES - 8);
}
END_TEST

START_TEST(a_fill_that_was_not_noted_is_noted_when_nothing_changes)
{
    some_of_everything();
    fake_put(&dom.t, 5, false); /* the copy was done, and the worker died */
    die_and_take_up();
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
    dom.t.nr_changing_asked = 0;
    dom.t.changing = 1;
    ck_assert(!client_note_filled(&dom.c));
    /* It could have come by an mremap not read yet. */
    ck_assert_int_eq(dom_tag(&dom.c, 5), PTE_FRAME);
    dom.t.changing = 0;
    ck_assert(client_note_filled(&dom.c));
    ck_assert_int_eq(dom_tag(&dom.c, 5), PTE_PRESENT);
    ck_assert_int_eq(dom_tag(&dom.c, 4), PTE_FRAME);
    dom_check();
}
END_TEST

START_TEST(who_waits_looks_again)
{
    die_and_take_up();
    ck_assert_uint_eq(dom.t.nr[FAKE_WAKE], 1);
    ck_assert_uint_eq(dom.t.call[dom.t.nr_calls - 1].len, 0); /* everywhere */
}
END_TEST

START_TEST(an_area_goes_on_to_take_huge_pages)
{
    mm_area_set_thp(&dom.c.mm, FAKE_START, AREA_THP_ADVISED);
    die_and_take_up();
    ck_assert_int_eq(mm_area_find(&dom.c.mm, FAKE_START)->thp, AREA_THP_ADVISED);
}
END_TEST

/* ---- messages ---- */

static void read_message(uint32_t slot, const struct uffd_msg *m)
{
    memcpy(dom.c.saved->raw[slot], m, sizeof(*m));
}

static void read_remap(uint32_t slot, uint32_t from, uint32_t to, uint32_t nr)
{
    struct uffd_msg m = {.event = UFFD_EVENT_REMAP};

    m.arg.remap.from = fake_addr(from).v;
    m.arg.remap.to = fake_addr(to).v;
    m.arg.remap.len = nr * PAGE_SIZE;
    read_message(slot, &m);
}

static void read_unmap(uint32_t slot, uint32_t first, uint32_t nr)
{
    struct uffd_msg m = {.event = UFFD_EVENT_UNMAP};

    m.arg.remove.start = fake_addr(first).v;
    m.arg.remove.end = fake_addr(first + nr).v;
    read_message(slot, &m);
}

/* Applies what was read, and dies at the nth change of an entry. */
static void apply_and_die(uint32_t nth)
{
    static struct kuffd_msg msgs[CLIENT_MAX_UPCALLS];
    uint32_t nr = client_saved_messages(&dom.c, msgs);

    dies_at = nth;
    if (!setjmp(death))
        client_upcalls(&dom.c, msgs, nr, 1000);
    die_and_take_up();
}

START_TEST(messages_that_were_read_are_found_again)
{
    struct kuffd_msg msgs[CLIENT_MAX_UPCALLS];

    read_unmap(0, 3, 2);
    read_remap(1, 7, 9, 1);
    die_and_take_up();
    ck_assert_uint_eq(client_saved_messages(&dom.c, msgs), 2);
    ck_assert(dom.c.held); /* nothing is taken out before they are applied */
    ck_assert_int_eq(msgs[0].type, KUFFD_UNMAP);
    ck_assert_int_eq(msgs[1].type, KUFFD_REMAP);
    ck_assert_uint_eq(msgs[1].to.v, fake_addr(9).v);
    client_upcalls(&dom.c, msgs, 2, 1000);
    die_and_take_up();
    ck_assert_uint_eq(client_saved_messages(&dom.c, msgs), 0);
}
END_TEST

START_TEST(nothing_is_taken_before_what_was_read_is_applied)
{
    struct kuffd_msg msgs[CLIENT_MAX_UPCALLS];

    some_of_everything();
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
    read_unmap(0, 3, 1); /* something else may be mapped there by now */
    die_and_take_up();
    ck_assert_uint_eq(client_saved_messages(&dom.c, msgs), 1);
    group_set_limit(dom.g, GROUP_MIN_LIMIT_BYTES);
    client_set_resident(&dom.c, GROUP_MIN_LIMIT_BYTES);
    uint32_t before = dom.t.nr_started;
    group_balance(dom.g);
    ck_assert_uint_eq(dom.t.nr_started, before);
    client_upcalls(&dom.c, msgs, 1, 1000);
    dom.c.held = false;
    for (int i = 0; i < 4 && dom.t.nr_started == before; i++)
        group_balance(dom.g);
    ck_assert_uint_eq(dom.t.nr_started, before + 1);
    uint8_t result[CAPTURE_MAX_PAGES];
    fake_agent(&dom.t, result);
    client_captured(&dom.c, result);
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
    client_set_resident(&dom.c, 0);
}
END_TEST

START_TEST(what_only_the_agent_has_moved_is_nobodys)
{
    struct kuffd_msg msgs[CLIENT_MAX_UPCALLS];
    struct urange stage = {fake_addr(1000), LEAF_SIZE};

    some_of_everything();
    read_unmap(0, 4, 1);
    read_remap(1, 0, 1000, 4); /* read, and nobody has looked at it yet */
    read_unmap(2, 5, 1);
    die_and_take_up();
    dom.c.remap_stage = stage;
    ck_assert_uint_eq(client_saved_messages(&dom.c, msgs), 3);
    ck_assert_int_eq(msgs[1].type, KUFFD_VOID);
    die_and_take_up(); /* it stays so */
    ck_assert_uint_eq(client_saved_messages(&dom.c, msgs), 3);
    ck_assert_int_eq(msgs[0].type, KUFFD_UNMAP);
    ck_assert_int_eq(msgs[1].type, KUFFD_VOID);
    ck_assert_int_eq(msgs[2].type, KUFFD_UNMAP);
    client_upcalls(&dom.c, msgs, 3, 1000);
    for (uint32_t i = 0; i < 4; i++)
        ck_assert_int_eq(dom_tag(&dom.c, i), PTE_PRESENT);
    ck_assert_int_eq(dom_tag(&dom.c, 4), PTE_NONE);
    ck_assert_int_eq(dom_tag(&dom.c, 5), PTE_NONE);
    ck_assert_int_eq(dom_tag(&dom.c, 1000), PTE_NONE);
    ck_assert_uint_eq(client_saved_messages(&dom.c, msgs), 0);
}
END_TEST

START_TEST(whenever_it_dies_in_a_remap_the_pages_are_at_the_new_place)
{
    some_of_everything();
    memcpy(dom.t.mem + 100 * PAGE_SIZE, dom.t.mem, 4 * PAGE_SIZE);
    memset(dom.t.page + 100, FAKE_PRESENT, 4);
    memset(dom.t.page, FAKE_ABSENT, 4);
    read_remap(0, 0, 100, 14);
    read_unmap(1, 0, 14);
    apply_and_die((uint32_t)_i);
    for (uint32_t i = 0; i < 14; i++) {
        ck_assert_int_eq(dom_tag(&dom.c, i), PTE_NONE);
        if (dom_tag(&dom.c, 100 + i) == PTE_ZERO)
            ck_assert(i == 8 || i == 9);
        else
            ck_assert(dom_holds(100 + i, i));
    }
    dom_check();
}
END_TEST

START_TEST(whenever_it_dies_in_a_fork_the_child_has_every_page)
{
    struct uffd_msg m = {.event = UFFD_EVENT_FORK};

    m.arg.fork.ufd = 77;
    some_of_everything();
    read_message(0, &m);
    apply_and_die((uint32_t)_i);
    ck_assert(dom.forked);
    for (uint32_t i = 0; i < 14; i++) {
        const void *bytes = dom_bytes(&dom.child, i);
        if (i != 8 && i != 9)
            ck_assert(bytes && fake_is_pattern(bytes, i));
        else
            ck_assert_int_eq(dom_tag(&dom.child, i), PTE_ZERO);
    }
    ck_assert_uint_eq(dom.child.saved->parent, 0);
    dom_check();
}
END_TEST

/* ---- what a child may get is in doubt ---- */

static enum fork_gets nobody_can_tell_of_5_and_6(struct client *parent, struct uaddr at,
                                                 uint64_t *ret_end)
{
    parent->keeps_memory = true;
    *ret_end = at.v + PAGE_SIZE;
    return at.v == fake_addr(5).v || at.v == fake_addr(6).v ? FORK_GETS_UNKNOWN : FORK_GETS_BYTES;
}

/* Dies at the nth change of an entry. */
static void fork_in_doubt(uint32_t nth)
{
    struct uffd_msg m = {.event = UFFD_EVENT_FORK};

    m.arg.fork.ufd = 77;
    dom.d.fork_gets = dom.fork_gets = nobody_can_tell_of_5_and_6;
    some_of_everything();
    read_message(0, &m);
    apply_and_die(nth);
    ck_assert(dom.forked);
    dom.child.awaits_agent = true;
}

static void child_faults(uint32_t n)
{
    struct kuffd_msg m = {.type = KUFFD_FAULT, .addr = fake_addr(n), .fd = -1};

    client_upcalls(&dom.child, &m, 1, 1000);
}

START_TEST(whenever_it_dies_in_a_fork_what_was_in_doubt_stays_so)
{
    fork_in_doubt((uint32_t)_i);
    die_and_take_up(); /* and once more, with the fork done */
    ck_assert_uint_eq(client_doubt(&dom.child).start.v, fake_addr(5).v);
    ck_assert_uint_eq(client_doubt(&dom.child).len, 2 * PAGE_SIZE);
    for (uint32_t i = 4; i < 8; i++)
        child_faults(i);
    ck_assert_uint_eq(dom_answer(&dom.child, 2000), 2);
    ck_assert_int_eq(dom_tag(&dom.child, 4), PTE_PRESENT);
    ck_assert_int_eq(dom_tag(&dom.child, 5), PTE_FRAME);
    ck_assert_int_eq(dom_tag(&dom.child, 6), PTE_FRAME);
    ck_assert_int_eq(dom_tag(&dom.child, 7), PTE_PRESENT);
    dom_check();
}
END_TEST

START_TEST(whenever_it_dies_in_withholding_no_byte_of_it_is_given)
{
    fork_in_doubt(0);
    dies_at = (uint32_t)_i;
    if (!setjmp(death)) {
        (void)client_withhold(&dom.child, fake_addr(5).v, fake_addr(7).v);
        client_end_doubt(&dom.child);
    }
    die_and_take_up();
    for (uint32_t i = 5; i < 7; i++)
        ck_assert(dom_tag(&dom.child, i) == PTE_POISON ||
                  client_is_doubtful(&dom.child, fake_addr(i)));
    dom_check();
}
END_TEST

START_TEST(a_doubt_that_has_ended_stays_so)
{
    fork_in_doubt(0);
    client_end_doubt(&dom.child);
    die_and_take_up();
    ck_assert_uint_eq(client_doubt(&dom.child).len, 0);
    child_faults(5);
    ck_assert_uint_eq(dom_answer(&dom.child, 2000), 0);
    ck_assert(fake_is_pattern(dom_bytes(&dom.child, 5), 5));
}
END_TEST

/* What was at 0 and what came there from 20 went to 100 and 120: nobody can tell which where. */
START_TEST(whenever_it_dies_what_cannot_be_told_is_lost)
{
    ck_assert_int_eq(mm_area_remove(&dom.c.mm, FAKE_START, FAKE_END), 0);
    ck_assert_int_eq(mm_area_add(&dom.c.mm, fake_addr(0).v, fake_addr(4).v), 0);
    ck_assert_int_eq(mm_area_add(&dom.c.mm, fake_addr(20).v, fake_addr(24).v), 0);
    dom_adopt(0, 4, false);
    dom_adopt(20, 4, false);
    dom_store(0, 4);
    dom_store(20, 4);
    read_remap(0, 20, 0, 4);
    read_unmap(1, 20, 4);
    read_remap(2, 0, 100, 4);
    read_remap(3, 0, 120, 4);
    read_unmap(4, 0, 4);
    read_unmap(5, 0, 4);
    apply_and_die((uint32_t)_i);
    for (uint32_t i = 0; i < 4; i++) {
        ck_assert(dom_tag(&dom.c, 100 + i) == PTE_NONE &&
                  client_is_doomed(&dom.c, fake_addr(100 + i)));
        ck_assert(dom_tag(&dom.c, 120 + i) == PTE_NONE &&
                  client_is_doomed(&dom.c, fake_addr(120 + i)));
    }
    ck_assert_uint_eq(dom.c.saved->lost.nr, 0);
    dom_check();
}
END_TEST

START_TEST(pages_to_be_poisoned_are_remembered)
{
    client_doom(&dom.c, fake_addr(3));
    client_doom(&dom.c, fake_addr(5));
    die_and_take_up();
    ck_assert(client_is_doomed(&dom.c, fake_addr(3)));
    client_answer(&dom.c);
    ck_assert_uint_eq(dom.t.nr[FAKE_POISON], 2);
    ck_assert_uint_eq(dom.c.saved->nr_doomed, 0);
}
END_TEST

START_TEST(what_is_about_to_be_dropped_is_not_entered_by_the_next_worker_either)
{
    struct urange all = urange(FAKE_START, FAKE_END);

    for (uint32_t i = 0; i < 4; i++)
        fake_put(&dom.t, i, false);
    ck_assert_int_eq(mm_area_remove(&dom.c.mm, FAKE_START, FAKE_END), 0);
    client_note_removed(&dom.c, (struct urange){fake_addr(1), 2 * PAGE_SIZE});
    die_and_take_up();
    ck_assert_int_eq(client_adopt(&dom.c, all, true), KRES_DONE);
    ck_assert_int_eq(dom_tag(&dom.c, 0), PTE_PRESENT);
    ck_assert_int_eq(dom_tag(&dom.c, 1), PTE_NONE);
    ck_assert_int_eq(dom_tag(&dom.c, 2), PTE_NONE);
    ck_assert_int_eq(dom_tag(&dom.c, 3), PTE_PRESENT);
}
END_TEST

START_TEST(a_client_that_has_ended_leaves_no_record)
{
    ck_assert_ptr_nonnull(domain_next_saved(&dom.d, NULL));
    client_fini(&dom.c);
    ck_assert_ptr_null(domain_next_saved(&dom.d, NULL));
    ck_assert_int_eq(client_init(&dom.c, &dom.d, dom.g, &fake_ops, &dom.t), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client-recover");
    TCase *tc = tcase_create("recover");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, every_page_is_where_it_was);
    tcase_add_test(tc, a_capture_that_was_never_started_took_nothing);
    tcase_add_loop_test(tc, whenever_it_dies_in_a_commit_the_pages_are_whole, 1, 6);
    tcase_add_test(tc, a_fill_that_was_not_noted_is_noted_when_nothing_changes);
    tcase_add_test(tc, who_waits_looks_again);
    tcase_add_test(tc, an_area_goes_on_to_take_huge_pages);
    tcase_add_test(tc, messages_that_were_read_are_found_again);
    tcase_add_test(tc, nothing_is_taken_before_what_was_read_is_applied);
    tcase_add_test(tc, what_only_the_agent_has_moved_is_nobodys);
    tcase_add_loop_test(tc, whenever_it_dies_in_a_remap_the_pages_are_at_the_new_place, 1, 32);
    tcase_add_loop_test(tc, whenever_it_dies_in_a_fork_the_child_has_every_page, 1, 22);
    tcase_add_loop_test(tc, whenever_it_dies_in_a_fork_what_was_in_doubt_stays_so, 0, 22);
    tcase_add_loop_test(tc, whenever_it_dies_in_withholding_no_byte_of_it_is_given, 0, 4);
    tcase_add_test(tc, a_doubt_that_has_ended_stays_so);
    tcase_add_loop_test(tc, whenever_it_dies_what_cannot_be_told_is_lost, 1, 60);
    tcase_add_test(tc, pages_to_be_poisoned_are_remembered);
    tcase_add_test(tc, what_is_about_to_be_dropped_is_not_entered_by_the_next_worker_either);
    tcase_add_test(tc, a_client_that_has_ended_leaves_no_record);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
