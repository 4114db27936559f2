/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_CTL_PRIVATE_H
#define PAGERD_CTL_PRIVATE_H
/*
 * private: a daemon for one `pagerctl run`, and where the parts of pagerd are.
 */
#include <limits.h>
#include <sys/types.h>

#include "ctl/ctl.h"
#include "ctl/link.h"

struct private_daemon {
    pid_t pid;
    char dir[64];
    char socket[LINK_PATH_MAX];
};

/*
 * Starts it and waits until its socket answers.  It ends by itself with its
 * last connection, and takes the directory along.
 */
MUST_CHECK int private_start(struct private_daemon *ret, struct complaint *why);

/*
 * After the last connection of ours is closed: waits a moment, so that a
 * caller who waits for pagerctl finds nothing left.  Programs that still run
 * in the background keep the daemon, which is not waited for then.
 */
void private_leave(struct private_daemon *d);

enum part { PART_DAEMON, PART_PRELOAD };

/* Absolute path of a part that is there; -ENOENT otherwise. */
MUST_CHECK int part_find(enum part part, char ret_path[PATH_MAX], struct complaint *why);

#endif
