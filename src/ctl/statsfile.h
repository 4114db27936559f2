/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_CTL_STATSFILE_H
#define PAGERD_CTL_STATSFILE_H
/*
 * statsfile: where --stats goes.  A regular file is replaced as a whole, so
 * that a reader never sees half of one; anything else (a pipe, a terminal,
 * /dev/null) is written to.
 */
#include <limits.h>

#include "ctl/ctl.h"

struct statsfile {
    const char *name; /* as given */
    char path[PATH_MAX];
    bool replace; /* write beside it, then rename */
};

/* Early, before the program runs: can it be written? */
MUST_CHECK int statsfile_prepare(const char *name, struct statsfile *ret, struct complaint *why);
/* The text and a newline. */
MUST_CHECK int statsfile_write(const struct statsfile *f, const char *text, struct complaint *why);

#endif
