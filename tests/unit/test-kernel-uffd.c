/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a userfaultfd's messages say, in which order a waiting thread and its answer meet, and
 * what every call says when the address space has ended.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "uffd_program.h"

/* ---- faults ---- */

START_TEST(only_a_userfaultfd_is_taken_for_one)
{
    _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    ck_assert(kuffd_is_userfaultfd(uffd));
    ck_assert(!kuffd_is_userfaultfd(null));
    ck_assert(!kuffd_is_userfaultfd(-1));
    ck_assert(!kuffd_is_userfaultfd(123456));
}
END_TEST

START_TEST(features_are_fixed_once)
{
    ck_assert_int_eq(kuffd_api(uffd, main_features()), -EINVAL);
}
END_TEST

START_TEST(nothing_to_read_is_no_error)
{
    struct kuffd_msg m[4];

    ck_assert_int_eq(kuffd_read(uffd, m, 4), 0);
    ck_assert_int_eq(kuffd_read(-1, m, 4), -EBADF);
}
END_TEST

START_TEST(a_load_waits_until_its_page_is_copied)
{
    uint64_t done = 0;

    start(load, mem + 3 * PAGE_SIZE + 77);
    struct kuffd_msg m = next_message();
    ck_assert_int_eq(m.type, KUFFD_FAULT);
    ck_assert_uint_eq(m.addr.v, at(3).v);
    ck_assert(!m.write);
    ck_assert_int_eq(copy(3, 1, &done), KRES_DONE);
    ck_assert_uint_eq(done, PAGE_SIZE);
    ck_assert_int_eq((int)(intptr_t)end(), 'a' + 3);
}
END_TEST

START_TEST(a_store_says_that_it_is_one)
{
    uint64_t done;

    start(store, mem);
    ck_assert(next_message().write);
    ck_assert_int_eq(kuffd_zero(uffd, at(0), PAGE_SIZE, &done), KRES_DONE);
    end();
    ck_assert_int_eq(mem[0], 'S');
    ck_assert_int_eq(mem[1], 0);
}
END_TEST

START_TEST(a_window_is_filled_by_one_call_and_answers_what_waits_in_it)
{
    uint64_t done;

    start(load, mem + 2 * PAGE_SIZE);
    next_message();
    ck_assert_int_eq(copy(0, NR_PAGES, &done), KRES_DONE);
    ck_assert_uint_eq(done, BYTES);
    end();
    ck_assert_mem_eq(mem, bytes, BYTES);
}
END_TEST

START_TEST(a_fault_that_was_read_and_lost_is_posted_again_by_wake)
{
    uint64_t done;
    struct kuffd_msg m;

    start(load, mem);
    next_message();
    ck_assert_int_eq(kuffd_read(uffd, &m, 1), 0);
    ck_assert_int_eq(kuffd_wake(uffd, pages(0, NR_PAGES)), KRES_DONE);
    ck_assert_uint_eq(next_message().addr.v, at(0).v);
    ck_assert_int_eq(copy(0, 1, &done), KRES_DONE);
    end();
}
END_TEST

/* ---- events ---- */

START_TEST(a_moved_mapping_is_told_with_both_places)
{
    uint64_t done;

    ck_assert_int_eq(copy(7, 1, &done), KRES_DONE);
    start(grow_elsewhere, mem + 7 * PAGE_SIZE);
    struct kuffd_msg m = next_message();
    ck_assert_int_eq(m.type, KUFFD_REMAP);
    ck_assert_uint_eq(m.from.v, at(7).v);
    while (next_message().type != KUFFD_UNMAP)
        ;
    void *to = end();
    ck_assert_ptr_ne(to, MAP_FAILED);
    ck_assert_uint_eq(m.to.v, (uintptr_t)to);
    ck_assert_int_eq(*(char *)to, 'a' + 7);
}
END_TEST

START_TEST(a_forked_child_comes_with_its_own_userfaultfd)
{
    int status;

    if (!features.event_fork) {
        printf("skipped: fork events need CAP_SYS_PTRACE\n");
        return;
    }
    start(fork_child, NULL);
    struct kuffd_msg m = next_message();
    ck_assert_int_eq(m.type, KUFFD_FORK);
    ck_assert(kuffd_is_userfaultfd(m.fd));
    ck_assert_int_eq(fcntl(m.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert_int_eq(fcntl(m.fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    fd_close(m.fd);
    pid_t child = (pid_t)(intptr_t)end();
    ck_assert_int_eq(waitpid(child, &status, 0), child);
}
END_TEST

/* ---- the end of the address space ---- */

START_TEST(every_call_tells_that_the_address_space_has_ended)
{
    struct other_process other;
    uint64_t done = 1;

    /* Without mappings of ours in the child a fork raises no event. */
    tear_down();
    other_start(&other);
    uffd = other.uffd;
    ck_assert_int_eq(kuffd_api(uffd, main_features()), 0);
    ck_assert_int_eq(kuffd_register(uffd, pages(0, NR_PAGES), true), KRES_DONE);
    ck_assert_int_eq(copy(0, 1, &done), KRES_DONE);
    other_end(&other);

    ck_assert_int_eq(copy(1, 1, &done), KRES_DEAD);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(kuffd_zero(uffd, at(1), PAGE_SIZE, &done), KRES_DEAD);
    ck_assert_int_eq(kuffd_poison(uffd, at(1), PAGE_SIZE, &done), KRES_DEAD);
    /* These say ENOMEM, as they do when memory is short. */
    ck_assert_int_eq(kuffd_register(uffd, pages(0, NR_PAGES), true), KRES_DEAD);
    ck_assert_int_eq(kuffd_unregister(uffd, pages(0, NR_PAGES)), KRES_DEAD);
    /* Nobody waits any more. */
    ck_assert_int_eq(kuffd_wake(uffd, pages(0, NR_PAGES)), KRES_DONE);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, only_a_userfaultfd_is_taken_for_one);
    tcase_add_test(tc, features_are_fixed_once);
    tcase_add_test(tc, nothing_to_read_is_no_error);
    tcase_add_test(tc, a_load_waits_until_its_page_is_copied);
    tcase_add_test(tc, a_store_says_that_it_is_one);
    tcase_add_test(tc, a_window_is_filled_by_one_call_and_answers_what_waits_in_it);
    tcase_add_test(tc, a_fault_that_was_read_and_lost_is_posted_again_by_wake);
    tcase_add_test(tc, a_moved_mapping_is_told_with_both_places);
    tcase_add_test(tc, a_forked_child_comes_with_its_own_userfaultfd);
    tcase_add_test(tc, every_call_tells_that_the_address_space_has_ended);
}

int main(void)
{
    return run_uffd_tests("kernel-uffd", add_tests);
}
