/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_KEEPER_H
#define PAGERD_KEEPER_H
/*
 * keeper: the part of pagerd that stays when a worker dies, and the only one
 * that has root's powers (DESIGN D10, D11).  Small on purpose: it reads peer
 * credentials and three fixed packet headers, and nothing else of a peer's.
 */
#include <stdbool.h>
#include <stdint.h>

#include "kernel/kernel.h"

struct keeper_options {
    const char *socket; /* absolute */
    uint64_t ram_bytes; /* size of each domain's `ram` node */
    char swap_path[256]; /* swap file or block device of the `file` node; empty: none */
    uint64_t swap_bytes;
    bool is_private;    /* for one uid, and until the last connection has ended */
    int ready_fd;       /* -1: none */
};

/* Why it could not start, for standard error and the ready descriptor. */
struct keeper_refusal {
    char text[512];
};

/*
 * Serves until SIGTERM, SIGINT or, when private, the last connection's end.
 * -errno with *why filled when it could not start; else 0, or 1 after a failure
 * that the log tells, such as the death of a private daemon's worker.
 */
MUST_CHECK int keeper_run(const struct keeper_options *options,
                          const struct kernel_features *features, struct keeper_refusal *why);

/*
 * "PATH:SIZE", as --swap has it.  -errno with *why filled; else `path` and the size, in
 * whole units of the pools.
 */
MUST_CHECK int swap_parse(const char *text, char *path, size_t path_size, uint64_t *ret_bytes,
                          struct keeper_refusal *why);

/* Fills *why and returns err. */
int keeper_refuse(struct keeper_refusal *why, int err, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
