/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_NODE_H
#define PAGERD_NODE_H
/*
 * node: the places where moved-out pages live, behind one interface.  Node 0 is
 * `resident` (the programs' own pages) and has no struct node.  Pages are moved
 * out to `ram`, 4 KiB frames in a memfd; its oldest go on to `file`, slots of as
 * many bytes in a swap file or on a block device.  Both number them alike (struct
 * pfn), count references and know them backwards.
 */
#include "frame/frame.h"
#include "pgtable/pgtable.h"
#include "rmap/rmap.h"

struct iovec;

#define NODE_RESIDENT 0
#define NODE_RAM 1
#define NODE_FILE 2

/* XXH3, 128 bits, keyed. */
struct slot_sum {
    uint64_t low, high;
};

#define NODE_SECRET_BYTES 192
#define NODE_MAX_WRITES 64

/*
 * The writes that were begun and are not known to have ended, all zeros at first: number
 * of slots << 32 | first slot; 0: none.  A successor leaves those slots alone (orphan.c).
 */
struct node_writes {
    _Atomic uint64_t write[NODE_MAX_WRITES];
};

/*
 * What a `file` node is made of; nothing is owned.  `sums` (one a slot), `secret` and
 * `writes` live where they survive a worker: without them the slots' bytes cannot be told
 * from what somebody else may have written there.
 */
struct node_file {
    const struct blk_ops *blk;
    void *blk_arg;
    struct slot_sum *sums;
    struct node_writes *writes;
    const uint8_t *secret;
    const char *name; /* for sentences */
};

/*
 * Frames of a `ram` node whose memory is not there yet.  Writing them through the mapping costs a
 * fault and a cleared page each; writing many at once through the descriptor behind it does not.
 */
struct node_fresh {
    /* One page each, into the frames from `first` on; how many were written, or -errno. */
    int (*write)(void *arg, struct pfn first, const struct iovec *page, uint32_t nr);
    void *arg;
    uint64_t *touched; /* a bit a frame; NULL: nothing is known, no frame counts as fresh */
};

struct node {
    uint8_t id;
    const char *type; /* "ram", "file" */
    struct frame_pool *frames;
    struct rmap *rmap;
    char *base; /* ram: frame n lies at base + n * PAGE_SIZE */
    struct node_fresh fresh;
    struct node_file file;
    uint64_t orphans; /* file: which of file.writes are an earlier worker's, a bit each */
};

/*
 * A `ram` node over `mem` (nr_frames * PAGE_SIZE bytes, not owned).
 * nr_frames is a multiple of PAGEBLOCK_FRAMES.  0 or -ENOMEM.
 */
int node_ram_init(struct node *node, uint8_t id, void *mem, uint32_t nr_frames);
/* Likewise a `file` node. */
int node_file_init(struct node *node, uint8_t id, const struct node_file *file, uint32_t nr_slots);
void node_fini(struct node *node);

/* The node whose frame or slot the entry holds (pte_holds_place()). */
static inline struct node *node_of(const struct mm *mm, pte_t pte)
{
    return pte_node(pte) == NODE_FILE ? mm->file : mm->ram;
}

/* The bytes of a frame of a `ram` node. */
static inline void *node_bytes(const struct node *node, struct pfn pfn)
{
    return node->base + ((size_t)pfn.n << PAGE_SHIFT);
}

uint64_t node_size_bytes(const struct node *node);
uint64_t node_used_bytes(const struct node *node);

/*
 * Free frames that a node should have: below `high` it is filled further in the
 * background only until there are `low` again (low > high: watermarks of what is free).
 */
uint32_t node_high_mark(const struct node *node);
uint32_t node_low_mark(const struct node *node);
/* May pages that come back keep their frame or slot here? */
bool node_has_room_to_keep(const struct node *node);

/*
 * A reference from the entry (mm, addr) to an allocated frame, in the count and
 * in the reverse map together.  0 or -ENOMEM (nothing changed).
 */
int node_ref(struct node *node, struct pfn pfn, struct rmap_entry entry);
/* Drops it; frees the frame with the last one. */
void node_unref(struct node *node, struct pfn pfn, struct rmap_entry entry);
/* The page has moved inside its address space, or goes to another: never fails. */
void node_ref_move(struct node *node, struct pfn pfn, struct rmap_entry from, struct rmap_entry to);

/*
 * Puts a frame or slot into the list by age that its references call for: STORED
 * when an entry has its page there, else KEPT.  Called when one of them has changed.
 */
void node_relist(struct node *node, struct pfn pfn, const struct mm_ids *ids);

/* Drops up to max frames or slots that are only kept, the oldest first; how many it freed. */
uint32_t node_drop_kept(struct node *node, const struct mm_ids *ids, uint32_t max);

/* Gives up what PRESENT entries keep of that frame or slot. */
void node_unkeep(struct node *node, struct pfn pfn, const struct mm_ids *ids);

/* ---- `ram`: frames that were never written (fresh.c) ---- */

/* From now on it is known which these are; all of them, at first.  0 or -ENOMEM. */
int node_fresh_init(struct node *node,
                    int (*write)(void *arg, struct pfn first, const struct iovec *page,
                                 uint32_t nr),
                    void *arg);
bool node_is_fresh(const struct node *node, struct pfn pfn);
/* The frame is about to be written through node_bytes(). */
void node_touch(struct node *node, struct pfn pfn);
#define NODE_FRESH_MAX 64u
/* Writes nr (up to NODE_FRESH_MAX) pages to the frames from `first` on; how many were written. */
uint32_t node_fresh_write(struct node *node, struct pfn first, const void *const *page,
                          uint32_t nr);
/* All memory of the node was given back: every frame is fresh. */
void node_fresh_again(struct node *node);

/* ---- `file`: the checksum of each slot ---- */

void node_sum_set(struct node *node, struct pfn slot, const void *page);
/* Are these PAGE_SIZE bytes the ones that the sum was made of? */
bool node_sum_fits(const struct node *node, struct pfn slot, const void *page);

/* ---- `file`: writes, as they survive a worker (orphan.c) ---- */

/*
 * Notes that these slots are going to be written, before the device is told.  Returns what
 * node_write_ended() takes, or -EAGAIN: too many are noted.
 */
MUST_CHECK int node_write_begun(struct node *node, struct pfn first, uint32_t nr);
/* The device has ended it, or was not told. */
void node_write_ended(struct node *node, int write);
/* Could node_write_begun() note one more? */
bool node_may_write(const struct node *node);
/*
 * The writes of earlier workers have all ended: their slots are as good as others.  Who
 * starts a worker after another one has to know that.
 */
void node_orphans_ended(struct node *node);
/* Slots of writes that an earlier worker left under way. */
uint32_t node_nr_orphans(const struct node *node);

/* frame_check() plus: every frame's references equal its reverse map's. */
const char *node_check(const struct node *node, struct frame_count *ret);

#endif
