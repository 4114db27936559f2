/* SPDX-License-Identifier: Apache-2.0 */
/* The log: one packet a line, no control characters, levels, errno kept. */
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/base.h"

/* A packet socket, so that each write(2) is seen as one message. */
static int ends[2];
static char line[4096];

static void open_log(void)
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
}

static void close_log(void)
{
    close(ends[0]);
    close(ends[1]);
}

/* The next line; false: none. */
static bool next_line(void)
{
    ssize_t n = recv(ends[0], line, sizeof(line) - 1, MSG_DONTWAIT);

    line[n < 0 ? 0 : n] = 0;
    return n > 0;
}

START_TEST(a_line_has_ident_pid_and_level)
{
    char expect[64];

    log_init("tester", LOG_LEVEL_INFO, ends[1]);
    log_info("answer %d", 42);
    snprintf(expect, sizeof(expect), "tester[%d]: info: answer 42\n", (int)getpid());
    ck_assert(next_line());
    ck_assert_str_eq(line, expect);
    ck_assert(!next_line());
}
END_TEST

START_TEST(levels_above_the_chosen_one_are_silent)
{
    log_init("t", LOG_LEVEL_WARNING, ends[1]);
    log_info("no");
    log_debug("no");
    ck_assert(!next_line());
    log_warning("yes");
    ck_assert(next_line());
    log_error("yes");
    ck_assert(next_line());
}
END_TEST

START_TEST(control_characters_cannot_forge_a_line)
{
    log_init("t", LOG_LEVEL_INFO, ends[1]);
    log_info("name '%s'", "a\nb\rc\033[2Jd\x7f");
    ck_assert(next_line());
    ck_assert_ptr_nonnull(strstr(line, "name 'a?b?c?[2Jd?'\n"));
    ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
}
END_TEST

START_TEST(a_long_line_is_cut_and_says_so)
{
    char text[3000];

    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = 0;
    log_init("t", LOG_LEVEL_INFO, ends[1]);
    log_info("%s", text);
    ck_assert(next_line());
    ck_assert_uint_le(strlen(line), 1024);
    ck_assert_str_eq(line + strlen(line) - 4, "...\n");
    ck_assert(!next_line());
}
END_TEST

/* Whoever reads it has stopped: the daemon has not. */
START_TEST(a_full_pipe_loses_lines_and_is_told)
{
    int p[2];
    char text[65536];

    ck_assert_int_eq(pipe(p), 0);
    log_init("t", LOG_LEVEL_WARNING, p[1]);
    for (int i = 0; i < 10000; i++)
        log_error("line %d", i);
    ck_assert_int_gt(read(p[0], text, sizeof(text)), 0);
    log_error("after");
    ssize_t n = read(p[0], text, sizeof(text) - 1);
    ck_assert_int_gt(n, 0);
    text[n] = 0;
    ck_assert_ptr_nonnull(strstr(text, "(lines lost: "));
    ck_assert_ptr_nonnull(strstr(text, ") after\n"));
    log_error("at last");
    n = read(p[0], text, sizeof(text) - 1);
    ck_assert_int_gt(n, 0);
    text[n] = 0;
    ck_assert_ptr_null(strstr(text, "lost"));
    close(p[0]);
    close(p[1]);
}
END_TEST

START_TEST(errno_is_kept_and_can_be_printed)
{
    log_init("t", LOG_LEVEL_INFO, ends[1]);
    errno = ENOENT;
    log_info("%m");
    ck_assert_int_eq(errno, ENOENT);
    ck_assert(next_line());
    ck_assert_ptr_nonnull(strstr(line, strerror(ENOENT)));

    log_init("t", LOG_LEVEL_INFO, -1); /* cannot be written */
    errno = EXDEV;
    log_info("lost");
    ck_assert_int_eq(errno, EXDEV);
}
END_TEST

START_TEST(levels_have_names)
{
    enum log_level level = LOG_LEVEL_ERROR;

    ck_assert_int_eq(log_level_by_name("debug", &level), 0);
    ck_assert_int_eq(level, LOG_LEVEL_DEBUG);
    ck_assert_int_eq(log_level_by_name("loud", &level), -EINVAL);
    ck_assert_int_eq(level, LOG_LEVEL_DEBUG);
}
END_TEST

START_TEST(the_rate_limit_lets_five_through)
{
    struct log_ratelimit rl = {0};
    int passed = 0;

    for (int i = 0; i < 100; i++)
        passed += log_ratelimit(&rl);
    ck_assert_int_eq(passed, 5);
    rl.window_ns -= (uint64_t)6 * 1000000000; /* six seconds later */
    ck_assert(log_ratelimit(&rl));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base-log");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, open_log, close_log);
    tcase_add_test(tc, a_line_has_ident_pid_and_level);
    tcase_add_test(tc, levels_above_the_chosen_one_are_silent);
    tcase_add_test(tc, control_characters_cannot_forge_a_line);
    tcase_add_test(tc, a_long_line_is_cut_and_says_so);
    tcase_add_test(tc, a_full_pipe_loses_lines_and_is_told);
    tcase_add_test(tc, errno_is_kept_and_can_be_printed);
    tcase_add_test(tc, levels_have_names);
    tcase_add_test(tc, the_rate_limit_lets_five_through);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
