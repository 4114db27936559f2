/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second engine (DESIGN D3, `capture=mremap`): takes a run of pages with whatever
 * refers to them, pins included, because mremap() moves page tables and asks nobody.
 * Called by agent_capture() for one run of a command, after the others were taken by
 * UFFDIO_MOVE.
 *
 *   program --mremap(DONTUNMAP)--> remap stage --MOVE--> stage 2, or read where it is
 *
 *  1. The first page is tried by UFFDIO_MOVE.  So the kernel tells, for the mapping that
 *     it lies in, what mremap() would not: an unread event, a protection, mlock.
 *  2. Nothing is taken after the mremap().  It raises a message, and sleeps until the
 *     worker has read it: with that message others are read, whose threads run on.
 *  3. What has come is looked at afterwards: if it is not registered with the main
 *     userfaultfd, its mapping had been put there since 1, and it goes back.
 *  4. mremap() has the mmap lock for writing: nobody writes through a reference that
 *     was got under that lock any more, as after the barrier of a capture.
 *  5. The stage is of the program's mapping, so every byte of it is read only where a
 *     MOVE has shown that there is a page: a hole would be filled, a guard be fatal.
 *
 * Between 1 and the mremap() another thread can unmap the place and yet another map
 * something there; docs/architecture.md says what then is lost.
 */
#include <linux/mman.h>

#include "agent/agent_priv.h"

#define REMAP_FLAGS (MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)
#define MAX_TRIES 100u

#ifndef MADV_GUARD_INSTALL /* 6.13 */
#define MADV_GUARD_INSTALL 102
#endif

struct run {
    struct agent *a;
    uintptr_t addr, stage, stage2; /* of its first page */
    uint32_t slot, nr;
    uint8_t *place; /* enum agent_place, of its first page */
};

static uintptr_t at(uintptr_t base, uint32_t i)
{
    return base + (uintptr_t)i * PAGE_SIZE;
}

/* A userfaultfd that is not its owner's may not register it: whose is it? */
static bool is_registered(const struct run *r)
{
    struct uffdio_register reg = {
        .range = {r->stage, (uint64_t)r->nr * PAGE_SIZE},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };

    return sys_ioctl(r->a->own, UFFDIO_REGISTER, &reg) != 0;
}

/* To an empty place, where EEXIST says that it is there (capture.c, rule 6). */
static bool move_one(const struct run *r, uintptr_t dst, uintptr_t src, long *ret_error)
{
    return agent_move(r->a->own, dst, src, 1, UFFDIO_MOVE_MODE_DONTWAKE, ret_error) ||
           *ret_error == -EEXIST;
}

/* It is registered with our own userfaultfd now, so a page can be moved out and in again. */
static bool is_empty(const struct run *r)
{
    for (uint32_t i = 0; i < r->nr; i++) {
        long error = 0;

        if (move_one(r, at(r->stage2, i), at(r->stage, i), &error))
            return !move_one(r, at(r->stage, i), at(r->stage2, i), &error);
        if (error != -ENOENT)
            return false;
    }
    return true;
}

/*
 * Somebody else's mapping had been put there.  If it was touched already, its pages go
 * back, the same ones.  If not, nothing has happened: the empty one stayed there.
 */
static void give_back(const struct run *r)
{
    if (!is_empty(r))
        sys(mremap, r->stage, r->nr * PAGE_SIZE, r->nr * PAGE_SIZE, REMAP_FLAGS, r->addr, 0);
    for (uint32_t i = 0; i < r->nr; i++)
        r->a->result[r->slot + i] = CAPTURE_EVENTS;
}

/* To where it can be read, and dropped without a message.  Here each page says what it is. */
static void settle(const struct run *r)
{
    bool may_move = true;
    uint32_t i = 0, tries = 0;

    while (i < r->nr) {
        uint8_t *result = &r->a->result[r->slot + i];
        long error = -EBUSY;
        uint32_t moved = may_move ? agent_move(r->a->own, at(r->stage2, i), at(r->stage, i),
                                               r->nr - i, UFFDIO_MOVE_MODE_DONTWAKE, &error)
                                  : 0;

        if (!moved && error == -EAGAIN && tries++ < MAX_TRIES)
            continue;
        tries = 0;
        moved += !moved && error == -EEXIST; /* capture.c, rule 6 */
        for (uint32_t k = 0; k < moved; k++) {
            result[k] = CAPTURE_TAKEN;
            r->place[i + k] = AGENT_IN_STAGE2;
        }
        i += moved;
        if (moved)
            continue;
        if (error == -EINVAL) { /* protected or locked since it was tried */
            sys(mprotect, r->stage, r->nr * PAGE_SIZE, PROT_READ, 0, 0, 0);
            may_move = false;
            continue;
        }
        result[0] = CAPTURE_TAKEN;
        if (error == -ENOENT) {
            result[0] = CAPTURE_HOLE;
        } else if (error == -EFAULT) { /* a guard has come along */
            sys_madvise((void *)at(r->addr, i), PAGE_SIZE, MADV_GUARD_INSTALL);
            result[0] = CAPTURE_REFUSED;
        }
        r->place[i++] = AGENT_IN_REMAP;
    }
}

bool agent_remap(struct agent *a, uintptr_t addr, uint32_t nr, uint32_t slot, uintptr_t stage2,
                 uint8_t *place)
{
    struct run r = {
        .a = a,
        .addr = addr,
        .stage = at(a->ctl->area + AGENT_AT_REMAP, slot),
        .stage2 = at(stage2, slot),
        .slot = slot,
        .nr = nr,
        .place = place + slot,
    };
    struct uffdio_range range = {r.stage, (uint64_t)nr * PAGE_SIZE};

    agent_set_phase(a, RING_REMAPPING);
    if (sys(mremap, addr, nr * PAGE_SIZE, nr * PAGE_SIZE, REMAP_FLAGS, r.stage, 0) !=
        (long)r.stage) {
        agent_set_phase(a, RING_TAKING);
        return false;
    }
    if (!is_registered(&r)) {
        give_back(&r);
        return true;
    }
    sys_madvise((void *)r.stage, nr * PAGE_SIZE, MADV_DONTFORK);
    sys_ioctl(a->uffd, UFFDIO_UNREGISTER, &range);
    agent_set_phase(a, RING_STAGED);
    settle(&r);
    for (uint32_t i = 0; i < nr; i++)
        a->ring->nr_remapped += a->result[slot + i] == CAPTURE_TAKEN;
    return true;
}

void agent_remap_done(struct agent *a)
{
    void *stage = (void *)(a->ctl->area + AGENT_AT_REMAP);

    sys_mmap(stage, REMAP_BYTES, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    sys_madvise(stage, REMAP_BYTES, MADV_DONTFORK);
}
