/* SPDX-License-Identifier: Apache-2.0 */
/* Which sockets pagerctl looks at, and where --stats goes. */
#define _GNU_SOURCE 1
#include <check.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "ctl/link.h"
#include "ctl/statsfile.h"

static struct complaint why;
static struct link_places p;

START_TEST(root_has_the_systems_only)
{
    ck_assert_int_eq(link_places(NULL, NULL, "/run/user/0", true, &p, &why), 0);
    ck_assert_uint_eq(p.nr, 1);
    ck_assert(!p.chosen);
    ck_assert_str_eq(p.path[0], "/run/pagerd/pagerd.sock");
}
END_TEST

START_TEST(user_has_his_own_then_the_systems)
{
    ck_assert_int_eq(link_places(NULL, NULL, "/run/user/1000", false, &p, &why), 0);
    ck_assert_uint_eq(p.nr, 2);
    ck_assert(!p.chosen);
    ck_assert_str_eq(p.path[0], "/run/user/1000/pagerd/pagerd.sock");
    ck_assert_str_eq(p.path[1], "/run/pagerd/pagerd.sock");
}
END_TEST

START_TEST(user_without_runtime_directory_has_the_systems)
{
    static const char *const dirs[] = {NULL, "", "relative"};

    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        ck_assert_int_eq(link_places(NULL, NULL, dirs[i], false, &p, &why), 0);
        ck_assert_uint_eq(p.nr, 1);
        ck_assert_str_eq(p.path[0], "/run/pagerd/pagerd.sock");
    }
}
END_TEST

START_TEST(option_before_environment_and_nothing_else)
{
    ck_assert_int_eq(link_places("/a", "/b", "/run/user/1000", false, &p, &why), 0);
    ck_assert(p.nr == 1 && p.chosen);
    ck_assert_str_eq(p.path[0], "/a");
    ck_assert_int_eq(link_places(NULL, "/b", "/run/user/1000", false, &p, &why), 0);
    ck_assert(p.nr == 1 && p.chosen);
    ck_assert_str_eq(p.path[0], "/b");
}
END_TEST

START_TEST(empty_environment_counts_as_none_and_empty_option_as_wrong)
{
    ck_assert_int_eq(link_places(NULL, "", "/run/user/1000", false, &p, &why), 0);
    ck_assert(!p.chosen);
    ck_assert_int_eq(link_places("", "/b", NULL, true, &p, &why), -EINVAL);
}
END_TEST

START_TEST(relative_path_becomes_absolute)
{
    ck_assert_int_eq(chdir("/tmp"), 0);
    ck_assert_int_eq(link_places("x/sock", NULL, NULL, true, &p, &why), 0);
    ck_assert_str_eq(p.path[0], "/tmp/x/sock");
}
END_TEST

START_TEST(longest_path_fits_and_the_next_does_not)
{
    char name[LINK_PATH_MAX + 1];

    memset(name, 'x', sizeof(name));
    name[0] = '/';
    name[LINK_PATH_MAX - 1] = '\0';
    ck_assert_int_eq(link_places(name, NULL, NULL, true, &p, &why), 0);
    ck_assert_str_eq(p.path[0], name);
    name[LINK_PATH_MAX - 1] = 'x';
    name[LINK_PATH_MAX] = '\0';
    ck_assert_int_eq(link_places(name, NULL, NULL, true, &p, &why), -EINVAL);
}
END_TEST

/* ---- --stats ---- */

static char dir[64];

