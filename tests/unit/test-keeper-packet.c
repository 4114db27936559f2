/* SPDX-License-Identifier: Apache-2.0 */
/* The shapes that the keeper takes from peers, and all those that it does not. */
#include <check.h>
#include <string.h>

#include "keeper/keeper_priv.h"

static struct proto_hello hello(void)
{
    struct proto_hello h;

    packet_head(&h.head, PROTO_HELLO);
    return h;
}

static struct proto_attach attach(void)
{
    struct proto_attach a = {.agent_pid = 2, .program_pid = 1};

    packet_head(&a.head, PROTO_ATTACH);
    return a;
}

START_TEST(brace_is_control)
{
    ck_assert_int_eq(packet_first("{", 1, 1), PACKET_CONTROL);
    ck_assert_int_eq(packet_first("{\"cmd\":", 7, 60000), PACKET_CONTROL);
}
END_TEST

START_TEST(hello_is_hello)
{
    struct proto_hello h = hello();

    ck_assert_int_eq(packet_first(&h, sizeof(h), sizeof(h)), PACKET_HELLO);
}
END_TEST

START_TEST(every_wrong_length_of_hello_is_garbage)
{
    struct proto_hello h = hello();

    for (size_t len = 0; len < sizeof(h); len++)
        ck_assert_int_eq(packet_first(&h, len, len), PACKET_GARBAGE);
    ck_assert_int_eq(packet_first(&h, sizeof(h), sizeof(h) + 1), PACKET_GARBAGE);
    ck_assert_int_eq(packet_first(&h, sizeof(h), (size_t)1 << 20), PACKET_GARBAGE);
}
END_TEST

START_TEST(every_wrong_bit_of_hello_is_told_apart)
{
    for (unsigned bit = 0; bit < 8 * sizeof(struct proto_head); bit++) {
        struct proto_hello h = hello();
        enum packet_first want = PACKET_GARBAGE;

        ((unsigned char *)&h)[bit / 8] ^= (unsigned char)(1 << bit % 8);
        if (h.head.version != PROTO_VERSION)
            want = PACKET_OTHER_VERSION;
        ck_assert_int_eq(packet_first(&h, sizeof(h), sizeof(h)), want);
    }
}
END_TEST

START_TEST(another_version_may_have_another_length)
{
    struct proto_hello h = hello();

    h.head.version = PROTO_VERSION + 1;
    ck_assert_int_eq(packet_first(&h, sizeof(h), 4000), PACKET_OTHER_VERSION);
}
END_TEST

START_TEST(attach_is_attach)
{
    struct proto_attach a = attach();

    ck_assert_int_eq(packet_attach(&a, sizeof(a)), 0);
    memset(a.group, 'x', sizeof(a.group) - 1);
    ck_assert_int_eq(packet_attach(&a, sizeof(a)), 0);
}
END_TEST

START_TEST(attach_of_wrong_length_head_or_group_is_refused)
{
    struct proto_attach a = attach();

    ck_assert_int_eq(packet_attach(&a, sizeof(a) - 1), -EPROTO);
    ck_assert_int_eq(packet_attach(&a, sizeof(a) + 1), -EPROTO);
    ck_assert_int_eq(packet_attach(&a, 1), -EPROTO);
    for (unsigned bit = 0; bit < 8 * sizeof(struct proto_head); bit++) {
        a = attach();
        ((unsigned char *)&a)[bit / 8] ^= (unsigned char)(1 << bit % 8);
        ck_assert_int_eq(packet_attach(&a, sizeof(a)), -EPROTO);
    }
    a = attach();
    memset(a.group, 'x', sizeof(a.group));
    ck_assert_int_eq(packet_attach(&a, sizeof(a)), -EPROTO);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("keeper packet");
    TCase *t = tcase_create("packet");
    SRunner *r;
    int failed;

    tcase_add_test(t, brace_is_control);
    tcase_add_test(t, hello_is_hello);
    tcase_add_test(t, every_wrong_length_of_hello_is_garbage);
    tcase_add_test(t, every_wrong_bit_of_hello_is_told_apart);
    tcase_add_test(t, another_version_may_have_another_length);
    tcase_add_test(t, attach_is_attach);
    tcase_add_test(t, attach_of_wrong_length_head_or_group_is_refused);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
