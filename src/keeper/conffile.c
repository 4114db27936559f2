/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads pagerd.conf(5) with libinih, which splits lines but knows no columns and says
 * nothing about what it does not understand.  So the lines pass through here on their way
 * to it: each is looked at first, and given to it without leading blanks, so that nothing
 * is taken for the continuation of the line before.
 */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "keeper/conffile.h"

/* Of the file that is being read. */
struct reading {
    struct conffile *conf;
    struct keeper_refusal *why;
    const char *file, *next, *end;
    const char *line; /* where the last line begins that was handed out */
    unsigned line_nr;
    unsigned name_column, value_column; /* of that line */
    char section[32];
    bool wants_handler; /* it is a key and its value */
    unsigned *seen;     /* lines of the keys, by index */
    int err;
};

struct key {
    const char *section, *name;
    const char *expected;
    int (*set)(struct conffile *c, const char *value);
    size_t place; /* in struct conffile */
};

static int set_path(char to[CONFFILE_MAX_VALUE], const char *value)
{
    if (*value != '/' || strlen(value) >= CONFFILE_MAX_VALUE)
        return -EINVAL;
    strcpy(to, value);
    return 0;
}

static int set_socket(struct conffile *c, const char *value)
{
    return set_path(c->socket, value);
}

static int set_log(struct conffile *c, const char *value)
{
    c->has_log = true;
    return log_level_by_name(value, &c->log);
}

static int set_size(const char *value, uint64_t *ret)
{
    uint64_t bytes;

    if (parse_size(value, &bytes) || bytes < CONF_SIZE_MIN || bytes > CONF_SIZE_MAX)
        return -EINVAL;
    *ret = bytes & ~(CONF_SIZE_UNIT - 1);
    return 0;
}

static int set_ram(struct conffile *c, const char *value)
{
    return set_size(value, &c->ram_bytes);
}

static int set_swap_path(struct conffile *c, const char *value)
{
    return set_path(c->swap_path, value);
}

static int set_swap_bytes(struct conffile *c, const char *value)
{
    return set_size(value, &c->swap_bytes);
}

int capture_engine_by_name(const char *name, enum capture_engine *ret)
{
    if (!strcmp(name, "move"))
        *ret = CAPTURE_BY_MOVE;
    else if (!strcmp(name, "mremap"))
        *ret = CAPTURE_BY_MREMAP;
    else
        return -EINVAL;
    return 0;
}

static int set_capture(struct conffile *c, const char *value)
{
    c->has_capture = true;
    return capture_engine_by_name(value, &c->capture);
}

static int set_unsafe_pins(struct conffile *c, const char *value)
{
    bool yes = !strcmp(value, "yes");

    if (!yes && strcmp(value, "no"))
        return -EINVAL;
    c->has_unsafe_pins = true;
    c->unsafe_pins = yes;
    return 0;
}

static const struct key keys[] = {
    {"daemon", "socket", "an absolute path", set_socket, offsetof(struct conffile, socket_at)},
    {"daemon", "log", "error, warning, info or debug", set_log, offsetof(struct conffile, log_at)},
    {"node ram", "size", "a size from 16M to 1T", set_ram, offsetof(struct conffile, ram_at)},
    {"node file", "path", "an absolute path", set_swap_path,
     offsetof(struct conffile, swap_path_at)},
    {"node file", "size", "a size from 16M to 1T", set_swap_bytes,
     offsetof(struct conffile, swap_bytes_at)},
    {"reclaim", "capture", "move or mremap", set_capture, offsetof(struct conffile, capture_at)},
    {"reclaim", "unsafe-pins", "yes or no", set_unsafe_pins,
     offsetof(struct conffile, unsafe_pins_at)},
};

const char *conffile_key(unsigned n, const char **ret_section, const char **ret_expected)
{
    if (n >= ARRAY_SIZE(keys))
        return NULL;
    *ret_section = keys[n].section;
    *ret_expected = keys[n].expected;
    return keys[n].name;
}

/* ---- complaints ---- */

static int wrong(struct reading *r, unsigned column, const char *fmt, ...) PRINTF_LIKE(3, 4);
static int wrong(struct reading *r, unsigned column, const char *fmt, ...)
{
    char sentence[320];
    va_list ap;

    if (r->err) /* the first one counts */
        return r->err;
    va_start(ap, fmt);
    vsnprintf(sentence, sizeof(sentence), fmt, ap);
    va_end(ap);
    r->err = keeper_refuse(r->why, -EINVAL, "%.150s:%u:%u: %s", r->file, r->line_nr, column,
                           sentence);
    return r->err;
}

