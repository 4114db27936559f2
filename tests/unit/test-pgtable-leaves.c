/* SPDX-License-Identifier: Apache-2.0 */
/* Leaves: the index over them, their order, their end, and that they outlive a worker. */
#define _GNU_SOURCE
#include <check.h>
#include <string.h>
#include <sys/mman.h>

#include "pgtable/pgtable.h"

#define NR_LEAVES 64 /* the index has 128 places: half full, so that searches collide */
#define NR_MM 4
#define SCATTERED 200 /* places of leaves that a test draws from */

static void *mem;
static struct pgtable *pt;
static struct mm mm[NR_MM];
static uint64_t seed;

static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

static void setup(void)
{
    mem = mmap(NULL, pgtable_bytes(NR_LEAVES), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
               -1, 0);
    ck_assert_ptr_ne(mem, MAP_FAILED);
    pt = pgtable_open(mem, NR_LEAVES);
    ck_assert_ptr_nonnull(pt);
    memset(mm, 0, sizeof(mm));
    for (uint32_t i = 0; i < NR_MM; i++)
        ck_assert_int_eq(mm_tables_init(&mm[i], pt, i + 1), 0);
    seed = 1;
}

static void remove_all(struct mm *m)
{
    struct uaddr at = {0};

    for (; pte_next_mapped(m, &at, UINT64_MAX); at.v += PAGE_SIZE)
        ck_assert_int_eq(pte_transition(m, at, PTE_EV_REMOVE, (struct pte_arg){0}, NULL), 0);
}

static void teardown(void)
{
    for (uint32_t i = 0; i < NR_MM; i++) {
        if (!mm[i].leaves)
            continue;
        remove_all(&mm[i]);
        mm_tables_free(&mm[i]);
    }
    ck_assert_uint_eq(pgtable_nr_free_leaves(pt), NR_LEAVES);
    pgtable_close(pt);
    munmap(mem, pgtable_bytes(NR_LEAVES));
}

/* A page in the kth scattered place: near and far leaves, low and high addresses. */
static struct uaddr place(uint32_t k)
{
    static const uint64_t far[] = {0, 0x10000000, 0x550000000000,
                                   0x7fffffe00000 - SCATTERED * LEAF_SIZE};

    return uaddr(far[k % 4] + (uint64_t)(k / 4) * LEAF_SIZE + (k * 37 % PTES_PER_LEAF) * PAGE_SIZE);
}

static int adopt(struct mm *m, struct uaddr a)
{
    return pte_transition(m, a, PTE_EV_ADOPT, (struct pte_arg){0}, NULL);
}

/* Every mm is whole, and holds exactly the places of its set. */
static void check_sets(bool in[NR_MM][SCATTERED])
{
    for (uint32_t i = 0; i < NR_MM; i++) {
        const char *wrong = pgtable_check(&mm[i]);
        uint32_t nr = 0;

        ck_assert_msg(!wrong, "%s", wrong);
        for (uint32_t k = 0; k < SCATTERED; k++) {
            ck_assert_uint_eq(pte_tag(pte_get(&mm[i], place(k))) == PTE_PRESENT, in[i][k]);
            nr += in[i][k];
        }
        ck_assert_uint_eq(mm[i].nr[PTE_PRESENT], nr);
    }
}

START_TEST(insert_and_remove_under_collisions_find_every_leaf)
{
    static bool in[NR_MM][SCATTERED];

    memset(in, 0, sizeof(in));
    for (uint32_t round = 0; round < 300; round++) {
        uint32_t i = draw(NR_MM);

        if (draw(4) == 0) { /* an address space ends: its leaves leave the index */
            remove_all(&mm[i]);
            mm_tables_free(&mm[i]);
            ck_assert_int_eq(mm_tables_init(&mm[i], pt, i + 1), 0);
            memset(in[i], 0, sizeof(in[i]));
        }
        for (uint32_t nr = draw(20); nr > 0; nr--) {
            uint32_t k = draw(SCATTERED);
            if (in[i][k])
                continue;
            int r = adopt(&mm[i], place(k));
            ck_assert_int_eq(r, pgtable_nr_free_leaves(pt) || r == 0 ? 0 : -ENOMEM);
            in[i][k] = r == 0;
        }
        check_sets(in);
    }
}
END_TEST

