/* SPDX-License-Identifier: Apache-2.0 */
/* A turn that takes a second says so, and whether it worked or waited; others say nothing. */
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/base.h"

#define LONG_NS 1500000000u

static int ends[2];

static bool said(const char *what)
{
    char line[1024];
    ssize_t n = recv(ends[0], line, sizeof(line) - 1, MSG_DONTWAIT);

    line[n < 0 ? 0 : n] = 0;
    return n > 0 && strstr(line, what);
}

START_TEST(a_slow_turn_is_logged_and_others_are_not)
{
    struct turn turn = {0};

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    log_init("t", LOG_LEVEL_WARNING, ends[1]);
    turn_end(&turn); /* none has begun */
    turn_begin(&turn, UINT64_MAX);
    turn_end(&turn);
    ck_assert(!said(""));
    turn_begin(&turn, UINT64_MAX);
    turn.began_ns -= LONG_NS;
    turn_end(&turn);
    ck_assert(said("a turn took 1."));
    /* What lies between two turns is sleep, and in a loop that does not sleep there is none. */
    turn_begin(&turn, UINT64_MAX);
    turn_end(&turn);
    ck_assert(!said(""));
    /* It was to wake that long ago. */
    turn.ended_ns -= 2 * (uint64_t)LONG_NS;
    turn_begin(&turn, now_ns() - LONG_NS);
    turn_end(&turn);
    ck_assert(said("a turn took 1."));
    /* A loop that is always late has worked since its last turn, no longer. */
    turn_begin(&turn, 0);
    turn_end(&turn);
    ck_assert(!said(""));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base-turn");
    TCase *tc = tcase_create("all");

    tcase_add_test(tc, a_slow_turn_is_logged_and_others_are_not);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
