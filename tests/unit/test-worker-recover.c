/* SPDX-License-Identifier: Apache-2.0 */
/* Where the pages of a capture are whose agent died in it; this process is the program. */
#include <check.h>
#include <string.h>
#include <sys/mman.h>

#include "worker/worker_priv.h"

#define NR_PAGES 4
#define NR_LEAVES 8

static struct wclient wc;
static struct domain d;
static struct target_ops ops;
static char *program;

bool mm_is_dead(struct wclient *w)
{
    (void)w;
    return false;
}

static int prepare(void *t, const struct capture_vec *vecs, uint32_t nr_vecs, bool huge)
{
    (void)t;
    (void)huge;
    memcpy(wc.vecs, vecs, nr_vecs * sizeof(*vecs));
    wc.nr_vecs = nr_vecs;
    return 0;
}

static void start(void *t)
{
    (void)t;
    wc.posted++;
    wc.ring->phase_of = wc.posted;
    wc.ring->phase = RING_TAKING;
}

static void *memory(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                   0);

    ck_assert_ptr_ne(p, MAP_FAILED);
    return p;
}

static char *stage(uint64_t at, uint32_t slot)
{
    return (char *)(uintptr_t)at + slot * PAGE_SIZE;
}

/* The program's pages are under capture, and none of them is anywhere. */
static void setup(void)
{
    struct uaddr pages[NR_PAGES];

    ck_assert_int_eq(domain_init(&d, memory(domain_state_bytes(NR_LEAVES, 1)), NR_LEAVES, 1,
                                 memory(PAGEBLOCK_FRAMES * PAGE_SIZE), PAGEBLOCK_FRAMES),
                     0);
    ops = target_linux;
    ops.capture_prepare = prepare;
    ops.capture_start = start;
    ck_assert_int_eq(client_init(&wc.c, &d, group_new(&d, NULL, 0), &ops, &wc), 0);
    wc.program_pid = getpid();
    wc.pagemap_fd = kscan_open(getpid());
    ck_assert_int_ge(wc.pagemap_fd, 0);
    wc.ring = memory(RING_BYTES);
    wc.stage1 = (uintptr_t)memory(STAGE_BYTES);
    wc.stage2 = (uintptr_t)memory(STAGE_BYTES);
    wc.remap = (uintptr_t)memory(REMAP_BYTES);
    program = memory(NR_PAGES * PAGE_SIZE);
    for (uint32_t i = 0; i < NR_PAGES; i++) {
        pages[i] = uaddr((uintptr_t)program + i * PAGE_SIZE);
        ck_assert_int_eq(
            pte_transition(&wc.c.mm, pages[i], PTE_EV_ADOPT, (struct pte_arg){0}, NULL), 0);
    }
    ck_assert_int_eq(migrate_capture(&wc.c.mm, pages, NR_PAGES, false, MIGRATE_DEMOTION), NR_PAGES);
    memset(wc.ring->result, CAPTURE_NOT_TRIED, sizeof(wc.ring->result));
}

static struct uaddr page(uint32_t i)
{
    return uaddr((uintptr_t)program + i * PAGE_SIZE);
}

static enum pte_tag tag(uint32_t i)
{
    return pte_tag(pte_get(&wc.c.mm, page(i)));
}

static bool was_taken(uint32_t i, char with)
{
    const char *bytes = tag(i) == PTE_MIGRATING ? migrate_bytes(&wc.c.mm, page(i)) : NULL;

    return bytes && bytes[0] == with && bytes[PAGE_SIZE - 1] == with;
}

START_TEST(each_page_is_found_where_it_is)
{
    memset(stage(wc.stage1, 0), 'a', PAGE_SIZE);
    memset(stage(wc.stage2, 1), 'b', PAGE_SIZE);
    memset(program + 2 * PAGE_SIZE, 'c', PAGE_SIZE);
    capture_recover(&wc);
    ck_assert(was_taken(0, 'a') && was_taken(1, 'b'));
    ck_assert_int_eq(tag(2), PTE_PRESENT);
    ck_assert_int_eq(tag(3), PTE_NONE);
}
END_TEST

/*
 * The page was taken, then a thread moved its mapping away, and something else was mapped in its
 * place and touched: the messages are still to be read.
 */
START_TEST(what_came_to_its_place_is_not_the_page_that_was_taken)
{
    memset(stage(wc.stage1, 0), 'a', PAGE_SIZE);
    memset(stage(wc.stage2, 1), 'b', PAGE_SIZE);
    memset(program, 'x', 2 * PAGE_SIZE);
    capture_recover(&wc);
    ck_assert(was_taken(0, 'a') && was_taken(1, 'b'));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("worker-recover");
    TCase *tc = tcase_create("a capture whose agent has died");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, each_page_is_found_where_it_is);
    tcase_add_test(tc, what_came_to_its_place_is_not_the_page_that_was_taken);
    suite_add_tcase(suite, tc);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
