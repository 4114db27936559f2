/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_TEST_FAKE_DISK_H
#define PAGERD_TEST_FAKE_DISK_H
/* blk_ops on memory: nothing is done until the test says so, or fails as it says. */
#include "base/base.h"
#include "node/node.h"
#include "target/target.h"

#define DISK_MAX_REQS 64

struct fake_disk {
    char *bytes;
    uint32_t nr_slots;
    struct slot_sum *sums;
    struct node_writes writes;
    uint8_t secret[NODE_SECRET_BYTES];
    bool *unreadable;    /* each slot: a read of it is EIO */
    int write_error;     /* every write: 0 or -errno, with half of it written all the same */
    int submit_error;    /* every submit */
    int read_error_once; /* the next read */
    struct blk_req *req[DISK_MAX_REQS]; /* under way, the oldest first */
    uint32_t nr_reqs;
    uint32_t nr_reads, nr_writes, nr_pages_written; /* finished, without error or with one */
};

void disk_open(struct fake_disk *d, uint32_t nr_slots);
void disk_close(struct fake_disk *d);
struct node_file disk_node(struct fake_disk *d);
/* Finishes the request `i` of those under way. */
void disk_finish(struct fake_disk *d, uint32_t i);
/* All that is under way, and what comes of it. */
void disk_run(struct fake_disk *d);
void disk_flip_bit(struct fake_disk *d, uint32_t slot);

#endif
