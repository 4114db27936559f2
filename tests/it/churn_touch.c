/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of churn that touch memory and leave the mappings as they are: loads,
 * stores, and system calls whose buffers are in pages that were moved out.
 */
#define _GNU_SOURCE
#include "churn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_IO 8u /* pages; a pipe takes 16, whatever their alignment */

void touch_open(struct churner *c)
{
    char path[64];

    CHECK(c, pipe2(c->pipe, O_CLOEXEC) == 0);
    c->file = open(P_tmpdir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    CHECK(c, c->file >= 0 && ftruncate(c->file, (off_t)(64 * MIB)) == 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", c->file);
    c->direct = open(path, O_RDWR | O_CLOEXEC | O_DIRECT);
}

static struct region *any_region(struct churner *c)
{
    return &c->region[random_below(c, c->nr_regions)];
}

/* A run of at most `max` pages, [*ret_page, + result). */
static uint32_t any_run(struct churner *c, const struct region *r, uint32_t max, uint32_t *ret_page)
{
    uint32_t nr = 1 + random_below(c, max);

    *ret_page = random_below(c, r->nr_pages);
    return nr < r->nr_pages - *ret_page ? nr : r->nr_pages - *ret_page;
}

void touch_write(struct churner *c)
{
    struct region *r = any_region(c);

    note(c, "write", r, 0, 0);
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t page = random_below(c, r->nr_pages);
        if (page_writable(r, page))
            page_write(c, r, page);
    }
}

void touch_verify(struct churner *c)
{
    struct region *r = any_region(c);

    note(c, "verify", r, 0, 0);
    for (uint32_t i = 0; i < 32; i++) {
        uint32_t page = random_below(c, r->nr_pages);
        if (page_readable(r, page))
            page_verify(c, r, page);
    }
}

void touch_sequence(struct churner *c)
{
    struct region *r = any_region(c);
    uint32_t page, nr = any_run(c, r, 512, &page);
    bool write = random_chance(c, 3), down = random_chance(c, 4);

    note(c, write ? "write in sequence" : "verify in sequence", r, page, nr);
    for (uint32_t i = 0; i < nr; i++) {
        uint32_t p = down ? page + nr - 1 - i : page + i;
        if (write ? page_writable(r, p) : page_readable(r, p))
            (write ? page_write : page_verify)(c, r, p);
    }
}

void touch_zeros(struct churner *c)
{
    struct region *r = any_region(c);
    uint32_t page, nr = any_run(c, r, 64, &page);

    note(c, "write zeros", r, page, nr);
    for (uint32_t i = page; i < page + nr; i++) {
        if (!page_writable(r, i))
            continue;
        r->shadow[i] = (struct shadow){0};
        memset(page_at(r, i), 0, PAGE);
    }
}

/* Some bytes of a page: the rest has to be brought back for it.  Stored, or by read(2). */
void touch_patch(struct churner *c)
{
    struct region *r = any_region(c);
    uint32_t page = random_below(c, r->nr_pages);
    struct shadow *s = &r->shadow[page];
    char patch[PAGE];

    if (!page_writable(r, page))
        return;
    if (s->patch_len || s->unknown || s->maybe_zero)
        page_write(c, r, page);
    s->patch_tag = tag_new(c, r, page);
    s->patch_at = (uint16_t)random_below(c, PAGE);
    s->patch_len = (uint16_t)(1 + random_below(c, PAGE - s->patch_at));
    note(c, "patch", r, page, 1);
    tag_fill(patch, s->patch_tag);
    if (random_chance(c, 2)) {
        memcpy(page_at(r, page) + s->patch_at, patch + s->patch_at, s->patch_len);
        return;
    }
    CHECK(c, write(c->pipe[1], patch + s->patch_at, s->patch_len) == s->patch_len);
    CHECK(c, read(c->pipe[0], page_at(r, page) + s->patch_at, s->patch_len) == s->patch_len);
}

/* ---- pages from here to there by system calls ---- */

struct passage {
    struct region *from, *to;
    uint32_t nr, from_page[MAX_IO], to_page; /* to: one run */
    struct iovec out[MAX_IO], in[3];
    int nr_in;
};

static bool passage_plan(struct churner *c, struct passage *p)
{
    p->from = any_region(c);
    p->to = any_region(c);
    p->nr = any_run(c, p->to, MAX_IO, &p->to_page);
    for (uint32_t i = 0; i < p->nr; i++) {
        p->from_page[i] = random_below(c, p->from->nr_pages);
        if (!page_writable(p->from, p->from_page[i]) || !page_writable(p->to, p->to_page + i))
            return false;
        if (p->from == p->to && p->from_page[i] - p->to_page < p->nr)
            return false;
        page_settle(c, p->from, p->from_page[i]);
        p->out[i] = (struct iovec){page_at(p->from, p->from_page[i]), PAGE};
    }
    /* Into pieces that do not end where pages do. */
    size_t all = (size_t)p->nr * PAGE, first = random_below(c, (uint32_t)all), second;
    second = random_below(c, (uint32_t)(all - first));
    char *to = page_at(p->to, p->to_page);
    p->in[0] = (struct iovec){to, first};
    p->in[1] = (struct iovec){to + first, second};
    p->in[2] = (struct iovec){to + first + second, all - first - second};
    p->nr_in = 3;
    return true;
}

static void passage_done(struct passage *p)
{
    for (uint32_t i = 0; i < p->nr; i++)
        p->to->shadow[p->to_page + i] = p->from->shadow[p->from_page[i]];
}

/* A page that may not be touched has to be refused, moved out or not. */
static void pipe_refused(struct churner *c)
{
    struct region *r = any_region(c);

    if (!r->nr_odd || r->odd_prot & PROT_WRITE)
        return;
    note(c, "touch what is protected", r, r->odd_page, r->nr_odd);
    if (!(r->odd_prot & PROT_READ))
        CHECK(c, write(c->pipe[1], page_at(r, r->odd_page), 64) == -1 && errno == EFAULT);
    CHECK(c, write(c->pipe[1], "x", 1) == 1);
    CHECK(c, read(c->pipe[0], page_at(r, r->odd_page), 1) == -1 && errno == EFAULT);
    char byte;
    CHECK(c, read(c->pipe[0], &byte, 1) == 1 && byte == 'x');
}

void touch_pipe(struct churner *c)
{
    struct passage p;
    ssize_t bytes;

    pipe_refused(c);
    if (!passage_plan(c, &p))
        return;
    bytes = (ssize_t)p.nr * PAGE;
    note(c, "pipe from", p.from, p.from_page[0], p.nr);
    note(c, "pipe to", p.to, p.to_page, p.nr);
    if (random_chance(c, 4)) /* the pipe has the pages themselves until they are read */
        CHECK(c, vmsplice(c->pipe[1], p.out, p.nr, 0) == bytes);
    else
        CHECK(c, writev(c->pipe[1], p.out, (int)p.nr) == bytes);
    if (random_chance(c, 3))
        touch_verify(c); /* somewhere else: time passes */
    if (random_chance(c, 2))
        CHECK(c, readv(c->pipe[0], p.in, p.nr_in) == bytes);
    else
        CHECK(c, read(c->pipe[0], page_at(p.to, p.to_page), (size_t)bytes) == bytes);
    passage_done(&p);
}

void touch_file(struct churner *c)
{
    bool direct = c->direct >= 0 && random_chance(c, 2);
    int fd = direct ? c->direct : c->file;
    struct passage p;
    ssize_t bytes;

    if (!passage_plan(c, &p))
        return;
    bytes = (ssize_t)p.nr * PAGE;
    note(c, direct ? "file, direct, from" : "file from", p.from, p.from_page[0], p.nr);
    note(c, "file to", p.to, p.to_page, p.nr);
    CHECK(c, pwritev(fd, p.out, (int)p.nr, 0) == bytes);
    if (!direct && random_chance(c, 2))
        CHECK(c, preadv(fd, p.in, p.nr_in, 0) == bytes);
    else
        CHECK(c, pread(fd, page_at(p.to, p.to_page), (size_t)bytes, 0) == bytes);
    passage_done(&p);
}

void touch_vm_call(struct churner *c)
{
    struct passage p;
    ssize_t bytes;

    if (!passage_plan(c, &p))
        return;
    bytes = (ssize_t)p.nr * PAGE;
    note(c, "process_vm from", p.from, p.from_page[0], p.nr);
    note(c, "process_vm to", p.to, p.to_page, p.nr);
    if (random_chance(c, 2))
        CHECK(c, process_vm_readv(getpid(), p.in, 3, p.out, p.nr, 0) == bytes);
    else
        CHECK(c, process_vm_writev(getpid(), p.out, p.nr, p.in, 3, 0) == bytes);
    passage_done(&p);
}
