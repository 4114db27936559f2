/* SPDX-License-Identifier: Apache-2.0 */
/* The buddy allocator: orders 0 to 9, splitting, joining, claims, and a model. */
#include <check.h>
#include <signal.h>
#include <string.h>

#include "frame/frame.h"

#define NR_BLOCKS 4
#define NR_FRAMES (NR_BLOCKS * PAGEBLOCK_FRAMES)

static struct frame_pool *pool;
static uint64_t seed;

static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

static void setup(void)
{
    pool = frame_pool_new(NR_FRAMES);
    ck_assert_ptr_nonnull(pool);
    seed = 5;
}

static void teardown(void)
{
    frame_pool_free(pool);
}

static struct frame_count checked(void)
{
    struct frame_count c;
    const char *wrong = frame_check(pool, &c);

    ck_assert_msg(!wrong, "%s", wrong);
    ck_assert_uint_eq(c.total, NR_FRAMES);
    ck_assert_uint_eq(c.total, c.free + c.allocated);
    ck_assert_uint_eq(c.allocated, c.referenced + c.cached);
    ck_assert_uint_eq(c.free, frame_nr_free(pool));
    return c;
}

static void all_is_free_and_joined(void)
{
    ck_assert_uint_eq(checked().free, NR_FRAMES);
    for (unsigned order = 0; order < FRAME_MAX_ORDER; order++)
        ck_assert_uint_eq(frame_nr_blocks(pool, order), 0);
    ck_assert_uint_eq(frame_nr_blocks(pool, FRAME_MAX_ORDER), NR_BLOCKS);
}

static struct pfn alloc(uint32_t max, uint32_t want_nr)
{
    struct pfn first;
    uint32_t nr;

    ck_assert_int_eq(frame_alloc_run(pool, max, &first, &nr), 0);
    ck_assert_uint_eq(nr, want_nr);
    return first;
}

static void free_run(struct pfn first, uint32_t nr)
{
    for (uint32_t i = 0; i < nr; i++)
        frame_free(pool, (struct pfn){first.n + i});
}

START_TEST(a_new_pool_is_whole_pageblocks)
{
    all_is_free_and_joined();
    ck_assert_uint_eq(frame_nr_total(pool), NR_FRAMES);
}
END_TEST

START_TEST(each_order_is_split_off_aligned_and_joined_again)
{
    for (unsigned order = 0; order <= FRAME_MAX_ORDER; order++) {
        uint32_t size = 1u << order;
        struct pfn first = alloc(size, size);

        ck_assert_uint_eq(first.n % size, 0);
        ck_assert_uint_eq(checked().cached, size);
        /* One half at every order from there up is what a split leaves. */
        for (unsigned k = 0; k < FRAME_MAX_ORDER; k++)
            ck_assert_uint_eq(frame_nr_blocks(pool, k), k >= order);
        for (uint32_t i = 0; i < size; i++) {
            ck_assert(frame_is_allocated(pool, (struct pfn){first.n + i}));
            ck_assert_uint_eq(frame_refs(pool, (struct pfn){first.n + i}), 0);
        }
        free_run(first, size);
        all_is_free_and_joined();
    }
}
END_TEST

START_TEST(a_run_is_the_largest_power_of_two_that_was_asked_for)
{
    static const struct {
        uint32_t max, nr;
    } asked[] = {{1, 1},     {2, 2},     {3, 2},     {5, 4},       {31, 16},
                 {511, 256}, {512, 512}, {513, 512}, {100000, 512}};

    for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
        struct pfn first = alloc(asked[i].max, asked[i].nr);
        checked();
        free_run(first, asked[i].nr);
    }
    all_is_free_and_joined();
}
END_TEST

START_TEST(a_run_is_shorter_where_no_long_one_is_left)
{
    uint32_t nr_got = 0;

    /* Every fourth frame taken: what is left are runs of two and one. */
    for (uint32_t n = 0; n < NR_FRAMES; n += 4)
        ck_assert_int_eq(frame_claim(pool, (struct pfn){n}), 0);
    checked();
    for (;;) {
        struct pfn first;
        uint32_t nr;
        int r = frame_alloc_run(pool, 512, &first, &nr);
        if (r < 0) {
            ck_assert_int_eq(r, -ENOMEM);
            break;
        }
        ck_assert_uint_eq(nr, nr_got < NR_FRAMES / 2 ? 2 : 1);
        nr_got += nr;
    }
    ck_assert_uint_eq(nr_got, NR_FRAMES / 4 * 3);
    ck_assert_uint_eq(checked().free, 0);
    ck_assert_int_eq(frame_claim(pool, (struct pfn){1}), -EBUSY);
}
END_TEST

START_TEST(without_frames_nothing_is_given)
{
    struct frame_pool *none = frame_pool_new(0);
    struct pfn first = {42};
    uint32_t nr = 42;

    ck_assert_ptr_nonnull(none);
    ck_assert_int_eq(frame_alloc_run(none, 1, &first, &nr), -ENOMEM);
    ck_assert_uint_eq(first.n, 42);
    ck_assert_uint_eq(nr, 42);
    frame_pool_free(none);
    frame_pool_free(NULL);
}
END_TEST

