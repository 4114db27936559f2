/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the calls that fill pages can meet, and what they say of it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "uffd_program.h"

START_TEST(a_present_page_stops_a_fill_exactly_there)
{
    uint64_t done;

    ck_assert_int_eq(kuffd_zero(uffd, at(5), PAGE_SIZE, &done), KRES_DONE);
    ck_assert_int_eq(copy(0, NR_PAGES, &done), KRES_RACED);
    ck_assert_uint_eq(done, 5 * PAGE_SIZE);
    ck_assert_mem_eq(mem, bytes, 5 * PAGE_SIZE);
    ck_assert_int_eq(mem[5 * PAGE_SIZE], 0);
    ck_assert_int_eq(copy(5, 3, &done), KRES_RACED);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(copy(6, NR_PAGES - 6, &done), KRES_DONE);

    ck_assert_int_eq(kuffd_zero(uffd, at(0), BYTES, &done), KRES_RACED);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(kuffd_poison(uffd, at(0), BYTES, &done), KRES_RACED);
    ck_assert_uint_eq(done, 0);
}
END_TEST

START_TEST(a_fill_outside_of_what_is_registered_is_gone)
{
    char *other = map_pages(PROT_READ | PROT_WRITE);
    uint64_t done = 1;

    ck_assert_int_eq(
        kuffd_copy(uffd, uaddr((uintptr_t)other), bytes, PAGE_SIZE, &done), KRES_GONE);
    ck_assert_uint_eq(done, 0);
    /* Nothing at all is mapped there. */
    munmap(other, BYTES);
    ck_assert_int_eq(
        kuffd_zero(uffd, uaddr((uintptr_t)other), PAGE_SIZE, &done), KRES_GONE);
}
END_TEST

START_TEST(a_fill_across_the_end_of_a_mapping_is_gone_as_a_whole)
{
    uint64_t done = 1;

    start(unmap_page, mem + 8 * PAGE_SIZE);
    ck_assert_int_eq(next_message().type, KUFFD_UNMAP);
    end();
    ck_assert_int_eq(copy(6, 4, &done), KRES_GONE);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(copy(6, 2, &done), KRES_DONE);
}
END_TEST

START_TEST(an_unreadable_source_is_fatal)
{
    char *none = map_pages(PROT_NONE);
    uint64_t done;

    ck_assert_int_eq(kuffd_copy(uffd, at(0), none, PAGE_SIZE, &done), KRES_FATAL);
    ck_assert_uint_eq(done, 0);
}
END_TEST

START_TEST(an_unread_event_makes_every_fill_wait)
{
    struct pollfd p = {.fd = uffd, .events = POLLIN};
    uint64_t done = 1;

    ck_assert_int_eq(copy(0, 4, &done), KRES_DONE);
    start(drop_page, mem + PAGE_SIZE);
    ck_assert_int_eq(poll(&p, 1, 10000), 1);
    ck_assert_int_eq(copy(8, 4, &done), KRES_RETRY);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(kuffd_zero(uffd, at(8), PAGE_SIZE, &done), KRES_RETRY);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(kuffd_poison(uffd, at(8), PAGE_SIZE, &done), KRES_RETRY);
    ck_assert_uint_eq(done, 0);

    struct kuffd_msg m = next_message();
    ck_assert_int_eq(m.type, KUFFD_REMOVE);
    ck_assert_uint_eq(m.range.start.v, at(1).v);
    ck_assert_uint_eq(m.range.len, PAGE_SIZE);
    end();
    ck_assert_int_eq(copy(8, 4, &done), KRES_DONE);
    ck_assert_int_eq(copy(1, 1, &done), KRES_DONE);
}
END_TEST

START_TEST(fail_points_stand_for_a_shortage)
{
    uint64_t done = 1;

    failpoint_set("kuffd-copy=1,kuffd-zero,kuffd-poison,kuffd-register");
    ck_assert_int_eq(copy(0, 1, &done), KRES_RETRY);
    ck_assert_int_eq(errno, ENOMEM);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(copy(0, 1, &done), KRES_DONE);
    ck_assert_int_eq(kuffd_zero(uffd, at(1), PAGE_SIZE, &done), KRES_RETRY);
    ck_assert_int_eq(kuffd_poison(uffd, at(1), PAGE_SIZE, &done), KRES_RETRY);
    ck_assert_int_eq(kuffd_register(uffd, pages(0, 1), false), KRES_RETRY);
}
END_TEST

static sigjmp_buf after_sigbus;

static void on_sigbus(int sig)
{
    (void)sig;
    siglongjmp(after_sigbus, 1);
}

START_TEST(a_poisoned_page_is_a_sigbus_not_a_zero)
{
    struct sigaction sa = {.sa_handler = on_sigbus};
    volatile bool died = true;
    uint64_t done;

    ck_assert_int_eq(kuffd_poison(uffd, at(4), 2 * PAGE_SIZE, &done), KRES_DONE);
    ck_assert_uint_eq(done, 2 * PAGE_SIZE);
    ck_assert_int_eq(sigaction(SIGBUS, &sa, NULL), 0);
    if (!sigsetjmp(after_sigbus, 1)) {
        load(mem + 5 * PAGE_SIZE);
        died = false;
    }
    ck_assert(died);
}
END_TEST

/* What makes us remember each page that we poisoned. */
START_TEST(a_copy_goes_over_poison_and_zeros_do_not)
{
    uint64_t done;

    ck_assert_int_eq(kuffd_poison(uffd, at(4), PAGE_SIZE, &done), KRES_DONE);
    ck_assert_int_eq(kuffd_poison(uffd, at(4), PAGE_SIZE, &done), KRES_RACED);
    ck_assert_int_eq(kuffd_zero(uffd, at(4), PAGE_SIZE, &done), KRES_RACED);
    ck_assert_int_eq(copy(2, 4, &done), KRES_DONE);
    ck_assert_mem_eq(mem + 4 * PAGE_SIZE, bytes + 4 * PAGE_SIZE, PAGE_SIZE);
}
END_TEST

START_TEST(a_range_that_is_not_made_of_pages_is_a_bug)
{
    uint64_t done;

    log_init("t", LOG_LEVEL_ERROR, -1);
    (void)!kuffd_zero(uffd, uaddr(at(0).v + 1), PAGE_SIZE, &done);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, a_present_page_stops_a_fill_exactly_there);
    tcase_add_test(tc, a_fill_outside_of_what_is_registered_is_gone);
    tcase_add_test(tc, a_fill_across_the_end_of_a_mapping_is_gone_as_a_whole);
    tcase_add_test(tc, an_unreadable_source_is_fatal);
    tcase_add_test(tc, an_unread_event_makes_every_fill_wait);
    tcase_add_test(tc, fail_points_stand_for_a_shortage);
    tcase_add_test(tc, a_poisoned_page_is_a_sigbus_not_a_zero);
    tcase_add_test(tc, a_copy_goes_over_poison_and_zeros_do_not);
    tcase_add_test_raise_signal(tc, a_range_that_is_not_made_of_pages_is_a_bug, SIGABRT);
}

int main(void)
{
    return run_uffd_tests("kernel-uffd-fill", add_tests);
}