static void in_directory(void)
{
    strcpy(dir, "/tmp/test-ctl-places-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(chdir(dir), 0);
    umask(027);
}

static void out_of_directory(void)
{
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(rmdir(dir), 0); /* no temporary file is left either */
}

static void expect_file(const char *name, const char *want)
{
    char text[64];
    int fd = open(name, O_RDONLY);
    ssize_t n = read(fd, text, sizeof(text) - 1);

    ck_assert_int_ge(n, 0);
    text[n] = '\0';
    ck_assert_str_eq(text, want);
    close(fd);
}

START_TEST(new_file_is_written_even_if_the_directory_was_left)
{
    struct statsfile f;
    struct stat st;

    ck_assert_int_eq(statsfile_prepare("stats", &f, &why), 0);
    ck_assert(f.replace);
    ck_assert_int_ne(access("stats", F_OK), 0); /* not before the program has ended */
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(statsfile_write(&f, "{}", &why), 0);
    ck_assert_int_eq(chdir(dir), 0);
    expect_file("stats", "{}\n");
    ck_assert_int_eq(stat("stats", &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0640);
    ck_assert_int_eq(unlink("stats"), 0);
}
END_TEST

START_TEST(file_is_replaced_whole_and_through_a_link)
{
    struct statsfile f;
    int old;
    char c;

    ck_assert_int_eq(symlink("real", "link"), 0);
    old = open("real", O_RDWR | O_CREAT, 0600);
    ck_assert_int_eq(write(old, "old", 3), 3);
    ck_assert_int_eq(statsfile_prepare("link", &f, &why), 0);
    ck_assert_int_eq(statsfile_write(&f, "new", &why), 0);
    expect_file("real", "new\n");
    ck_assert_int_eq(pread(old, &c, 1, 0), 1); /* who has it open still reads the old one */
    ck_assert_int_eq(c, 'o');
    close(old);
    ck_assert_int_eq(unlink("link"), 0);
    ck_assert_int_eq(unlink("real"), 0);
}
END_TEST

START_TEST(what_is_no_regular_file_is_written_to)
{
    struct statsfile f;
    struct stat st;

    ck_assert_int_eq(statsfile_prepare("/dev/null", &f, &why), 0);
    ck_assert(!f.replace);
    ck_assert_int_eq(statsfile_write(&f, "{}", &why), 0);
    ck_assert_int_eq(stat("/dev/null", &st), 0);
    ck_assert(S_ISCHR(st.st_mode));
}
END_TEST

START_TEST(place_that_cannot_be_written_is_told_early)
{
    static const char *const bad[] = {"", ".", "/", "none/stats", "stats/", "/dev/null/stats"};
    struct statsfile f;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ck_assert_int_lt(statsfile_prepare(bad[i], &f, &why), 0);
}
END_TEST

START_TEST(failed_write_leaves_no_file)
{
    struct statsfile f;

    ck_assert_int_eq(statsfile_prepare("stats", &f, &why), 0);
    ck_assert_int_eq(mkdir("stats", 0700), 0); /* in the meantime */
    ck_assert_int_lt(statsfile_write(&f, "{}", &why), 0);
    ck_assert_int_eq(rmdir("stats"), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl places");
    TCase *sockets = tcase_create("sockets"), *stats = tcase_create("stats");
    SRunner *r;
    int failed;

    tcase_add_test(sockets, root_has_the_systems_only);
    tcase_add_test(sockets, user_has_his_own_then_the_systems);
    tcase_add_test(sockets, user_without_runtime_directory_has_the_systems);
    tcase_add_test(sockets, option_before_environment_and_nothing_else);
    tcase_add_test(sockets, empty_environment_counts_as_none_and_empty_option_as_wrong);
    tcase_add_test(sockets, relative_path_becomes_absolute);
    tcase_add_test(sockets, longest_path_fits_and_the_next_does_not);
    suite_add_tcase(s, sockets);
    tcase_add_checked_fixture(stats, in_directory, out_of_directory);
    tcase_add_test(stats, new_file_is_written_even_if_the_directory_was_left);
    tcase_add_test(stats, file_is_replaced_whole_and_through_a_link);
    tcase_add_test(stats, what_is_no_regular_file_is_written_to);
    tcase_add_test(stats, place_that_cannot_be_written_is_told_early);
    tcase_add_test(stats, failed_write_leaves_no_file);
    suite_add_tcase(s, stats);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