START_TEST(low_frames_are_handed_out_first)
{
    for (uint32_t i = 0; i < NR_FRAMES; i += 64)
        ck_assert_uint_eq(alloc(64, 64).n, i);
}
END_TEST

START_TEST(a_claim_takes_just_that_frame)
{
    static const uint32_t some[] = {0, 1, 511, 512, 1023, 777, NR_FRAMES - 1};

    for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
        struct pfn pfn = {some[i]};
        ck_assert(!frame_is_allocated(pool, pfn));
        ck_assert_int_eq(frame_claim(pool, pfn), 0);
        ck_assert_uint_eq(checked().allocated, i + 1);
        ck_assert(frame_is_allocated(pool, pfn));
        ck_assert_int_eq(frame_claim(pool, pfn), -EBUSY);
    }
    for (size_t i = 0; i < ARRAY_SIZE(some); i++)
        free_run((struct pfn){some[i]}, 1);
    all_is_free_and_joined();
}
END_TEST

START_TEST(the_last_reference_frees)
{
    struct pfn pfn = alloc(1, 1);

    frame_get(pool, pfn);
    frame_get(pool, pfn);
    ck_assert_uint_eq(frame_refs(pool, pfn), 2);
    ck_assert_uint_eq(checked().referenced, 1);
    ck_assert(!frame_put(pool, pfn));
    ck_assert_uint_eq(frame_refs(pool, pfn), 1);
    ck_assert(frame_put(pool, pfn));
    ck_assert(!frame_is_allocated(pool, pfn));
    ck_assert_uint_eq(frame_refs(pool, pfn), 0);
    all_is_free_and_joined();
}
END_TEST

START_TEST(what_is_not_in_the_pool_is_not_allocated)
{
    ck_assert(!frame_is_allocated(pool, (struct pfn){NR_FRAMES}));
    ck_assert(!frame_is_allocated(pool, (struct pfn){UINT32_MAX}));
}
END_TEST

/* One bit a frame and its references, and whatever the allocator gives must fit. */
START_TEST(any_sequence_agrees_with_a_model)
{
    static int model[NR_FRAMES]; /* -1: free; else references */
    uint32_t nr_used = 0, nr_referenced = 0;

    memset(model, -1, sizeof(model));
    for (uint32_t round = 0; round < 4000; round++) {
        uint32_t n = draw(NR_FRAMES);
        bool grow = round / 500 % 2 == 0; /* fill up and drain in turn */

        if (draw(4) == 0) {
            int r = frame_claim(pool, (struct pfn){n});
            ck_assert_int_eq(r, model[n] >= 0 ? -EBUSY : 0);
            nr_used += r == 0;
            if (r == 0)
                model[n] = 0;
        } else if (draw(10) < (grow ? 4u : 1u)) {
            uint32_t max = 1 + draw(draw(2) ? 600 : 8), nr;
            struct pfn first;
            int r = frame_alloc_run(pool, max, &first, &nr);
            ck_assert_int_eq(r, nr_used == NR_FRAMES ? -ENOMEM : 0);
            if (r == 0) {
                ck_assert(nr <= max && !(nr & (nr - 1)) && first.n % nr == 0);
                for (uint32_t i = first.n; i < first.n + nr; i++) {
                    ck_assert_int_eq(model[i], -1);
                    model[i] = 0;
                }
                nr_used += nr;
            }
        } else {
            for (uint32_t tries = 0; tries < 32; tries++, n = (n + 1) % NR_FRAMES) {
                if (model[n] == 0 && draw(3)) {
                    frame_free(pool, (struct pfn){n});
                    model[n] = -1;
                    nr_used--;
                } else if (model[n] >= 0 && draw(2)) {
                    frame_get(pool, (struct pfn){n});
                    nr_referenced += model[n]++ == 0;
                } else if (model[n] > 0) {
                    bool last = --model[n] == 0;
                    ck_assert(frame_put(pool, (struct pfn){n}) == last);
                    if (last) {
                        model[n] = -1;
                        nr_used--;
                        nr_referenced--;
                    }
                }
            }
        }
        struct frame_count c = checked();
        ck_assert_uint_eq(c.allocated, nr_used);
        ck_assert_uint_eq(c.referenced, nr_referenced);
    }
    for (uint32_t i = 0; i < NR_FRAMES; i++) {
        ck_assert(frame_is_allocated(pool, (struct pfn){i}) == (model[i] >= 0));
        ck_assert_uint_eq(frame_refs(pool, (struct pfn){i}), model[i] > 0 ? model[i] : 0);
        while (model[i]-- > 1)
            frame_put(pool, (struct pfn){i});
        if (model[i] == 0)
            frame_put(pool, (struct pfn){i});
        else if (frame_is_allocated(pool, (struct pfn){i}))
            frame_free(pool, (struct pfn){i});
    }
    all_is_free_and_joined();
}
END_TEST

