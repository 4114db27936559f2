/* SPDX-License-Identifier: Apache-2.0 */
/* Which mappings are taken over: by kind, rights, place and VmFlags. */
#include <check.h>

#include "worker/worker_priv.h"

#define RW (KMAP_PROT_READ | KMAP_PROT_WRITE)
#define OWN_START 0x70000000u
#define OWN_END 0x70800000u

static struct kmap_vma vma(uint64_t start, uint64_t len, uint32_t prot, enum kmap_kind kind)
{
    return (struct kmap_vma){.r = {{start}, len}, .prot = prot, .kind = kind};
}

static bool candidate(struct kmap_vma v)
{
    return adopt_is_candidate(&v, 0, OWN_START, OWN_END);
}

static bool candidate_above(struct kmap_vma v, struct kmap_vma before)
{
    struct kmap_vma both[] = {before, v};

    return adopt_is_candidate(&both[1], 1, OWN_START, OWN_END);
}

START_TEST(anonymous_memory_of_every_name_is_taken)
{
    ck_assert(candidate(vma(0x10000, 0x4000, RW, KMAP_ANON)));
    ck_assert(candidate(vma(0x10000, 0x4000, RW, KMAP_HEAP)));
    ck_assert(candidate(vma(0x10000, 0x4000, RW, KMAP_NAMED_ANON)));
    ck_assert(!candidate(vma(0x10000, 0x4000, RW, KMAP_STACK)));
    ck_assert(!candidate(vma(0x10000, 0x4000, RW, KMAP_SPECIAL)));
    ck_assert(!candidate(vma(0x10000, 0x4000, RW, KMAP_FILE)));
}
END_TEST

START_TEST(only_private_readable_writable_memory_without_code)
{
    for (uint32_t prot = 0; prot < 16; prot++)
        ck_assert_msg(candidate(vma(0x10000, 0x4000, prot, KMAP_ANON)) == (prot == RW),
                      "rights %#x", prot);
}
END_TEST

START_TEST(the_agents_own_memory_is_left_alone)
{
    ck_assert(!candidate(vma(OWN_START, 0x1000, RW, KMAP_ANON)));
    ck_assert(!candidate(vma(OWN_END - 0x1000, 0x1000, RW, KMAP_ANON)));
    ck_assert(!candidate(vma(OWN_START - 0x1000, 0x2000, RW, KMAP_ANON)));
    ck_assert(!candidate(vma(OWN_END - 0x1000, 0x2000, RW, KMAP_ANON)));
    ck_assert(!candidate(vma(OWN_START - 0x1000, 0x2000000, RW, KMAP_ANON)));
    ck_assert(candidate(vma(OWN_START - 0x1000, 0x1000, RW, KMAP_ANON)));
    ck_assert(candidate(vma(OWN_END, 0x1000, RW, KMAP_ANON)));
}
END_TEST

START_TEST(a_thread_stack_is_known_by_the_small_guard_below_it)
{
    struct kmap_vma stack = vma(0x800000, 0x800000, RW, KMAP_ANON);

    ck_assert(!candidate_above(stack, vma(0x7ff000, 0x1000, 0, KMAP_ANON)));
    ck_assert(!candidate_above(stack, vma(0x700000, 0x100000, 0, KMAP_ANON)));
    /* A reservation, not a guard. */
    ck_assert(candidate_above(stack, vma(0x6ff000, 0x101000, 0, KMAP_ANON)));
    /* Not right below it, not inaccessible, or of a file. */
    ck_assert(candidate_above(stack, vma(0x7fe000, 0x1000, 0, KMAP_ANON)));
    ck_assert(candidate_above(stack, vma(0x7ff000, 0x1000, KMAP_PROT_READ, KMAP_ANON)));
    ck_assert(candidate_above(stack, vma(0x7ff000, 0x1000, 0, KMAP_FILE)));
}
END_TEST

START_TEST(a_stack_with_an_end_that_is_seen_leaves_what_is_above_it)
{
    struct kmap_vma m[] = {
        vma(0x7ff000, 0x1000, 0, KMAP_ANON),
        vma(0x800000, 0x7ff000, RW, KMAP_ANON),
        vma(0xfff000, 0x1000, RW, KMAP_ANON), /* libc's descriptor of the thread */
        vma(0x1000000, 0x6000000, RW, KMAP_ANON),
    };

    ck_assert(!adopt_is_candidate(&m[1], 1, OWN_START, OWN_END));
    ck_assert(!adopt_is_candidate(&m[2], 2, OWN_START, OWN_END));
    ck_assert(adopt_is_candidate(&m[3], 3, OWN_START, OWN_END));
    /* Too large for a descriptor. */
    m[2] = vma(0xfff000, 0x100000, RW, KMAP_ANON);
    ck_assert(adopt_is_candidate(&m[2], 2, OWN_START, OWN_END));
}
END_TEST

START_TEST(flags_that_were_not_read_allow_nothing)
{
    ck_assert(!adopt_flags_allow(0));
    ck_assert(!adopt_flags_allow(KMAP_VMF_HUGEPAGE));
    ck_assert(adopt_flags_allow(KMAP_VMF_KNOWN));
}
END_TEST

START_TEST(each_flag_alone)
{
    static const struct {
        uint32_t flag;
        bool allowed;
    } table[] = {
        {KMAP_VMF_LOCKED, false},     {KMAP_VMF_DONTCOPY, false},    {KMAP_VMF_WIPEONFORK, false},
        {KMAP_VMF_GROWSDOWN, false},  {KMAP_VMF_IO, false},          {KMAP_VMF_PFNMAP, false},
        {KMAP_VMF_HUGETLB, false},    {KMAP_VMF_MIXEDMAP, false},    {KMAP_VMF_SHADOWSTACK, false},
        {KMAP_VMF_DROPPABLE, false},  {KMAP_VMF_UFFD, true},         {KMAP_VMF_HUGEPAGE, true},
        {KMAP_VMF_NOHUGEPAGE, true},  {KMAP_VMF_MERGEABLE, true},
    };
    uint32_t seen = KMAP_VMF_KNOWN;

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        ck_assert_msg(adopt_flags_allow(KMAP_VMF_KNOWN | table[i].flag) == table[i].allowed,
                      "flag %#x", table[i].flag);
        seen |= table[i].flag;
    }
    /* A flag that is added to kernel.h has to be decided here too. */
    ck_assert_uint_eq(seen, 2 * (uint32_t)KMAP_VMF_DROPPABLE - 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("worker-adopt");
    TCase *tc = tcase_create("all");

    tcase_add_test(tc, anonymous_memory_of_every_name_is_taken);
    tcase_add_test(tc, only_private_readable_writable_memory_without_code);
    tcase_add_test(tc, the_agents_own_memory_is_left_alone);
    tcase_add_test(tc, a_thread_stack_is_known_by_the_small_guard_below_it);
    tcase_add_test(tc, a_stack_with_an_end_that_is_seen_leaves_what_is_above_it);
    tcase_add_test(tc, flags_that_were_not_read_allow_nothing);
    tcase_add_test(tc, each_flag_alone);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