#define MAX_WORD 24

/* How many letters have to be put in, left out, changed or swapped with a neighbour. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[3][MAX_WORD + 1];
    size_t la = strlen(a), lb = strlen(b);

    if (la > MAX_WORD || lb > MAX_WORD)
        return MAX_WORD;
    for (size_t j = 0; j <= lb; j++)
        row[0][j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        unsigned *now = row[i % 3], *last = row[(i - 1) % 3];
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            unsigned best = last[j - 1] + (a[i - 1] != b[j - 1]);
            best = MIN(best, last[j] + 1);
            best = MIN(best, now[j - 1] + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = MIN(best, row[(i - 2) % 3][j - 2] + 1);
            now[j] = best;
        }
    }
    return row[la % 3][lb];
}

/* The nearest word of those that `pick` gives, when it is near enough to be meant; else NULL. */
static const char *nearest(const char *word, const char *section)
{
    const char *best = NULL;
    unsigned least = 3;

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        const char *known = section ? keys[i].name : keys[i].section;
        if (section && strcmp(section, keys[i].section))
            continue;
        unsigned d = distance(word, known);
        if (d < least && d < strlen(known)) {
            least = d;
            best = known;
        }
    }
    return best;
}

static bool is_section(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (!strcmp(keys[i].section, name))
            return true;
    return false;
}

static int unknown_section(struct reading *r, unsigned column, const char *name)
{
    const char *near = nearest(name, NULL);

    if (near)
        return wrong(r, column, "there is no section [%.40s]; is [%s] meant?", name, near);
    return wrong(r, column, "there is no section [%.40s]; expected is [daemon], [node ram], "
                            "[node file] or [reclaim]", name);
}

static int unknown_key(struct reading *r, const char *name)
{
    const char *near = nearest(name, r->section);
    char list[160] = "";
    size_t len = 0;

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (!near && !strcmp(keys[i].name, name))
            return wrong(r, r->name_column, "section [%s] has no key '%s'; it belongs into [%s]",
                         r->section, name, keys[i].section);
    if (near)
        return wrong(r, r->name_column, "section [%s] has no key '%.40s'; is '%s' meant?",
                     r->section, name, near);
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (!strcmp(keys[i].section, r->section))
            len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", len ? ", " : "",
                                    keys[i].name);
    return wrong(r, r->name_column, "section [%s] has no key '%.40s'; it has: %s", r->section, name,
                 list);
}

/* ---- lines ---- */

static const char *skip_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    return p;
}

/* A section's name between its brackets. */
static int look_at_section(struct reading *r, const char *from, const char *end)
{
    const char *name = from + 1, *close = memchr(name, ']', (size_t)(end - name));
    unsigned column = (unsigned)(name - r->line) + 1;
    const char *rest;
    size_t len;

    if (!close)
        return wrong(r, (unsigned)(end - r->line) + 1,
                     "expected is a ']' that ends the section's name");
    rest = skip_blanks(close + 1, end);
    if (rest < end && *rest != ';' && *rest != '#')
        return wrong(r, (unsigned)(rest - r->line) + 1, "expected is nothing more behind the ']'");
    len = MIN((size_t)(close - name), sizeof(r->section) - 1);
    memcpy(r->section, name, len);
    r->section[len] = '\0';
    if (len < (size_t)(close - name) || !is_section(r->section))
        return unknown_section(r, column, r->section);
    return 0;
}

static int look_at_key(struct reading *r, const char *from, const char *end)
{
    const char *sep = from;

    while (sep < end && *sep != '=' && *sep != ':')
        sep++;
    r->name_column = (unsigned)(from - r->line) + 1;
    if (sep == end)
        return wrong(r, r->name_column, "expected is KEY = VALUE, [SECTION] or a # comment");
    if (sep == from)
        return wrong(r, r->name_column, "expected is a key before the '%c'", *sep);
    if (!r->section[0])
        return wrong(r, r->name_column, "expected is a [SECTION] before the first key");
    r->value_column = (unsigned)(skip_blanks(sep + 1, end) - r->line) + 1;
    r->wants_handler = true;
    return 0;
}

