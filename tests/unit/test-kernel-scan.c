/* SPDX-License-Identifier: Apache-2.0 */
/* PAGEMAP_SCAN: exactly the pages that are mapped, in order, whatever the room for the answer. */
#define _GNU_SOURCE
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "kernel/kernel.h"
#include "kernel/uapi.h"

#define NR_PAGES 512

static int pagemap = -1;
static char *mem;
static bool touched[NR_PAGES];

static void set_up(void)
{
    pagemap = kscan_open(getpid());
    ck_assert_int_ge(pagemap, 0);
    mem = mmap(NULL, NR_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
               0);
    ck_assert_ptr_ne(mem, MAP_FAILED);
    (void)madvise(mem, NR_PAGES * PAGE_SIZE, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < NR_PAGES; i++) {
        touched[i] = i * i % 5 == 1 || i / 50 == 3;
        if (touched[i])
            mem[i * PAGE_SIZE] = 1;
    }
}

static void tear_down(void)
{
    pagemap = fd_close(pagemap);
}

static struct urange all(void)
{
    return urange((uintptr_t)mem, (uintptr_t)mem + NR_PAGES * PAGE_SIZE);
}

/* The scan with `room` runs a call agrees with `touched`. */
static void check_with_room(uint32_t room)
{
    struct scan_run runs[600];
    bool seen[NR_PAGES] = {false};
    struct uaddr next = all().start;
    uint64_t last_end = 0;
    unsigned calls = 0;

    while (next.v < urange_end(all())) {
        uint64_t from = next.v;
        int n = kscan_present(pagemap, urange(from, urange_end(all())), runs, room, &next);

        ck_assert_int_ge(n, 0);
        ck_assert_int_le(n, (int)room);
        ck_assert_uint_gt(next.v, from); /* it comes to an end */
        for (int i = 0; i < n; i++) {
            ck_assert_uint_ge(runs[i].r.start.v, MAX(last_end, from));
            last_end = urange_end(runs[i].r);
            ck_assert_uint_le(last_end, next.v);
            ck_assert(!runs[i].huge);
            for (uint64_t v = runs[i].r.start.v; v < last_end; v += PAGE_SIZE)
                seen[(v - (uintptr_t)mem) / PAGE_SIZE] = true;
        }
        ck_assert_uint_lt(++calls, 2 * NR_PAGES);
    }
    ck_assert_uint_eq(next.v, urange_end(all()));
    ck_assert_mem_eq(seen, touched, sizeof(seen));
}

START_TEST(the_scan_sees_exactly_the_present_pages)
{
    static const uint32_t rooms[] = {1, 2, 3, 63, 64, 65, 600};

    for (size_t i = 0; i < ARRAY_SIZE(rooms); i++)
        check_with_room(rooms[i]);
}
END_TEST

START_TEST(neighbours_make_one_run)
{
    struct scan_run runs[4];
    struct uaddr next;
    uint64_t from = (uintptr_t)mem + 150 * PAGE_SIZE;

    struct urange r = urange(from, from + 50 * PAGE_SIZE);

    ck_assert_int_eq(kscan_present(pagemap, r, runs, 4, &next), 1);
    ck_assert_uint_eq(runs[0].r.start.v, from);
    ck_assert_uint_eq(runs[0].r.len, 50 * PAGE_SIZE);
    ck_assert_uint_eq(next.v, from + 50 * PAGE_SIZE);
}
END_TEST

START_TEST(a_range_without_pages_or_mappings_is_empty)
{
    struct scan_run runs[4];
    struct uaddr next;

    munmap(mem, NR_PAGES * PAGE_SIZE);
    ck_assert_int_eq(kscan_present(pagemap, all(), runs, 4, &next), 0);
    ck_assert_uint_eq(next.v, urange_end(all()));
}
END_TEST

START_TEST(the_count_agrees_with_the_runs)
{
    uint64_t pages = 0, expect = 0;

    for (size_t i = 0; i < NR_PAGES; i++)
        expect += touched[i];
    ck_assert_int_eq(kscan_count_present(pagemap, all(), &pages), 0);
    ck_assert_uint_eq(pages, expect);
}
END_TEST

START_TEST(a_page_that_left_is_not_present)
{
    ck_assert_int_eq(madvise(mem + 160 * PAGE_SIZE, 10 * PAGE_SIZE, MADV_DONTNEED), 0);
    for (size_t i = 160; i < 170; i++)
        touched[i] = false;
    check_with_room(600);
}
END_TEST