/* What follows ends the process (BUG_ON). */

START_TEST(a_frame_freed_twice_is_a_bug)
{
    struct pfn pfn = alloc(1, 1);

    frame_free(pool, pfn);
    frame_free(pool, pfn);
}
END_TEST

START_TEST(a_referenced_frame_freed_is_a_bug)
{
    struct pfn pfn = alloc(1, 1);

    frame_get(pool, pfn);
    frame_free(pool, pfn);
}
END_TEST

START_TEST(a_reference_to_a_free_frame_is_a_bug)
{
    frame_get(pool, (struct pfn){0});
}
END_TEST

START_TEST(a_reference_too_few_is_a_bug)
{
    frame_put(pool, alloc(1, 1));
}
END_TEST

/* ---- holds and age ---- */

START_TEST(a_held_frame_is_freed_with_its_last_hold)
{
    struct pfn pfn = alloc(1, 1);

    frame_get(pool, pfn);
    frame_hold(pool, pfn);
    frame_hold(pool, pfn);
    ck_assert(!frame_unhold(pool, pfn));
    ck_assert(!frame_put(pool, pfn));
    ck_assert(frame_is_allocated(pool, pfn));
    ck_assert_uint_eq(checked().cached, 1);
    ck_assert(frame_unhold(pool, pfn));
    all_is_free_and_joined();
}
END_TEST

START_TEST(a_hold_that_ends_first_frees_nothing)
{
    struct pfn pfn = alloc(1, 1);

    frame_get(pool, pfn);
    frame_hold(pool, pfn);
    ck_assert(!frame_unhold(pool, pfn));
    ck_assert(frame_put(pool, pfn));
    all_is_free_and_joined();
}
END_TEST

START_TEST(lists_by_age_keep_their_order_and_lose_what_is_freed)
{
    struct pfn first = alloc(8, 8), oldest;

    ck_assert(!frame_list_oldest(pool, FRAME_STORED, &oldest));
    for (uint32_t i = 0; i < 8; i++)
        frame_list_set(pool, (struct pfn){first.n + i}, i % 2 ? FRAME_KEPT : FRAME_STORED);
    frame_list_set(pool, first, FRAME_STORED); /* stored anew: the youngest now */
    frame_list_set_oldest(pool, (struct pfn){first.n + 7}, FRAME_STORED);
    frame_free(pool, (struct pfn){first.n + 2});
    checked();
    static const uint32_t want[] = {7, 4, 6, 0};
    for (uint32_t i = 0; i < ARRAY_SIZE(want); i++) {
        ck_assert(frame_list_oldest(pool, FRAME_STORED, &oldest));
        ck_assert_uint_eq(oldest.n, first.n + want[i]);
        ck_assert_int_eq(frame_list_of(pool, oldest), FRAME_STORED);
        frame_list_set(pool, oldest, FRAME_UNLISTED);
        checked();
    }
    ck_assert_uint_eq(frame_list_nr(pool, FRAME_STORED), 0);
    ck_assert_uint_eq(frame_list_nr(pool, FRAME_KEPT), 3);
    for (uint32_t i = 0; i < 8; i++)
        if (i != 2)
            frame_free(pool, (struct pfn){first.n + i});
    ck_assert_uint_eq(frame_list_nr(pool, FRAME_KEPT), 0);
    all_is_free_and_joined();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("frame-buddy");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_new_pool_is_whole_pageblocks);
    tcase_add_test(tc, each_order_is_split_off_aligned_and_joined_again);
    tcase_add_test(tc, a_run_is_the_largest_power_of_two_that_was_asked_for);
    tcase_add_test(tc, a_run_is_shorter_where_no_long_one_is_left);
    tcase_add_test(tc, without_frames_nothing_is_given);
    tcase_add_test(tc, low_frames_are_handed_out_first);
    tcase_add_test(tc, a_claim_takes_just_that_frame);
    tcase_add_test(tc, the_last_reference_frees);
    tcase_add_test(tc, what_is_not_in_the_pool_is_not_allocated);
    tcase_add_test(tc, any_sequence_agrees_with_a_model);
    tcase_add_test_raise_signal(tc, a_frame_freed_twice_is_a_bug, SIGABRT);
    tcase_add_test_raise_signal(tc, a_referenced_frame_freed_is_a_bug, SIGABRT);
    tcase_add_test_raise_signal(tc, a_reference_to_a_free_frame_is_a_bug, SIGABRT);
    tcase_add_test_raise_signal(tc, a_reference_too_few_is_a_bug, SIGABRT);
    tcase_add_test(tc, a_held_frame_is_freed_with_its_last_hold);
    tcase_add_test(tc, a_hold_that_ends_first_frees_nothing);
    tcase_add_test(tc, lists_by_age_keep_their_order_and_lose_what_is_freed);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
