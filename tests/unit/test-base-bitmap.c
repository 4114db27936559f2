/* SPDX-License-Identifier: Apache-2.0 */
/* Bitmaps: searches agree with a bit-by-bit look, and bits behind the end do not count. */
#include <check.h>
#include <string.h>

#include "base/base.h"

#define NR_BITS 200

static size_t look(const uint64_t *map, size_t nr, size_t from, bool value)
{
    while (from < nr && bitmap_test(map, from) != value)
        from++;
    return MIN(from, nr);
}

START_TEST(set_clear_and_test_touch_one_bit)
{
    uint64_t map[BITMAP_WORDS(NR_BITS)] = {0};

    bitmap_set(map, 63);
    bitmap_set(map, 64);
    ck_assert(bitmap_test(map, 63) && bitmap_test(map, 64));
    ck_assert(!bitmap_test(map, 62) && !bitmap_test(map, 65));
    bitmap_clear(map, 63);
    ck_assert(!bitmap_test(map, 63) && bitmap_test(map, 64));
    ck_assert_uint_eq(bitmap_count(map, NR_BITS), 1);
}
END_TEST

START_TEST(searches_agree_with_a_bit_by_bit_look)
{
    uint64_t map[BITMAP_WORDS(NR_BITS)] = {0};
    size_t count = 0;

    for (size_t i = 0; i < NR_BITS; i++)
        if (i * i % 7 == 2 || (i > 70 && i < 140)) {
            bitmap_set(map, i);
            count++;
        }
    ck_assert_uint_eq(bitmap_count(map, NR_BITS), count);
    for (size_t nr = 0; nr <= NR_BITS; nr++)
        for (size_t from = 0; from <= nr; from++) {
            ck_assert_uint_eq(bitmap_find_next_set(map, nr, from), look(map, nr, from, true));
            ck_assert_uint_eq(bitmap_find_next_zero(map, nr, from), look(map, nr, from, false));
        }
}
END_TEST

START_TEST(bits_behind_the_end_do_not_count)
{
    uint64_t full[2] = {UINT64_MAX, UINT64_MAX}, none[2] = {0, 0};

    ck_assert_uint_eq(bitmap_find_next_zero(full, 70, 0), 70);
    ck_assert_uint_eq(bitmap_find_next_set(none, 70, 0), 70);
    ck_assert_uint_eq(bitmap_count(full, 70), 70);
    ck_assert_uint_eq(bitmap_count(full, 64), 64);
    ck_assert_uint_eq(bitmap_count(full, 0), 0);
    ck_assert_uint_eq(bitmap_find_next_set(full, 70, 70), 70);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base-bitmap");
    TCase *tc = tcase_create("all");

    tcase_add_test(tc, set_clear_and_test_touch_one_bit);
    tcase_add_test(tc, searches_agree_with_a_bit_by_bit_look);
    tcase_add_test(tc, bits_behind_the_end_do_not_count);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
