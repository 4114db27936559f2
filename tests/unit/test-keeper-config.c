/* SPDX-License-Identifier: Apache-2.0 */
/* pagerd.conf(5): what it may say, and the place and sentence of what it may not. */
#define _GNU_SOURCE
#include <check.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "keeper/conffile.h"

int keeper_refuse(struct keeper_refusal *to, int err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(to->text, sizeof(to->text), fmt, ap);
    va_end(ap);
    return err;
}

static struct conffile conf;
static struct keeper_refusal why;

static int parse_bytes(const char *text, size_t len)
{
    memset(&conf, 0, sizeof(conf));
    memset(&why, 0, sizeof(why));
    return conffile_parse(&conf, "F", text, len, &why);
}

static int parse(const char *text)
{
    return parse_bytes(text, strlen(text));
}

/* ---- what is right ---- */

START_TEST(every_key_is_taken)
{
    struct keeper_options o = {0};
    enum log_level level = LOG_LEVEL_INFO;

    ck_assert_int_eq(parse("[daemon]\nsocket = /run/x.sock\nlog = debug\n"
                           "[node ram]\nsize = 17M\n[node file]\npath = /swap file\nsize = 33M\n"
                           "[reclaim]\ncapture = mremap\nunsafe-pins = yes\n"), 0);
    conffile_apply(&conf, &o, &level);
    ck_assert_str_eq(o.socket, "/run/x.sock");
    ck_assert_int_eq(level, LOG_LEVEL_DEBUG);
    ck_assert_uint_eq(o.ram_bytes, 16 << 20); /* whole pageblocks */
    ck_assert_str_eq(o.swap_path, "/swap file");
    ck_assert_uint_eq(o.swap_bytes, 32 << 20);
    ck_assert_int_eq(o.capture, CAPTURE_BY_MREMAP);
    ck_assert(o.unsafe_pins);
    ck_assert_int_eq(conffile_complete(&conf, &o, &why), 0);
}
END_TEST

START_TEST(what_is_not_given_stays_as_it_was)
{
    struct keeper_options o = {.socket = "s", .ram_bytes = 1, .unsafe_pins = true}, before = o;
    enum log_level level = LOG_LEVEL_ERROR;

    ck_assert_int_eq(parse("# nothing\n[daemon]\n"), 0);
    conffile_apply(&conf, &o, &level);
    ck_assert_int_eq(memcmp(&o, &before, sizeof(o)), 0);
    ck_assert_int_eq(level, LOG_LEVEL_ERROR);
}
END_TEST

static const char *const good[] = {
    "",
    "\n\n",
    "# comment\n; comment\n   \t# comment",
    "[node ram]\nsize=64M",                 /* no newline at the end */
    "\xef\xbb\xbf[node ram]\nsize=64M\n",   /* a byte order mark */
    "[node ram]\r\nsize = 64M\r\n",
    "  [node ram]  # comment\n\tsize : 64M\t; comment\n",
    "[node ram]\n[daemon]\nlog=info\n[node ram]\nsize=64M\n", /* a section once more */
    "[node ram]\nsize = 1T\n",
    "[daemon]\nsocket = /a=b;c[d]#e\n",
};

START_TEST(it_is_accepted)
{
    ck_assert_msg(parse(good[_i]) == 0, "%s", why.text);
    if (strstr(good[_i], "64M"))
        ck_assert_uint_eq(conf.ram_bytes, 64 << 20);
}
END_TEST

START_TEST(a_later_file_overrides)
{
    ck_assert_int_eq(parse("[node ram]\nsize = 64M\n[daemon]\nlog = error\n"), 0);
    ck_assert_int_eq(conffile_parse(&conf, "G", "[node ram]\nsize = 32M\n", 22, &why), 0);
    ck_assert_uint_eq(conf.ram_bytes, 32 << 20);
    ck_assert_int_eq(conf.log, LOG_LEVEL_ERROR);
}
END_TEST

/* ---- what is wrong ---- */

