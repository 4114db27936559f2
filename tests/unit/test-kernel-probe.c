/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel lacks is said in one sentence with a remedy; what it has is found. */
#include <check.h>
#include <string.h>
#include <stdio.h>

#include "kernel/kernel.h"

static char said[512];

static struct kernel_features whole(void)
{
    return (struct kernel_features){
        .features = UINT64_MAX,
        .move = true,
        .wp_async = true,
        .poison = true,
        .events = true,
        .event_fork = true,
        .pagemap_scan = true,
        .release = "6.18.0",
    };
}

static void expect(const struct kernel_features *f, const char *cause, const char *remedy)
{
    ck_assert_ptr_eq(kernel_features_complaint(f, said, sizeof(said)), said);
    ck_assert_msg(strstr(said, cause) && strstr(said, remedy), "said: %s", said);
    ck_assert_ptr_null(strchr(said, '\n'));
    ck_assert_uint_lt(strlen(said), 400);
}

START_TEST(a_whole_kernel_gives_no_complaint)
{
    struct kernel_features f = whole();

    ck_assert_ptr_null(kernel_features_complaint(&f, said, sizeof(said)));
}
END_TEST

START_TEST(one_way_to_a_userfaultfd_is_enough)
{
    struct kernel_features f = whole();

    f.syscall_errno = EPERM;
    ck_assert_ptr_null(kernel_features_complaint(&f, said, sizeof(said)));
    f.syscall_errno = 0;
    f.device_errno = ENOENT;
    ck_assert_ptr_null(kernel_features_complaint(&f, said, sizeof(said)));
}
END_TEST

START_TEST(no_permission_names_both_ways_and_the_remedy)
{
    struct kernel_features f = {.syscall_errno = EPERM, .device_errno = EACCES};

    expect(&f, strerror(EPERM), "CAP_SYS_PTRACE");
    expect(&f, "/dev/userfaultfd", strerror(EACCES));
    expect(&f, "not permitted", "seccomp profile");
}
END_TEST

START_TEST(a_kernel_without_userfaultfd_is_named)
{
    struct kernel_features f = {
        .syscall_errno = ENOSYS, .device_errno = ENOENT, .release = "6.9.9"};

    expect(&f, "6.9.9", "CONFIG_USERFAULTFD");
}
END_TEST

START_TEST(each_missing_feature_is_named_with_the_version_needed)
{
    struct kernel_features f = whole();

    f.move = false;
    expect(&f, "UFFDIO_MOVE", "Linux 6.8");
    f = whole();
    f.wp_async = false;
    expect(&f, "WP_ASYNC", "Linux 6.8");
    f = whole();
    f.pagemap_scan = false;
    expect(&f, "PAGEMAP_SCAN", "Linux 6.8");
    f = whole();
    f.poison = false;
    expect(&f, "UFFDIO_POISON", "Linux 6.8");
    f = whole();
    f.events = false;
    expect(&f, "events", "Linux 6.8");
}
END_TEST

START_TEST(no_fork_events_is_a_refusal)
{
    struct kernel_features f = whole();

    f.event_fork = false;
    expect(&f, "fork events", "CAP_SYS_PTRACE");
}
END_TEST

START_TEST(the_probe_leaves_no_descriptor_open)
{
    struct kernel_features f;
    int before = dup(0), after;

    ck_assert_int_ge(before, 0);
    close(before);
    kernel_probe(&f);
    after = dup(0);
    ck_assert_int_eq(after, before);
    close(after);
    ck_assert_uint_gt(strlen(f.release), 0);
}
END_TEST

/* Whatever this kernel has: with the fail point it is missing. */
START_TEST(fail_points_take_features_away)
{
    struct kernel_features f;

    failpoint_set("probe-move");
    kernel_probe(&f);
    ck_assert(!f.move);
    failpoint_set("probe-wp-async");
    kernel_probe(&f);
    ck_assert(!f.wp_async);
    failpoint_set("probe-pagemap-scan");
    kernel_probe(&f);
    ck_assert(!f.pagemap_scan);
    failpoint_set("probe-event-fork");
    kernel_probe(&f);
    ck_assert(!f.event_fork);
    failpoint_set("probe-uffd");
    kernel_probe(&f);
    ck_assert(f.syscall_errno && f.device_errno && !f.move);
    expect(&f, "not permitted", "CAP_SYS_PTRACE");
}
END_TEST

/* A probe that says yes is kept to its word by the other kernel tests, which then run. */
START_TEST(what_is_found_can_be_asked_for)
{
    struct kernel_features f;

    kernel_probe(&f);
    if (kernel_features_complaint(&f, said, sizeof(said))) {
        printf("not checked further: %s\n", said);
        return;
    }
    int device = f.syscall_errno ? kuffd_open_device() : -1;
    int fd = kuffd_new(device);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(kuffd_api(fd, KUFFD_MAIN_FEATURES), 0);
    fd_close(fd);
    fd_close(device);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kernel-probe");
    TCase *tc = tcase_create("all");

    tcase_add_test(tc, a_whole_kernel_gives_no_complaint);
    tcase_add_test(tc, one_way_to_a_userfaultfd_is_enough);
    tcase_add_test(tc, no_permission_names_both_ways_and_the_remedy);
    tcase_add_test(tc, a_kernel_without_userfaultfd_is_named);
    tcase_add_test(tc, each_missing_feature_is_named_with_the_version_needed);
    tcase_add_test(tc, no_fork_events_is_a_refusal);
    tcase_add_test(tc, the_probe_leaves_no_descriptor_open);
    tcase_add_test(tc, fail_points_take_features_away);
    tcase_add_test(tc, what_is_found_can_be_asked_for);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
