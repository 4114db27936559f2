/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every pair of state and event: the allowed steps are written down here once
 * more, independently of src/pgtable/transition.c, and all else is refused and
 * changes nothing.
 */
#define _GNU_SOURCE
#include <check.h>
#include <string.h>
#include <sys/mman.h>

#include "pgtable/pgtable.h"

#define NR_LEAVES 4
#define ADDR 0x5000000000u

/* In the words of the diagram in pgtable.h; what does not stand here does not exist. */
static const struct allowed {
    enum pte_tag from;
    enum pte_event event;
    enum pte_tag to;
} allowed[] = {
    {PTE_NONE, PTE_EV_ADOPT, PTE_PRESENT},
    {PTE_PRESENT, PTE_EV_CAPTURE, PTE_MIGRATING},
    {PTE_PRESENT, PTE_EV_UNKEEP, PTE_PRESENT},
    {PTE_MIGRATING, PTE_EV_ABORT, PTE_PRESENT},
    {PTE_MIGRATING, PTE_EV_COMMIT_ZERO, PTE_ZERO},
    {PTE_MIGRATING, PTE_EV_COMMIT_FRAME, PTE_FRAME},
    {PTE_MIGRATING, PTE_EV_COMMIT_SWAPPED, PTE_SWAPPED},
    {PTE_MIGRATING, PTE_EV_COMMIT_MERGED, PTE_MERGED},
    {PTE_ZERO, PTE_EV_FILL, PTE_PRESENT},
    {PTE_FRAME, PTE_EV_FILL, PTE_PRESENT},
    {PTE_FRAME, PTE_EV_SWITCH, PTE_SWAPPED},
    {PTE_SWAPPED, PTE_EV_FILL, PTE_PRESENT},
    {PTE_MERGED, PTE_EV_FILL, PTE_PRESENT},
    {PTE_FRAME, PTE_EV_ISOLATE, PTE_MIGRATING},
    {PTE_SWAPPED, PTE_EV_ISOLATE, PTE_MIGRATING},
    {PTE_FRAME, PTE_EV_LOSE, PTE_POISON},
    {PTE_SWAPPED, PTE_EV_LOSE, PTE_POISON},
    {PTE_MIGRATING, PTE_EV_LOSE, PTE_POISON},
    {PTE_MERGED, PTE_EV_LOSE, PTE_POISON},
    {PTE_NONE, PTE_EV_REMOVE, PTE_NONE},
    {PTE_PRESENT, PTE_EV_REMOVE, PTE_NONE},
    {PTE_ZERO, PTE_EV_REMOVE, PTE_NONE},
    {PTE_FRAME, PTE_EV_REMOVE, PTE_NONE},
    {PTE_SWAPPED, PTE_EV_REMOVE, PTE_NONE},
    {PTE_MIGRATING, PTE_EV_REMOVE, PTE_NONE},
    {PTE_POISON, PTE_EV_REMOVE, PTE_NONE},
    {PTE_MERGED, PTE_EV_REMOVE, PTE_NONE},
};

static void *mem;
static struct pgtable *pt;
static struct mm mm;
static uint32_t nr_traced;
static pte_t traced_old, traced_new;

static void trace(const struct mm *of, struct uaddr addr, enum pte_event event, pte_t old,
                  pte_t new_pte)
{
    (void)event;
    ck_assert_ptr_eq(of, &mm);
    ck_assert_uint_eq(addr.v, ADDR);
    nr_traced++;
    traced_old = old;
    traced_new = new_pte;
}

static void setup(void)
{
    mem = mmap(NULL, pgtable_bytes(NR_LEAVES), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
               -1, 0);
    ck_assert_ptr_ne(mem, MAP_FAILED);
    pt = pgtable_open(mem, NR_LEAVES);
    ck_assert_ptr_nonnull(pt);
    mm = (struct mm){0};
    ck_assert_int_eq(mm_tables_init(&mm, pt, 1), 0);
}

static void teardown(void)
{
    pte_trace = NULL;
    ck_assert_int_eq(pte_transition(&mm, uaddr(ADDR), PTE_EV_REMOVE, (struct pte_arg){0}, NULL), 0);
    mm_tables_free(&mm);
    pgtable_close(pt);
    munmap(mem, pgtable_bytes(NR_LEAVES));
}

static int expected(enum pte_tag tag, enum pte_event event)
{
    for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
        if (allowed[i].from == tag && allowed[i].event == event)
            return allowed[i].to;
    return -EINVAL;
}

