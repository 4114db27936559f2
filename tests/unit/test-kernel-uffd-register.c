/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be registered, and what is when it is no more.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "uffd_program.h"

START_TEST(what_is_registered_is_told_without_a_change)
{
    uint64_t done;

    ck_assert_int_eq(kuffd_is_registered(uffd, at(0)), KRES_DONE);
    ck_assert_int_eq(copy(0, 1, &done), KRES_DONE);
    ck_assert_int_eq(kuffd_is_registered(uffd, at(0)), KRES_DONE); /* present or not */
    ck_assert_int_eq(kuffd_is_registered(uffd, at(NR_PAGES - 1)), KRES_DONE);
    ck_assert_int_eq(kuffd_unregister(uffd, pages(0, NR_PAGES)), KRES_DONE);
    ck_assert_int_eq(kuffd_is_registered(uffd, at(0)), KRES_GONE);
    ck_assert_int_eq(kuffd_wake_all(uffd), KRES_DONE);
}
END_TEST

START_TEST(what_cannot_be_registered_is_gone)
{
    char *hole = map_pages(PROT_READ);
    _cleanup_close_ int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    void *text = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, file, 0);
    _cleanup_close_ int other = open_uffd();

    ck_assert_ptr_ne(text, MAP_FAILED);
    munmap(hole, BYTES);
    ck_assert_int_eq(
        kuffd_register(uffd, urange((uintptr_t)hole, (uintptr_t)hole + BYTES), false), KRES_GONE);
    ck_assert_int_eq(
        kuffd_unregister(uffd, urange((uintptr_t)hole, (uintptr_t)hole + BYTES)), KRES_GONE);
    /* A file's shared mapping that can never be written. */
    ck_assert_int_eq(
        kuffd_register(uffd, urange((uintptr_t)text, (uintptr_t)text + PAGE_SIZE), false),
        KRES_GONE);
    /* Somebody else's. */
    ck_assert_int_eq(kuffd_api(other, 0), 0);
    ck_assert_int_eq(kuffd_register(other, pages(0, NR_PAGES), false), KRES_GONE);
}
END_TEST

START_TEST(registering_again_does_no_harm)
{
    uint64_t done;

    ck_assert_int_eq(copy(0, 1, &done), KRES_DONE);
    ck_assert_int_eq(kuffd_register(uffd, pages(0, NR_PAGES), true), KRES_DONE);
    ck_assert_int_eq(mem[0], 'a');
}
END_TEST

START_TEST(after_unregistering_the_kernel_answers_with_zeros)
{
    uint64_t done;

    ck_assert_int_eq(copy(0, 1, &done), KRES_DONE);
    start(load, mem + PAGE_SIZE);
    next_message();
    ck_assert_int_eq(kuffd_unregister(uffd, pages(0, NR_PAGES)), KRES_DONE);
    ck_assert_int_eq((int)(intptr_t)end(), 0);
    ck_assert_int_eq(mem[0], 'a');
    ck_assert_int_eq(mem[9 * PAGE_SIZE], 0);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, what_is_registered_is_told_without_a_change);
    tcase_add_test(tc, what_cannot_be_registered_is_gone);
    tcase_add_test(tc, registering_again_does_no_harm);
    tcase_add_test(tc, after_unregistering_the_kernel_answers_with_zeros);
}

int main(void)
{
    return run_uffd_tests("kernel-uffd-register", add_tests);
}
