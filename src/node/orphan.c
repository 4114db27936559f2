/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes to a `file` node outlive the worker that began them: the device goes on, and
 * takes the frames' bytes as they are at that time, which may be another page's by then.
 * So a slot that is being written is noted in the state memory, and a successor holds it:
 * it is not handed out before somebody who knows says that those writes have ended.
 *
 * Order of stores: the note; the device is told; it has done the write; the entries name
 * the slots; the note goes.  So a noted slot that an entry names has its bytes, and one
 * that no entry names has nobody's.  A read needs no note: it ends in memory that died
 * with its worker.
 */
#include <errno.h>

#include "node/node_priv.h"

static uint32_t first_of(uint64_t write)
{
    return (uint32_t)write;
}

static uint32_t nr_of(uint64_t write)
{
    return (uint32_t)(write >> 32);
}

static void note(struct node *node, unsigned i, uint64_t write)
{
    atomic_store_explicit(&node->file.writes->write[i], write, memory_order_release);
    CRASH_POINT();
}

bool node_may_write(const struct node *node)
{
    for (unsigned i = 0; i < NODE_MAX_WRITES; i++)
        if (!node->file.writes->write[i])
            return true;
    return false;
}

int node_write_begun(struct node *node, struct pfn first, uint32_t nr)
{
    for (unsigned i = 0; i < NODE_MAX_WRITES; i++) {
        if (node->file.writes->write[i])
            continue;
        if (!MUTANT(MUTANT_WRITE_NOT_NOTED))
            note(node, i, (uint64_t)nr << 32 | first.n);
        return (int)i;
    }
    return -EAGAIN;
}

void node_write_ended(struct node *node, int write)
{
    note(node, (unsigned)write, 0);
}

void node_hold_orphans(struct node *node)
{
    for (unsigned i = 0; i < NODE_MAX_WRITES; i++) {
        uint64_t write = node->file.writes->write[i];

        BUG_ON(first_of(write) + (uint64_t)nr_of(write) > frame_nr_total(node->frames));
        if (write)
            node->orphans |= 1ull << i;
        for (uint32_t k = 0; k < nr_of(write); k++) {
            struct pfn slot = {first_of(write) + k};
            BUG_ON(frame_claim(node->frames, slot) < 0);
            frame_hold(node->frames, slot);
        }
    }
}

void node_orphans_ended(struct node *node)
{
    for (unsigned i = 0; i < NODE_MAX_WRITES; i++) {
        uint64_t write = node->file.writes->write[i];

        if (!(node->orphans & 1ull << i))
            continue;
        node->orphans &= ~(1ull << i);
        note(node, i, 0);
        for (uint32_t k = 0; k < nr_of(write); k++)
            frame_unhold(node->frames, (struct pfn){first_of(write) + k});
    }
}

uint32_t node_nr_orphans(const struct node *node)
{
    uint32_t nr = 0;

    for (unsigned i = 0; i < NODE_MAX_WRITES; i++)
        if (node->orphans & 1ull << i)
            nr += nr_of(node->file.writes->write[i]);
    return nr;
}