static const struct {
    const char *text;
    const char *place, *sentence; /* the beginning; a part */
} bad[] = {
    {"[deamon]\n", "F:1:2: ", "there is no section [deamon]; is [daemon] meant?"},
    {"[node]\n", "F:1:2: ", "expected is [daemon], [node ram], [node file] or [reclaim]"},
    {"[node rma]\n", "F:1:2: ", "is [node ram] meant?"},
    {"\n [ daemon]\n", "F:2:3: ", "is [daemon] meant?"},
    {"[]\n", "F:1:2: ", "there is no section []"},
    {"[daemon\n", "F:1:8: ", "expected is a ']'"},
    {"[daemon] x = 1\n", "F:1:10: ", "nothing more behind"},
    {"[daemonaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]\n", "F:1:2: ",
     "there is no section"},
    {"log = info\n", "F:1:1: ", "expected is a [SECTION] before the first key"},
    {"[daemon]\nlgo = info\n", "F:2:1: ", "has no key 'lgo'; is 'log' meant?"},
    {"[daemon]\n  sokcet = /x\n", "F:2:3: ", "is 'socket' meant?"},
    {"[daemon]\nsize = 64M\n", "F:2:1: ", "it belongs into [node ram]"},
    {"[daemon]\nfrobnicate = 1\n", "F:2:1: ", "it has: socket, log"},
    {"[reclaim]\nunsafe_pins = yes\n", "F:2:1: ", "is 'unsafe-pins' meant?"},
    {"[daemon]\nLOG = info\n", "F:2:1: ", "has no key 'LOG'"},
    {"[daemon]\nlog\n", "F:2:1: ", "expected is KEY = VALUE"},
    {"[daemon]\nlog info\n", "F:2:1: ", "expected is KEY = VALUE"},
    {"[daemon]\n = info\n", "F:2:2: ", "expected is a key before the '='"},
    {"[daemon]\nlog =\n", "F:2:6: ", "has no value; expected is error, warning, info or debug"},
    {"[daemon]\nlog =   ; nothing\n", "F:2:9: ", "has no value"},
    {"[daemon]\nlog = loud\n", "F:2:7: ",
     "'loud' is not what 'log' can be; expected is error, warning, info or debug"},
    {"[daemon]\nlog = info\n\nlog = error\n", "F:4:1: ", "given twice; it stands in line 2"},
    {"[daemon]\nlog = info\n[node ram]\n[daemon]\nlog = info\n", "F:5:1: ", "given twice"},
    {"[daemon]\nlog = info\n  error\n", "F:3:3: ", "expected is KEY = VALUE"}, /* no continuation */
    {"[daemon]\nsocket = run/x\n", "F:2:10: ", "expected is an absolute path"},
    {"[node ram]\nsize = 1\n", "F:2:8: ", "expected is a size from 16M to 1T"},
    {"[node ram]\nsize = 15M\n", "F:2:8: ", "a size from 16M"},
    {"[node ram]\nsize = 2T\n", "F:2:8: ", "to 1T"},
    {"[node ram]\nsize = 99999999999999999999999T\n", "F:2:8: ", "is not what 'size' can be"},
    {"[node ram]\nsize = 18446744073709551616\n", "F:2:8: ", "is not what 'size' can be"},
    {"[node ram]\nsize = -1\n", "F:2:8: ", "'-1' is not"},
    {"[node ram]\nsize = 64MB\n", "F:2:8: ", "'64MB' is not"},
    {"[node ram]\nsize = 64 M\n", "F:2:8: ", "'64 M' is not"},
    {"[node ram]\nsize = \"64M\"\n", "F:2:8: ", "is not what"},
    {"[node file]\npath = swap\n", "F:2:8: ", "an absolute path"},
    {"[node file]\nsize = 2T\n", "F:2:8: ", "a size from 16M to 1T"},
    {"[reclaim]\ncapture = copy\n", "F:2:11: ", "expected is move or mremap"},
    {"[reclaim]\nunsafe-pins = true\n", "F:2:15: ", "expected is yes or no"},
    {"[daemon]\nlog = in\x01" "fo\n", "F:2:9: ", "control character (0x01)"},
    {"[daemon]\nlog = info\rx\n", "F:2:11: ", "control character (0x0d)"},
    {"\xff\xfe[", "F:1:1: ", "UTF-16"},
};

START_TEST(it_is_refused_with_its_place)
{
    ck_assert_int_eq(parse(bad[_i].text), -EINVAL);
    ck_assert_msg(!strncmp(why.text, bad[_i].place, strlen(bad[_i].place)), "%s: not %s of %s",
                  why.text, bad[_i].place, bad[_i].text);
    ck_assert_msg(strstr(why.text, bad[_i].sentence), "%s: not '%s'", why.text, bad[_i].sentence);
    ck_assert_ptr_null(strchr(why.text, '\n'));
}
END_TEST

START_TEST(a_nul_byte_is_refused)
{
    ck_assert_int_eq(parse_bytes("[daemon]\nlog = in\0fo\n", 21), -EINVAL);
    ck_assert_msg(!strncmp(why.text, "F:2:9: there is a NUL byte", 26), "%s", why.text);
    ck_assert_int_eq(parse_bytes("\0", 1), -EINVAL);
    ck_assert_int_eq(parse_bytes("[daemon]\nlog = info\n\0", 21), -EINVAL);
    ck_assert_msg(!strncmp(why.text, "F:3:1: ", 7), "%s", why.text);
}
END_TEST

