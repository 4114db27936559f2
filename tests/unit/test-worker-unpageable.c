/* SPDX-License-Identifier: Apache-2.0 */
/* The reason for which a mapping is not adopted; and that there is none for those that are. */
#include <check.h>

#include "worker/worker_priv.h"

#define RW (KMAP_PROT_READ | KMAP_PROT_WRITE)
#define KNOWN KMAP_VMF_KNOWN
#define OWN_START 0x70000000u
#define OWN_END 0x70800000u

static const struct {
    enum kmap_kind kind;
    uint32_t prot, flags;
    enum unpageable want;
} table[] = {
    {KMAP_ANON, RW, KNOWN, UNPAGEABLE_NOT},
    {KMAP_ANON, RW, 0, UNPAGEABLE_NOT}, /* not known yet */
    {KMAP_HEAP, RW, KNOWN | KMAP_VMF_UFFD, UNPAGEABLE_NOT},
    {KMAP_ANON, RW, KNOWN | KMAP_VMF_LOCKED, UNPAGEABLE_LOCKED},
    {KMAP_NAMED_ANON, RW, KNOWN | KMAP_VMF_DONTCOPY, UNPAGEABLE_NOFORK},
    {KMAP_ANON, RW, KNOWN | KMAP_VMF_WIPEONFORK, UNPAGEABLE_NOFORK},
    {KMAP_ANON, RW, KNOWN | KMAP_VMF_GROWSDOWN, UNPAGEABLE_STACK},
    {KMAP_ANON, RW, KNOWN | KMAP_VMF_HUGETLB, UNPAGEABLE_OTHER},
    {KMAP_ANON, RW, KNOWN | KMAP_VMF_DROPPABLE, UNPAGEABLE_OTHER},
    {KMAP_STACK, RW, KNOWN, UNPAGEABLE_STACK},
    {KMAP_ANON, KMAP_PROT_READ, KNOWN, UNPAGEABLE_READONLY},
    {KMAP_ANON, RW | KMAP_PROT_EXEC, KNOWN, UNPAGEABLE_EXEC},
    {KMAP_ANON, 0, KNOWN, UNPAGEABLE_NOT},
    {KMAP_FILE, RW, KNOWN, UNPAGEABLE_FILE},
    {KMAP_FILE, KMAP_PROT_READ, KNOWN, UNPAGEABLE_NOT},
    {KMAP_FILE, KMAP_PROT_READ | KMAP_PROT_EXEC, KNOWN, UNPAGEABLE_NOT},
    {KMAP_FILE, RW | KMAP_SHARED, KNOWN, UNPAGEABLE_SHARED},
    {KMAP_FILE, KMAP_PROT_READ | KMAP_SHARED, KNOWN, UNPAGEABLE_NOT},
    {KMAP_SPECIAL, KMAP_PROT_READ | KMAP_PROT_EXEC, KNOWN, UNPAGEABLE_NOT},
};

START_TEST(each_kind_of_mapping_has_its_reason)
{
    struct kmap_vma v = {.r = {{0x10000}, 0x4000},
                         .prot = table[_i].prot,
                         .flags = table[_i].flags,
                         .kind = table[_i].kind};

    ck_assert_str_eq(unpageable_name(unpageable_why(&v, 0, OWN_START, OWN_END)),
                     unpageable_name(table[_i].want));
}
END_TEST

START_TEST(a_thread_stack_is_told_by_its_guard)
{
    struct kmap_vma m[] = {
        {.r = {{0x10000}, 0x1000}, .kind = KMAP_ANON},
        {.r = {{0x11000}, 0x800000}, .prot = RW, .kind = KMAP_ANON},
    };

    ck_assert_int_eq(unpageable_why(&m[1], 1, OWN_START, OWN_END), UNPAGEABLE_STACK);
    m[0].prot = KMAP_PROT_READ;
    ck_assert_int_eq(unpageable_why(&m[1], 1, OWN_START, OWN_END), UNPAGEABLE_NOT);
}
END_TEST

START_TEST(the_agents_memory_is_not_the_programs)
{
    struct kmap_vma v = {.r = {{OWN_START}, 0x1000}, .prot = RW | KMAP_SHARED, .kind = KMAP_FILE};

    ck_assert_int_eq(unpageable_why(&v, 0, OWN_START, OWN_END), UNPAGEABLE_NOT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("unpageable");
    TCase *tc = tcase_create("all");

    tcase_add_loop_test(tc, each_kind_of_mapping_has_its_reason, 0, ARRAY_SIZE(table));
    tcase_add_test(tc, a_thread_stack_is_told_by_its_guard);
    tcase_add_test(tc, the_agents_memory_is_not_the_programs);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
