/* SPDX-License-Identifier: Apache-2.0 */
/* Memfds keep their size; the shared futex wakes who waits. */
#define _GNU_SOURCE
#include <check.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kernel/kernel.h"

START_TEST(a_sealed_memfd_cannot_be_resized_by_anyone)
{
    int fd = kmemfd_sealed("test", 5 * PAGE_SIZE);
    struct stat st;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_eq(st.st_size, 5 * PAGE_SIZE);
    ck_assert_int_eq(ftruncate(fd, 4 * PAGE_SIZE), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(ftruncate(fd, 6 * PAGE_SIZE), -1);
    ck_assert_int_eq(errno, EPERM);
    /* Nor can a client add a seal that stops the other side from writing. */
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    void *p = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(p, MAP_FAILED);
    close(fd);
}
END_TEST

START_TEST(a_sparse_memfd_takes_memory_only_where_written_and_gives_it_back)
{
    int fd = kmemfd_sparse("test", (uint64_t)1 << 40);
    struct stat st;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_eq(st.st_size, (off_t)1 << 40);
    ck_assert_int_eq(st.st_blocks, 0);
    ck_assert_int_eq(pwrite(fd, "x", 1, (off_t)1 << 39), 1);
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_gt(st.st_blocks, 0);
    ck_assert_int_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)1 << 39,
                               2 << 20),
                     0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_eq(st.st_blocks, 0);
    close(fd);
}
END_TEST

START_TEST(a_size_beyond_any_file_is_refused)
{
    ck_assert_int_lt(kmemfd_sealed("test", UINT64_MAX), 0);
    ck_assert_int_lt(kmemfd_sparse("test", UINT64_MAX), 0);
}
END_TEST

START_TEST(a_waiter_in_another_process_is_woken)
{
    _Atomic uint32_t *word =
        mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int woken = 0, status;

    ck_assert_ptr_ne(word, MAP_FAILED);
    ck_assert_int_eq(kfutex_wake_shared(word), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        _exit(syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0) == 0 ? 0 : 1);
    /* The value does not change, so nothing but our call ends the wait. */
    for (int i = 0; i < 5000 && woken == 0; i++) {
        woken = kfutex_wake_shared(word);
        if (!woken)
            poll(NULL, 0, 1);
    }
    ck_assert_int_eq(woken, 1);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kernel-memfd");
    TCase *tc = tcase_create("all");

    tcase_add_test(tc, a_sealed_memfd_cannot_be_resized_by_anyone);
    tcase_add_test(tc, a_sparse_memfd_takes_memory_only_where_written_and_gives_it_back);
    tcase_add_test(tc, a_size_beyond_any_file_is_refused);
    tcase_add_test(tc, a_waiter_in_another_process_is_woken);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