/* Puts the entry at ADDR into a state with something in every field, by IMPORT. */
static pte_t put(enum pte_tag tag)
{
    pte_t value = tag == PTE_NONE ? 0 : pte_make(tag, PTE_F_MERGEABLE, 3, 77);

    ck_assert_int_eq(pte_transition(&mm, uaddr(ADDR), PTE_EV_REMOVE, (struct pte_arg){0}, NULL), 0);
    ck_assert_int_eq(
        pte_transition(&mm, uaddr(ADDR), PTE_EV_IMPORT, (struct pte_arg){.value = value}, NULL), 0);
    ck_assert_uint_eq(pte_get(&mm, uaddr(ADDR)), value);
    return value;
}

static uint64_t sum_of_counts(void)
{
    uint64_t sum = 0;

    for (unsigned tag = 0; tag < PTE_NR_TAGS; tag++)
        sum += mm.nr[tag];
    return sum;
}

START_TEST(the_table_of_steps_is_the_one_written_here)
{
    for (unsigned tag = 0; tag < PTE_NR_TAGS; tag++)
        for (unsigned event = 0; event < PTE_EV_IMPORT; event++) {
            int want = expected((enum pte_tag)tag, (enum pte_event)event);
            int got = pte_next_tag((enum pte_tag)tag, (enum pte_event)event);
            ck_assert_msg(got == want, "%s on %s: the table says %s, the test %s",
                          pte_event_name((enum pte_event)event), pte_tag_name((enum pte_tag)tag),
                          got < 0 ? "refused" : pte_tag_name((enum pte_tag)got),
                          want < 0 ? "refused" : pte_tag_name((enum pte_tag)want));
        }
    ck_assert_int_eq(pte_next_tag(PTE_NR_TAGS, PTE_EV_REMOVE), -EINVAL);
    ck_assert_int_eq(pte_next_tag(PTE_NONE, PTE_NR_EVENTS), -EINVAL);
}
END_TEST

START_TEST(every_pair_is_done_as_the_table_says_or_refused_without_a_trace)
{
    pte_trace = trace;
    for (unsigned tag = 0; tag < PTE_NR_TAGS; tag++)
        for (unsigned event = 0; event < PTE_EV_IMPORT; event++) {
            const char *tag_name = pte_tag_name((enum pte_tag)tag);
            const char *event_name = pte_event_name((enum pte_event)event);
            struct pte_arg arg = {.flags = PTE_F_REFERENCED, .node = 5, .index = 1234};
            int want = expected((enum pte_tag)tag, (enum pte_event)event);
            pte_t before = put((enum pte_tag)tag), old = 99;
            struct mm was = mm;

            nr_traced = 0;
            int r = pte_transition(&mm, uaddr(ADDR), (enum pte_event)event, arg, &old);
            pte_t after = pte_get(&mm, uaddr(ADDR));
            ck_assert_ptr_null(pgtable_check(&mm));
            if (want < 0) {
                ck_assert_msg(r == -EINVAL, "%s on %s was not refused", event_name, tag_name);
                ck_assert_msg(after == before, "%s on %s, refused, changed it", event_name,
                              tag_name);
                ck_assert_msg(!memcmp(mm.nr, was.nr, sizeof(mm.nr)),
                              "%s on %s, refused, changed a count", event_name, tag_name);
                ck_assert_uint_eq(old, 99);
                ck_assert_uint_eq(nr_traced, 0);
                continue;
            }
            ck_assert_msg(r == 0, "%s on %s was refused", event_name, tag_name);
            pte_t value = want == PTE_NONE
                              ? 0
                              : pte_make((enum pte_tag)want, arg.flags, arg.node, arg.index);
            ck_assert_msg(after == value, "%s on %s gave %s", event_name, tag_name,
                          pte_tag_name(pte_tag(after)));
            ck_assert_uint_eq(old, before);
            ck_assert_uint_eq(nr_traced, 1);
            ck_assert_uint_eq(traced_old, before);
            ck_assert_uint_eq(traced_new, value);
            ck_assert_uint_eq(sum_of_counts(), want == PTE_NONE ? 0 : 1);
            if (want != PTE_NONE)
                ck_assert_uint_eq(mm.nr[want], 1);
        }
}
END_TEST

