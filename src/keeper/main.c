/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pagerd: reads its options and its configuration, asks the kernel whether it can do what is
 * needed, and becomes the keeper.  What is in the way is one sentence, on standard error and on the
 * descriptor of --ready-fd.
 */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

#include "config.h"
#include "keeper/conffile.h"
#include "keeper/keeper.h"

#define EXIT_USE 2

enum {
    OPT_SOCKET = 256,
    OPT_RAM,
    OPT_SWAP,
    OPT_PRIVATE,
    OPT_READY_FD,
    OPT_LOG,
    OPT_CONFIG,
    OPT_TEST_CONFIG,
    OPT_CAPTURE,
    OPT_UNSAFE_PINS,
};

static const struct option options[] = {
    {"socket", required_argument, NULL, OPT_SOCKET},
    {"ram", required_argument, NULL, OPT_RAM},
    {"swap", required_argument, NULL, OPT_SWAP},
    {"private", no_argument, NULL, OPT_PRIVATE},
    {"ready-fd", required_argument, NULL, OPT_READY_FD},
    {"log", required_argument, NULL, OPT_LOG},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"test-config", no_argument, NULL, OPT_TEST_CONFIG},
    {"capture", required_argument, NULL, OPT_CAPTURE},
    {"unsafe-pins", no_argument, NULL, OPT_UNSAFE_PINS},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {0},
};

static const char help[] =
    "Usage: pagerd [OPTION...]\n"
    "Hold the memory that is moved out of programs, and bring it back when they touch it.\n\n"
    "Options:\n"
    "      --socket=PATH   listen at PATH (default: /run/pagerd/pagerd.sock for root, else\n"
    "                      $XDG_RUNTIME_DIR/pagerd/pagerd.sock)\n"
    "      --ram=SIZE      hold at most SIZE for each user (default: half of the machine's memory)\n"
    "      --swap=PATH:SIZE  when that is full, write the oldest of it to a new file at PATH, or to\n"
    "                      the block device PATH; SIZE for each user (default: none)\n"
    "      --private       serve one's own programs only; end, and remove the socket and its empty\n"
    "                      directory, with the last connection\n"
    "      --ready-fd=N    write 'ok' to descriptor N when listening, or why not, and close it\n"
    "      --log=LEVEL     error, warning, info (default) or debug, on standard error\n"
    "      --config=FILE   read FILE and the drop-ins FILE.d/*.conf (default, for root and not\n"
    "                      --private: " CONFFILE_DEFAULT "); options given here win\n"
    "      --test-config   read the configuration, say what is wrong in it, and end\n"
    "      --capture=HOW   take pages out by move (default) or mremap\n"
    "      --unsafe-pins   allow --capture=mremap, which loses what a device writes meanwhile\n"
    "  -h, --help          show this\n"
    "  -V, --version       show the version\n\n"
    "It stays in the foreground and ends orderly on SIGTERM.  See pagerd(8).\n";

static void print_help(void)
{
    const char *name, *section, *expected;

    fputs(help, stdout);
    puts("\nConfiguration keys, see pagerd.conf(5):");
    for (unsigned n = 0; (name = conffile_key(n, &section, &expected)); n++)
        printf("  [%s] %s = %s\n", section, name, expected);
}

/* What decides how the rest is read. */
struct start {
    enum log_level level;
    const char *config; /* NULL: not given */
    bool test_config;
};

/* The sentence, wherever somebody may be waiting for it. */
static int give_up(const struct keeper_options *o, const char *text, int status)
{
    dprintf(STDERR_FILENO, "pagerd: %s\n", text);
    if (o->ready_fd >= 0)
        dprintf(o->ready_fd, "%s\n", text);
    return status;
}

