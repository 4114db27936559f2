/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn: one peer from accept(2) until a worker has it.
 *
 *      accept -> FIRST --'{'------------------------> HANDING -> the worker's
 *                  |                                     ^
 *                  +-- HELLO, OFFER --> OFFERED --ATTACH-+
 *
 * 1. No step waits: what is not there yet is waited for by poll(2).
 * 2. A connection that is not handed over 5 s after accept is closed.
 * 3. Whatever descriptors a peer sends are closed, but for the one
 *    userfaultfd of a good ATTACH.
 * 4. Users cannot shut each other out: when all places are taken, the oldest connection of
 *    the uid that has most makes way.
 * 5. A refusal is sent after the packet it answers was read: closing with
 *    unread data would let the peer see ECONNRESET before the reason.
 */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <string.h>

#include "keeper/keeper_priv.h"

enum conn_state { CONN_FIRST, CONN_OFFERED, CONN_HANDING };

struct conn {
    struct list link;
    enum conn_state state;
    int fd;
    int ring_fd, uffd; /* -1 until there is one */
    struct ucred peer;
    uint64_t deadline_ns;
    struct worker_msg msg; /* HANDING */
    size_t poll_index;
};

#define NOT_POLLED SIZE_MAX
/* More than an ATTACH may carry, so that a surplus is seen. */
#define MAX_FDS_RECEIVED 4
/* What ids that have no name in our user namespace look like, all of them (kernel.overflowuid). */
#define OVERFLOW_UID 65534

static void conn_close(struct keeper *k, struct conn *c)
{
    list_del(&c->link);
    k->nr_conns--;
    fd_close(c->fd);
    fd_close(c->ring_fd);
    fd_close(c->uffd);
    free(c);
}

static void drop(struct keeper *k, struct conn *c, const char *why)
{
    log_debug("connection of pid %d, uid %u: %s", c->peer.pid, c->peer.uid, why);
    conn_close(k, c);
}

static unsigned nr_of_uid(const struct keeper *k, uid_t uid)
{
    const struct conn *c;
    unsigned nr = 0;

    list_for_each_entry(c, &k->conns, link)
        nr += c->peer.uid == uid;
    return nr;
}

/* All places are taken.  False: nobody else has more of them than this uid. */
static bool make_way(struct keeper *k, uid_t uid)
{
    struct conn *c, *greedy = NULL;
    unsigned most = nr_of_uid(k, uid);

    list_for_each_entry(c, &k->conns, link) {
        unsigned nr = nr_of_uid(k, c->peer.uid);
        if (nr > most) {
            most = nr;
            greedy = c; /* its first in the list is its oldest */
        }
    }
    if (greedy)
        drop(k, greedy, "makes way for another user's");
    return greedy != NULL;
}

#define ACCEPT_PAUSE_MS 10

void conn_accept(struct keeper *k)
{
    _cleanup_close_ int fd = accept4(k->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    socklen_t len = sizeof(struct ucred);
    struct conn *c;

    if (fd < 0) {
        static struct log_ratelimit rl;

        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED && log_ratelimit(&rl))
            log_warning("cannot accept a connection: %s", strerror(errno));
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            (void)poll(NULL, 0, ACCEPT_PAUSE_MS); /* it stays readable: do not spin */
        return;
    }
    c = calloc(1, sizeof(*c));
    if (!c)
        return;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->peer, &len) < 0 ||
        nr_of_uid(k, c->peer.uid) >= CONN_MAX_PER_UID ||
        (k->nr_conns >= CONN_MAX && !make_way(k, c->peer.uid))) {
        log_debug("connection of pid %d, uid %u: too many at once", c->peer.pid, c->peer.uid);
        free(c);
        return;
    }
    c->fd = TAKE_FD(fd);
    c->ring_fd = c->uffd = -1;
    c->deadline_ns = now_ns() + CONN_TIMEOUT_NS;
    c->poll_index = NOT_POLLED;
    list_add_tail(&c->link, &k->conns);
    k->nr_conns++;
}

