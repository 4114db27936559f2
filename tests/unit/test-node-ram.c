/* SPDX-License-Identifier: Apache-2.0 */
/* The ram node: bytes by frame, and counts and reverse map that go together. */
#define _GNU_SOURCE
#include <check.h>
#include <string.h>
#include <sys/mman.h>

#include "node/node.h"

#define NR_FRAMES PAGEBLOCK_FRAMES

static struct node node;
static char *mem;

static void setup(void)
{
    mem = mmap(NULL, NR_FRAMES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
               0);
    ck_assert_ptr_ne(mem, MAP_FAILED);
    ck_assert_int_eq(node_ram_init(&node, NODE_RAM, mem, NR_FRAMES), 0);
}

static void teardown(void)
{
    node_fini(&node);
    munmap(mem, NR_FRAMES * PAGE_SIZE);
}

static struct pfn alloc(void)
{
    struct pfn pfn;
    uint32_t nr;

    ck_assert_int_eq(frame_alloc_run(node.frames, 1, &pfn, &nr), 0);
    return pfn;
}

static struct rmap_entry entry(uint32_t mm)
{
    return (struct rmap_entry){mm, uaddr(mm * LEAF_SIZE)};
}

static void check(uint32_t referenced, uint32_t cached)
{
    struct frame_count c;
    const char *wrong = node_check(&node, &c);

    ck_assert_msg(!wrong, "%s", wrong);
    ck_assert_uint_eq(c.referenced, referenced);
    ck_assert_uint_eq(c.cached, cached);
    ck_assert_uint_eq(node_used_bytes(&node), (referenced + cached) * PAGE_SIZE);
}

START_TEST(frames_lie_one_behind_the_other)
{
    ck_assert_uint_eq(node.id, NODE_RAM);
    ck_assert_str_eq(node.type, "ram");
    ck_assert_uint_eq(node_size_bytes(&node), NR_FRAMES * PAGE_SIZE);
    for (uint32_t n = 0; n < NR_FRAMES; n++)
        ck_assert_ptr_eq(node_bytes(&node, (struct pfn){n}), mem + n * PAGE_SIZE);
    check(0, 0);
}
END_TEST

START_TEST(a_frame_lives_until_its_last_entry_goes)
{
    struct pfn pfn = alloc();

    check(0, 1);
    for (uint32_t mm = 1; mm <= 3; mm++)
        ck_assert_int_eq(node_ref(&node, pfn, entry(mm)), 0);
    check(1, 0);
    node_unref(&node, pfn, entry(2));
    node_unref(&node, pfn, entry(1));
    check(1, 0);
    ck_assert_uint_eq(frame_refs(node.frames, pfn), 1);
    node_unref(&node, pfn, entry(3));
    check(0, 0);
    ck_assert(!frame_is_allocated(node.frames, pfn));
}
END_TEST

START_TEST(a_reference_that_does_not_fit_changes_nothing)
{
    struct pfn pfn = alloc();
    uint32_t nr = 0;
    int r;

    while ((r = node_ref(&node, pfn, (struct rmap_entry){1, uaddr(nr * PAGE_SIZE)})) == 0)
        nr++;
    ck_assert_int_eq(r, -ENOMEM);
    ck_assert_uint_eq(frame_refs(node.frames, pfn), nr);
    check(1, 0);
    while (nr-- > 0)
        node_unref(&node, pfn, (struct rmap_entry){1, uaddr(nr * PAGE_SIZE)});
    check(0, 0);
}
END_TEST

START_TEST(the_check_sees_a_count_without_its_reverse_map)
{
    struct pfn pfn = alloc();
    struct frame_count c;

    frame_get(node.frames, pfn);
    ck_assert_ptr_nonnull(node_check(&node, &c));
    ck_assert_int_eq(rmap_add(node.rmap, pfn, entry(1)), 0);
    check(1, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("node-ram");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, frames_lie_one_behind_the_other);
    tcase_add_test(tc, a_frame_lives_until_its_last_entry_goes);
    tcase_add_test(tc, a_reference_that_does_not_fit_changes_nothing);
    tcase_add_test(tc, the_check_sees_a_count_without_its_reverse_map);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
