/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "fake_disk.h"

static int submit(void *blk, struct blk_req *req)
{
    struct fake_disk *d = blk;

    if (d->submit_error)
        return d->submit_error;
    ck_assert_uint_ge(req->nr_pages, 1);
    ck_assert_uint_le(req->nr_pages, BLK_MAX_PAGES);
    ck_assert_uint_le((uint64_t)req->slot + req->nr_pages, d->nr_slots);
    ck_assert_uint_lt(d->nr_reqs, DISK_MAX_REQS);
    for (uint32_t i = 0; i < d->nr_reqs; i++)
        ck_assert_ptr_ne(d->req[i], req);
    d->req[d->nr_reqs++] = req;
    return 0;
}

static const struct blk_ops disk_ops = {.submit = submit};

void disk_open(struct fake_disk *d, uint32_t nr_slots)
{
    *d = (struct fake_disk){.nr_slots = nr_slots};
    d->bytes = malloc(nr_slots * PAGE_SIZE);
    d->sums = calloc(nr_slots, sizeof(*d->sums));
    d->unreadable = calloc(nr_slots, sizeof(*d->unreadable));
    ck_assert(d->bytes && d->sums && d->unreadable);
    memset(d->bytes, 0xdd, nr_slots * PAGE_SIZE);
    for (size_t i = 0; i < sizeof(d->secret); i++)
        d->secret[i] = (uint8_t)(i * 167 + 13);
}

void disk_close(struct fake_disk *d)
{
    ck_assert_uint_eq(d->nr_reqs, 0);
    free(d->bytes);
    free(d->sums);
    free(d->unreadable);
}

struct node_file disk_node(struct fake_disk *d)
{
    return (struct node_file){.blk = &disk_ops,
                              .blk_arg = d,
                              .sums = d->sums,
                              .writes = &d->writes,
                              .secret = d->secret,
                              .name = "a disk"};
}

static int do_write(struct fake_disk *d, const struct blk_req *req)
{
    uint32_t nr = d->write_error ? req->nr_pages / 2 : req->nr_pages;

    for (uint32_t i = 0; i < nr; i++)
        memcpy(d->bytes + (req->slot + i) * PAGE_SIZE, req->page[i], PAGE_SIZE);
    d->nr_writes++;
    d->nr_pages_written += nr;
    return d->write_error;
}

static int do_read(struct fake_disk *d, const struct blk_req *req)
{
    int error = d->read_error_once;

    d->nr_reads++;
    d->read_error_once = 0;
    for (uint32_t i = 0; i < req->nr_pages; i++) {
        if (d->unreadable[req->slot + i])
            error = -EIO;
        memcpy(req->page[i], d->bytes + (req->slot + i) * PAGE_SIZE, PAGE_SIZE);
    }
    return error;
}

void disk_finish(struct fake_disk *d, uint32_t i)
{
    struct blk_req *req = d->req[i];

    ck_assert_uint_lt(i, d->nr_reqs);
    memmove(d->req + i, d->req + i + 1, (--d->nr_reqs - i) * sizeof(*d->req));
    req->done(req, req->write ? do_write(d, req) : do_read(d, req));
}

void disk_run(struct fake_disk *d)
{
    while (d->nr_reqs)
        disk_finish(d, 0);
}

void disk_flip_bit(struct fake_disk *d, uint32_t slot)
{
    d->bytes[slot * PAGE_SIZE + 1234] ^= 0x10;
}
