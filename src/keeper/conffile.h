/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_KEEPER_CONFFILE_H
#define PAGERD_KEEPER_CONFFILE_H
/*
 * conffile: pagerd.conf(5), an INI file and its drop-ins.  What is read is untrusted text:
 * it is bounded, every key is known, and what is wrong is one sentence with its place,
 * FILE:LINE:COLUMN (from 1, in bytes).
 */
#include "keeper/keeper.h"

#define CONFFILE_DEFAULT "/etc/pagerd/pagerd.conf"
#define CONFFILE_MAX_BYTES ((size_t)64 << 10)
#define CONFFILE_MAX_DROPINS 256
#define CONFFILE_MAX_VALUE 200 /* bytes of a line are bounded by less */

/* What a node's size may be, in whole pageblocks: the workers' pools are made of them. */
#define CONF_SIZE_MIN ((uint64_t)16 << 20)
#define CONF_SIZE_MAX ((uint64_t)1 << 40)
#define CONF_SIZE_UNIT ((uint64_t)2 << 20)

struct conffile_place {
    char file[CONFFILE_MAX_VALUE];
    unsigned line, column; /* line 0: not given */
};

/* What the files say; all zeros: nothing. */
struct conffile {
    char socket[CONFFILE_MAX_VALUE];    /* empty: not given */
    char swap_path[CONFFILE_MAX_VALUE];
    uint64_t ram_bytes, swap_bytes;     /* 0: not given */
    bool has_log, has_capture, has_unsafe_pins;
    enum log_level log;
    enum capture_engine capture;
    bool unsafe_pins;
    struct conffile_place socket_at, log_at, ram_at, swap_path_at, swap_bytes_at, capture_at,
        unsafe_pins_at;
};

/* One file's text; later ones override what it says.  -EINVAL with the place and sentence. */
MUST_CHECK int conffile_parse(struct conffile *c, const char *file, const char *text, size_t len,
                              struct keeper_refusal *why);
/*
 * The file, then the files FILE.d/?*.conf in the order of their names.  Neither need be there
 * unless `must_exist`.  0, -EINVAL as above, or -errno with the sentence.
 */
MUST_CHECK int conffile_load(struct conffile *c, const char *path, bool must_exist,
                             struct keeper_refusal *why);
/* Puts what was given into the options, which borrow the strings. */
void conffile_apply(const struct conffile *c, struct keeper_options *o, enum log_level *level);
/* What no key can tell alone, of options that the command line had its say about. */
MUST_CHECK int conffile_complete(const struct conffile *c, const struct keeper_options *o,
                                 struct keeper_refusal *why);

MUST_CHECK int capture_engine_by_name(const char *name, enum capture_engine *ret);

/* The keys, for --help; NULL past the last. */
const char *conffile_key(unsigned n, const char **ret_section, const char **ret_expected);

#endif
