/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of address spaces: small, unique, and not used again at once. */
#include <check.h>
#include <stdlib.h>

#include "pgtable/pgtable.h"

static struct mm_ids *ids;
static struct mm mm[MM_MAX_ID + 1];

static void setup(void)
{
    ids = calloc(1, sizeof(*ids));
    ck_assert_ptr_nonnull(ids);
}

static void teardown(void)
{
    free(ids);
}

START_TEST(every_number_leads_to_its_mm)
{
    for (uint32_t i = 0; i < MM_MAX_ID; i++) {
        int id = mm_ids_take(ids, &mm[i]);
        ck_assert_int_ge(id, 1);
        ck_assert_int_le(id, MM_MAX_ID);
        ck_assert_ptr_eq(mm_by_id(ids, (uint32_t)id), &mm[i]);
    }
    ck_assert_int_eq(mm_ids_take(ids, &mm[MM_MAX_ID]), -ENOSPC);
    mm_ids_release(ids, 77);
    ck_assert_ptr_null(mm_by_id(ids, 77));
    ck_assert_int_eq(mm_ids_take(ids, &mm[MM_MAX_ID]), 77);
}
END_TEST

START_TEST(a_number_is_not_used_again_at_once)
{
    for (uint32_t i = 0; i < 2 * MM_MAX_ID; i++) {
        int first = mm_ids_take(ids, &mm[0]);
        mm_ids_release(ids, (uint32_t)first);
        int next = mm_ids_take(ids, &mm[1]);
        ck_assert_int_ne(first, next);
        mm_ids_release(ids, (uint32_t)next);
    }
}
END_TEST

START_TEST(a_successor_claims_the_numbers_that_it_finds)
{
    ck_assert_int_eq(mm_ids_claim(ids, &mm[0], 5), 0);
    ck_assert_int_eq(mm_ids_claim(ids, &mm[1], 5), -EBUSY);
    ck_assert_int_eq(mm_ids_claim(ids, &mm[1], 0), -EINVAL);
    ck_assert_int_eq(mm_ids_claim(ids, &mm[1], MM_MAX_ID + 1), -EINVAL);
    ck_assert_ptr_eq(mm_by_id(ids, 5), &mm[0]);
    for (uint32_t i = 1; i < MM_MAX_ID; i++)
        ck_assert_int_ne(mm_ids_take(ids, &mm[i]), 5);
    ck_assert_ptr_null(mm_by_id(ids, UINT32_MAX));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pgtable-ids");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, every_number_leads_to_its_mm);
    tcase_add_test(tc, a_number_is_not_used_again_at_once);
    tcase_add_test(tc, a_successor_claims_the_numbers_that_it_finds);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