START_TEST(import_takes_over_any_entry_but_only_where_there_is_none)
{
    for (unsigned tag = 0; tag < PTE_NR_TAGS; tag++) {
        pte_t before = put((enum pte_tag)tag);
        for (unsigned other = 0; other < PTE_NR_TAGS; other++) {
            pte_t value = other ? pte_make((enum pte_tag)other, 0, 1, 5) : 0;
            int r = pte_transition(&mm, uaddr(ADDR), PTE_EV_IMPORT,
                                   (struct pte_arg){.value = value}, NULL);
            ck_assert_msg(r == (tag == PTE_NONE ? 0 : -EINVAL), "import of %s over %s: %d",
                          pte_tag_name((enum pte_tag)other), pte_tag_name((enum pte_tag)tag), r);
            ck_assert_uint_eq(pte_get(&mm, uaddr(ADDR)), tag == PTE_NONE ? value : before);
            ck_assert_ptr_null(pgtable_check(&mm));
            if (tag == PTE_NONE)
                put(PTE_NONE);
        }
    }
}
END_TEST

START_TEST(import_of_a_state_that_does_not_exist_is_refused_and_uses_no_leaf)
{
    for (unsigned tag = PTE_NR_TAGS; tag < 16; tag++)
        ck_assert_int_eq(pte_transition(&mm, uaddr(ADDR), PTE_EV_IMPORT,
                                        (struct pte_arg){.value = tag}, NULL),
                         -EINVAL);
    ck_assert_uint_eq(pgtable_nr_free_leaves(pt), NR_LEAVES);
    ck_assert_uint_eq(sum_of_counts(), 0);
}
END_TEST

START_TEST(steps_without_a_leaf_are_refused_and_make_none)
{
    for (unsigned event = 0; event < PTE_EV_IMPORT; event++) {
        if (event == PTE_EV_ADOPT)
            continue;
        int want = event == PTE_EV_REMOVE ? 0 : -EINVAL;
        ck_assert_msg(pte_transition(&mm, uaddr(ADDR), (enum pte_event)event, (struct pte_arg){0},
                                     NULL) == want,
                      "%s where there is no leaf", pte_event_name((enum pte_event)event));
        ck_assert_uint_eq(pgtable_nr_free_leaves(pt), NR_LEAVES);
    }
}
END_TEST

START_TEST(flags_change_without_a_step_and_never_make_an_entry)
{
    pte_change_flags(&mm, uaddr(ADDR), PTE_F_REFERENCED, 0);
    ck_assert_uint_eq(pte_get(&mm, uaddr(ADDR)), 0);
    put(PTE_NONE);
    pte_change_flags(&mm, uaddr(ADDR), PTE_F_REFERENCED, 0);
    ck_assert_uint_eq(pte_get(&mm, uaddr(ADDR)), 0);
    for (unsigned tag = PTE_NONE + 1; tag < PTE_NR_TAGS; tag++) {
        pte_t value = put((enum pte_tag)tag);
        /* Bits that are no flags are not let through. */
        pte_change_flags(&mm, uaddr(ADDR), PTE_F_REFERENCED | 0xf, PTE_F_MERGEABLE | 0xff000);
        pte_t now = pte_get(&mm, uaddr(ADDR));
        ck_assert_uint_eq(pte_flags(now), PTE_F_REFERENCED);
        ck_assert_uint_eq(now & ~(pte_t)PTE_FLAGS, value & ~(pte_t)PTE_FLAGS);
        ck_assert_ptr_null(pgtable_check(&mm));
    }
}
END_TEST

START_TEST(every_state_and_event_has_a_name_of_its_own)
{
    for (unsigned i = 0; i < PTE_NR_TAGS; i++)
        for (unsigned k = 0; k < i; k++)
            ck_assert_str_ne(pte_tag_name((enum pte_tag)i), pte_tag_name((enum pte_tag)k));
    for (unsigned i = 0; i < PTE_NR_EVENTS; i++)
        for (unsigned k = 0; k < i; k++)
            ck_assert_str_ne(pte_event_name((enum pte_event)i), pte_event_name((enum pte_event)k));
    ck_assert_str_eq(pte_tag_name(PTE_NR_TAGS), "?");
    ck_assert_str_eq(pte_event_name(PTE_NR_EVENTS), "?");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pgtable-transition");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, the_table_of_steps_is_the_one_written_here);
    tcase_add_test(tc, every_pair_is_done_as_the_table_says_or_refused_without_a_trace);
    tcase_add_test(tc, import_takes_over_any_entry_but_only_where_there_is_none);
    tcase_add_test(tc, import_of_a_state_that_does_not_exist_is_refused_and_uses_no_leaf);
    tcase_add_test(tc, steps_without_a_leaf_are_refused_and_make_none);
    tcase_add_test(tc, flags_change_without_a_step_and_never_make_an_entry);
    tcase_add_test(tc, every_state_and_event_has_a_name_of_its_own);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
