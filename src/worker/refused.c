/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A forked child of which no record can be made: there are too many clients, or memory is
 * short.  Unattended, its userfaultfd would let it wait for ever; closed at once, the child would
 * read zeros where its parent's bytes are moved out.  So these pages are poisoned there, and then
 * it is closed: the kernel serves the child, and a touch of what is missing is SIGBUS.
 *
 * The child runs meanwhile, and while a change of its address space is unread nothing can be
 * poisoned (EAGAIN).  By when that is over, the parent's tables may say something else: then it
 * is done a little at a time, by the clock, and all that is missing where the parent had something
 * adopted, and where the child has moved that to, is poisoned, also what was never touched.
 *
 * The same for every client without agent when the worker ends.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>

#include "worker/worker_priv.h"

#define SLICE_NS 2000000u /* of a turn of the worker, for all of them together */
#define PATIENCE_NS 50000000u /* at the worker's end: a change is a matter of its thread's next turn */
#define CHUNK ((uint64_t)2 << 20)
#define MSGS 16

struct refused {
    struct list link; /* in worker.refused */
    int fd;
    /* Where something may be missing.  Poisoned: all before missing[at], and of that `done` bytes. */
    struct urange *missing;
    uint32_t nr, max, at;
    uint64_t done;
};

static enum kres poison_by_fd(void *fd, struct uaddr at, uint64_t len, uint64_t *ret_done)
{
    return kuffd_poison(*(const int *)fd, at, len, ret_done);
}

/* The userfaultfd stays open, of a child that may read zeros otherwise. */
static void give_up(void)
{
    log_error("nor can what it misses be poisoned: it waits for ever when it touches that; "
              "end it");
}

static bool note_missing(struct refused *r, struct urange where)
{
    if (r->nr == r->max) {
        uint32_t max = r->max ? 2 * r->max : 16;
        struct urange *more = reallocarray(r->missing, max, sizeof(*more));
        if (!more)
            return false;
        r->missing = more;
        r->max = max;
    }
    r->missing[r->nr++] = where;
    return true;
}

static struct refused *refused_new(int fd)
{
    struct refused *r = calloc(1, sizeof(*r));

    if (r)
        r->fd = fd;
    return r;
}

static void refused_free(struct refused *r)
{
    free(r->missing);
    free(r);
}

static void put_off(struct worker *w, struct refused *r)
{
    list_add_tail(&r->link, &w->refused);
    w->next_housekeeping_ns = 0;
}

/* It was forked by one that is not done: what that one misses is missing here. */
static void refuse_too(struct worker *w, const struct refused *parent, int fd)
{
    struct refused *r = refused_new(fd);
    bool all = r;

    for (uint32_t i = 0; i < parent->nr && all; i++)
        all = note_missing(r, parent->missing[i]);
    if (all) {
        put_off(w, r);
        return;
    }
    give_up();
    if (r)
        refused_free(r);
}

/* So that the child goes on.  Its faults are posted again until they find poison. */
static bool read_events(struct worker *w, struct refused *r)
{
    struct kuffd_msg msgs[MSGS];
    int n = kuffd_read(r->fd, msgs, MSGS);
    bool all = true;

    for (int i = 0; i < n; i++) {
        if (msgs[i].type == KUFFD_REMAP)
            all &= note_missing(r, (struct urange){msgs[i].to, msgs[i].len});
        else if (msgs[i].type == KUFFD_FORK)
            refuse_too(w, r, msgs[i].fd);
    }
    return all;
}

/* RETRY: not now, or not all yet. */
static enum kres poison_some(struct refused *r, uint64_t end_ns)
{
    for (; r->at < r->nr; r->at++, r->done = 0) {
        const struct urange *m = &r->missing[r->at];
        while (r->done < m->len) {
            uint64_t len = MIN(m->len - r->done, CHUNK);
            if (now_ns() >= end_ns)
                return KRES_RETRY;
            enum kres res = client_poison_range(poison_by_fd, &r->fd,
                                                (struct urange){uaddr(m->start.v + r->done), len});
            if (res != KRES_DONE)
                return res;
            r->done += len;
        }
    }
    return KRES_DONE;
}

/* False when nothing more is to be done. */
static bool go_on(struct worker *w, struct refused *r, uint64_t end_ns)
{
    enum kres res = read_events(w, r) ? poison_some(r, end_ns) : KRES_FATAL;

    if (res == KRES_RETRY)
        return true;
    if (res == KRES_DONE || res == KRES_DEAD)
        close(r->fd);
    else
        give_up();
    return false;
}

void refused_go_on(struct worker *w)
{
    uint64_t end_ns = now_ns() + SLICE_NS;
    struct refused *r, *n;
    struct list now;

    list_init(&now);
    list_splice_tail(&w->refused, &now);
    list_for_each_entry_safe(r, n, &now, link) {
        list_del(&r->link);
        if (go_on(w, r, end_ns))
            list_add_tail(&r->link, &w->refused);
        else
            refused_free(r);
    }
}

/* What is out of c is missing at fd, its own or a child's: poisoned now, or put off. */
static enum kres poison_or_put_off(struct client *c, int fd)
{
    struct uaddr cursor = uaddr(0);
    enum kres res = client_poison_out(c, poison_by_fd, &fd, &cursor);

    if (res != KRES_RETRY)
        return res;
    struct refused *r = refused_new(fd);
    bool all = r;
    for (uint32_t i = 0; i < c->mm.nr_areas && all; i++)
        all = note_missing(r, urange(c->mm.areas[i].start, c->mm.areas[i].end));
    if (all) {
        put_off(wclient_of(c)->w, r);
        return KRES_RETRY;
    }
    if (r)
        refused_free(r);
    return KRES_FATAL;
}

void forked_refuse(struct client *parent, int uffd)
{
    struct wclient *from = wclient_of(parent);

    log_error("a forked child of pid %d (%s) cannot be served, there are %u clients already or "
              "memory is short: what was moved out of its parent is SIGBUS in it.  Run fewer "
              "programs at once",
              from->program_pid, from->comm, STATE_MAX_CLIENTS);
    from->w->child_refused = true;
    switch (poison_or_put_off(parent, uffd)) {
    case KRES_DONE:
    case KRES_DEAD:
        close(uffd);
        break;
    case KRES_RETRY:
        break;
    case KRES_RACED:
    case KRES_GONE:
    case KRES_FATAL:
        give_up();
        break;
    }
}

void fail_closed(struct worker *w)
{
    uint64_t end_ns = now_ns() + PATIENCE_NS;
    struct client *c;
    bool all = true;

    list_for_each_entry(c, &w->domain.clients, link)
        if (!migrate_is_capturing(&c->mm))
            apply_messages(wclient_of(c)); /* there may be a child in them: it comes behind */
    list_for_each_entry(c, &w->domain.clients, link) {
        struct wclient *wc = wclient_of(c);
        if (wc->ring && !wc->agent_lost)
            continue;
        all &= poison_or_put_off(c, wc->uffd.fd) != KRES_FATAL;
    }
    while (!list_empty(&w->refused) && now_ns() < end_ns) {
        refused_go_on(w);
        sched_yield();
    }
    if (!all || !list_empty(&w->refused))
        log_error("programs without agent have memory moved out that cannot be poisoned now: they "
                  "read zeros there.  End those that the log names");
}