START_TEST(lines_and_files_are_bounded)
{
    static char text[CONFFILE_MAX_BYTES + 2];
    int n = snprintf(text, sizeof(text), "[daemon]\nsocket = /");

    memset(text + n, 'a', 150);
    strcpy(text + n + 150, "\n");
    ck_assert_msg(parse(text) == 0, "%s", why.text);
    memset(text + n, 'a', 1000);
    strcpy(text + n + 1000, "\n");
    ck_assert_int_eq(parse(text), -EINVAL);
    ck_assert_msg(!strncmp(why.text, "F:2:", 4) && strstr(why.text, "too long"), "%s", why.text);
    memset(text, '#', 190);
    for (size_t i = 100; i < sizeof(text); i += 100)
        text[i] = '\n';
    for (size_t i = 0; i < sizeof(text); i++)
        if (text[i] != '\n')
            text[i] = '#';
    ck_assert_msg(parse_bytes(text, CONFFILE_MAX_BYTES) == 0, "%s", why.text);
    ck_assert_int_eq(parse_bytes(text, CONFFILE_MAX_BYTES + 1), -EINVAL);
    ck_assert(strstr(why.text, "64 KiB are the most"));
}
END_TEST

/* Every prefix and every changed byte of a good file: accepted or refused with a place, no more. */
START_TEST(mangled_text_is_refused_or_taken)
{
    static const char text[] = "\xef\xbb\xbf# x\n[daemon]\nlog = info ; c\nsocket: /s\n\n"
                               "[node ram]\r\nsize=64M\n[reclaim]\ncapture = move";
    static const char other[] = {0, '\n', '[', ']', '=', ':', ';', ' ', '\r', '\xff', 'a'};
    char copy[sizeof(text)];

    for (size_t len = 0; len < sizeof(text); len++) {
        int err = parse_bytes(text, len);
        ck_assert(err == 0 || (err == -EINVAL && !strncmp(why.text, "F:", 2)));
    }
    for (size_t at = 0; at < sizeof(text) - 1; at++) {
        for (size_t k = 0; k < sizeof(other); k++) {
            memcpy(copy, text, sizeof(text));
            copy[at] = other[k];
            int err = parse_bytes(copy, sizeof(text) - 1);
            ck_assert(err == 0 || (err == -EINVAL && !strncmp(why.text, "F:", 2)));
        }
    }
}
END_TEST

/* ---- keys that need each other ---- */

static int complete(const char *text, bool unsafe_pins_option)
{
    struct keeper_options o = {0};
    enum log_level level = LOG_LEVEL_INFO;

    ck_assert_msg(parse(text) == 0, "%s", why.text);
    conffile_apply(&conf, &o, &level);
    o.unsafe_pins |= unsafe_pins_option;
    return conffile_complete(&conf, &o, &why);
}

START_TEST(mremap_needs_unsafe_pins)
{
    ck_assert_int_eq(complete("[reclaim]\ncapture = mremap\n", false), -EINVAL);
    ck_assert_msg(!strncmp(why.text, "F:2:11: capture by mremap", 25), "%s", why.text);
    ck_assert_int_eq(complete("[reclaim]\ncapture = mremap\nunsafe-pins = no\n", false), -EINVAL);
    ck_assert_int_eq(complete("[reclaim]\nunsafe-pins = yes\ncapture = mremap\n", false), 0);
    ck_assert_int_eq(complete("[reclaim]\ncapture = mremap\n", true), 0);
    ck_assert_int_eq(complete("[reclaim]\nunsafe-pins = yes\n", false), 0);
}
END_TEST

START_TEST(the_file_node_needs_path_and_size)
{
    ck_assert_int_eq(complete("[node file]\npath = /swap\n", false), -EINVAL);
    ck_assert_msg(!strncmp(why.text, "F:2:8: ", 7) && strstr(why.text, "no size"), "%s", why.text);
    ck_assert_int_eq(complete("[node file]\nsize = 1G\n", false), -EINVAL);
    ck_assert_msg(strstr(why.text, "no path"), "%s", why.text);
    ck_assert_int_eq(complete("[node file]\nsize = 1G\npath = /swap\n", false), 0);
}
END_TEST

/* ---- files ---- */

static char top[64];

static void make_top(void)
{
    strcpy(top, "/tmp/test-keeper-config-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(top));
    memset(&conf, 0, sizeof(conf));
    memset(&why, 0, sizeof(why));
}

static void remove_top(void)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf '%s'", top);
    ck_assert_int_eq(system(command), 0);
}

