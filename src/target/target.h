/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_TARGET_H
#define PAGERD_TARGET_H
/*
 * target: how the core reaches the outside world (DESIGN D12).
 *
 * The core (pgtable, frame, rmap, node, migrate, fault, reclaim, client) calls
 * nothing but these operations.  In production `src/worker/target_linux.c`
 * fills them with userfaultfd ioctls and the agent's ring; in the simulator
 * `tests/sim/kernel_model.c` fills them with a model of address spaces.
 *
 * Types here are distinct structs, so that a client address, a frame number
 * and a staging slot cannot be mixed up without a compiler error.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT 12
#define PAGE_SIZE ((size_t)1 << PAGE_SHIFT)
#define PAGE_MASK (~((uint64_t)PAGE_SIZE - 1))
#define LEAF_SHIFT 21 /* one leaf of the page table maps 2 MiB */
#define LEAF_SIZE ((uint64_t)1 << LEAF_SHIFT)
#define PTES_PER_LEAF 512

/* An address in a client's address space, in bytes. */
struct uaddr {
    uint64_t v;
};

/* A page-aligned range of a client's address space; len in bytes. */
struct urange {
    struct uaddr start;
    uint64_t len;
};

/* A slot of a client's transfer area: where the bytes of one captured page lie. */
struct sslot {
    uint32_t n;
};

static inline struct uaddr uaddr(uint64_t v)
{
    return (struct uaddr){v};
}
static inline struct uaddr uaddr_page(struct uaddr a)
{
    return (struct uaddr){a.v & PAGE_MASK};
}
static inline struct urange urange(uint64_t start, uint64_t end)
{
    return (struct urange){{start}, end - start};
}
static inline uint64_t urange_end(struct urange r)
{
    return r.start.v + r.len;
}

/*
 * What the kernel's answer to a paging call means for us.  Every switch over
 * it is exhaustive, without `default`.
 */
enum kres {
    KRES_DONE,  /* did it (all of ret_done) */
    KRES_RETRY, /* EAGAIN, ENOMEM: nothing wrong; read the events, try again later */
    KRES_RACED, /* EEXIST: somebody filled the page; its waiter must still be woken */
    KRES_GONE,  /* ENOENT: no such range any more, or not registered */
    KRES_DEAD,  /* ESRCH: the address space has ended */
    KRES_FATAL, /* anything else: a bug, or a kernel that refuses */
};

/* At most this many pages are under capture at once in one address space. */
#define CAPTURE_MAX_PAGES 512u

/* A run of pages to capture; page i of the run goes to slot `slot` + i. */
struct capture_vec {
    struct uaddr addr;
    uint32_t nr_pages;
    uint32_t slot;
};

/* What became of one captured page, by slot. */
enum capture_result {
    CAPTURE_TAKEN = 0, /* out of the address space; bytes are in the slot */
    CAPTURE_EVENTS,    /* EAGAIN: events are unread; the page is where it was */
    CAPTURE_BUSY,      /* EBUSY: pinned or not exclusive; the page is where it was */
    CAPTURE_HOLE,      /* ENOENT: no page there */
    CAPTURE_REFUSED,   /* EINVAL, EFAULT: protection, mlock or guard; where it was */
    CAPTURE_NOT_TRIED, /* the agent stopped before it */
    CAPTURE_LOST,      /* taken, but its bytes cannot be had any more (the agent died half-way) */
};

/* One run of present pages, as PAGEMAP_SCAN reports it. */
struct scan_run {
    struct urange r;
    bool huge; /* mapped by a huge page */
};

/* `t` is the target's own handle of one address space (struct mm::target). */
struct target_ops {
    /*
     * Register [r) for missing pages.  DONE: and it was found to lie in one mapping
     * after that, so no part of it is left out (the kernel skips holes, and a hole
     * may be mapped anew).  RETRY: it was not; what there is of it is registered.
     * GONE: not there or not registrable.
     */
    enum kres (*reg)(void *t, struct urange r);
    enum kres (*unreg)(void *t, struct urange r);