static int look_at_bytes(struct reading *r, const char *end, int room)
{
    for (const char *p = r->line; p < end; p++) {
        unsigned char c = (unsigned char)*p;
        unsigned column = (unsigned)(p - r->line) + 1;
        if (!c)
            return wrong(r, column, "there is a NUL byte; expected is text in UTF-8");
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return wrong(r, column, "there is a control character (0x%02x); expected is text", c);
    }
    if (end - r->line > room)
        return wrong(r, (unsigned)room + 1, "the line is too long; %d bytes are the most", room);
    return 0;
}

/* ini_reader: the next line for libinih, or NULL at the end and after the first error. */
static char *hand_out(char *to, int size, void *stream)
{
    struct reading *r = stream;
    const char *end, *from;

    if (r->wants_handler && !r->err)
        wrong(r, r->name_column, "this line is not understood; expected is KEY = VALUE");
    r->wants_handler = false;
    if (r->err || r->next == r->end)
        return NULL;
    r->line = r->next;
    r->line_nr++;
    end = memchr(r->line, '\n', (size_t)(r->end - r->line));
    r->next = end ? end + 1 : r->end;
    if (!end)
        end = r->end;
    if (end > r->line && end[-1] == '\r')
        end--;
    if (look_at_bytes(r, end, size - 3))
        return NULL;
    from = skip_blanks(r->line, end);
    if (from == end || *from == ';' || *from == '#')
        end = from;
    else if (*from == '[' ? look_at_section(r, from, end) : look_at_key(r, from, end))
        return NULL;
    memcpy(to, from, (size_t)(end - from));
    strcpy(to + (end - from), "\n");
    return to;
}

/* ini_handler: 0 when it is wrong. */
static int take(void *user, const char *section, const char *name, const char *value)
{
    struct reading *r = user;

    r->wants_handler = false;
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        const struct key *k = &keys[i];
        if (strcmp(k->section, section) || strcmp(k->name, name))
            continue;
        if (r->seen[i])
            return !wrong(r, r->name_column, "'%s' is given twice; it stands in line %u already",
                           name, r->seen[i]);
        r->seen[i] = r->line_nr;
        if (!*value)
            return !wrong(r, r->value_column, "'%s' has no value; expected is %s", name,
                          k->expected);
        if (k->set(r->conf, value))
            return !wrong(r, r->value_column, "'%.60s' is not what '%s' can be; expected is %s",
                           value, name, k->expected);
        struct conffile_place *at = (struct conffile_place *)((char *)r->conf + k->place);
        snprintf(at->file, sizeof(at->file), "%s", r->file);
        at->line = r->line_nr;
        at->column = r->value_column;
        return 1;
    }
    return !unknown_key(r, name);
}

int conffile_parse(struct conffile *c, const char *file, const char *text, size_t len,
                   struct keeper_refusal *why)
{
    unsigned seen[ARRAY_SIZE(keys)] = {0};
    struct reading r = {
        .conf = c, .why = why, .file = file, .next = text, .end = text + len, .seen = seen};
    int bad;

    if (len > CONFFILE_MAX_BYTES)
        return keeper_refuse(why, -EINVAL, "%.150s:1:1: the file is too long; %zu KiB are the most",
                             file, CONFFILE_MAX_BYTES >> 10);
    if (len >= 2 && (!memcmp(text, "\xff\xfe", 2) || !memcmp(text, "\xfe\xff", 2)))
        return keeper_refuse(why, -EINVAL, "%.150s:1:1: the file is in UTF-16; expected is UTF-8",
                             file);
    if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        r.next += 3; /* a byte order mark */
    bad = ini_parse_stream(hand_out, &r, take, &r);
    if (bad && !r.err)
        return keeper_refuse(why, -EINVAL, "%.150s:%d:1: this is not understood; expected is "
                             "KEY = VALUE", file, MAX(bad, 1));
    return r.err;
}

/* ---- files ---- */

static int load_one(struct conffile *c, const char *path, bool must_exist,
                    struct keeper_refusal *why)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    _cleanup_free_ char *text = NULL;
    size_t len = 0;
    struct stat st;
    ssize_t n;

    if (fd < 0 && errno == ENOENT && !must_exist)
        return 0;
    if (fd < 0 || fstat(fd, &st) < 0)
        return keeper_refuse(why, -errno, "cannot read the configuration %.200s: %s", path,
                             strerror(errno));
    if (!S_ISREG(st.st_mode))
        return keeper_refuse(why, -EINVAL, "the configuration %.200s is not a file", path);
    text = malloc(CONFFILE_MAX_BYTES + 1);
    if (!text)
        return keeper_refuse(why, -ENOMEM, "out of memory");
    do { /* one more than it may be, so that this is seen */
        n = read(fd, text + len, CONFFILE_MAX_BYTES + 1 - len);
        if (n < 0 && errno != EINTR)
            return keeper_refuse(why, -errno, "cannot read the configuration %.200s: %s", path,
                                 strerror(errno));
        len += n > 0 ? (size_t)n : 0;
    } while (n);
    return conffile_parse(c, path, text, len, why);
}

