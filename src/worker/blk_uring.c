/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_ops on a swap file or block device: vectored reads and writes on the reactor's
 * ring.  What the core submits is queued, and goes to the kernel in one call with all
 * else that the reactor has, so that many requests cost one system call.
 *
 * A request that was done in part goes on behind that part; one that does nothing at
 * all is an error (a write: no space; a read: the file is shorter than it was).
 *
 * As many requests as the core has at most; none is allocated later.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "worker/worker_priv.h"

#define NR_IOS 64

struct blk_io {
    struct reactor_io io;
    struct blk_dev *dev;
    struct blk_req *req;
    struct iovec iov[BLK_MAX_PAGES];
    uint32_t nr_iov, at; /* iov[at] is the first that is not done */
    uint64_t offset;     /* of it */
    struct blk_io *next_free;
};

struct blk_dev {
    struct reactor *reactor;
    int fd;
    bool queued;
    struct blk_io *free;
    struct blk_io all[NR_IOS];
};

static void io_done(struct reactor_io *rio, int res);

struct blk_dev *blk_dev_new(struct reactor *r, int fd)
{
    struct blk_dev *dev = calloc(1, sizeof(*dev));

    if (!dev)
        return NULL;
    dev->reactor = r;
    dev->fd = fd;
    for (unsigned i = 0; i < NR_IOS; i++) {
        dev->all[i].io.done = io_done;
        dev->all[i].dev = dev;
        dev->all[i].next_free = dev->free;
        dev->free = &dev->all[i];
    }
    return dev;
}

bool blk_dev_take_queued(struct blk_dev *dev)
{
    bool queued = dev && dev->queued;

    if (queued)
        dev->queued = false;
    return queued;
}

static void go_on(struct blk_io *io)
{
    io->dev->queued = true;
    reactor_submit_vec(io->dev->reactor, &io->io, io->req->write, io->dev->fd, io->iov + io->at,
                       io->nr_iov - io->at, io->offset);
}

/* What a test wants to have happened instead. */
static int as_tests_wish(const struct blk_io *io, int res)
{
    if (io->req->write) {
        if (failpoint("swap-write-eio"))
            return -EIO;
        if (failpoint("swap-write-enospc"))
            return -ENOSPC;
    } else if (failpoint("swap-read-eio") ||
               (io->req->nr_pages == 1 && failpoint("swap-read-page-eio"))) {
        return -EIO;
    }
    return res > (int)PAGE_SIZE && failpoint("swap-short") ? res - (int)PAGE_SIZE : res;
}

/* Cuts off what is done.  True when nothing is left. */
static bool advance(struct blk_io *io, size_t done)
{
    io->offset += done;
    while (io->at < io->nr_iov && done >= io->iov[io->at].iov_len)
        done -= io->iov[io->at++].iov_len;
    if (io->at == io->nr_iov)
        return true;
    io->iov[io->at].iov_base = (char *)io->iov[io->at].iov_base + done;
    io->iov[io->at].iov_len -= done;
    return false;
}

static void io_done(struct reactor_io *rio, int res)
{
    struct blk_io *io = container_of(rio, struct blk_io, io);
    struct blk_dev *dev = io->dev;
    struct blk_req *req = io->req;

    res = as_tests_wish(io, res);
    if (res == -EINTR || (res > 0 && !advance(io, (size_t)res))) {
        go_on(io);
        return;
    }
    if (res == 0)
        res = req->write ? -ENOSPC : -EIO;
    io->next_free = dev->free; /* first: it may be wanted from within done() */
    dev->free = io;
    req->done(req, MIN(res, 0));
}

/* Adjacent pages become one vector. */
static uint32_t build_iov(struct iovec *iov, const struct blk_req *req)
{
    uint32_t nr = 0;

    for (uint32_t i = 0; i < req->nr_pages; i++) {
        if (nr && (char *)iov[nr - 1].iov_base + iov[nr - 1].iov_len == req->page[i])
            iov[nr - 1].iov_len += PAGE_SIZE;
        else
            iov[nr++] = (struct iovec){req->page[i], PAGE_SIZE};
    }
    return nr;
}

static int submit(void *blk, struct blk_req *req)
{
    struct blk_dev *dev = blk;
    struct blk_io *io = dev->free;

    if (!io)
        return -EAGAIN;
    dev->free = io->next_free;
    io->req = req;
    io->nr_iov = build_iov(io->iov, req);
    io->at = 0;
    io->offset = (uint64_t)req->slot << PAGE_SHIFT;
    go_on(io);
    return 0;
}

const struct blk_ops blk_uring = {.submit = submit};
