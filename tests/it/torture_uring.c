/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of torture through an io_uring: reads in flight while the pages around
 * them move, and buffers that stay registered, so that the kernel writes to pages it
 * has pinned without asking the page tables again.  A page that was taken out and put
 * back as another one would miss those bytes.
 */
#define _GNU_SOURCE
#include "torture.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define DEPTH 16u
#define READ_PAGES 8u

void uring_open(struct torturer *t)
{
    /* A kernel, or a sandbox, may be without. */
    t->has_ring = settings.pins && io_uring_queue_init(2 * DEPTH, &t->ring, 0) == 0;
}

static void wait_for(struct torturer *t, const struct block *b, unsigned nr, int bytes)
{
    for (unsigned i = 0; i < nr; i++) {
        struct io_uring_cqe *cqe;
        int r;

        do
            r = io_uring_wait_cqe(&t->ring, &cqe);
        while (r == -EINTR);
        CHECK(t, b, r == 0);
        if (cqe->res != bytes)
            fail(t, b, 0, "io_uring: a request for %d bytes ended with %d", bytes, cqe->res);
        io_uring_cqe_seen(&t->ring, cqe);
    }
}

/* While requests are in flight: somewhere else, so that pages have to move. */
static void touch_elsewhere(struct torturer *t)
{
    struct block *b = block_lock(t);

    if (!b)
        return;
    for (uint32_t i = 0; i < 16; i++)
        page_verify(t, b, below(t, b->nr_pages));
    block_unlock(b);
}

void uring_read(struct torturer *t)
{
    struct block *b = t->has_ring ? block_lock(t) : NULL;
    uint32_t nr, page, nr_pages;

    if (!b)
        return;
    nr = 1 + below(t, b->nr_pages / READ_PAGES < DEPTH ? b->nr_pages / READ_PAGES : DEPTH);
    nr_pages = nr * READ_PAGES;
    page = below(t, b->nr_pages - nr_pages + 1);
    note(t, b, "io_uring reads", page, nr_pages);
    for (uint32_t i = 0; i < nr; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&t->ring);
        uint32_t first = below(t, FILE_PAGES - READ_PAGES), at = page + i * READ_PAGES;

        io_uring_prep_read(sqe, chance(t, 2) ? pattern_direct : pattern_file, page_at(b, at),
                           READ_PAGES * PAGE, (uint64_t)first * PAGE);
        for (uint32_t k = 0; k < READ_PAGES; k++)
            b->page[at + k] = (struct page_state){.tag = tag_of_file(first + k)};
    }
    CHECK(t, b, io_uring_submit(&t->ring) == (int)nr);
    touch_elsewhere(t);
    wait_for(t, b, nr, READ_PAGES * PAGE);
    for (uint32_t i = page; i < page + nr_pages; i++)
        page_verify(t, b, i);
    block_unlock(b);
}

void uring_unpin(struct torturer *t)
{
    struct block *b = t->pin.block;

    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    note(t, b, "buffer unregistered", t->pin.page, t->pin.nr);
    CHECK(t, b, io_uring_unregister_buffers(&t->ring) == 0);
    b->nr_pins--;
    t->pin.block = NULL;
    block_unlock(b);
}

void uring_pin(struct torturer *t)
{
    struct iovec v;
    struct block *b;
    uint32_t page, nr;
    int r;

    uring_unpin(t);
    b = t->has_ring ? block_lock(t) : NULL;
    if (!b)
        return;
    nr = block_run(t, b, MAX_PIN_PAGES, &page);
    v = (struct iovec){page_at(b, page), (size_t)nr * PAGE};
    note(t, b, "buffer registered", page, nr);
    r = io_uring_register_buffers(&t->ring, &v, 1);
    if (r == 0) {
        t->pin = (struct pin){b, page, nr, (uintptr_t)v.iov_base};
        b->nr_pins++;
    } else {
        CHECK(t, b, r == -ENOMEM || r == -EPERM); /* RLIMIT_MEMLOCK */
        t->nr_pin_refused++;
    }
    block_unlock(b);
}

void uring_fixed(struct torturer *t)
{
    static _Thread_local char copy[MAX_PIN_PAGES * PAGE];
    struct block *b = t->pin.block;
    uint32_t page = t->pin.page, nr = t->pin.nr, first = below(t, FILE_PAGES - MAX_PIN_PAGES);
    struct io_uring_sqe *sqe;
    bool direct = chance(t, 2);

    if (!b || pthread_mutex_trylock(&b->lock) != 0)
        return;
    sqe = io_uring_get_sqe(&t->ring);
    if (chance(t, 3)) {
        note(t, b, "io_uring write from the registered buffer", page, nr);
        io_uring_prep_write_fixed(sqe, t->scratch, (void *)t->pin.at, nr * PAGE, 0, 0);
        CHECK(t, b, io_uring_submit(&t->ring) == 1);
        wait_for(t, b, 1, (int)(nr * PAGE));
        CHECK(t, b, pread(t->scratch, copy, nr * PAGE, 0) == (ssize_t)(nr * PAGE));
        for (uint32_t i = 0; i < nr; i++)
            copy_verify(t, b, page + i, copy + (size_t)i * PAGE);
    } else {
        note(t, b, "io_uring read into the registered buffer", page, nr);
        io_uring_prep_read_fixed(sqe, direct ? pattern_direct : pattern_file, (void *)t->pin.at,
                                 nr * PAGE, (uint64_t)first * PAGE, 0);
        CHECK(t, b, io_uring_submit(&t->ring) == 1);
        touch_elsewhere(t);
        wait_for(t, b, 1, (int)(nr * PAGE));
        for (uint32_t i = 0; i < nr; i++)
            b->page[page + i] = (struct page_state){.tag = tag_of_file(first + i)};
        t->nr_fixed_reads++;
    }
    for (uint32_t i = page; i < page + nr; i++)
        page_verify(t, b, i);
    block_unlock(b);
}
