/* SPDX-License-Identifier: Apache-2.0 */
/* Where the file nodes are: what is made, what is refused, and what is never touched. */
#define _GNU_SOURCE
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keeper/keeper_priv.h"

#define MIB ((uint64_t)1 << 20)

static char dir[64], path[96];
static struct keeper_refusal why;

/* The real one is in keeper.c, with all the rest. */
int keeper_refuse(struct keeper_refusal *to, int err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(to->text, sizeof(to->text), fmt, ap);
    va_end(ap);
    return err;
}

static void setup(void)
{
    strcpy(dir, "/tmp/test-keeper-swapfile-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/swap", dir);
    why.text[0] = 0;
}

static void teardown(void)
{
    unlink(path);
    ck_assert_int_eq(rmdir(dir), 0);
}

static bool says(const char *word)
{
    return strstr(why.text, word) != NULL;
}

START_TEST(a_file_is_made_set_aside_and_has_no_name)
{
    struct stat st;
    int fd = swapfile_open(path, 16 * MIB, &why);

    ck_assert_msg(fd >= 0, "%s", why.text);
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_uint_eq((uint64_t)st.st_size, 16 * MIB);
    ck_assert_uint_ge((uint64_t)st.st_blocks * 512, 16 * MIB);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_assert_uint_eq(st.st_nlink, 0);
    ck_assert_int_eq(access(path, F_OK), -1);
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    /* The next user gets one of its own. */
    int other = swapfile_open(path, 16 * MIB, &why);
    ck_assert_int_ge(other, 0);
    close(fd);
    close(other);
}
END_TEST

START_TEST(what_exists_is_refused_and_not_touched)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    struct stat st;

    ck_assert_int_eq(write(fd, "precious", 8), 8);
    close(fd);
    ck_assert_int_eq(swapfile_open(path, 16 * MIB, &why), -EEXIST);
    ck_assert(says("does not overwrite") && says(path));
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_size, 8);
    unlink(path);
    ck_assert_int_eq(symlink("/dev/null", path), 0);
    ck_assert_int_eq(swapfile_open(path, 16 * MIB, &why), -EEXIST);
    ck_assert_int_eq(swapfile_open(dir, 16 * MIB, &why), -EEXIST);
}
END_TEST

START_TEST(a_directory_that_is_not_there_is_said)
{
    ck_assert_int_eq(swapfile_open("/nowhere/at/all", 16 * MIB, &why), -ENOENT);
    ck_assert(says("/nowhere/at/all") && says("--swap"));
}
END_TEST

START_TEST(more_than_the_limit_of_file_sizes_is_said_and_leaves_nothing)
{
    struct rlimit was, is = {MIB, MIB};

    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
    is.rlim_max = was.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &is), 0);
    ck_assert_int_eq(swapfile_open(path, 16 * MIB, &why), -EFBIG);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &was), 0);
    ck_assert(says("ulimit"));
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

static int parse(const char *text, uint64_t *bytes)
{
    char to[256];
    int r = swap_parse(text, to, sizeof(to), bytes, &why);

    if (!r)
        ck_assert_str_eq(to, "/var/x:y");
    return r;
}

START_TEST(the_option_is_a_path_and_a_size)
{
    uint64_t bytes = 0;

    ck_assert_int_eq(parse("/var/x:y:64M", &bytes), 0);
    ck_assert_uint_eq(bytes, 64 * MIB);
    ck_assert_int_eq(parse("/var/x:y:67108865", &bytes), 0);
    ck_assert_uint_eq(bytes, 64 * MIB);
    static const char *const wrong[] = {"",        "/swap",      "/swap:",    "/swap:x",  "/swap:1K",
                                        "/swap:2T", "swap:64M",  ":64M",      "/swap:-1"};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        ck_assert_msg(parse(wrong[i], &bytes) < 0, "%s", wrong[i]);
        ck_assert(says("--swap"));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("keeper swapfile");
    TCase *t = tcase_create("swapfile");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_file_is_made_set_aside_and_has_no_name);
    tcase_add_test(t, what_exists_is_refused_and_not_touched);
    tcase_add_test(t, a_directory_that_is_not_there_is_said);
    tcase_add_test(t, more_than_the_limit_of_file_sizes_is_said_and_leaves_nothing);
    tcase_add_test(t, the_option_is_a_path_and_a_size);
    suite_add_tcase(s, t);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
