/* SPDX-License-Identifier: Apache-2.0 */
/* Lists keep their order, can be emptied while walked, and know when an entry is on none. */
#include <check.h>

#include "base/base.h"

struct item {
    int value;
    struct list link;
};

static void fill(struct list *head, struct item *items, int nr)
{
    list_init(head);
    for (int i = 0; i < nr; i++) {
        items[i].value = i;
        list_add_tail(&items[i].link, head);
    }
}

START_TEST(a_new_list_is_empty)
{
    struct list head;
    struct item *it;

    list_init(&head);
    ck_assert(list_empty(&head));
    list_for_each_entry(it, &head, link)
        ck_abort_msg("an empty list has no entries");
}
END_TEST

START_TEST(add_tail_keeps_order_and_add_puts_first)
{
    struct item items[3], first = {.value = -1}, *it;
    struct list head;
    int expect = -1;

    fill(&head, items, 3);
    list_add(&first.link, &head);
    list_for_each_entry(it, &head, link)
        ck_assert_int_eq(it->value, expect++);
    ck_assert_int_eq(expect, 3);
    ck_assert_ptr_eq(list_first_entry(&head, struct item, link), &first);
    ck_assert_ptr_eq(list_last_entry(&head, struct item, link), &items[2]);
}
END_TEST

START_TEST(a_deleted_entry_is_on_no_list)
{
    struct item items[3], *it;
    struct list head;
    int seen = 0;

    fill(&head, items, 3);
    list_del(&items[1].link);
    ck_assert(list_empty(&items[1].link));
    list_for_each_entry(it, &head, link)
        seen += 1 << it->value;
    ck_assert_int_eq(seen, 1 << 0 | 1 << 2);
    list_del(&items[1].link); /* harmless */
    ck_assert(!list_empty(&head));
}
END_TEST

START_TEST(the_safe_walk_survives_deletion_of_each_entry)
{
    struct item items[4], *it, *next;
    struct list head;
    int seen = 0;

    fill(&head, items, 4);
    list_for_each_entry_safe(it, next, &head, link) {
        list_del(&it->link);
        seen++;
    }
    ck_assert_int_eq(seen, 4);
    ck_assert(list_empty(&head));
}
END_TEST

START_TEST(splicing_moves_all_to_the_tail_in_order)
{
    struct item a[2], b[2], *it;
    struct list to, from;
    int i = 0;
    struct item *expect[] = {&a[0], &a[1], &b[0], &b[1]};

    fill(&to, a, 2);
    fill(&from, b, 2);
    list_splice_tail(&from, &to);
    ck_assert(list_empty(&from));
    list_for_each_entry(it, &to, link)
        ck_assert_ptr_eq(it, expect[i++]);
    ck_assert_int_eq(i, 4);
    list_splice_tail(&from, &to); /* nothing to move */
    ck_assert_ptr_eq(list_last_entry(&to, struct item, link), &b[1]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base-list");
    TCase *tc = tcase_create("all");

    tcase_add_test(tc, a_new_list_is_empty);
    tcase_add_test(tc, add_tail_keeps_order_and_add_puts_first);
    tcase_add_test(tc, a_deleted_entry_is_on_no_list);
    tcase_add_test(tc, the_safe_walk_survives_deletion_of_each_entry);
    tcase_add_test(tc, splicing_moves_all_to_the_tail_in_order);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