START_TEST(markers_are_holes_and_the_zero_page_is_a_page)
{
    int fd = kuffd_new(-1);
    uint64_t pages, done;
    size_t len = 16 * PAGE_SIZE;
    char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct urange r = urange((uintptr_t)p, (uintptr_t)p + len);
    struct uaddr twelfth = uaddr(r.start.v + 12 * PAGE_SIZE);

    ck_assert_ptr_ne(p, MAP_FAILED);
    if (fd < 0 || kuffd_api(fd, KUFFD_MAIN_FEATURES & ~KUFFD_EVENT_FORK) < 0) {
        printf("skipped: userfaultfd without these features here\n");
        return;
    }
    ck_assert_int_eq(kuffd_register(fd, r, true), KRES_DONE);
    ck_assert_int_eq(kuffd_poison(fd, r.start, 2 * PAGE_SIZE, &done), KRES_DONE);
    struct uffdio_writeprotect wp = {.range = {r.start.v + 4 * PAGE_SIZE, 2 * PAGE_SIZE},
                                     .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    ck_assert_int_eq(ioctl(fd, UFFDIO_WRITEPROTECT, &wp), 0);
    (void)madvise(p + 8 * PAGE_SIZE, 2 * PAGE_SIZE, MADV_GUARD_INSTALL); /* 6.13 */
    ck_assert_int_eq(kscan_count_present(pagemap, r, &pages), 0);
    ck_assert_uint_eq(pages, 0);

    ck_assert_int_eq(kuffd_zero(fd, twelfth, PAGE_SIZE, &done), KRES_DONE);
    ck_assert_int_eq(kscan_count_present(pagemap, r, &pages), 0);
    ck_assert_uint_eq(pages, 1);
    close(fd);
}
END_TEST

START_TEST(a_huge_page_is_a_run_of_its_own)
{
    struct scan_run runs[8];
    struct uaddr next;
    char *area = mmap(NULL, 3 * LEAF_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                      0);
    uint64_t huge = ((uintptr_t)area + LEAF_SIZE - 1) & ~(LEAF_SIZE - 1);

    ck_assert_ptr_ne(area, MAP_FAILED);
    /* A huge page, and small ones directly behind it. */
    (void)madvise((void *)huge, LEAF_SIZE, MADV_HUGEPAGE);
    (void)madvise((void *)(huge + LEAF_SIZE), LEAF_SIZE / 2, MADV_NOHUGEPAGE);
    *(volatile char *)huge = 1;
    *(volatile char *)(huge + LEAF_SIZE) = 1;
    int n = kscan_present(pagemap, urange(huge, huge + LEAF_SIZE + LEAF_SIZE / 2), runs, 8, &next);
    ck_assert_int_ge(n, 1);
    if (!runs[0].huge) {
        printf("skipped: the kernel gave no huge page\n");
        return;
    }
    ck_assert_int_eq(n, 2);
    ck_assert_uint_eq(runs[0].r.start.v, huge);
    ck_assert_uint_eq(runs[0].r.len, LEAF_SIZE);
    ck_assert_uint_eq(runs[1].r.start.v, huge + LEAF_SIZE);
    ck_assert(!runs[1].huge);
    /* A part of it is told as huge too. */
    ck_assert_int_eq(kscan_present(pagemap, urange(huge, huge + PAGE_SIZE), runs, 8, &next), 1);
    ck_assert(runs[0].huge);
    ck_assert_uint_eq(runs[0].r.len, PAGE_SIZE);
}
END_TEST

START_TEST(another_process_is_scanned_until_it_has_ended)
{
    struct scan_run runs[4];
    struct uaddr next;
    int ends[2];
    char byte;

    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        close(ends[1]);
        (void)!read(ends[0], &byte, 1);
        _exit(0);
    }
    close(ends[0]);
    _cleanup_close_ int theirs = kscan_open(child);
    ck_assert_int_ge(theirs, 0);
    ck_assert_int_gt(kscan_present(theirs, all(), runs, 4, &next), 0);
    close(ends[1]);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_int_le(kscan_present(theirs, all(), runs, 4, &next), 0);
    ck_assert_int_lt(kscan_open(child), 0);
}
END_TEST

int main(void)
{
    struct kernel_features features;

    kernel_probe(&features);
    if (!features.pagemap_scan) {
        printf("skipped: no PAGEMAP_SCAN in this kernel (%s)\n", features.release);
        return 77;
    }
    Suite *s = suite_create("kernel-scan");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, the_scan_sees_exactly_the_present_pages);
    tcase_add_test(tc, neighbours_make_one_run);
    tcase_add_test(tc, a_range_without_pages_or_mappings_is_empty);
    tcase_add_test(tc, the_count_agrees_with_the_runs);
    tcase_add_test(tc, a_page_that_left_is_not_present);
    tcase_add_test(tc, markers_are_holes_and_the_zero_page_is_a_page);
    tcase_add_test(tc, a_huge_page_is_a_run_of_its_own);
    tcase_add_test(tc, another_process_is_scanned_until_it_has_ended);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
