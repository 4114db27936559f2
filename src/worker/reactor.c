/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one place where the worker waits: an io_uring with a multishot poll for
 * each descriptor.  A source that is removed stays in memory until the kernel
 * has sent its last completion; only then `released` is called.
 *
 * No seccomp filter sees what a ring does.  So the ring itself refuses (EACCES) all that is not
 * asked of it in this file: whoever takes the worker over opens, connects and sends nothing by it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/worker_priv.h"

struct reactor {
    struct io_uring ring;
    struct list dying; /* removed sources that the kernel has not let go of */
    struct list again; /* sources that may have more */
    struct turn turn;
};

/*
 * The kernel charges a ring to RLIMIT_MEMLOCK, for all processes of a user together, where
 * the user has no CAP_IPC_LOCK (250 KiB of the largest, 8 of the smallest).  A small one
 * does all the same, by more system calls.
 */
#define REACTOR_ENTRIES 1024u
#define REACTOR_MIN_ENTRIES 16u

/* liburing 2.3 declares functions for the two that we need, but has them not. */
static long ring_register(const struct io_uring *ring, unsigned op, const void *arg, unsigned nr)
{
    return syscall(SYS_io_uring_register, ring->ring_fd, op, arg, nr);
}

/* For good: without flags on a submission, and without any further io_uring_register(2). */
static int restrict_ring(struct io_uring *ring)
{
    static const uint8_t allowed[] = {
        IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_READV, IORING_OP_WRITEV,
    };
    struct io_uring_restriction r[ARRAY_SIZE(allowed)] = {0};

    for (unsigned i = 0; i < ARRAY_SIZE(allowed); i++) {
        r[i].opcode = IORING_RESTRICTION_SQE_OP;
        r[i].sqe_op = allowed[i];
    }
    if (ring_register(ring, IORING_REGISTER_RESTRICTIONS, r, ARRAY_SIZE(r)) < 0 ||
        ring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
        return -errno;
    return 0;
}

static int ring_init(struct io_uring *ring, unsigned entries)
{
    /*
     * A poll's wake-up does nothing until we ask for completions: by default each fault
     * would interrupt the worker, which is answering the one before it, with a signal's work.
     * Restrictions can be given only while it is disabled; who enables it is the one issuer.
     */
    int e = io_uring_queue_init(entries, ring, IORING_SETUP_CLAMP | IORING_SETUP_SINGLE_ISSUER |
                                                   IORING_SETUP_DEFER_TASKRUN |
                                                   IORING_SETUP_R_DISABLED);

    if (e < 0)
        return e;
    e = restrict_ring(ring);
    if (e < 0)
        io_uring_queue_exit(ring);
    return e;
}

/* One sentence: the cause, and what helps. */
static void complain(int err, const char *a_larger, char *why, size_t size)
{
    struct rlimit limit;

    if (err == -ENOMEM && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
        limit.rlim_cur != RLIM_INFINITY)
        snprintf(why, size,
                 "RLIMIT_MEMLOCK, %llu KiB for all processes of uid %u together, leaves no room "
                 "for %sio_uring: raise it (ulimit -l, LimitMEMLOCK=), or give pagerd CAP_IPC_LOCK",
                 (unsigned long long)(limit.rlim_cur >> 10), geteuid(), a_larger);
    else if (err == -EPERM || err == -ENOSYS)
        snprintf(why, size,
                 "io_uring is not allowed here (%s): see /proc/sys/kernel/io_uring_disabled, and "
                 "the seccomp profile of the container",
                 strerror(-err));
    else
        snprintf(why, size, "cannot make an io_uring: %s", strerror(-err));
}

int worker_probe(char *why, size_t size)
{
    struct io_uring ring;
    int e = ring_init(&ring, REACTOR_MIN_ENTRIES);

    if (e < 0)
        complain(e, "an ", why, size);
    else
        io_uring_queue_exit(&ring);
    return e < 0 ? e : 0;
}

struct reactor *reactor_new(void)
{
    struct reactor *r = calloc(1, sizeof(*r));
    unsigned entries = REACTOR_ENTRIES;
    char why[256];
    int e;

    if (!r)
        return NULL;
    while ((e = ring_init(&r->ring, entries)) == -ENOMEM && entries > REACTOR_MIN_ENTRIES)
        entries /= 2;
    if (e < 0) {
        complain(e, "an ", why, sizeof(why));
        log_error("%s", why);
        free(r);
        errno = -e;
        return NULL;
    }
    if (entries < REACTOR_ENTRIES) {
        complain(-ENOMEM, "a larger ", why, sizeof(why));
        log_warning("its io_uring has %u entries, not %u: %s", entries, REACTOR_ENTRIES, why);
    }
    list_init(&r->dying);
    list_init(&r->again);
    return r;
}

static struct io_uring_sqe *next_sqe(struct reactor *r)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);

    if (!sqe) {
        io_uring_submit(&r->ring);
        sqe = io_uring_get_sqe(&r->ring);
    }
    BUG_ON(!sqe);
    return sqe;
}

