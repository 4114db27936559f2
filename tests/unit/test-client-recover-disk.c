/* SPDX-License-Identifier: Apache-2.0 */
/* A worker dies while it has a disk: no page is lost, and none gets under an old write. */
#include <check.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "client/client_priv.h"
#include "fake_domain.h"
#include "fault/fault.h"
#include "migrate/migrate.h"

#define NR_FRAMES PAGEBLOCK_FRAMES
#define NR_SLOTS PAGEBLOCK_FRAMES
#define NR_PAGES 400 /* so many of NR_FRAMES that write-back begins */

static uint8_t results[CAPTURE_MAX_PAGES];
static jmp_buf death;
static uint32_t dies_at; /* the nth change of an entry from now; 0: never */

static void count_down(const struct mm *mm, struct uaddr addr, enum pte_event event, pte_t old,
                       pte_t new_pte)
{
    (void)mm, (void)addr, (void)event, (void)old, (void)new_pte;
    if (dies_at && !--dies_at)
        longjmp(death, 1);
}

static void setup(void)
{
    dom_open_with_file(8, NR_FRAMES, NR_SLOTS);
    memset(results, CAPTURE_NOT_TRIED, sizeof(results));
    pte_trace = count_down;
    dies_at = 0;
    dom_adopt(0, NR_PAGES, false);
    dom_store(0, NR_PAGES);
}

static void teardown(void)
{
    pte_trace = NULL;
    dom_close();
}

static void die(void)
{
    dies_at = 0;
    dom_die_and_take_up(results);
}

static uint32_t nr_swapped(void)
{
    return (uint32_t)dom.c.mm.nr[PTE_SWAPPED];
}

static void all_is_right(void)
{
    for (uint32_t i = 0; i < NR_PAGES; i++) {
        const void *bytes = dom_bytes(&dom.c, i);
        ck_assert_msg(bytes && fake_is_pattern(bytes, i), "page %u is wrong", i);
    }
}

static bool is_orphans(uint32_t slot)
{
    for (uint32_t i = 0; i < dom.nr_orphans; i++)
        if (slot >= dom.orphan[i].slot && slot < dom.orphan[i].slot + dom.orphan[i].nr_pages)
            return true;
    return false;
}

/* They write whatever the frames hold by now; here, nothing that anybody wrote. */
static void orphans_land(void)
{
    for (uint32_t i = 0; i < dom.nr_orphans; i++)
        memset(dom.disk.bytes + dom.orphan[i].slot * PAGE_SIZE, 0x5e,
               dom.orphan[i].nr_pages * PAGE_SIZE);
    dom.nr_orphans = 0;
}

START_TEST(what_was_on_the_disk_is_found_there)
{
    dom_write_back(1000);
    uint32_t nr = nr_swapped();
    ck_assert_uint_gt(nr, 0);
    die();
    ck_assert_uint_eq(nr_swapped(), nr);
    ck_assert_uint_eq(frame_nr_free(dom.d.file.frames), NR_SLOTS - nr);
    all_is_right();
    dom_fault_to_the_end(0, false, 1000);
    ck_assert_int_eq(dom_tag(&dom.c, 0), PTE_PRESENT);
    ck_assert(fake_has_pattern(&dom.t, 0));
}
END_TEST

START_TEST(a_slot_that_is_being_written_is_handed_out_when_that_has_ended)
{
    domain_writeback(&dom.d, 1000);
    ck_assert_uint_gt(dom.disk.nr_reqs, 0);
    die();
    ck_assert_uint_gt(dom.nr_orphans, 0);
    ck_assert_uint_eq(nr_swapped(), 0);
    uint32_t nr_held = node_nr_orphans(&dom.d.file);
    ck_assert_uint_eq(frame_nr_free(dom.d.file.frames), NR_SLOTS - nr_held);

    dom_write_back(1000);
    ck_assert_uint_gt(nr_swapped(), 0);
    for (uint32_t i = 0; i < NR_PAGES; i++)
        ck_assert(dom_tag(&dom.c, i) != PTE_SWAPPED ||
                  !is_orphans(pte_index(pte_get(&dom.c.mm, fake_addr(i)))));
    orphans_land();
    all_is_right();
    domain_orphans_ended(&dom.d);
    ck_assert_uint_eq(node_nr_orphans(&dom.d.file), 0);
    ck_assert_uint_eq(frame_nr_free(dom.d.file.frames), NR_SLOTS - nr_swapped());
    dom_check();
}
END_TEST

START_TEST(a_second_death_does_not_forget_the_writes_of_the_first)
{
    domain_writeback(&dom.d, 1000);
    die();
    uint32_t first = node_nr_orphans(&dom.d.file);
    domain_writeback(&dom.d, 1000);
    ck_assert_uint_gt(dom.disk.nr_reqs, 0);
    die();
    ck_assert_uint_gt(node_nr_orphans(&dom.d.file), first);
    domain_orphans_ended(&dom.d);
    die();
    ck_assert_uint_eq(node_nr_orphans(&dom.d.file), 0);
}
END_TEST

START_TEST(whenever_it_dies_after_a_write_every_page_has_one_place)
{
    domain_writeback(&dom.d, 1000);
    ck_assert_uint_gt(dom.disk.nr_reqs, 0);
    dies_at = (uint32_t)_i;
    if (!setjmp(death))
        disk_finish(&dom.disk, 0);
    die();
    orphans_land(); /* of the other requests */
    all_is_right();
    /* What names a slot of the finished one has it until it is dropped. */
    dom_remove(0, NR_PAGES);
    domain_orphans_ended(&dom.d);
    ck_assert_uint_eq(frame_nr_free(dom.d.file.frames), NR_SLOTS);
    ck_assert_uint_eq(frame_nr_free(dom.d.ram.frames), NR_FRAMES);
}
END_TEST

START_TEST(with_too_many_writes_unaccounted_for_nothing_more_is_written)
{
    for (uint32_t slot = NR_SLOTS - 1; node_may_write(&dom.d.file); slot--)
        ck_assert_int_ge(node_write_begun(&dom.d.file, (struct pfn){slot}, 1), 0);
    die();
    ck_assert(!node_may_write(&dom.d.file));
    domain_writeback(&dom.d, 1000);
    ck_assert_uint_eq(dom.disk.nr_reqs, 0);
    ck_assert(!writeback_can_go_on(dom.d.writeback, 1000));
    domain_orphans_ended(&dom.d);
    dom_write_back(1000);
    ck_assert_uint_gt(nr_swapped(), 0);
    all_is_right();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client-recover-disk");
    TCase *tc = tcase_create("disk");

    log_init("test", LOG_LEVEL_ERROR, -1);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, what_was_on_the_disk_is_found_there);
    tcase_add_test(tc, a_slot_that_is_being_written_is_handed_out_when_that_has_ended);
    tcase_add_test(tc, a_second_death_does_not_forget_the_writes_of_the_first);
    tcase_add_loop_test(tc, whenever_it_dies_after_a_write_every_page_has_one_place, 1, 9);
    tcase_add_test(tc, with_too_many_writes_unaccounted_for_nothing_more_is_written);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
