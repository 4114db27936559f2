/* SPDX-License-Identifier: Apache-2.0 */
/* The reverse map: first and further references, in any order, until the pool is empty. */
#include <check.h>
#include <signal.h>
#include <stdio.h>

#include "rmap/rmap.h"

#define NR_FRAMES 16

static struct rmap *rmap;

static void setup(void)
{
    rmap = rmap_new(NR_FRAMES);
    ck_assert_ptr_nonnull(rmap);
}

static void teardown(void)
{
    rmap_free(rmap);
}

static struct rmap_entry entry(uint32_t mm)
{
    return (struct rmap_entry){mm, uaddr(0x7f0000000000 + mm * PAGE_SIZE)};
}

/* Does frame n have exactly the references of mms in the mask? */
static void check_refs(uint32_t n, uint64_t mask)
{
    struct rmap_entry out[64];
    uint32_t nr = rmap_walk(rmap, (struct pfn){n}, out, ARRAY_SIZE(out));
    uint64_t got = 0;

    ck_assert_uint_eq(nr, bitmap_count(&mask, 64));
    for (uint32_t i = 0; i < nr; i++) {
        ck_assert_uint_eq(out[i].addr.v, entry(out[i].mm).addr.v);
        got |= (uint64_t)1 << out[i].mm;
    }
    ck_assert_uint_eq(got, mask);
}

START_TEST(a_frame_starts_without_references)
{
    for (uint32_t n = 0; n < NR_FRAMES; n++)
        check_refs(n, 0);
}
END_TEST

START_TEST(references_go_in_any_order)
{
    static const uint32_t orders[][4] = {{1, 2, 3, 4}, {4, 3, 2, 1}, {2, 4, 1, 3}, {3, 1, 4, 2}};

    for (size_t o = 0; o < ARRAY_SIZE(orders); o++) {
        uint64_t mask = 0;
        for (uint32_t mm = 1; mm <= 4; mm++) {
            ck_assert_int_eq(rmap_add(rmap, (struct pfn){5}, entry(mm)), 0);
            mask |= (uint64_t)1 << mm;
            check_refs(5, mask);
        }
        for (uint32_t i = 0; i < 4; i++) {
            rmap_remove(rmap, (struct pfn){5}, entry(orders[o][i]));
            mask &= ~((uint64_t)1 << orders[o][i]);
            check_refs(5, mask);
        }
        check_refs(4, 0);
        check_refs(6, 0);
    }
}
END_TEST

START_TEST(one_mm_may_name_a_frame_at_two_addresses)
{
    struct rmap_entry low = {1, uaddr(0x1000)}, high = {1, uaddr(0x2000)}, out[2];

    ck_assert_int_eq(rmap_add(rmap, (struct pfn){0}, low), 0);
    ck_assert_int_eq(rmap_add(rmap, (struct pfn){0}, high), 0);
    rmap_remove(rmap, (struct pfn){0}, low);
    ck_assert_uint_eq(rmap_walk(rmap, (struct pfn){0}, out, 2), 1);
    ck_assert_uint_eq(out[0].addr.v, high.addr.v);
}
END_TEST

START_TEST(a_walk_copies_no_more_than_it_may_and_tells_all)
{
    struct rmap_entry out[3] = {{0}, {0}, {99, uaddr(0)}};

    for (uint32_t mm = 1; mm <= 5; mm++)
        ck_assert_int_eq(rmap_add(rmap, (struct pfn){3}, entry(mm)), 0);
    ck_assert_uint_eq(rmap_walk(rmap, (struct pfn){3}, out, 2), 5);
    ck_assert(out[0].mm && out[1].mm);
    ck_assert_uint_eq(out[2].mm, 99);
    ck_assert_uint_eq(rmap_walk(rmap, (struct pfn){3}, NULL, 0), 5);
}
END_TEST

