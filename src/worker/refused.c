/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A forked child of which no record can be made: there are too many clients, or memory is
 * short.  Unattended, its userfaultfd would let it wait for ever; closed at once, the child would
 * read zeros where its parent's bytes are moved out.  So these pages are poisoned there, and then
 * it is closed: the kernel serves the child, and a touch of what is missing is SIGBUS.
 *
 * The child runs meanwhile.  While a change of its address space is unread nothing can be
 * poisoned (EAGAIN), and what it moves is not where the tables say: all that is missing
 * at its new place is poisoned, also what was never touched.
 *
 * The same for every client without agent when the worker ends.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <sched.h>

#include "worker/worker_priv.h"

#define PATIENCE_NS 50000000u /* it is a matter of its thread's next turn */
#define MAX_MOVES 8
#define MAX_DEPTH 4 /* children's children, forked before it was done */
#define MSGS 16

struct refused {
    struct client *parent;
    int fd;
    struct uaddr cursor; /* as far as the parent's tables were followed */
    struct urange moved[MAX_MOVES];
    uint32_t nr_moved;
    unsigned depth;
};

static enum kres poison_by_fd(void *fd, struct uaddr at, uint64_t len, uint64_t *ret_done)
{
    return kuffd_poison(*(const int *)fd, at, len, ret_done);
}

static void refuse(struct client *parent, int fd, unsigned depth);

static void note_moved(struct refused *r, struct urange to)
{
    struct urange *last = &r->moved[MAX_MOVES - 1];

    if (r->nr_moved < MAX_MOVES)
        r->moved[r->nr_moved++] = to;
    else
        *last = urange(MIN(last->start.v, to.start.v), MAX(urange_end(*last), urange_end(to)));
}

/* Its events, so that it goes on; its faults are posted again until they find poison. */
static void read_events(struct refused *r)
{
    struct kuffd_msg msgs[MSGS];
    int n = kuffd_read(r->fd, msgs, MSGS);

    for (int i = 0; i < n; i++) {
        if (msgs[i].type == KUFFD_REMAP)
            note_moved(r, (struct urange){msgs[i].to, msgs[i].len});
        else if (msgs[i].type == KUFFD_FORK)
            refuse(r->parent, msgs[i].fd, r->depth + 1);
    }
}

static enum kres poison(struct refused *r)
{
    enum kres res = KRES_DONE;

    for (uint32_t i = 0; i < r->nr_moved && res == KRES_DONE; i++)
        res = client_poison_range(poison_by_fd, &r->fd, r->moved[i]);
    if (res == KRES_DONE)
        res = client_poison_out(r->parent, poison_by_fd, &r->fd, &r->cursor);
    return res;
}

/* DONE or DEAD: nothing is missing there any more but what is poisoned. */
static enum kres poison_all(struct client *parent, int fd, unsigned depth)
{
    struct refused r = {.parent = parent, .fd = fd, .depth = depth};
    uint64_t end_ns = now_ns() + PATIENCE_NS;
    enum kres res;

    do {
        uint32_t nr_moved = r.nr_moved;
        res = depth < MAX_DEPTH ? poison(&r) : KRES_FATAL;
        read_events(&r);
        if (r.nr_moved != nr_moved && res == KRES_DONE)
            res = KRES_RETRY;
        if (res == KRES_RETRY)
            sched_yield();
    } while (res == KRES_RETRY && now_ns() < end_ns);
    return res;
}

static void refuse(struct client *parent, int fd, unsigned depth)
{
    enum kres res = poison_all(parent, fd, depth);

    if (res == KRES_DONE || res == KRES_DEAD)
        close(fd);
    else /* waiting is the lesser evil than zeros */
        log_error("nor can what it misses be poisoned: it waits for ever when it touches that; "
                  "end it");
}

void forked_refuse(struct client *parent, int uffd)
{
    struct wclient *from = wclient_of(parent);

    log_error("a forked child of pid %d (%s) cannot be served, there are %u clients already or "
              "memory is short: what was moved out of its parent is SIGBUS in it.  Run fewer "
              "programs at once",
              from->program_pid, from->comm, STATE_MAX_CLIENTS);
    from->w->child_refused = true;
    refuse(parent, uffd, 0);
}

void fail_closed(struct worker *w)
{
    struct client *c;

    list_for_each_entry(c, &w->domain.clients, link) {
        struct wclient *wc = wclient_of(c);
        if (wc->ring && !wc->agent_lost)
            continue;
        if (!migrate_is_capturing(&c->mm)) /* by an agent that is just ending */
            apply_messages(wc); /* there may be a child in them: it comes behind */
        enum kres res = poison_all(c, wc->uffd.fd, 0);
        if (res != KRES_DONE && res != KRES_DEAD)
            log_error("pid %d (%s) has no agent, and what is moved out of it cannot be poisoned: it "
                      "reads zeros there.  End it", wc->program_pid, wc->comm);
    }
}