/* NULL: the peer is served.  No quotes in it: it goes into JSON as it is. */
static const char *peer_refusal(const struct keeper *k, const struct conn *c)
{
    if (c->peer.pid <= 0)
        return "this pagerd cannot see processes of your pid namespace: start one inside it";
    if (k->serves_all && (k->maps_all_uids || c->peer.uid != OVERFLOW_UID))
        return NULL;
    if (c->peer.uid == geteuid())
        return NULL;
    return k->serves_all
               ? "your uid has no name in the user namespace of this pagerd: start one inside yours"
               : "this pagerd serves another user: start one of your own, or use root's";
}

/* ---- answers; a peer that does not take one is not waited for ---- */

static void refuse_agent(struct conn *c, int err, const char *reason)
{
    struct proto_offer offer = {.status = err};

    packet_head(&offer.head, PROTO_OFFER);
    snprintf(offer.reason, sizeof(offer.reason), "%s", reason);
    (void)send(c->fd, &offer, sizeof(offer), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void refuse_attach(struct conn *c, int err, const char *reason)
{
    struct proto_ready ready = {.status = err};

    packet_head(&ready.head, PROTO_READY);
    snprintf(ready.reason, sizeof(ready.reason), "%s", reason);
    (void)send(c->fd, &ready, sizeof(ready), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void refuse_control(struct conn *c, const char *reason)
{
    char text[512];
    int n = snprintf(text, sizeof(text), "{\"ok\":false,\"error\":\"%s\"}\n", reason);

    (void)send(c->fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int send_offer(struct keeper *k, struct conn *c)
{
    union {
        char buf[CMSG_SPACE(sizeof(int) * 2)];
        struct cmsghdr align;
    } control = {0};
    int fds[2] = {c->ring_fd, k->device_fd};
    size_t size = sizeof(int) * (k->device_fd >= 0 ? 2 : 1);
    struct iovec iov = {.iov_base = &k->offer, .iov_len = sizeof(k->offer)};
    struct msghdr h = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.buf,
        .msg_controllen = CMSG_SPACE(size),
    };
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&h);

    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(cmsg), fds, size);
    return sendmsg(c->fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* ---- packets ---- */

/* Ends the connection's time here, unless the worker has no room just now. */
static void hand_over(struct keeper *k, struct conn *c)
{
    int fds[DOMAIN_MAX_FDS] = {c->fd, c->uffd, c->ring_fd};
    bool client = c->msg.kind == WORKER_CLIENT;
    int err = domains_hand_over(&k->domains, &c->msg, fds, client ? 3 : 1);

    if (err == -EAGAIN)
        return;
    if (err) {
        log_error("cannot hand pid %d of uid %u to its worker: %s", c->peer.pid, c->peer.uid,
                  strerror(-err));
        if (client)
            refuse_attach(c, err, "pagerd could not start a worker for you: look at its log");
    }
    conn_close(k, c);
}

static void start_handing(struct keeper *k, struct conn *c, enum worker_msg_kind kind)
{
    c->msg.kind = kind;
    c->msg.pid = c->peer.pid;
    c->msg.uid = c->peer.uid;
    c->msg.gid = c->peer.gid;
    c->state = CONN_HANDING;
    hand_over(k, c);
}

static void on_hello(struct keeper *k, struct conn *c)
{
    int err;

    c->ring_fd = kmemfd_sealed("pagerd-ring", RING_BYTES);
    if (c->ring_fd < 0) {
        log_error("cannot make a ring: %s", strerror(-c->ring_fd));
        refuse_agent(c, c->ring_fd, "pagerd is out of memory or descriptors: look at its log");
        conn_close(k, c);
        return;
    }
    err = send_offer(k, c);
    if (err) {
        drop(k, c, "does not take the offer");
        return;
    }
    c->state = CONN_OFFERED;
}

static void on_first(struct keeper *k, struct conn *c)
{
    char head[sizeof(struct proto_head)], discard;
    ssize_t full = recv(c->fd, head, sizeof(head), MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
    const char *refusal = peer_refusal(k, c);
    enum packet_first kind;

    if (full < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (full <= 0) {
        drop(k, c, "hung up");
        return;
    }
    kind = packet_first(head, MIN((size_t)full, sizeof(head)), (size_t)full);
    if (kind == PACKET_CONTROL && !refusal) {
        start_handing(k, c, WORKER_CONTROL); /* the worker reads the packet */
        return;
    }
    (void)recv(c->fd, &discard, 1, MSG_DONTWAIT); /* the whole packet, and any fds in it */
    switch (kind) {
    case PACKET_CONTROL:
        refuse_control(c, refusal);
        break;
    case PACKET_HELLO:
        if (!refusal) {
            on_hello(k, c);
            return;
        }
        refuse_agent(c, -EPERM, refusal);
        break;
    case PACKET_OTHER_VERSION:
        refuse_agent(c, -EPROTO, "the preload library is of another version than this pagerd: "
                                 "restart pagerd, or the program");
        break;
    case PACKET_GARBAGE:
        break;
    }
    drop(k, c, kind == PACKET_GARBAGE ? "sent garbage" : "refused");
}

/*
 * Closes all descriptors of a received message but one, which it returns; -1 unless there was just
 * one.
 */
static int single_fd(struct msghdr *h)
{
    unsigned nr = 0;
    int fd = -1;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
            fd_close(fd);
            memcpy(&fd, CMSG_DATA(c) + at, sizeof(int));
            nr++;
        }
    }
    if (nr == 1 && !(h->msg_flags & MSG_CTRUNC))
        return fd;
    return fd_close(fd);
}

static void on_attach(struct keeper *k, struct conn *c)
{
    union {
        char buf[CMSG_SPACE(sizeof(int) * MAX_FDS_RECEIVED)];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = &c->msg.attach, .iov_len = sizeof(c->msg.attach)};
    struct msghdr h = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.buf,
        .msg_controllen = sizeof(control.buf),
    };
    ssize_t n = recvmsg(c->fd, &h, MSG_CMSG_CLOEXEC | MSG_TRUNC | MSG_DONTWAIT);
    int err;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n >= 0)
        c->uffd = single_fd(&h);
    if (n <= 0) {
        drop(k, c, "hung up before it attached");
        return;
    }
    if (packet_attach(&c->msg.attach, (size_t)n) || c->uffd < 0 ||
        !kuffd_is_userfaultfd(c->uffd)) {
        drop(k, c, "sent garbage to attach");
        return;
    }
    err = kuffd_api(c->uffd, k->uffd_features);
    if (err) {
        log_warning("UFFDIO_API for pid %d of uid %u: %s", c->peer.pid, c->peer.uid,
                    strerror(-err));
        refuse_attach(c, err, "pagerd could not set up the userfaultfd: look at its log");
        conn_close(k, c);
        return;
    }
    start_handing(k, c, WORKER_CLIENT);
}

/* ---- for the loop ---- */

size_t conns_fill_pollfds(struct keeper *k, struct pollfd *p)
{
    struct conn *c;
    size_t nr = 0;

    list_for_each_entry(c, &k->conns, link) {
        /* While handing, input is the worker's business; only a hang-up counts here. */
        c->poll_index = nr;
        p[nr++] = (struct pollfd){
            .fd = c->fd,
            .events = c->state == CONN_HANDING ? 0 : POLLIN,
        };
    }
    return nr;
}

uint64_t conns_deadline_ns(const struct keeper *k)
{
    if (list_empty(&k->conns))
        return UINT64_MAX;
    return list_first_entry(&k->conns, struct conn, link)->deadline_ns;
}

static void conn_handle(struct keeper *k, struct conn *c, short revents, bool room)
{
    switch (c->state) {
    case CONN_FIRST:
        if (revents)
            on_first(k, c);
        return;
    case CONN_OFFERED:
        if (revents)
            on_attach(k, c);
        return;
    case CONN_HANDING:
        if (revents)
            drop(k, c, "hung up before its worker had room");
        else if (room)
            hand_over(k, c);
        return;
    }
}

void conns_handle(struct keeper *k, const struct pollfd *p, bool room, uint64_t now)
{
    struct conn *c, *next;

    list_for_each_entry_safe(c, next, &k->conns, link) {
        if (c->deadline_ns <= now)
            drop(k, c, "too slow");
        else
            conn_handle(k, c, c->poll_index == NOT_POLLED ? 0 : p[c->poll_index].revents, room);
    }
}

void conns_close_all(struct keeper *k)
{
    struct conn *c, *next;

    list_for_each_entry_safe(c, next, &k->conns, link)
        conn_close(k, c);
}
