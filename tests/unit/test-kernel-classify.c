/* SPDX-License-Identifier: Apache-2.0 */
/* What each errno of each userfaultfd call means, and how its messages are read. */
#include <check.h>
#include <string.h>

#include "kernel/kernel.h"
#include "kernel/uapi.h"

/* Rows: errno; columns: REGISTER UNREGISTER COPY ZERO WAKE POISON. */
#define D KRES_DONE
#define R KRES_RETRY
#define X KRES_RACED
#define G KRES_GONE
#define E KRES_DEAD
#define F KRES_FATAL
static const struct {
    int err;
    enum kres means[NR_KUFFD_OPS];
} rows[] = {
    {0, {D, D, D, D, D, D}},      {EAGAIN, {R, R, R, R, R, R}}, {EINTR, {R, R, R, R, R, R}},
    {ENOMEM, {R, R, R, R, R, R}}, {EEXIST, {X, X, X, X, X, X}}, {ENOENT, {G, G, G, G, G, G}},
    {ESRCH, {E, E, E, E, E, E}},  {EINVAL, {G, G, F, F, F, F}}, {EPERM, {G, G, F, F, F, F}},
    {EBUSY, {G, G, F, F, F, F}},  {EFAULT, {F, F, F, F, F, F}}, {EBADF, {F, F, F, F, F, F}},
    {ENOTTY, {F, F, F, F, F, F}},
};

START_TEST(the_table_holds_for_each_call)
{
    for (unsigned op = 0; op < NR_KUFFD_OPS; op++)
        ck_assert_msg(kres_classify((enum kuffd_op)op, rows[_i].err) == rows[_i].means[op],
                      "op %u, errno %d: %s", op, rows[_i].err,
                      kres_name(kres_classify((enum kuffd_op)op, rows[_i].err)));
}
END_TEST

START_TEST(no_errno_but_zero_is_done)
{
    for (int err = 1; err < 200; err++)
        for (unsigned op = 0; op < NR_KUFFD_OPS; op++)
            ck_assert_int_ne(kres_classify((enum kuffd_op)op, err), KRES_DONE);
}
END_TEST

START_TEST(a_fault_is_read_as_its_page_and_kind)
{
    struct uffd_msg raw = {.event = UFFD_EVENT_PAGEFAULT};
    struct kuffd_msg m;

    raw.arg.pagefault.address = 0x7f0000001234;
    ck_assert_int_eq(kuffd_decode(&raw, &m), 0);
    ck_assert_int_eq(m.type, KUFFD_FAULT);
    ck_assert_uint_eq(m.addr.v, 0x7f0000001000);
    ck_assert(!m.write);
    ck_assert_int_eq(m.fd, -1);
    raw.arg.pagefault.flags = UFFD_PAGEFAULT_FLAG_WRITE;
    ck_assert_int_eq(kuffd_decode(&raw, &m), 0);
    ck_assert(m.write);
}
END_TEST

START_TEST(events_are_read_with_their_ranges)
{
    struct uffd_msg raw = {.event = UFFD_EVENT_REMAP};
    struct kuffd_msg m;

    raw.arg.remap.from = 0x1000;
    raw.arg.remap.to = 0x9000;
    raw.arg.remap.len = 0x3000;
    ck_assert_int_eq(kuffd_decode(&raw, &m), 0);
    ck_assert_int_eq(m.type, KUFFD_REMAP);
    ck_assert_uint_eq(m.from.v, 0x1000);
    ck_assert_uint_eq(m.to.v, 0x9000);
    ck_assert_uint_eq(m.len, 0x3000);

    for (int i = 0; i < 2; i++) {
        raw = (struct uffd_msg){.event = i ? UFFD_EVENT_UNMAP : UFFD_EVENT_REMOVE};
        raw.arg.remove.start = 0x2000;
        raw.arg.remove.end = 0x5000;
        ck_assert_int_eq(kuffd_decode(&raw, &m), 0);
        ck_assert_int_eq(m.type, i ? KUFFD_UNMAP : KUFFD_REMOVE);
        ck_assert_uint_eq(m.range.start.v, 0x2000);
        ck_assert_uint_eq(m.range.len, 0x3000);
        ck_assert_int_eq(m.fd, -1);
    }

    raw = (struct uffd_msg){.event = UFFD_EVENT_FORK};
    raw.arg.fork.ufd = 17;
    ck_assert_int_eq(kuffd_decode(&raw, &m), 0);
    ck_assert_int_eq(m.type, KUFFD_FORK);
    ck_assert_int_eq(m.fd, 17);
}
END_TEST

START_TEST(an_unknown_event_is_refused)
{
    struct uffd_msg raw = {.event = 0x42};
    struct kuffd_msg m;

    ck_assert_int_eq(kuffd_decode(&raw, &m), -EPROTO);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kernel-classify");
    TCase *tc = tcase_create("all");

    tcase_add_loop_test(tc, the_table_holds_for_each_call, 0, ARRAY_SIZE(rows));
    tcase_add_test(tc, no_errno_but_zero_is_done);
    tcase_add_test(tc, a_fault_is_read_as_its_page_and_kind);
    tcase_add_test(tc, events_are_read_with_their_ranges);
    tcase_add_test(tc, an_unknown_event_is_refused);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
