/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_MIGRATE_PRIV_H
#define PAGERD_MIGRATE_PRIV_H
/* What migrate.c and store.c share: the state of one move. */
#include "migrate/migrate.h"

enum slot_state { SLOT_FREE = 0, SLOT_CAPTURING, SLOT_STAGED };

struct slot {
    struct uaddr addr;
    uint8_t state;
    uint8_t kept_node; /* of the place that the page has kept; 0: none */
    uint32_t kept;
};

struct migrate_op {
    bool capturing;
    bool filling;          /* and it is a fill */
    struct uaddr fill_base;
    enum migrate_reason reason;
    uint32_t nr_slots; /* used by this move, from 0 */
    uint32_t nr_open;
    uint32_t cursor; /* first slot that may be open */
    struct slot slot[CAPTURE_MAX_PAGES];
    struct capture_vec vec[CAPTURE_MAX_PAGES];
    /* Frames allocated for the commit and not used yet: [spare, spare + nr_spare). */
    struct pfn spare;
    uint32_t nr_spare;
    /* Of these the next nr_ahead hold the bytes of these slots already (store.c). */
    uint32_t nr_ahead, at_ahead;
    uint32_t ahead[NODE_FRESH_MAX];
    /* Only the mutant "commit before copy" uses it. */
    struct pfn late_pfn;
    const void *late_bytes;
};

/* Does the entry at the slot's address still belong to this move? */
bool migrate_slot_owns_entry(const struct mm *mm, uint32_t i);

/* ---- store.c: bytes to frames ---- */

/*
 * The page of slot i into a frame of its own, and its entry after it; slots up to `upto` are
 * committed in the same call.  False: there is no frame, nothing has changed.
 */
bool store_to_frame(struct mm *mm, uint32_t i, uint32_t upto, struct pte_arg arg);
/*
 * The page into the frame that it had kept with other bytes, when nobody else has that: neighbours
 * stay neighbours.  False: nothing has changed.
 */
bool store_over_kept(struct mm *mm, struct slot *slot, const void *bytes, struct pte_arg arg);
/* Gives back the frames that were not needed. */
void store_drop_spare(struct mm *mm);

#endif