START_TEST(an_empty_pool_refuses_further_references_but_never_a_first_one)
{
    uint32_t nr = 1;

    ck_assert_int_eq(rmap_add(rmap, (struct pfn){0}, entry(1)), 0);
    while (rmap_add(rmap, (struct pfn){0}, (struct rmap_entry){2, uaddr(nr * PAGE_SIZE)}) == 0)
        nr++;
    ck_assert_uint_ge(nr, 200 * NR_FRAMES); /* hundreds of children of one program */
    ck_assert_uint_eq(rmap_walk(rmap, (struct pfn){0}, NULL, 0), nr);
    ck_assert_int_eq(rmap_add(rmap, (struct pfn){0}, entry(9)), -ENOMEM);
    for (uint32_t n = 1; n < NR_FRAMES; n++) {
        ck_assert_int_eq(rmap_add(rmap, (struct pfn){n}, entry(3)), 0);
        ck_assert_int_eq(rmap_add(rmap, (struct pfn){n}, entry(4)), -ENOMEM);
        check_refs(n, 1u << 3);
    }
    /* One that goes makes room for one. */
    rmap_remove(rmap, (struct pfn){0}, entry(1));
    ck_assert_int_eq(rmap_add(rmap, (struct pfn){7}, entry(4)), 0);
    check_refs(7, 1u << 3 | 1u << 4);
    ck_assert_int_eq(rmap_add(rmap, (struct pfn){8}, entry(4)), -ENOMEM);
    ck_assert_uint_eq(rmap_walk(rmap, (struct pfn){0}, NULL, 0), nr - 1);
}
END_TEST

START_TEST(places_are_used_again)
{
    for (uint32_t round = 0; round < 50 * NR_FRAMES; round++) {
        struct pfn pfn = {round % NR_FRAMES};
        for (uint32_t mm = 1; mm <= 3; mm++)
            ck_assert_int_eq(rmap_add(rmap, pfn, entry(mm)), 0);
        for (uint32_t mm = 1; mm <= 3; mm++)
            rmap_remove(rmap, pfn, entry(1 + (mm + round) % 3));
        check_refs(pfn.n, 0);
    }
}
END_TEST

static uint64_t resident_pages(void)
{
    unsigned long long size, resident;
    FILE *f = fopen("/proc/self/statm", "r");

    ck_assert(f && fscanf(f, "%llu %llu", &size, &resident) == 2);
    fclose(f);
    return resident;
}

START_TEST(without_references_the_memory_of_the_most_there_were_goes_back)
{
    const uint32_t nr = 1 << 18, nr_pages = nr / (PAGE_SIZE / 16);
    struct rmap *large = rmap_new(nr);
    struct rmap_entry got;

    ck_assert_ptr_nonnull(large);
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < nr; i++)
            for (uint32_t k = 1; k <= 2; k++)
                ck_assert_int_eq(rmap_add(large, (struct pfn){i}, entry(k)), 0);
        uint64_t full = resident_pages();
        for (uint32_t i = 0; i < nr; i++)
            for (uint32_t k = 1; k <= 2; k++)
                rmap_remove(large, (struct pfn){i}, entry(k));
        rmap_reset(large);
        ck_assert_uint_le(resident_pages() + nr_pages, full); /* of two such arrays; the rest is noise */
        for (uint32_t i = 0; i < nr; i++)
            ck_assert_uint_eq(rmap_walk(large, (struct pfn){i}, &got, 1), 0);
    }
    rmap_free(large);
}
END_TEST

START_TEST(a_map_of_no_frames_can_be_made)
{
    struct rmap *none = rmap_new(0);

    ck_assert_ptr_nonnull(none);
    rmap_free(none);
    rmap_free(NULL);
}
END_TEST

START_TEST(removing_what_is_not_there_is_a_bug)
{
    ck_assert_int_eq(rmap_add(rmap, (struct pfn){0}, entry(1)), 0);
    rmap_remove(rmap, (struct pfn){0}, entry(2));
}
END_TEST

START_TEST(removing_from_a_frame_without_references_is_a_bug)
{
    rmap_remove(rmap, (struct pfn){1}, entry(1));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rmap");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_frame_starts_without_references);
    tcase_add_test(tc, references_go_in_any_order);
    tcase_add_test(tc, one_mm_may_name_a_frame_at_two_addresses);
    tcase_add_test(tc, a_walk_copies_no_more_than_it_may_and_tells_all);
    tcase_add_test(tc, an_empty_pool_refuses_further_references_but_never_a_first_one);
    tcase_add_test(tc, places_are_used_again);
    tcase_add_test(tc, without_references_the_memory_of_the_most_there_were_goes_back);
    tcase_add_test(tc, a_map_of_no_frames_can_be_made);
    tcase_add_test_raise_signal(tc, removing_what_is_not_there_is_a_bug, SIGABRT);
    tcase_add_test_raise_signal(tc, removing_from_a_frame_without_references_is_a_bug, SIGABRT);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