START_TEST(the_index_grows_with_the_leaves)
{
    enum { MANY = 3000 };
    size_t bytes = pgtable_bytes(4096);
    void *large = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct pgtable *of = pgtable_open(large, 4096), *again;
    struct mm one = {0};

    ck_assert_int_eq(mm_tables_init(&one, of, 1), 0);
    for (uint32_t k = 0; k < MANY; k++) {
        ck_assert_int_eq(adopt(&one, uaddr((k * 7919ull + 1) * LEAF_SIZE)), 0);
        if (k % 97 == 0)
            ck_assert_ptr_null(pgtable_check(&one));
    }
    for (uint32_t k = 0; k < MANY; k++)
        ck_assert_int_eq(pte_tag(pte_get(&one, uaddr((k * 7919ull + 1) * LEAF_SIZE))), PTE_PRESENT);
    again = pgtable_open(large, 4096); /* as a successor does */
    struct mm recovered = {0};
    ck_assert_int_eq(mm_tables_recover(&recovered, again, 1), 0);
    ck_assert_uint_eq(recovered.nr[PTE_PRESENT], MANY);
    ck_assert_ptr_null(pgtable_check(&recovered));
    remove_all(&one);
    mm_tables_free(&one);
    pgtable_close(of);
    munmap(recovered.leaves, 4096 * sizeof(uint32_t));
    pgtable_close(again);
    munmap(large, bytes);
}
END_TEST

START_TEST(one_address_in_two_address_spaces_is_two_entries)
{
    struct uaddr a = place(3);

    ck_assert_int_eq(adopt(&mm[0], a), 0);
    ck_assert_uint_eq(pte_get(&mm[1], a), 0);
    ck_assert_int_eq(pte_transition(&mm[1], a, PTE_EV_IMPORT,
                                    (struct pte_arg){.value = pte_make(PTE_FRAME, 0, 1, 9)}, NULL),
                     0);
    ck_assert_int_eq(pte_tag(pte_get(&mm[0], a)), PTE_PRESENT);
    ck_assert_uint_eq(pte_index(pte_get(&mm[1], a)), 9);
}
END_TEST

START_TEST(the_walk_goes_by_address_and_over_holes)
{
    uint64_t want[] = {0x1ff000,           0x200000,           0x200000 + 7 * PAGE_SIZE,
                       0x40000000,         0x40000000 + LEAF_SIZE - PAGE_SIZE,
                       0x7f0000000000 + 5 * PAGE_SIZE};
    struct uaddr at = {0};

    for (size_t i = ARRAY_SIZE(want); i-- > 0;) /* entered from above */
        ck_assert_int_eq(adopt(&mm[0], uaddr(want[i])), 0);
    ck_assert_int_eq(adopt(&mm[1], uaddr(0x300000)), 0); /* another's does not appear */
    for (size_t i = 0; i < ARRAY_SIZE(want); i++, at.v += PAGE_SIZE) {
        ck_assert(pte_next_mapped(&mm[0], &at, UINT64_MAX));
        ck_assert_uint_eq(at.v, want[i]);
    }
    ck_assert(!pte_next_mapped(&mm[0], &at, UINT64_MAX));

    /* The end is not part of the range, and a leaf may be left between two entries. */
    at = uaddr(0x200000 + PAGE_SIZE);
    ck_assert(!pte_next_mapped(&mm[0], &at, 0x200000 + 7 * PAGE_SIZE));
    at = uaddr(0x200000 + PAGE_SIZE);
    ck_assert(pte_next_mapped(&mm[0], &at, 0x200000 + 8 * PAGE_SIZE));
    ck_assert_uint_eq(at.v, 0x200000 + 7 * PAGE_SIZE);
    at = uaddr(0x10000000);
    ck_assert(!pte_next_mapped(&mm[0], &at, 0x40000000));
}
END_TEST

START_TEST(an_emptied_leaf_is_passed_over_and_used_again)
{
    struct uaddr at = {0};

    ck_assert_int_eq(adopt(&mm[0], uaddr(LEAF_SIZE)), 0);
    ck_assert_int_eq(pte_transition(&mm[0], uaddr(LEAF_SIZE), PTE_EV_REMOVE, (struct pte_arg){0},
                                    NULL),
                     0);
    ck_assert(!pte_next_mapped(&mm[0], &at, UINT64_MAX));
    uint32_t left = pgtable_nr_free_leaves(pt);
    ck_assert_int_eq(adopt(&mm[0], uaddr(LEAF_SIZE + PAGE_SIZE)), 0);
    ck_assert_uint_eq(pgtable_nr_free_leaves(pt), left);
}
END_TEST

