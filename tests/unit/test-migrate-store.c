/* SPDX-License-Identifier: Apache-2.0 */
/* Frames without memory are written together, and each entry still gets its own page. */
#include <check.h>
#include <string.h>
#include <sys/uio.h>

#include "fake_domain.h"
#include "migrate/migrate.h"

#define NR_FRAMES (2 * PAGEBLOCK_FRAMES)

static uint32_t nr_writes, nr_written;
static int write_at_most; /* pages in one call; negative: fails with that */

static int write_fresh(void *arg, struct pfn first, const struct iovec *page, uint32_t nr)
{
    struct node *ram = arg;
    int i;

    nr_writes++;
    if (write_at_most < 0)
        return write_at_most;
    for (i = 0; i < (int)nr && i < write_at_most; i++) {
        ck_assert_uint_eq(page[i].iov_len, PAGE_SIZE);
        ck_assert(node_is_fresh(ram, (struct pfn){first.n + (uint32_t)i}));
        memcpy(node_bytes(ram, (struct pfn){first.n + (uint32_t)i}), page[i].iov_base, PAGE_SIZE);
    }
    nr_written += (uint32_t)i;
    return i;
}

static void setup(void)
{
    dom_open(8, NR_FRAMES);
    ck_assert_int_eq(node_fresh_init(&dom.d.ram, write_fresh, &dom.d.ram), 0);
    nr_writes = nr_written = 0;
    write_at_most = 512;
}

static void teardown(void)
{
    dom_close();
}

static uint32_t frame_of(uint32_t n)
{
    ck_assert_int_eq(dom_tag(&dom.c, n), PTE_FRAME);
    return pte_index(pte_get(&dom.c.mm, fake_addr(n)));
}

static void all_are_whole(uint32_t nr)
{
    for (uint32_t n = 0; n < nr; n++)
        ck_assert(dom_tag(&dom.c, n) == PTE_ZERO || fake_is_pattern(dom_bytes(&dom.c, n), n));
    dom_check();
}

START_TEST(fresh_frames_are_written_together)
{
    dom_adopt(0, 2 * NODE_FRESH_MAX, false);
    dom_store(0, 2 * NODE_FRESH_MAX);
    ck_assert_uint_eq(nr_writes, 2);
    ck_assert_uint_eq(nr_written, 2 * NODE_FRESH_MAX);
    ck_assert_uint_eq(frame_of(2 * NODE_FRESH_MAX - 1), frame_of(0) + 2 * NODE_FRESH_MAX - 1);
    all_are_whole(2 * NODE_FRESH_MAX);

    /* Freed, and handed out again: they have memory. */
    dom_remove(0, 2 * NODE_FRESH_MAX);
    dom_adopt(0, 2 * NODE_FRESH_MAX, false);
    dom_store(0, 2 * NODE_FRESH_MAX);
    ck_assert_uint_eq(nr_writes, 2);
    all_are_whole(2 * NODE_FRESH_MAX);

    dom_remove(0, 2 * NODE_FRESH_MAX);
    node_fresh_again(&dom.d.ram);
    dom_adopt(0, 8, false);
    dom_store(0, 8);
    ck_assert_uint_eq(nr_writes, 3);
    all_are_whole(8);
}
END_TEST

START_TEST(pages_of_zeros_between_them_need_no_frame)
{
    for (uint32_t n = 0; n < 32; n++)
        dom_adopt(n, 1, n % 3 == 0);
    dom_store(0, 32);
    ck_assert_uint_le(nr_writes, 3); /* runs are of powers of two */
    ck_assert_uint_eq(nr_written, 21);
    ck_assert_uint_eq(frame_of(31), frame_of(1) + 20);
    all_are_whole(32);
}
END_TEST

