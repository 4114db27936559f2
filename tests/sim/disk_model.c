/* SPDX-License-Identifier: Apache-2.0 */
/* The device; disk_model.h says what it does. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk_model.h"

static int submit(void *blk, struct blk_req *req)
{
    struct disk_model *d = blk;

    BUG_ON(!req->nr_pages || req->nr_pages > BLK_MAX_PAGES ||
           (uint64_t)req->slot + req->nr_pages > DISK_SLOTS);
    for (uint32_t i = 0; i < d->nr_orphans && req->write; i++)
        if (d->orphan[i].slot >= req->slot && d->orphan[i].slot < req->slot + req->nr_pages)
            sim_fail(d->sim, "disk", "slot %u is still being written for a dead worker",
                     d->orphan[i].slot);
    for (uint32_t i = 0; i < d->nr_reqs; i++)
        if (d->req[i]->slot < req->slot + req->nr_pages &&
            req->slot < d->req[i]->slot + d->req[i]->nr_pages)
            sim_fail(d->sim, "disk", "slot %u has two requests under way", req->slot);
    if (d->nr_reqs == DISK_MAX_REQS || sim_fails(d->sim))
        return -EAGAIN;
    d->req[d->nr_reqs++] = req;
    trace(d->sim, "  DISK %s slots %u..%u", req->write ? "writes" : "reads", req->slot,
          req->slot + req->nr_pages - 1);
    CRASH_POINT(); /* the device has it, and the worker does not know yet */
    return 0;
}

static const struct blk_ops disk_ops = {.submit = submit};

void disk_init(struct disk_model *d, struct sim *s)
{
    *d = (struct disk_model){.sim = s};
    if (!s->set.disk)
        return;
    d->bytes = malloc(DISK_SLOTS * PAGE_SIZE);
    d->sums = calloc(DISK_SLOTS, sizeof(*d->sums));
    BUG_ON(!d->bytes || !d->sums);
    memset(d->bytes, 0xdd, DISK_SLOTS * PAGE_SIZE);
    for (uint32_t i = 0; i < sizeof(d->secret); i++)
        d->secret[i] = (uint8_t)(s->seed >> (i % 8) * 8) ^ (uint8_t)(i * 157);
}

void disk_fini(struct disk_model *d)
{
    free(d->bytes);
    free(d->sums);
    d->bytes = NULL;
}

struct node_file disk_file(struct disk_model *d)
{
    return (struct node_file){.blk = &disk_ops,
                              .blk_arg = d,
                              .sums = d->sums,
                              .writes = &d->writes,
                              .secret = d->secret,
                              .name = "the modelled disk"};
}

static bool is_bad(struct sim *s)
{
    return sim_fails_at(s, s->set.disk_bad);
}

static void write_pages(struct disk_model *d, const struct blk_req *req, uint32_t nr)
{
    for (uint32_t i = 0; i < nr; i++) {
        uint8_t *at = d->bytes + (req->slot + i) * PAGE_SIZE;

        if (is_bad(d->sim) && choice_chance(&d->sim->choice, 512)) {
            trace(d->sim, "  DISK writes slot %u amiss", req->slot + i);
            memcpy(at, req->page[i], PAGE_SIZE / 2);
            continue;
        }
        memcpy(at, req->page[i], PAGE_SIZE);
    }
}

static int do_write(struct disk_model *d, const struct blk_req *req)
{
    struct sim *s = d->sim;

    if (sim_fails(s)) {
        write_pages(d, req, choice_below(&s->choice, req->nr_pages + 1));
        return choice_chance(&s->choice, 512) ? -EIO : -ENOSPC;
    }
    write_pages(d, req, req->nr_pages);
    return 0;
}

static int do_read(struct disk_model *d, const struct blk_req *req)
{
    struct sim *s = d->sim;
    int error = sim_fails(s) ? -ENOMEM : is_bad(s) ? -EIO : 0;

    for (uint32_t i = 0; i < req->nr_pages; i++) {
        uint8_t *to = req->page[i];

        /* What fails may have been done in part. */
        if (error && choice_chance(&s->choice, 512))
            memset(to, 0xcc, PAGE_SIZE);
        else
            memcpy(to, d->bytes + (req->slot + i) * PAGE_SIZE, PAGE_SIZE);
        if (is_bad(s))
            to[choice_below(&s->choice, PAGE_SIZE)] ^= 1;
    }
    return error;
}

bool disk_step(struct disk_model *d)
{
    if (!d->nr_reqs)
        return false;
    uint32_t i = choice_below(&d->sim->choice, d->nr_reqs);
    struct blk_req *req = d->req[i];
    d->req[i] = d->req[--d->nr_reqs];
    int error = req->write ? do_write(d, req) : do_read(d, req);
    trace(d->sim, "  DISK has %s slots %u..%u: %s", req->write ? "written" : "read", req->slot,
          req->slot + req->nr_pages - 1, error ? strerror(-error) : "done");
    req->done(req, error);
    return true;
}

void disk_orphan(struct disk_model *d)
{
    while (d->nr_reqs) {
        const struct blk_req *req = d->req[--d->nr_reqs];

        for (uint32_t i = 0; req->write && i < req->nr_pages; i++) {
            BUG_ON(d->nr_orphans == DISK_MAX_ORPHANS);
            d->orphan[d->nr_orphans++] = (struct disk_orphan){req->slot + i, req->page[i]};
        }
    }
}

bool disk_orphan_step(struct disk_model *d)
{
    struct choice *c = &d->sim->choice;
    bool all = d->sim->settling || choice_chance(c, 128);

    if (!d->nr_orphans)
        return false;
    for (uint32_t nr = all ? d->nr_orphans : choice_between(c, 1, MIN(d->nr_orphans, 16u)); nr; nr--) {
        uint32_t i = choice_below(c, d->nr_orphans);
        struct disk_orphan o = d->orphan[i];

        d->orphan[i] = d->orphan[--d->nr_orphans];
        bool lands = choice_chance(c, 768);
        if (lands)
            memcpy(d->bytes + o.slot * PAGE_SIZE, o.page, PAGE_SIZE);
        trace_page(d->sim, o.slot, lands ? ": written" : ": never written",
                   "  DISK ends a dead worker's write of slot");
    }
    return true;
}