START_TEST(leaves_without_entries_are_given_back_and_no_others)
{
    uint32_t left = pgtable_nr_free_leaves(pt);

    for (uint32_t k = 0; k < 10; k++) {
        ck_assert_int_eq(adopt(&mm[0], uaddr(k * LEAF_SIZE)), 0);
        ck_assert_int_eq(adopt(&mm[0], uaddr(k * LEAF_SIZE + 5 * PAGE_SIZE)), 0);
    }
    ck_assert_int_eq(adopt(&mm[1], uaddr(3 * LEAF_SIZE)), 0);
    for (uint32_t k = 0; k < 10; k++) /* of the even ones one entry stays */
        for (uint32_t p = 0; p <= (k & 1 ? 5 : 0); p += 5)
            ck_assert_int_eq(pte_transition(&mm[0], uaddr(k * LEAF_SIZE + p * PAGE_SIZE),
                                            PTE_EV_REMOVE, (struct pte_arg){0}, NULL),
                             0);
    ck_assert_uint_eq(pgtable_nr_free_leaves(pt), left - 11);
    mm_free_leaves(&mm[0], 2 * LEAF_SIZE, 7 * LEAF_SIZE + PAGE_SIZE); /* those of 3, 5 and 7 */
    ck_assert_uint_eq(pgtable_nr_free_leaves(pt), left - 8);
    ck_assert_ptr_null(pgtable_check(&mm[0]));
    ck_assert_ptr_null(pgtable_check(&mm[1]));
    ck_assert_int_eq(pte_tag(pte_get(&mm[1], uaddr(3 * LEAF_SIZE))), PTE_PRESENT);
    for (uint32_t k = 0; k < 10; k += 2)
        ck_assert_int_eq(pte_tag(pte_get(&mm[0], uaddr(k * LEAF_SIZE + 5 * PAGE_SIZE))),
                         PTE_PRESENT);
    mm_free_leaves(&mm[0], 0, UINT64_MAX);
    ck_assert_uint_eq(pgtable_nr_free_leaves(pt), left - 6);
    ck_assert_int_eq(adopt(&mm[0], uaddr(3 * LEAF_SIZE)), 0); /* and it can come again */
    ck_assert_ptr_null(pgtable_check(&mm[0]));
}
END_TEST

START_TEST(whoever_takes_up_gives_empty_leaves_back)
{
    for (uint32_t k = 0; k < 6; k++)
        ck_assert_int_eq(adopt(&mm[0], uaddr(k * LEAF_SIZE)), 0);
    for (uint32_t k = 0; k < 6; k += 2)
        ck_assert_int_eq(pte_transition(&mm[0], uaddr(k * LEAF_SIZE), PTE_EV_REMOVE,
                                        (struct pte_arg){0}, NULL),
                         0);
    struct pgtable *again = pgtable_open(mem, NR_LEAVES);
    struct mm heir = {0};
    ck_assert_int_eq(mm_tables_recover(&heir, again, 1), 0);
    ck_assert_uint_eq(heir.nr_leaves, 3);
    ck_assert_uint_eq(pgtable_nr_free_leaves(again), NR_LEAVES - 3);
    ck_assert_ptr_null(pgtable_check(&heir));
    remove_all(&heir);
    mm_free_leaves(&heir, 0, UINT64_MAX);
    ck_assert_uint_eq(pgtable_nr_free_leaves(again), NR_LEAVES);
    mm_tables_free(&heir);
    pgtable_close(again);
    /* Its memory is as the heir left it. */
    pgtable_close(pt);
    memset(mm, 0, sizeof(mm));
    pt = pgtable_open(mem, NR_LEAVES);
}
END_TEST

START_TEST(without_a_leaf_left_nothing_changes)
{
    for (uint32_t k = 0; k < NR_LEAVES; k++)
        ck_assert_int_eq(adopt(&mm[0], uaddr(k * LEAF_SIZE)), 0);
    ck_assert_uint_eq(pgtable_nr_free_leaves(pt), 0);

    struct mm was = mm[0];
    ck_assert_int_eq(adopt(&mm[0], uaddr(NR_LEAVES * LEAF_SIZE)), -ENOMEM);
    ck_assert_int_eq(adopt(&mm[1], uaddr(0)), -ENOMEM);
    ck_assert_int_eq(pte_transition(&mm[1], uaddr(0), PTE_EV_IMPORT,
                                    (struct pte_arg){.value = pte_make(PTE_ZERO, 0, 0, 0)}, NULL),
                     -ENOMEM);
    ck_assert(!memcmp(&was, &mm[0], sizeof(was)));
    ck_assert_uint_eq(mm[1].nr_leaves, 0);
    ck_assert_uint_eq(mm[1].nr[PTE_PRESENT] + mm[1].nr[PTE_ZERO], 0);
    /* What needs no new leaf goes on. */
    ck_assert_int_eq(adopt(&mm[0], uaddr(PAGE_SIZE)), 0);
    ck_assert_int_eq(pte_transition(&mm[1], uaddr(0), PTE_EV_REMOVE, (struct pte_arg){0}, NULL), 0);

    /* One address space's end makes room for another. */
    remove_all(&mm[0]);
    mm_tables_free(&mm[0]);
    ck_assert_uint_eq(pgtable_nr_free_leaves(pt), NR_LEAVES);
    ck_assert_int_eq(adopt(&mm[1], uaddr(0)), 0);
}
END_TEST