START_TEST(a_page_that_goes_away_in_between_takes_no_others_frame)
{
    dom_adopt(0, 16, false);
    dom_stage(0, 16);
    ck_assert_uint_eq(client_commit(&dom.c, 4), 12);
    ck_assert_uint_eq(nr_written, 4);
    dom_remove(5, 2);
    ck_assert_uint_eq(client_commit(&dom.c, 4), 8);
    ck_assert_uint_eq(client_commit(&dom.c, 512), 0);
    ck_assert_uint_eq(nr_written, 14);
    for (uint32_t n = 0; n < 16; n++)
        ck_assert(n == 5 || n == 6 || fake_is_pattern(dom_bytes(&dom.c, n), n));
    dom_check();
}
END_TEST

START_TEST(a_write_that_fails_is_made_through_the_mapping)
{
    static const int most[] = {-ENOSPC, 0, 5};

    for (size_t i = 0; i < ARRAY_SIZE(most); i++) {
        node_fresh_again(&dom.d.ram);
        write_at_most = most[i];
        dom_adopt(0, 40, false);
        dom_store(0, 40);
        all_are_whole(40);
        dom_remove(0, 40);
    }
}
END_TEST

/* Pages [0, nr) have come back and kept their frames; then each is changed in its program. */
static void keep_and_change(uint32_t nr)
{
    dom_adopt(0, nr, false);
    dom_store(0, nr);
    for (uint32_t n = nr; n-- > 0;) {
        dom_fault(n, false);
        ck_assert_uint_eq(dom_answer(&dom.c, 2000), 0);
    }
    for (uint32_t n = 0; n < nr; n++) {
        ck_assert(pte_is_kept(pte_get(&dom.c.mm, fake_addr(n))));
        dom.t.mem[n * PAGE_SIZE] ^= 1;
    }
}

static bool is_stored_changed(uint32_t n)
{
    const char *bytes = dom_bytes(&dom.c, n);

    return !memcmp(bytes, dom.t.slots + n * PAGE_SIZE, PAGE_SIZE) && !fake_is_pattern(bytes, n);
}

START_TEST(a_changed_page_goes_over_what_it_had_kept)
{
    keep_and_change(4);
    uint32_t before[4];
    for (uint32_t n = 0; n < 4; n++)
        before[n] = pte_index(pte_get(&dom.c.mm, fake_addr(n)));
    dom_store(0, 4);
    for (uint32_t n = 0; n < 4; n++) {
        ck_assert_uint_eq(frame_of(n), before[n]);
        ck_assert(is_stored_changed(n));
    }
    ck_assert_uint_eq(frame_list_nr(dom.d.ram.frames, FRAME_STORED), 4);
    ck_assert_uint_eq(frame_nr_free(dom.d.ram.frames), NR_FRAMES - 4);
    dom_check();
}
END_TEST

START_TEST(not_over_a_frame_that_somebody_else_has)
{
    keep_and_change(2);
    struct pfn pfn = {pte_index(pte_get(&dom.c.mm, fake_addr(0)))};
    struct pfn held = {pte_index(pte_get(&dom.c.mm, fake_addr(1)))};
    struct rmap_entry other = {77, fake_addr(0)};

    ck_assert_int_eq(node_ref(&dom.d.ram, pfn, other), 0);
    frame_hold(dom.d.ram.frames, held);
    dom_store(0, 2);
    ck_assert_uint_ne(frame_of(0), pfn.n);
    ck_assert_uint_ne(frame_of(1), held.n);
    ck_assert(is_stored_changed(0) && is_stored_changed(1));
    ck_assert(fake_is_pattern(node_bytes(&dom.d.ram, pfn), 0));
    ck_assert(fake_is_pattern(node_bytes(&dom.d.ram, held), 1));
    node_unref(&dom.d.ram, pfn, other);
    ck_assert(frame_unhold(dom.d.ram.frames, held));
    dom_check();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("migrate-store");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, fresh_frames_are_written_together);
    tcase_add_test(tc, pages_of_zeros_between_them_need_no_frame);
    tcase_add_test(tc, a_page_that_goes_away_in_between_takes_no_others_frame);
    tcase_add_test(tc, a_write_that_fails_is_made_through_the_mapping);
    tcase_add_test(tc, a_changed_page_goes_over_what_it_had_kept);
    tcase_add_test(tc, not_over_a_frame_that_somebody_else_has);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
