/* SPDX-License-Identifier: Apache-2.0 */
/* Mappings: maps and smaps are read right, garbage is passed over, our own are found. */
#define _GNU_SOURCE
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kernel/kernel.h"
#include "kernel/uapi.h"

static struct kmap map;

static void tear_down(void)
{
    kmap_free(&map);
}

static void parse(const char *text)
{
    ck_assert_int_eq(kmap_parse(&map, text, strlen(text)), 0);
}

START_TEST(a_line_is_read_in_all_its_parts)
{
    parse("7f0000001000-7f0000004000 rw-p 0000a000 fe:01 123456         /usr/lib/a b.so\n");
    ck_assert_uint_eq(map.nr, 1);
    ck_assert_uint_eq(map.vma[0].r.start.v, 0x7f0000001000);
    ck_assert_uint_eq(map.vma[0].r.len, 0x3000);
    ck_assert_uint_eq(map.vma[0].prot, KMAP_PROT_READ | KMAP_PROT_WRITE);
    ck_assert_uint_eq(map.vma[0].offset, 0xa000);
    ck_assert_uint_eq(map.vma[0].dev_major, 0xfe);
    ck_assert_uint_eq(map.vma[0].dev_minor, 1);
    ck_assert_uint_eq(map.vma[0].inode, 123456);
    ck_assert_int_eq(map.vma[0].kind, KMAP_FILE);
    ck_assert_uint_eq(map.vma[0].flags, 0);
}
END_TEST

static const struct {
    const char *line;
    enum kmap_kind kind;
    uint32_t prot;
} lines[] = {
    {"1000-2000 rw-p 00000000 00:00 0 \n", KMAP_ANON, KMAP_PROT_READ | KMAP_PROT_WRITE},
    {"1000-2000 rw-p 00000000 00:00 0", KMAP_ANON, KMAP_PROT_READ | KMAP_PROT_WRITE},
    {"1000-2000 ---p 00000000 00:00 0 \n", KMAP_ANON, 0},
    {"1000-2000 rw-p 00000000 00:00 0          [heap]\n", KMAP_HEAP,
     KMAP_PROT_READ | KMAP_PROT_WRITE},
    {"1000-2000 rw-p 00000000 00:00 0          [stack]\n", KMAP_STACK,
     KMAP_PROT_READ | KMAP_PROT_WRITE},
    {"1000-2000 rw-p 00000000 00:00 0          [anon:glibc: malloc]\n", KMAP_NAMED_ANON,
     KMAP_PROT_READ | KMAP_PROT_WRITE},
    {"1000-2000 r-xp 00000000 00:00 0          [vdso]\n", KMAP_SPECIAL,
     KMAP_PROT_READ | KMAP_PROT_EXEC},
    {"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n", KMAP_SPECIAL,
     KMAP_PROT_EXEC},
    {"1000-2000 rw-s 00000000 00:01 77         /memfd:ring (deleted)\n", KMAP_FILE,
     KMAP_PROT_READ | KMAP_PROT_WRITE | KMAP_SHARED},
    {"1000-2000 rw-s 00000000 00:01 78         [anon_shmem:name]\n", KMAP_FILE,
     KMAP_PROT_READ | KMAP_PROT_WRITE | KMAP_SHARED},
    {"1000-2000 r--s 00000000 00:0e 1031       anon_inode:[perf_event]\n", KMAP_FILE,
     KMAP_PROT_READ | KMAP_SHARED},
    {"1000-2000 r--p 00000000 08:01 5          /tmp/[heap]\n", KMAP_FILE, KMAP_PROT_READ},
    {"1000-2000 r--p 00000000 08:01 5 \n", KMAP_FILE, KMAP_PROT_READ},
};

START_TEST(each_kind_of_line_is_told_apart)
{
    parse(lines[_i].line);
    ck_assert_uint_eq(map.nr, 1);
    ck_assert_int_eq(map.vma[0].kind, lines[_i].kind);
    ck_assert_uint_eq(map.vma[0].prot, lines[_i].prot);
}
END_TEST

static const char *const garbage[] = {
    "",
    "\n\n\n",
    "hello\n",
    "1000\n",
    "1000-\n",
    "1000-2000\n",
    "1000-2000 rw-p\n",
    "1000-2000 rw-p 0 00:00\n",
    "1000-2000 rw 0 00:00 0\n",
    "1000-2000 rw-pp 0 00:00 0\n",
    "2000-1000 rw-p 0 00:00 0\n",
    "1000-1000 rw-p 0 00:00 0\n",
    "1001-2000 rw-p 0 00:00 0\n",
    "1000-2001 rw-p 0 00:00 0\n",
    "zzzz-yyyy rw-p 0 00:00 0\n",
    "Rss:                 100 kB\n",
    "VmFlags: rd wr\n",
};

