/* SPDX-License-Identifier: Apache-2.0 */
/* Which file a program's name stands for, and which kinds of file are let through. */
#define _GNU_SOURCE 1
#include <check.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "ctl/program.h"

static struct complaint why;
static char dir[64], found[PATH_MAX];

static void put(const char *name, mode_t mode, const void *data, size_t len)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    ck_assert_int_eq(write(fd, data, len), (ssize_t)len);
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
}

static void put_text(const char *name, mode_t mode, const char *text)
{
    put(name, mode, text, strlen(text));
}

static void in_directory(void)
{
    strcpy(dir, "/tmp/test-ctl-program-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(chdir(dir), 0);
    ck_assert_int_eq(mkdir("a", 0700), 0);
    ck_assert_int_eq(mkdir("b", 0700), 0);
    put_text("a/denied", 0600, "");
    put_text("b/denied", 0700, "");
    put_text("a/both", 0700, "");
    put_text("b/both", 0700, "");
    put_text("here", 0700, "");
}

static void out_of_directory(void)
{
    static const char *const files[] = {"a/denied", "b/denied", "a/both", "b/both", "here", "x"};

    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        (void)unlink(files[i]);
    ck_assert_int_eq(rmdir("a"), 0);
    ck_assert_int_eq(rmdir("b"), 0);
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(rmdir(dir), 0);
}

static void expect_found(const char *path, const char *name, const char *want)
{
    setenv("PATH", path, 1);
    ck_assert_int_eq(program_find(name, found, &why), 0);
    ck_assert_str_eq(found, want);
}

START_TEST(first_in_path_that_can_be_executed)
{
    expect_found("a:b", "both", "a/both");
    expect_found("b:a", "both", "b/both");
    expect_found("a:b", "denied", "b/denied");
    expect_found("none:/dev/null:b", "both", "b/both");
}
END_TEST

START_TEST(empty_elements_of_path_are_the_current_directory)
{
    expect_found("", "here", "here");
    expect_found(":a", "here", "here");
    expect_found("a:", "here", "here");
    expect_found("a::b", "here", "here");
}
END_TEST

START_TEST(without_path_the_systems_default)
{
    unsetenv("PATH");
    ck_assert_int_eq(program_find("sh", found, &why), 0);
}
END_TEST

START_TEST(name_with_a_slash_is_not_looked_up)
{
    expect_found("a:b", "./here", "./here");
    ck_assert_int_eq(program_find("./both", found, &why), -ENOENT);
}
END_TEST

START_TEST(what_is_missing_is_told_from_what_is_denied)
{
    setenv("PATH", "a", 1);
    ck_assert_int_eq(program_find("denied", found, &why), -EACCES);
    ck_assert_int_eq(program_find("a/denied", found, &why), -EACCES);
    ck_assert_int_eq(program_find("none", found, &why), -ENOENT);
    ck_assert_int_eq(program_find("a/none", found, &why), -ENOENT);
    ck_assert_int_eq(program_find("here/none", found, &why), -ENOENT);
    ck_assert_int_eq(program_find("", found, &why), -ENOENT);
    ck_assert_int_eq(program_find("./a", found, &why), -EISDIR);
}
END_TEST

static int check_of(const void *data, size_t len)
{
    put("x", 0700, data, len);
    return program_check("./x", &why);
}

static int check_of_text(const char *text)
{
    return check_of(text, strlen(text));
}

START_TEST(dynamic_programs_and_scripts_are_let_through)
{
    ck_assert_int_eq(program_check("/proc/self/exe", &why), 0);
    ck_assert_int_eq(program_check("/bin/sh", &why), 0);
    ck_assert_int_eq(check_of_text("#!/bin/sh\n"), 0);
    ck_assert_int_eq(check_of_text("#! \t/bin/sh -e"), 0);
    ck_assert_int_eq(check_of_text("echo for the shell\n"), 0);
}
END_TEST

START_TEST(what_the_kernel_will_refuse_is_left_to_it)
{
    ck_assert_int_eq(check_of_text(""), 0);
    ck_assert_int_eq(check_of_text("#!"), 0);
    ck_assert_int_eq(check_of_text("#!\n"), 0);
    ck_assert_int_eq(check_of_text("#!/none/such\n"), 0);
    ck_assert_int_eq(check_of_text("#!./x\n"), 0); /* its own interpreter: ELOOP */
    ck_assert_int_eq(program_check("./none", &why), 0);
}
END_TEST

/* Our own ELF header, with a program header table that is changed by the tests. */
static size_t own_head(unsigned char *head, size_t size)
{
    int fd = open("/proc/self/exe", O_RDONLY);
    ssize_t n = read(fd, head, size);

    ck_assert_int_eq(n, (ssize_t)size);
    close(fd);
    return (size_t)n;
}

#define E_IDENT_CLASS 4
#define E_MACHINE 18
#define E_PHNUM 56

START_TEST(static_and_foreign_programs_are_refused)
{
    unsigned char head[64];
    size_t len = own_head(head, sizeof(head));

    head[E_PHNUM] = head[E_PHNUM + 1] = 0; /* no PT_INTERP: static */
    ck_assert_int_eq(check_of(head, len), -ENOEXEC);
    ck_assert_ptr_nonnull(strstr(why.text, "statically linked"));
    head[E_MACHINE] ^= 1;
    ck_assert_int_eq(check_of(head, len), -ENOEXEC);
    ck_assert_ptr_nonnull(strstr(why.text, "another machine"));
    head[E_IDENT_CLASS] = 1;
    ck_assert_int_eq(check_of(head, len), -ENOEXEC);
    ck_assert_ptr_nonnull(strstr(why.text, "not a 64-bit program"));
}
END_TEST

START_TEST(torn_headers_do_no_harm)
{
    unsigned char head[64];
    size_t full = own_head(head, sizeof(head));

    for (size_t len = 0; len <= full; len++)
        (void)check_of(head, len); /* the program headers are missing, or the rest too */
    head[E_PHNUM] = head[E_PHNUM + 1] = 0xff;
    ck_assert_int_eq(check_of(head, full), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl program");
    TCase *t = tcase_create("program");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(t, in_directory, out_of_directory);
    tcase_add_test(t, first_in_path_that_can_be_executed);
    tcase_add_test(t, empty_elements_of_path_are_the_current_directory);
    tcase_add_test(t, without_path_the_systems_default);
    tcase_add_test(t, name_with_a_slash_is_not_looked_up);
    tcase_add_test(t, what_is_missing_is_told_from_what_is_denied);
    tcase_add_test(t, dynamic_programs_and_scripts_are_let_through);
    tcase_add_test(t, what_the_kernel_will_refuse_is_left_to_it);
    tcase_add_test(t, static_and_foreign_programs_are_refused);
    tcase_add_test(t, torn_headers_do_no_harm);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
