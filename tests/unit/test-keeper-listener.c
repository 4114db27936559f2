/* SPDX-License-Identifier: Apache-2.0 */
/* The socket's file: made, guarded, replaced when stale, and taken away again. */
#define _GNU_SOURCE 1
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "keeper/keeper_priv.h"

static char top[64], path[96];
static struct keeper_refusal why;

int keeper_refuse(struct keeper_refusal *to, int err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(to->text, sizeof(to->text), fmt, ap);
    va_end(ap);
    return err;
}

static void set_up(void)
{
    strcpy(top, "/tmp/test-keeper-listener-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(top));
    snprintf(path, sizeof(path), "%s/dir/sock", top);
}

static void tear_down(void)
{
    char dir[96];

    snprintf(dir, sizeof(dir), "%s/dir", top);
    (void)rmdir(dir);
    ck_assert_int_eq(rmdir(top), 0); /* nothing was left in it */
}

static mode_t mode_of(const char *name)
{
    struct stat st;

    ck_assert_int_eq(lstat(name, &st), 0);
    return st.st_mode & 07777;
}

static int connect_to(const char *name)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

    strcpy(addr.sun_path, name);
    return connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
}

START_TEST(makes_directory_and_socket_and_removes_them)
{
    struct listener l;

    ck_assert_int_eq(listener_open(path, false, true, &l, &why), 0);
    ck_assert_int_eq(mode_of(path), 0600);
    ck_assert_int_eq(connect_to(path), 0);
    listener_close(&l);
    ck_assert_int_eq(connect_to(path), -ENOENT);
}
END_TEST

START_TEST(everyone_may_connect_to_the_systems)
{
    struct listener l;

    ck_assert_int_eq(listener_open(path, true, true, &l, &why), 0);
    ck_assert_int_eq(mode_of(path), 0666);
    listener_close(&l);
}
END_TEST

START_TEST(second_daemon_is_refused_and_harms_nothing)
{
    struct listener l, second;

    ck_assert_int_eq(listener_open(path, false, true, &l, &why), 0);
    ck_assert_int_eq(listener_open(path, false, true, &second, &why), -EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(why.text, "another pagerd answers at"));
    ck_assert_int_eq(connect_to(path), 0);
    listener_close(&l);
}
END_TEST

START_TEST(stale_socket_is_replaced)
{
    struct listener l, dead;
    char lock[128];

    ck_assert_int_eq(listener_open(path, false, true, &dead, &why), 0);
    fd_close(dead.fd); /* as after kill -9: the files stay */
    fd_close(dead.lock_fd);
    ck_assert_int_eq(connect_to(path), -ECONNREFUSED);
    ck_assert_int_eq(listener_open(path, false, true, &l, &why), 0);
    ck_assert_int_eq(connect_to(path), 0);
    listener_close(&l);
    snprintf(lock, sizeof(lock), "%s.lock", path);
    ck_assert_int_ne(access(lock, F_OK), 0);
}
END_TEST

START_TEST(foreign_listener_is_left_alone)
{
    struct listener l, other;
    char lock[128];

    ck_assert_int_eq(listener_open(path, false, true, &other, &why), 0);
    snprintf(lock, sizeof(lock), "%s.lock", path);
    ck_assert_int_eq(unlink(lock), 0); /* somebody who knows nothing of our lock */
    ck_assert_int_eq(listener_open(path, false, true, &l, &why), -EADDRINUSE);
    ck_assert_int_eq(connect_to(path), 0);
    listener_close(&other);
}
END_TEST

START_TEST(file_that_is_no_socket_is_left_alone)
{
    struct listener l;
    char file[96];
    FILE *f;

    snprintf(file, sizeof(file), "%s/file", top);
    f = fopen(file, "w");
    ck_assert_ptr_nonnull(f);
    fclose(f);
    ck_assert_int_eq(listener_open(file, false, false, &l, &why), -EEXIST);
    ck_assert_int_eq(unlink(file), 0);
}
END_TEST

START_TEST(path_that_does_not_fit_is_refused)
{
    struct listener l;
    char name[200];

    memset(name, 'x', sizeof(name) - 1);
    name[0] = '/';
    name[sizeof(name) - 1] = '\0';
    ck_assert_int_eq(listener_open(name, false, false, &l, &why), -ENAMETOOLONG);
}
END_TEST

START_TEST(directory_two_levels_deep_is_not_made)
{
    struct listener l;
    char name[96];

    snprintf(name, sizeof(name), "%s/a/b/sock", top);
    ck_assert_int_eq(listener_open(name, false, false, &l, &why), -ENOENT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("keeper listener");
    TCase *t = tcase_create("listener");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, makes_directory_and_socket_and_removes_them);
    tcase_add_test(t, everyone_may_connect_to_the_systems);
    tcase_add_test(t, second_daemon_is_refused_and_harms_nothing);
    tcase_add_test(t, stale_socket_is_replaced);
    tcase_add_test(t, foreign_listener_is_left_alone);
    tcase_add_test(t, file_that_is_no_socket_is_left_alone);
    tcase_add_test(t, path_that_does_not_fit_is_refused);
    tcase_add_test(t, directory_two_levels_deep_is_not_made);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
