/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_SIM_DISK_MODEL_H
#define PAGERD_SIM_DISK_MODEL_H
/*
 * The device of the file node: requests end late and in any order, writes fail half-way,
 * reads fail, and a bad disk (settings::disk_bad) gives other bytes than it was given.
 */
#include "node/node.h"
#include "sim.h"

#define DISK_MAX_REQS 64
#define DISK_MAX_ORPHANS (NODE_MAX_WRITES * BLK_MAX_PAGES)
#define DISK_SLOTS PAGEBLOCK_FRAMES

/* A page of a dead worker's write that is still under way. */
struct disk_orphan {
    uint32_t slot;
    const void *page; /* the frame: whatever it holds when the device gets there */
};

struct disk_model {
    struct sim *sim;
    uint8_t *bytes; /* NULL: there is no disk */
    struct slot_sum *sums;
    struct node_writes writes;
    uint8_t secret[NODE_SECRET_BYTES];
    struct blk_req *req[DISK_MAX_REQS];
    uint32_t nr_reqs;
    struct disk_orphan orphan[DISK_MAX_ORPHANS];
    uint32_t nr_orphans;
};

void disk_init(struct disk_model *d, struct sim *s);
void disk_fini(struct disk_model *d);
struct node_file disk_file(struct disk_model *d);
/* One request ends.  False: there is none. */
bool disk_step(struct disk_model *d);
/* The worker has died: what was under way ends without it, sooner or later. */
void disk_orphan(struct disk_model *d);
/* Some pages of it are written, or dropped.  False: there are none. */
bool disk_orphan_step(struct disk_model *d);

#endif