/* Addresses are even: that of an operation is told from a source's by the last bit. */
#define IS_IO ((uintptr_t)1)

void reactor_submit_vec(struct reactor *r, struct reactor_io *io, bool write, int fd,
                        const struct iovec *iov, uint32_t nr, uint64_t offset)
{
    struct io_uring_sqe *sqe = next_sqe(r);

    if (write)
        io_uring_prep_writev(sqe, fd, iov, nr, offset);
    else
        io_uring_prep_readv(sqe, fd, iov, nr, offset);
    io_uring_sqe_set_data(sqe, (void *)((uintptr_t)io | IS_IO));
}

static void arm(struct reactor *r, struct source *s)
{
    struct io_uring_sqe *sqe = next_sqe(r);

    io_uring_prep_poll_multishot(sqe, s->fd, POLLIN);
    io_uring_sqe_set_data(sqe, s);
    s->armed = true;
}

void source_add(struct reactor *r, struct source *s, int fd, void (*ready)(struct source *),
                void (*released)(struct source *))
{
    *s = (struct source){.fd = fd, .ready = ready, .released = released};
    arm(r, s);
}

void source_again(struct reactor *r, struct source *s)
{
    if (s->again)
        return;
    s->again = true;
    list_add_tail(&s->again_link, &r->again);
}

static void not_again(struct source *s)
{
    if (s->again)
        list_del(&s->again_link);
    s->again = false;
}

void source_remove(struct reactor *r, struct source *s)
{
    BUG_ON(s->dying);
    not_again(s);
    s->dying = true;
    list_add_tail(&s->dying_link, &r->dying);
    /*
     * Never unarmed outside of reactor_wait(): a completion is still to come.  Not
     * POLL_REMOVE: that answers EALREADY, and leaves the poll, while it is being woken.
     */
    struct io_uring_sqe *sqe = next_sqe(r);
    io_uring_prep_cancel(sqe, s, 0);
    io_uring_sqe_set_data(sqe, NULL);
}

static void handle(struct reactor *r, struct io_uring_cqe *cqe)
{
    uintptr_t data = (uintptr_t)io_uring_cqe_get_data(cqe);
    if (data & IS_IO) {
        struct reactor_io *io = (struct reactor_io *)(data & ~(uintptr_t)IS_IO);
        io->done(io, cqe->res);
        return;
    }
    struct source *s = (struct source *)data;
    bool more = cqe->flags & IORING_CQE_F_MORE;
    int res = cqe->res;

    if (!s) /* a removal's own completion */
        return;
    if (!more)
        s->armed = false;
    if (s->dying) {
        if (!s->armed) {
            list_del(&s->dying_link);
            s->released(s);
        }
        return;
    }
    if (!s->armed)
        arm(r, s);
    if (res >= 0)
        s->ready(s);
}

/* Those that were to be called again so far. */
static void call_again(struct reactor *r)
{
    struct list now;

    list_init(&now);
    list_splice_tail(&r->again, &now);
    while (!list_empty(&now)) {
        struct source *s = list_first_entry(&now, struct source, again_link);
        not_again(s);
        s->ready(s);
    }
}

int reactor_wait(struct reactor *r, uint64_t deadline_ns)
{
    struct io_uring_cqe *cqe;
    uint64_t now = now_ns();
    int e;

    turn_end(&r->turn);
    if (deadline_ns <= now || !list_empty(&r->again)) {
        e = io_uring_submit_and_get_events(&r->ring);
    } else {
        uint64_t left = deadline_ns - now;
        struct __kernel_timespec ts = {.tv_sec = (int64_t)(left / 1000000000),
                                       .tv_nsec = (long long)(left % 1000000000)};
        e = io_uring_submit_and_wait_timeout(&r->ring, &cqe, 1, &ts, NULL);
    }
    turn_begin(&r->turn, deadline_ns);
    if (e < 0 && e != -ETIME && e != -EINTR && e != -EAGAIN)
        return e;
    call_again(r);
    /* What is there by now: who makes itself ready again meanwhile comes after a look at the clock. */
    uint32_t nr = io_uring_cq_ready(&r->ring);
    /* One at a time: a handler may queue submissions and remove sources. */
    while (nr-- > 0 && io_uring_peek_cqe(&r->ring, &cqe) == 0) {
        struct io_uring_cqe copy = *cqe;
        io_uring_cqe_seen(&r->ring, cqe);
        handle(r, &copy);
    }
    return 0;
}
