/* SPDX-License-Identifier: Apache-2.0 */
/* Who sends without end keeps the reactor from nobody. */
#define _GNU_SOURCE
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/worker_priv.h"

#define NEVER UINT64_MAX

static struct reactor *r;

struct end {
    struct source s;
    int other; /* what is sent here is received there */
    unsigned nr_ready, nr_bytes, most; /* most: bytes received in one call; 0: all */
    bool released, flooded;
    struct end *removes;
};

static void ready(struct source *s)
{
    struct end *e = container_of(s, struct end, s);
    char byte;

    e->nr_ready++;
    if (e->removes && !e->removes->s.dying)
        source_remove(r, &e->removes->s);
    for (unsigned n = 0; recv(s->fd, &byte, 1, MSG_DONTWAIT) == 1;) {
        e->nr_bytes++;
        if (e->flooded)
            ck_assert_int_eq(send(e->other, "", 1, 0), 1);
        if (++n == e->most) {
            source_again(r, s);
            break;
        }
    }
}

static void released(struct source *s)
{
    container_of(s, struct end, s)->released = true;
}

static void open_end(struct end *e)
{
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    *e = (struct end){.other = fds[1]};
    source_add(r, &e->s, fds[0], ready, released);
}

static void close_end(struct end *e)
{
    if (!e->s.dying)
        source_remove(r, &e->s);
    while (!e->released)
        ck_assert_int_eq(reactor_wait(r, NEVER), 0);
    close(e->s.fd);
    close(e->other);
}

static void give(struct end *e, unsigned nr)
{
    while (nr-- > 0)
        ck_assert_int_eq(send(e->other, "", 1, 0), 1);
}

static void setup(void)
{
    char why[256];

    if (worker_probe(why, sizeof(why)) < 0) {
        printf("skipped: %s\n", why);
        exit(77);
    }
    r = reactor_new();
    ck_assert_ptr_nonnull(r);
}

START_TEST(what_was_left_is_taken_without_a_sleep)
{
    struct end e;

    open_end(&e);
    e.most = 2;
    give(&e, 5);
    while (e.nr_bytes < 5) /* hangs, when it is not called again */
        ck_assert_int_eq(reactor_wait(r, NEVER), 0);
    ck_assert_uint_ge(e.nr_ready, 3);
    close_end(&e);
}
END_TEST

START_TEST(a_flood_leaves_the_others_their_turn)
{
    struct end flood, quiet;

    open_end(&flood);
    open_end(&quiet);
    flood.flooded = true;
    flood.most = 4;
    give(&flood, 1);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(reactor_wait(r, 0), 0);
    give(&quiet, 1);
    for (int i = 0; i < 10 && !quiet.nr_bytes; i++)
        ck_assert_int_eq(reactor_wait(r, 0), 0);
    ck_assert_uint_eq(quiet.nr_bytes, 1);
    ck_assert_uint_lt(flood.nr_bytes, 1000);
    close_end(&flood);
    close_end(&quiet);
}
END_TEST

START_TEST(who_is_removed_is_not_called_again)
{
    struct end a, b;

    open_end(&a);
    open_end(&b);
    a.most = b.most = 1;
    give(&a, 4);
    give(&b, 4);
    while (!a.nr_ready || !b.nr_ready)
        ck_assert_int_eq(reactor_wait(r, NEVER), 0);
    a.removes = &b; /* both are to be called again */
    unsigned a_before = a.nr_ready;
    while (a.nr_ready == a_before)
        ck_assert_int_eq(reactor_wait(r, NEVER), 0);
    unsigned b_before = b.nr_ready;
    while (!b.released)
        ck_assert_int_eq(reactor_wait(r, NEVER), 0);
    ck_assert_uint_eq(b.nr_ready, b_before);
    close_end(&b);
    close_end(&a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("reactor");
    TCase *tc = tcase_create("reactor");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, what_was_left_is_taken_without_a_sleep);
    tcase_add_test(tc, a_flood_leaves_the_others_their_turn);
    tcase_add_test(tc, who_is_removed_is_not_called_again);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
