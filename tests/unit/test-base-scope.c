/* SPDX-License-Identifier: Apache-2.0 */
/* Scope clean-up closes and frees exactly once; a broken invariant ends the process. */
#include <check.h>
#include <fcntl.h>
#include <signal.h>

#include "base/base.h"

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int open_and_leave(bool take)
{
    _cleanup_close_ int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int number = fd;

    ck_assert_int_ge(fd, 0);
    if (take)
        return TAKE_FD(fd);
    return number;
}

START_TEST(a_descriptor_is_closed_with_its_scope_unless_taken)
{
    int fd = open_and_leave(false);

    ck_assert(!is_open(fd));
    fd = open_and_leave(true);
    ck_assert(is_open(fd));
    fd = fd_close(fd);
    ck_assert_int_eq(fd, -1);
}
END_TEST

START_TEST(closing_keeps_errno_and_ignores_no_descriptor)
{
    errno = EXDEV;
    fd_close(-1);
    fd_close(-EPERM);
    fd_close(1000000); /* not open: EBADF is not told */
    ck_assert_int_eq(errno, EXDEV);
}
END_TEST

START_TEST(memory_is_freed_with_its_scope_unless_taken)
{
    char *kept;

    /* What goes wrong here is for AddressSanitizer to say: a leak, or a second free. */
    {
        _cleanup_free_ char *dropped = malloc(10), *taken = malloc(10);
        ck_assert_ptr_nonnull(dropped);
        kept = TAKE_PTR(taken);
        ck_assert_ptr_null(taken);
    }
    ck_assert_ptr_nonnull(kept);
    free(kept);
}
END_TEST

START_TEST(min_max_and_clamp_evaluate_once)
{
    int n = 0;

    ck_assert_int_eq(MIN(n++, 5), 0);
    ck_assert_int_eq(MAX(n++, 0), 1);
    ck_assert_int_eq(n, 2);
    ck_assert_int_eq(CLAMP(7, 1, 5), 5);
    ck_assert_int_eq(CLAMP(-7, 1, 5), 1);
    ck_assert_int_eq(CLAMP(3, 1, 5), 3);
}
END_TEST

START_TEST(a_broken_invariant_aborts)
{
    log_init("t", LOG_LEVEL_ERROR, -1);
    BUG_ON(1 + 1 == 2);
}
END_TEST

START_TEST(the_clock_does_not_go_back)
{
    uint64_t before = now_ns();

    ck_assert_uint_gt(before, 0);
    ck_assert_uint_ge(now_ns(), before);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base-scope");
    TCase *tc = tcase_create("all");

    tcase_add_test(tc, a_descriptor_is_closed_with_its_scope_unless_taken);
    tcase_add_test(tc, closing_keeps_errno_and_ignores_no_descriptor);
    tcase_add_test(tc, memory_is_freed_with_its_scope_unless_taken);
    tcase_add_test(tc, min_max_and_clamp_evaluate_once);
    tcase_add_test_raise_signal(tc, a_broken_invariant_aborts, SIGABRT);
    tcase_add_test(tc, the_clock_does_not_go_back);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