START_TEST(garbage_is_passed_over)
{
    char text[256];

    snprintf(text, sizeof(text), "%s%s", garbage[_i],
             "5000-6000 rw-p 00000000 00:00 0 \n");
    parse(garbage[_i]);
    ck_assert_uint_eq(map.nr, 0);
    parse(text);
    ck_assert_uint_eq(map.nr, 1);
    ck_assert_uint_eq(map.vma[0].r.start.v, 0x5000);
}
END_TEST

START_TEST(every_prefix_of_a_text_can_be_read)
{
    static const char text[] = "1000-2000 rw-p 00000000 00:00 0    [heap]\n"
                               "3000-5000 r-xp 00001000 fe:01 99   /bin/x\n";
    size_t last = 0;

    for (size_t len = 0; len < sizeof(text); len++) {
        /* A copy without room behind it, for AddressSanitizer to guard. */
        char *copy = malloc(len ? len : 1);
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, text, len);
        ck_assert_int_eq(kmap_parse(&map, copy, len), 0);
        kmap_parse_flags(&map, copy, len);
        ck_assert_uint_ge(map.nr, last);
        last = map.nr;
        free(copy);
    }
    ck_assert_uint_eq(last, 2);
}
END_TEST

START_TEST(a_line_that_goes_back_is_dropped)
{
    parse("1000-3000 rw-p 0 00:00 0 \n"
          "2000-4000 rw-p 0 00:00 0 \n"
          "1000-2000 rw-p 0 00:00 0 \n"
          "3000-4000 rw-p 0 00:00 0 \n");
    ck_assert_uint_eq(map.nr, 2);
    ck_assert_uint_eq(map.vma[1].r.start.v, 0x3000);
}
END_TEST

START_TEST(a_very_long_name_is_no_obstacle)
{
    char text[8192];
    int n = snprintf(text, sizeof(text), "1000-2000 rw-p 00000000 08:01 5     /");

    memset(text + n, 'x', 6000);
    strcpy(text + n + 6000, "\n3000-4000 rw-p 00000000 00:00 0 \n");
    parse(text);
    ck_assert_uint_eq(map.nr, 2);
    ck_assert_int_eq(map.vma[0].kind, KMAP_FILE);
    ck_assert_int_eq(map.vma[1].kind, KMAP_ANON);
}
END_TEST

START_TEST(many_mappings_are_kept_in_order_and_found)
{
    char *text = malloc(1000 * 64);
    size_t len = 0;

    ck_assert_ptr_nonnull(text);
    for (unsigned i = 1; i <= 1000; i++)
        len += (size_t)sprintf(text + len, "%x-%x rw-p 0 00:00 0 \n", i * 0x4000,
                               i * 0x4000 + 0x2000);
    ck_assert_int_eq(kmap_parse(&map, text, len), 0);
    free(text);
    ck_assert_uint_eq(map.nr, 1000);
    for (unsigned i = 1; i <= 1000; i++) {
        const struct kmap_vma *v = kmap_find(&map, uaddr(i * 0x4000 + 0x1fff));

        ck_assert_ptr_eq(v, &map.vma[i - 1]);
        ck_assert_ptr_eq(kmap_find(&map, v->r.start), v);
        ck_assert_ptr_null(kmap_find(&map, uaddr(urange_end(v->r))));
    }
    ck_assert_ptr_null(kmap_find(&map, uaddr(0)));
    ck_assert_ptr_null(kmap_find(&map, uaddr(UINT64_MAX)));
}
END_TEST

START_TEST(flags_go_to_the_mapping_with_the_same_bounds_only)
{
    static const char smaps[] =
        "1000-2000 rw-p 00000000 00:00 0 \n"
        "Size:                  4 kB\n"
        "Rss:                   4 kB\n"
        "VmFlags: rd wr mr mw me lo dc wf gd io pf ht um hg nh mg mm ss dp \n"
        "3000-6000 rw-p 00000000 00:00 0 \n"
        "VmFlags: rd wr lo \n"
        "7000-8000 rw-p 00000000 00:00 0 \n"
        "VmFlags: rd wr ac sd zz longer x \n"
        "8000-9000 rw-p 00000000 00:00 0 \n"
        "Rss:                   4 kB\n";

    parse("1000-2000 rw-p 0 00:00 0 \n3000-5000 rw-p 0 00:00 0 \n"
          "7000-8000 rw-p 0 00:00 0 \n8000-9000 rw-p 0 00:00 0 \n");
    kmap_parse_flags(&map, smaps, strlen(smaps));
    ck_assert_uint_eq(map.vma[0].flags, (KMAP_VMF_DROPPABLE << 1) - 1);
    ck_assert_uint_eq(map.vma[1].flags, 0); /* has grown meanwhile */
    ck_assert_uint_eq(map.vma[2].flags, KMAP_VMF_KNOWN);
    ck_assert_uint_eq(map.vma[3].flags, 0);

    /* A later look that does not find them again forgets. */
    kmap_parse_flags(&map, "", 0);
    ck_assert_uint_eq(map.vma[0].flags, 0);
}
END_TEST