START_TEST(a_leaf_given_on_holds_nothing_of_its_last_owner)
{
    /* All entries of every leaf in use, then all leaves to another address space. */
    for (uint32_t k = 0; k < NR_LEAVES; k++)
        for (uint32_t p = 0; p < PTES_PER_LEAF; p += 31)
            ck_assert_int_eq(adopt(&mm[0], uaddr(k * LEAF_SIZE + p * PAGE_SIZE)), 0);
    /* As a worker leaves it that dies between two entries: the memory is not cleared. */
    remove_all(&mm[0]);
    mm_tables_free(&mm[0]);
    memset((char *)mem + pgtable_bytes(NR_LEAVES) - NR_LEAVES * PTES_PER_LEAF * sizeof(pte_t), 0x11,
           NR_LEAVES * PTES_PER_LEAF * sizeof(pte_t));
    for (uint32_t k = 0; k < NR_LEAVES; k++)
        ck_assert_int_eq(adopt(&mm[1], uaddr(k * LEAF_SIZE)), 0);
    ck_assert_ptr_null(pgtable_check(&mm[1]));
    ck_assert_uint_eq(mm[1].nr[PTE_PRESENT], NR_LEAVES);
}
END_TEST

START_TEST(a_second_open_of_the_same_memory_finds_every_leaf)
{
    static pte_t want[NR_MM][SCATTERED];
    uint32_t left;

    memset(want, 0, sizeof(want));
    for (uint32_t n = 0; n < 60; n++) {
        uint32_t i = draw(NR_MM - 1), k = draw(SCATTERED);
        pte_t value = pte_make((enum pte_tag)(1 + draw(PTE_NR_TAGS - 1)), 0, 1, n);
        if (!want[i][k] && !pte_transition(&mm[i], place(k), PTE_EV_IMPORT,
                                           (struct pte_arg){.value = value}, NULL))
            want[i][k] = value;
    }
    left = pgtable_nr_free_leaves(pt);
    ck_assert_uint_lt(left, NR_LEAVES - 20);

    struct pgtable *again = pgtable_open(mem, NR_LEAVES);
    ck_assert_ptr_nonnull(again);
    ck_assert_uint_eq(pgtable_nr_free_leaves(again), left);
    for (uint32_t i = 0; i < NR_MM; i++) {
        struct mm heir = {.id = i + 1, .pt = again};
        for (uint32_t k = 0; k < SCATTERED; k++)
            ck_assert_uint_eq(pte_get(&heir, place(k)), want[i][k]);
    }
    pgtable_close(again);
}
END_TEST

START_TEST(the_check_sees_a_count_that_is_off)
{
    ck_assert_int_eq(adopt(&mm[0], place(0)), 0);
    mm[0].nr[PTE_FRAME]++;
    ck_assert_ptr_nonnull(pgtable_check(&mm[0]));
    mm[0].nr[PTE_FRAME]--;
    ck_assert_ptr_null(pgtable_check(&mm[0]));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pgtable-leaves");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, insert_and_remove_under_collisions_find_every_leaf);
    tcase_add_test(tc, the_index_grows_with_the_leaves);
    tcase_add_test(tc, one_address_in_two_address_spaces_is_two_entries);
    tcase_add_test(tc, the_walk_goes_by_address_and_over_holes);
    tcase_add_test(tc, an_emptied_leaf_is_passed_over_and_used_again);
    tcase_add_test(tc, leaves_without_entries_are_given_back_and_no_others);
    tcase_add_test(tc, whoever_takes_up_gives_empty_leaves_back);
    tcase_add_test(tc, without_a_leaf_left_nothing_changes);
    tcase_add_test(tc, a_leaf_given_on_holds_nothing_of_its_last_owner);
    tcase_add_test(tc, a_second_open_of_the_same_memory_finds_every_leaf);
    tcase_add_test(tc, the_check_sees_a_count_that_is_off);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