static int is_dropin(const struct dirent *d)
{
    size_t len = strlen(d->d_name);

    return d->d_name[0] != '.' && len > 5 && !strcmp(d->d_name + len - 5, ".conf");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); /* in every locale the same */
}

static int load_dropins(struct conffile *c, const char *path, struct keeper_refusal *why)
{
    _cleanup_free_ char *dir = NULL;
    struct dirent **names = NULL;
    int nr, err = 0;

    if (asprintf(&dir, "%s.d", path) < 0) {
        dir = NULL;
        return keeper_refuse(why, -ENOMEM, "out of memory");
    }
    nr = scandir(dir, &names, is_dropin, by_name);
    if (nr < 0 && errno == ENOENT)
        return 0;
    if (nr < 0)
        return keeper_refuse(why, -errno, "cannot list the configuration's directory %.200s: %s",
                             dir, strerror(errno));
    if (nr > CONFFILE_MAX_DROPINS)
        err = keeper_refuse(why, -EINVAL, "%.200s has %d files; %d are the most", dir, nr,
                            CONFFILE_MAX_DROPINS);
    for (int i = 0; i < nr; i++) {
        _cleanup_free_ char *file = NULL;
        if (!err && asprintf(&file, "%s/%s", dir, names[i]->d_name) < 0) {
            file = NULL;
            err = keeper_refuse(why, -ENOMEM, "out of memory");
        }
        if (!err)
            err = load_one(c, file, true, why);
        free(names[i]);
    }
    free(names);
    return err;
}

int conffile_load(struct conffile *c, const char *path, bool must_exist,
                  struct keeper_refusal *why)
{
    int err = load_one(c, path, must_exist, why);

    return err ? err : load_dropins(c, path, why);
}

/* ---- what becomes of it ---- */

void conffile_apply(const struct conffile *c, struct keeper_options *o, enum log_level *level)
{
    if (c->socket[0])
        o->socket = c->socket;
    if (c->has_log)
        *level = c->log;
    if (c->ram_bytes)
        o->ram_bytes = c->ram_bytes;
    if (c->swap_path[0])
        strcpy(o->swap_path, c->swap_path);
    if (c->swap_bytes)
        o->swap_bytes = c->swap_bytes;
    if (c->has_capture)
        o->capture = c->capture;
    if (c->has_unsafe_pins)
        o->unsafe_pins = c->unsafe_pins;
}

/* "FILE:LINE:COLUMN: " of a value that the command line has not replaced; else "". */
static const char *place(const struct conffile_place *at, bool is_ours, char *buf, size_t size)
{
    *buf = '\0';
    if (at->line && is_ours)
        snprintf(buf, size, "%.150s:%u:%u: ", at->file, at->line, at->column);
    return buf;
}

int conffile_complete(const struct conffile *c, const struct keeper_options *o,
                      struct keeper_refusal *why)
{
    char at[200];

    _Static_assert(sizeof(o->swap_path) >= sizeof(c->swap_path), "conffile_apply() copies it");
    if (o->capture == CAPTURE_BY_MREMAP && !o->unsafe_pins)
        return keeper_refuse(why, -EINVAL,
                             "%scapture by mremap moves pages that a device may be writing to, and "
                             "what it writes is lost; expected is unsafe-pins = yes "
                             "(--unsafe-pins) with it, or capture = move",
                             place(&c->capture_at, c->has_capture, at, sizeof(at)));
    if (o->swap_path[0] && !o->swap_bytes)
        return keeper_refuse(why, -EINVAL,
                             "%sthe node `file` has a path and no size; expected is `size` in "
                             "[node file]",
                             place(&c->swap_path_at, true, at, sizeof(at)));
    if (o->swap_bytes && !o->swap_path[0])
        return keeper_refuse(why, -EINVAL,
                             "%sthe node `file` has a size and no path; expected is `path` in "
                             "[node file]",
                             place(&c->swap_bytes_at, true, at, sizeof(at)));
    return 0;
}