    /*
     * Fill absent pages and wake their waiters.  *ret_done = bytes filled from
     * the start, valid for every result; DONE means all of it.
     */
    enum kres (*copy)(void *t, struct uaddr dst, const void *src, uint64_t len, uint64_t *ret_done);
    enum kres (*zero)(void *t, struct uaddr dst, uint64_t len, uint64_t *ret_done);

    /*
     * Make waiters of [r) look again.  Never fails but by DEAD.  An r of length 0 is
     * the whole address space.
     */
    enum kres (*wake)(void *t, struct urange r);

    /* Turn absent pages into SIGBUS. */
    enum kres (*poison)(void *t, struct uaddr dst, uint64_t len, uint64_t *ret_done);

    /*
     * A capture (DESIGN D3) takes the pages of `vecs` out of the address space and
     * puts their bytes into the transfer slots.  In two steps, for a worker that dies
     * in between: before an entry says that its page is under capture, the results of
     * the last command are wiped out and the vecs are noted (prepare); then the command
     * is given (start), which cannot fail and completes later through migrate_captured().
     * -errno of prepare: nothing is started (-ENOTCONN: no agent).  `huge`: one aligned
     * vec of 512 pages that a huge page maps.  Never called while one is under way.
     */
    int (*capture_prepare)(void *t, const struct capture_vec *vecs, uint32_t nr_vecs, bool huge);
    void (*capture_start)(void *t);

    /*
     * Likewise the other way round: a whole huge page of zeros is to be put at `base`,
     * which is 2 MiB aligned, and its waiters woken.  capture_start() gives the command.
     * Completes like a capture, and is one to everybody else; result[0] on are TAKEN for
     * the pages that were filled.  NULL: this target cannot.
     */
    int (*fill_prepare)(void *t, struct uaddr base);

    /* The bytes of a captured slot, PAGE_SIZE long; valid until the next capture_prepare(). */
    const void *(*staged)(void *t, struct sslot slot);

    /*
     * Present pages of [r), in order, at most `max` runs.  Returns their number
     * or -errno; *ret_next = where to go on (== end when all was looked at).
     */
    int (*scan)(void *t, struct urange r, struct scan_run *runs, uint32_t max,
                struct uaddr *ret_next);

    /*
     * The first guard (MADV_GUARD_INSTALL) in [r), or its end.  Filling a page that
     * nobody asked for would overwrite one.  NULL: this target has none.
     */
    struct uaddr (*next_guard)(void *t, struct urange r);

    /*
     * Is a change of the mappings under way: begun, its message not read yet, or its
     * thread not yet running again?  NULL: never.
     */
    bool (*is_changing)(void *t);

    /*
     * Does the page lie in a registered mapping?  DONE: it does; GONE: not; RETRY: a change
     * is under way.  NULL: cannot be told.
     */
    enum kres (*is_registered)(void *t, struct uaddr page);

    /* Has one thread made all changes so far?  NULL: not known. */
    bool (*has_one_thread)(void *t);

    /* Monotonic nanoseconds. */
    uint64_t (*now_ns)(void *t);
};

/*
 * Block I/O of a `file` node, in slots of PAGE_SIZE.  Production fills it with
 * io_uring (src/worker/blk_uring.c).
 */
#define BLK_MAX_PAGES 128u

struct blk_req {
    bool write;
    uint32_t slot; /* of page[0]; the others follow */
    uint32_t nr_pages;
    void *page[BLK_MAX_PAGES];
    /* 0: all of it was done; -errno: none of it can be relied on. */
    void (*done)(struct blk_req *req, int error);
};

struct blk_ops {
    /*
     * 0: `req` and its pages are the device's until done(), which is never called
     * from here.  -EAGAIN: too much is under way.
     */
    int (*submit)(void *blk, struct blk_req *req);
};

#endif