static const char *in_top(const char *name)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", top, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(in_top(name), "w");

    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static int load(bool must_exist)
{
    return conffile_load(&conf, in_top("c"), must_exist, &why);
}

START_TEST(a_file_that_need_not_be_there)
{
    ck_assert_int_eq(load(false), 0);
    ck_assert_int_eq(load(true), -ENOENT);
    ck_assert(strstr(why.text, "/c: No such file"));
    put("c", "[node ram]\nsize = 64M\n");
    ck_assert_int_eq(load(true), 0); /* and no directory of drop-ins */
    ck_assert_uint_eq(conf.ram_bytes, 64 << 20);
}
END_TEST

START_TEST(dropins_are_read_in_the_order_of_their_names)
{
    put("c", "[node ram]\nsize = 64M\n[daemon]\nlog = error\n");
    mkdir(in_top("c.d"), 0755);
    put("c.d/20.conf", "[node ram]\nsize = 32M\n");
    put("c.d/100.conf", "[node ram]\nsize = 48M\n"); /* "1" is before "2" */
    put("c.d/.hidden.conf", "nonsense");
    put("c.d/30.conf~", "nonsense");
    put("c.d/.conf", "nonsense");
    ck_assert_msg(load(true) == 0, "%s", why.text);
    ck_assert_uint_eq(conf.ram_bytes, 32 << 20);
    ck_assert_int_eq(conf.log, LOG_LEVEL_ERROR);
    put("c.d/90.conf", "[node ram]\n\nsize = 1\n");
    ck_assert_int_eq(load(true), -EINVAL);
    ck_assert_msg(strstr(why.text, "/c.d/90.conf:3:8: "), "%s", why.text);
    unlink(in_top("c"));
    unlink(in_top("c.d/90.conf"));
    ck_assert_int_eq(load(false), 0); /* drop-ins alone */
}
END_TEST

START_TEST(what_is_no_file_is_refused)
{
    mkdir(in_top("c"), 0755);
    ck_assert_int_eq(load(true), -EINVAL);
    ck_assert(strstr(why.text, "is not a file"));
    rmdir(in_top("c"));
    ck_assert_int_eq(mkfifo(in_top("c"), 0600), 0); /* must not be waited for */
    ck_assert_int_eq(load(false), -EINVAL);
    unlink(in_top("c"));
    put("c", "");
    put("c.d", ""); /* a file where the directory of drop-ins would be */
    ck_assert_int_eq(load(true), -ENOTDIR);
    ck_assert(strstr(why.text, "/c.d: "));
    unlink(in_top("c.d"));
    mkdir(in_top("c.d"), 0755);
    ck_assert_int_eq(symlink("nowhere", in_top("c.d/a.conf")), 0);
    ck_assert_int_eq(load(true), -ENOENT);
    ck_assert(strstr(why.text, "/c.d/a.conf: "));
}
END_TEST

START_TEST(drop_ins_are_bounded)
{
    char name[32];

    put("c", "");
    mkdir(in_top("c.d"), 0755);
    for (int i = 0; i <= CONFFILE_MAX_DROPINS; i++) {
        snprintf(name, sizeof(name), "c.d/%d.conf", i);
        put(name, "");
    }
    ck_assert_int_eq(load(true), -EINVAL);
    ck_assert(strstr(why.text, "256 are the most"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("config");
    TCase *text = tcase_create("text"), *files = tcase_create("files");

    tcase_add_test(text, every_key_is_taken);
    tcase_add_test(text, what_is_not_given_stays_as_it_was);
    tcase_add_loop_test(text, it_is_accepted, 0, ARRAY_SIZE(good));
    tcase_add_test(text, a_later_file_overrides);
    tcase_add_loop_test(text, it_is_refused_with_its_place, 0, ARRAY_SIZE(bad));
    tcase_add_test(text, a_nul_byte_is_refused);
    tcase_add_test(text, lines_and_files_are_bounded);
    tcase_add_test(text, mangled_text_is_refused_or_taken);
    tcase_add_test(text, mremap_needs_unsafe_pins);
    tcase_add_test(text, the_file_node_needs_path_and_size);
    tcase_add_checked_fixture(files, make_top, remove_top);
    tcase_add_test(files, a_file_that_need_not_be_there);
    tcase_add_test(files, dropins_are_read_in_the_order_of_their_names);
    tcase_add_test(files, what_is_no_file_is_refused);
    tcase_add_test(files, drop_ins_are_bounded);
    suite_add_tcase(s, text);
    suite_add_tcase(s, files);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