static int parse_fd(const char *text, int *ret)
{
    char *end;
    long fd;

    errno = 0;
    fd = strtol(text, &end, 10);
    if (errno || end == text || *end || fd < 0 || fd > INT_MAX)
        return -EINVAL;
    if (fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    *ret = (int)fd;
    return 0;
}

static int parse_one(struct keeper_options *o, struct start *start, int option,
                     struct keeper_refusal *why)
{
    switch (option) {
    case OPT_SOCKET:
        o->socket = optarg;
        if (!*optarg)
            return keeper_refuse(why, -EINVAL, "--socket= is empty: give a path");
        return 0;
    case OPT_RAM:
        if (parse_size(optarg, &o->ram_bytes) || o->ram_bytes < CONF_SIZE_MIN ||
            o->ram_bytes > CONF_SIZE_MAX)
            return keeper_refuse(why, -EINVAL,
                                 "--ram=%.64s is not a size from 16M to 1T: give a number with "
                                 "K, M, G or T",
                                 optarg);
        o->ram_bytes &= ~(CONF_SIZE_UNIT - 1);
        return 0;
    case OPT_SWAP:
        return swap_parse(optarg, o->swap_path, sizeof(o->swap_path), &o->swap_bytes, why);
    case OPT_PRIVATE:
        o->is_private = true;
        return 0;
    case OPT_READY_FD:
        if (parse_fd(optarg, &o->ready_fd))
            return keeper_refuse(why, -EBADF,
                                 "--ready-fd=%.64s is not an open descriptor: give the number of "
                                 "one",
                                 optarg);
        return 0;
    case OPT_LOG:
        if (log_level_by_name(optarg, &start->level))
            return keeper_refuse(why, -EINVAL,
                                 "--log=%.64s is no level: choose error, warning, info or debug",
                                 optarg);
        return 0;
    case OPT_CONFIG:
        start->config = optarg;
        if (!*optarg)
            return keeper_refuse(why, -EINVAL, "--config= is empty: give the path of a file");
        return 0;
    case OPT_TEST_CONFIG:
        start->test_config = true;
        return 0;
    case OPT_CAPTURE:
        if (capture_engine_by_name(optarg, &o->capture))
            return keeper_refuse(why, -EINVAL,
                                 "--capture=%.64s is no way to take pages out: choose move or "
                                 "mremap",
                                 optarg);
        return 0;
    case OPT_UNSAFE_PINS:
        o->unsafe_pins = true;
        return 0;
    default:
        return keeper_refuse(why, -EINVAL, "`pagerd --help` lists the options");
    }
}

static int default_socket(char *buf, size_t size, struct keeper_refusal *why)
{
    const char *dir = getenv("XDG_RUNTIME_DIR");

    if (geteuid() == 0) {
        snprintf(buf, size, "/run/pagerd/pagerd.sock");
        return 0;
    }
    if (!dir || *dir != '/')
        return keeper_refuse(why, -ENOENT,
                             "there is no XDG_RUNTIME_DIR to put the socket into: choose a place "
                             "with --socket");
    if ((size_t)snprintf(buf, size, "%s/pagerd/pagerd.sock", dir) >= size)
        return keeper_refuse(why, -ENAMETOOLONG,
                             "XDG_RUNTIME_DIR is too long: choose a place with --socket");
    return 0;
}

/* Absolute, since the daemon leaves its directory. */
static int place_socket(struct keeper_options *o, char buf[PATH_MAX], struct keeper_refusal *why)
{
    _cleanup_free_ char *cwd = NULL;

    if (!o->socket) {
        int err = default_socket(buf, PATH_MAX, why);

        if (err)
            return err;
    } else if (*o->socket == '/') {
        snprintf(buf, PATH_MAX, "%s", o->socket);
    } else {
        cwd = getcwd(NULL, 0);
        if (!cwd || (size_t)snprintf(buf, PATH_MAX, "%s/%s", cwd, o->socket) >= PATH_MAX)
            return keeper_refuse(why, -ENOENT,
                                 "--socket=%.64s is relative to a directory that has no name: give "
                                 "an absolute path",
                                 o->socket);
    }
    o->socket = buf;
    return 0;
}

static uint64_t default_ram(void)
{
    struct sysinfo si;
    uint64_t half;

    if (sysinfo(&si) < 0)
        return (uint64_t)1 << 30;
    half = (uint64_t)si.totalram * si.mem_unit / 2;
    return CLAMP(half & ~(CONF_SIZE_UNIT - 1), CONF_SIZE_MIN, CONF_SIZE_MAX);
}

/* A caller that closed its standard descriptors must not get our sockets for them. */
static void fill_standard_fds(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    fd_close(fd);
}

/* The options in their order; 1: it has printed what was asked for. */
static int parse_options(int argc, char **argv, struct keeper_options *o, struct start *start,
                         struct keeper_refusal *why)
{
    int err;

    optind = 0; /* also when it is done again */
    for (int c; (c = getopt_long(argc, argv, "hV", options, NULL)) != -1;) {
        if (c == 'h' || c == 'V') {
            if (c == 'h')
                print_help();
            else
                puts("pagerd " PACKAGE_VERSION);
            return 1;
        }
        err = parse_one(o, start, c, why);
        if (err)
            return err;
    }
    if (optind < argc)
        return keeper_refuse(why, -EINVAL,
                             "'%.64s' is one word too many: pagerd takes options only",
                             argv[optind]);
    return 0;
}

/* What the options and the configuration say; options win.  As parse_options(). */
static int configure(int argc, char **argv, struct keeper_options *o, struct start *start,
                     struct conffile *conf, struct keeper_refusal *why)
{
    struct keeper_options first = *o;
    int err;

    err = parse_options(argc, argv, &first, start, why);
    o->ready_fd = first.ready_fd;
    if (err)
        return err;
    /* A daemon of one's own does not take the place and the swap file of the system's. */
    if (start->config)
        err = conffile_load(conf, start->config, true, why);
    else if (geteuid() == 0 && !first.is_private)
        err = conffile_load(conf, CONFFILE_DEFAULT, false, why);
    if (err)
        return err;
    conffile_apply(conf, o, &start->level);
    err = parse_options(argc, argv, o, start, why);
    return err ? err : conffile_complete(conf, o, why);
}

int main(int argc, char **argv)
{
    struct keeper_options o = {.ready_fd = -1, .ram_bytes = default_ram()};
    struct start start = {.level = LOG_LEVEL_INFO};
    static struct conffile conf;
    struct kernel_features features;
    struct keeper_refusal why;
    struct rlimit files;
    char path[PATH_MAX];
    int r;

    fill_standard_fds();
    r = configure(argc, argv, &o, &start, &conf, &why);
    if (r > 0)
        return 0;
    if (r < 0 && start.test_config) {
        /* As compilers do it, so that editors find the place. */
        dprintf(STDERR_FILENO, "%s\n", why.text);
        return EXIT_USE;
    }
    if (r < 0)
        return give_up(&o, why.text, EXIT_USE);
    if (start.test_config)
        return 0;
    log_init("pagerd", start.level, STDERR_FILENO);
    if (place_socket(&o, path, &why))
        return give_up(&o, why.text, 1);
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    kernel_probe(&features);
    if (kernel_features_complaint(&features, why.text, sizeof(why.text)))
        return give_up(&o, why.text, 1);
    if (chdir("/") < 0)
        log_warning("cannot leave the directory: %s", strerror(errno));
    r = keeper_run(&o, &features, &why);
    return r < 0 ? give_up(&o, why.text, 1) : r;
}