/* ---- the real thing ---- */

/* A page of our own between two that differ, so that it is a mapping by itself. */
static char *lone_page(void)
{
    char *p = mmap(NULL, 3 * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(p, MAP_FAILED);
    p += PAGE_SIZE;
    ck_assert_int_eq(mprotect(p, PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
    *p = 1;
    return p;
}

static uint32_t flags_of(const void *p)
{
    ck_assert_int_eq(kmaps_read(getpid(), &map), 0);
    ck_assert_int_eq(kmaps_read_flags(getpid(), &map, UINT64_MAX), 0);
    const struct kmap_vma *v = kmap_find(&map, uaddr((uintptr_t)p));
    ck_assert_ptr_nonnull(v);
    ck_assert(v->flags & KMAP_VMF_KNOWN);
    return v->flags & ~(uint32_t)KMAP_VMF_KNOWN;
}

START_TEST(one_reading_gives_mappings_and_flags)
{
    char *p = lone_page();

    ck_assert_int_eq(madvise(p, PAGE_SIZE, MADV_WIPEONFORK), 0);
    ck_assert_int_eq(kmaps_read_with_flags(getpid(), &map), 0);
    const struct kmap_vma *v = kmap_find(&map, uaddr((uintptr_t)p));
    ck_assert_ptr_nonnull(v);
    ck_assert_uint_eq(v->r.start.v, (uintptr_t)p);
    ck_assert_uint_eq(v->r.len, PAGE_SIZE);
    ck_assert_uint_eq(v->prot, KMAP_PROT_READ | KMAP_PROT_WRITE);
    ck_assert(v->flags & KMAP_VMF_KNOWN && v->flags & KMAP_VMF_WIPEONFORK);
    ck_assert(v[1].flags & KMAP_VMF_KNOWN && !(v[1].flags & KMAP_VMF_WIPEONFORK));
}
END_TEST

START_TEST(flags_are_read_as_far_as_they_are_wanted)
{
    char *p = lone_page();

    ck_assert_int_eq(kmaps_read(getpid(), &map), 0);
    ck_assert_int_eq(kmaps_read_flags(getpid(), &map, (uintptr_t)p), 0);
    const struct kmap_vma *v = kmap_find(&map, uaddr((uintptr_t)p));
    ck_assert_ptr_nonnull(v);
    ck_assert(v->flags & KMAP_VMF_KNOWN);
    ck_assert_int_eq(kmaps_read_flags(getpid(), &map, 0), 0);
    ck_assert(map.vma[0].flags & KMAP_VMF_KNOWN);
    ck_assert_uint_eq(map.vma[map.nr - 1].flags, 0);
}
END_TEST

START_TEST(our_own_mappings_are_found)
{
    char *p = lone_page(), local;

    ck_assert_int_eq(kmaps_read(getpid(), &map), 0);
    const struct kmap_vma *v = kmap_find(&map, uaddr((uintptr_t)p));
    ck_assert_ptr_nonnull(v);
    ck_assert_uint_eq(v->r.start.v, (uintptr_t)p);
    ck_assert_uint_eq(v->r.len, PAGE_SIZE);
    ck_assert_int_eq(v->kind, KMAP_ANON);
    ck_assert_uint_eq(v->prot, KMAP_PROT_READ | KMAP_PROT_WRITE);
    v = kmap_find(&map, uaddr((uintptr_t)&local));
    ck_assert_ptr_nonnull(v);
    ck_assert_int_eq(v->kind, KMAP_STACK);
    v = kmap_find(&map, uaddr((uintptr_t)&tear_down));
    ck_assert_ptr_nonnull(v);
    ck_assert_int_eq(v->kind, KMAP_FILE);
    ck_assert(v->prot & KMAP_PROT_EXEC);
}
END_TEST

START_TEST(one_mapping_is_told_from_a_part_and_from_more)
{
    uint64_t p = (uintptr_t)lone_page();

    ck_assert_int_eq(kmaps_is_one(getpid(), urange(p, p + PAGE_SIZE)), 1);
    ck_assert_int_eq(kmaps_is_one(getpid(), urange(p, p + 2 * PAGE_SIZE)), 0);
    ck_assert_int_eq(kmaps_is_one(getpid(), urange(p - PAGE_SIZE, p + PAGE_SIZE)), 0);
    ck_assert_int_eq(kmaps_covers(getpid(), urange(p, p + PAGE_SIZE)), 1);
    ck_assert_int_eq(kmaps_covers(getpid(), urange(p, p + 2 * PAGE_SIZE)), 0);
    ck_assert_int_eq(munmap((void *)(uintptr_t)p, PAGE_SIZE), 0);
    ck_assert_int_eq(kmaps_is_one(getpid(), urange(p, p + PAGE_SIZE)), 0);
}
END_TEST

START_TEST(what_madvise_and_mlock_did_is_seen)
{
    char *p = lone_page();

    ck_assert_uint_eq(flags_of(p) & (KMAP_VMF_LOCKED | KMAP_VMF_DONTCOPY | KMAP_VMF_WIPEONFORK |
                                     KMAP_VMF_UFFD | KMAP_VMF_GROWSDOWN),
                      0);
    ck_assert_int_eq(madvise(p, PAGE_SIZE, MADV_DONTFORK), 0);
    ck_assert(flags_of(p) & KMAP_VMF_DONTCOPY);
    ck_assert_int_eq(madvise(p, PAGE_SIZE, MADV_WIPEONFORK), 0);
    ck_assert(flags_of(p) & KMAP_VMF_WIPEONFORK);
    /* RLIMIT_MEMLOCK may forbid it.  Not mlock(), which AddressSanitizer makes do nothing. */
    if (syscall(SYS_mlock, p, PAGE_SIZE) == 0)
        ck_assert(flags_of(p) & KMAP_VMF_LOCKED);
    char *stack = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
    ck_assert_ptr_ne(stack, MAP_FAILED);
    ck_assert(flags_of(stack) & KMAP_VMF_GROWSDOWN);
}
END_TEST

START_TEST(a_registered_mapping_is_seen_as_such)
{
    char *p = lone_page();
    int fd = kuffd_new(-1);

    if (fd < 0 || kuffd_api(fd, 0) < 0) {
        printf("skipped: no userfaultfd: %s\n", strerror(-fd));
        return;
    }
    ck_assert_int_eq(kuffd_register(fd, urange((uintptr_t)p, (uintptr_t)p + PAGE_SIZE), false),
                     KRES_DONE);
    ck_assert(flags_of(p) & KMAP_VMF_UFFD);
    close(fd);
}
END_TEST

START_TEST(a_named_mapping_is_still_anonymous)
{
    char *p = lone_page();

    if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p, PAGE_SIZE, "test [heap]") < 0 &&
        prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p, PAGE_SIZE, "test") < 0) {
        printf("skipped: PR_SET_VMA_ANON_NAME: %s\n", strerror(errno));
        return;
    }
    ck_assert_int_eq(kmaps_read(getpid(), &map), 0);
    ck_assert_int_eq(kmap_find(&map, uaddr((uintptr_t)p))->kind, KMAP_NAMED_ANON);
}
END_TEST

