/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose userfaultfd is it?
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "uffd_program.h"

START_TEST(a_page_that_can_never_be_written_is_told_from_all_others)
{
    char *hole = map_pages(PROT_READ), *anon = map_pages(PROT_READ | PROT_WRITE);
    _cleanup_close_ int fd = memfd_create("id", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    ck_assert_int_eq(ftruncate(fd, PAGE_SIZE), 0);
    void *writable = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
    void *readonly = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    ck_assert(writable != MAP_FAILED && readonly != MAP_FAILED);
    munmap(hole, BYTES);
    ck_assert(kuffd_finds_readonly(uffd, uaddr((uintptr_t)readonly)));
    ck_assert(!kuffd_finds_readonly(uffd, uaddr((uintptr_t)writable)));
    ck_assert(!kuffd_finds_readonly(uffd, uaddr((uintptr_t)hole)));
    ck_assert(!kuffd_finds_readonly(uffd, uaddr((uintptr_t)anon)));
    ck_assert(!kuffd_finds_readonly(uffd, uaddr((uintptr_t)mem)));
    munmap(readonly, PAGE_SIZE);
    munmap(writable, PAGE_SIZE);
    munmap(anon, BYTES);
}
END_TEST

START_TEST(what_another_userfaultfd_has_is_told_and_nothing_is_changed)
{
    struct urange r = pages(0, NR_PAGES);
    _cleanup_close_ int other = open_uffd();

    ck_assert_int_eq(kuffd_api(other, 0), 0);
    ck_assert(kuffd_finds_anothers(other, r));
    ck_assert_int_eq(kuffd_unregister(uffd, r), KRES_DONE);
    ck_assert(!kuffd_finds_anothers(other, r));
    ck_assert_int_eq(kuffd_register(uffd, r, true), KRES_DONE); /* the question left nothing behind */
}
END_TEST

/* ---- the proof ---- */

static int own_pagemap(void)
{
    int fd = kscan_open(getpid());

    ck_assert_int_ge(fd, 0);
    return fd;
}

/* How the agent's stage is registered. */
static void register_for_missing_only(void)
{
    ck_assert_int_eq(kuffd_unregister(uffd, pages(0, NR_PAGES)), KRES_DONE);
    ck_assert_int_eq(kuffd_register(uffd, pages(0, NR_PAGES), false), KRES_DONE);
}

START_TEST(a_userfaultfd_is_that_of_its_own_address_space)
{
    _cleanup_close_ int pagemap = own_pagemap();
    struct urange r = pages(0, NR_PAGES);
    uint64_t nr;

    register_for_missing_only();
    ck_assert(kuffd_is_of(uffd, pagemap, r));
    ck_assert_int_eq(kmaps_is_one(getpid(), r), 1); /* as it was: one mapping */
    ck_assert(kuffd_is_of(uffd, pagemap, r));
    ck_assert_int_eq(kscan_count_present(pagemap, r, &nr), 0);
    ck_assert_uint_eq(nr, 0);
    ck_assert_int_eq(kuffd_is_registered(uffd, at(NR_PAGES - 1)), KRES_DONE);
}
END_TEST

START_TEST(it_is_not_that_of_a_process_with_the_like_at_the_same_place)
{
    struct other_process other;
    struct urange r;

    tear_down(); /* without mappings of ours in the child a fork raises no event */
    other_start(&other);
    r = pages(0, NR_PAGES);
    ck_assert_int_eq(kuffd_api(other.uffd, main_features()), 0);
    ck_assert_int_eq(kuffd_register(other.uffd, r, false), KRES_DONE);

    /* The like of it here, registered with one of our own. */
    ck_assert_ptr_eq(mmap(mem, BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), mem);
    uffd = open_uffd();
    ck_assert_int_eq(kuffd_api(uffd, main_features()), 0);
    ck_assert_int_eq(kuffd_register(uffd, r, false), KRES_DONE);

    _cleanup_close_ int ours = own_pagemap(), theirs = kscan_open(other.pid);
    ck_assert_int_ge(theirs, 0);
    ck_assert(!kuffd_is_of(other.uffd, ours, r));
    ck_assert(!kuffd_is_of(uffd, theirs, r));
    /* All of it armed already does not help either. */
    ck_assert_int_eq(kuffd_register(uffd, r, true), KRES_DONE);
    ck_assert(!kuffd_is_of(other.uffd, ours, r));
    /* Who was asked wrongly is known all the same. */
    ck_assert(kuffd_is_of(other.uffd, theirs, r));
    fd_close(other.uffd);
    other_end(&other);
}
END_TEST

START_TEST(asked_wrongly_too_often_it_says_no)
{
    _cleanup_close_ int pagemap = own_pagemap();

    /* set_up() has armed all of it: there is no choice. */
    ck_assert(!kuffd_is_of(uffd, pagemap, pages(0, NR_PAGES)));
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, a_page_that_can_never_be_written_is_told_from_all_others);
    tcase_add_test(tc, what_another_userfaultfd_has_is_told_and_nothing_is_changed);
    tcase_add_test(tc, a_userfaultfd_is_that_of_its_own_address_space);
    tcase_add_test(tc, it_is_not_that_of_a_process_with_the_like_at_the_same_place);
    tcase_add_test(tc, asked_wrongly_too_often_it_says_no);
}

int main(void)
{
    return run_uffd_tests("kernel-match", add_tests);
}