START_TEST(a_zombie_has_no_mappings_and_nobody_is_an_error)
{
    siginfo_t info;
    pid_t child = fork();

    if (child == 0)
        _exit(0);
    ck_assert_int_eq(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    ck_assert_int_eq(kmaps_read(getpid(), &map), 0);
    ck_assert_uint_gt(map.nr, 0);
    ck_assert_int_le(kmaps_read(child, &map), 0);
    ck_assert_uint_eq(map.nr, 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_int_lt(kmaps_read(child, &map), 0);
    ck_assert_int_lt(kmaps_read_flags(child, &map, UINT64_MAX), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kernel-maps");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, NULL, tear_down);
    tcase_add_loop_test(tc, each_kind_of_line_is_told_apart, 0, ARRAY_SIZE(lines));
    tcase_add_loop_test(tc, garbage_is_passed_over, 0, ARRAY_SIZE(garbage));
    tcase_add_test(tc, a_line_is_read_in_all_its_parts);
    tcase_add_test(tc, every_prefix_of_a_text_can_be_read);
    tcase_add_test(tc, a_line_that_goes_back_is_dropped);
    tcase_add_test(tc, a_very_long_name_is_no_obstacle);
    tcase_add_test(tc, many_mappings_are_kept_in_order_and_found);
    tcase_add_test(tc, flags_go_to_the_mapping_with_the_same_bounds_only);
    tcase_add_test(tc, our_own_mappings_are_found);
    tcase_add_test(tc, one_mapping_is_told_from_a_part_and_from_more);
    tcase_add_test(tc, flags_are_read_as_far_as_they_are_wanted);
    tcase_add_test(tc, one_reading_gives_mappings_and_flags);
    tcase_add_test(tc, what_madvise_and_mlock_did_is_seen);
    tcase_add_test(tc, a_registered_mapping_is_seen_as_such);
    tcase_add_test(tc, a_named_mapping_is_still_anonymous);
    tcase_add_test(tc, a_zombie_has_no_mappings_and_nobody_is_an_error);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
