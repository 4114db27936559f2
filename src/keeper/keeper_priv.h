/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_KEEPER_PRIV_H
#define PAGERD_KEEPER_PRIV_H
/* What the files of the keeper share. */
#include <poll.h>
#include <sys/socket.h>

#include "keeper/keeper.h"
#include "proto/proto.h"
#include "worker/worker.h"

/* ---- listener.c: the socket's path ---- */

struct listener {
    int fd;
    int lock_fd; /* PATH.lock, held for as long as the socket is ours */
    char path[108];
    bool remove_dir; /* a private daemon's directory goes with it */
};

/* Directory, lock, stale socket, bind, listen. */
MUST_CHECK int listener_open(const char *path, bool for_everyone, bool remove_dir,
                             struct listener *ret, struct keeper_refusal *why);
void listener_close(struct listener *l);

/* ---- packet.c: what peers may send; pure ---- */

enum packet_first {
    PACKET_CONTROL,
    PACKET_HELLO,
    PACKET_OTHER_VERSION, /* an agent of another pagerd */
    PACKET_GARBAGE,
};

/* `len` bytes are there of a packet whose full length is `full`. */
enum packet_first packet_first(const void *data, size_t len, size_t full);
/* 0 or -EPROTO.  Checks the head and the group's end only: the rest is the worker's to check. */
MUST_CHECK int packet_attach(const struct proto_attach *a, size_t full);
void packet_head(struct proto_head *h, enum proto_kind kind);

/* ---- swapfile.c: where the `file` nodes are ---- */

/*
 * A descriptor for one domain: a file that is made, without a name, of that size, or the
 * block device at `path`.  -errno with *why filled.
 */
MUST_CHECK int swapfile_open(const char *path, uint64_t bytes, struct keeper_refusal *why);

/* ---- protect.c ---- */

/* Locks the process's memory, now and later, as it is touched.  0, or -errno: it is not locked. */
int protect_memory(void);
/*
 * That, the limit that lets workers do it, the place in the order of the OOM killer, and nice -10.
 */
void protect_keeper(void);

/* ---- domain.c: the workers, one a uid ---- */

#define DOMAIN_MAX_FDS 3

struct domains {
    struct list list;
    const struct keeper_options *options;
    /* opened at the start, so that what is wrong is said then; -1: taken, or none */
    int first_swap_fd;
    uint64_t nr_died; /* workers that ended by themselves */
    bool any_handed;  /* a connection was handed over, ever */
};

/* `options` is borrowed. */
void domains_init(struct domains *d, const struct keeper_options *options);
/* How many pollfds the next two need at most. */
size_t domains_nr_pollfds(const struct domains *d);
size_t domains_fill_pollfds(struct domains *d, struct pollfd *p);
/* Counts what has ended, forgets dead workers.  True when a channel may have room again. */
bool domains_handle(struct domains *d, const struct pollfd *p);
/*
 * To the worker of msg->uid, which is started if there is none.  The fds stay
 * the caller's.  -EAGAIN: its channel is full, try again when it has room.
 */
MUST_CHECK int domains_hand_over(struct domains *d, const struct worker_msg *msg, const int *fds,
                                 unsigned nr_fds);
/* When a worker has been idle for so long that it is sent away; UINT64_MAX: none is idle. */
uint64_t domains_deadline_ns(const struct domains *d);
void domains_send_away_idle(struct domains *d, uint64_t now);
/* Every handed-over connection has ended, or its worker has. */
bool domains_idle(const struct domains *d);
/* Closes the channels and waits for the workers; those that do not end are killed. */
void domains_stop(struct domains *d);

/* ---- conn.c: one peer, from accept to the worker ---- */

struct keeper {
    const struct keeper_options *options;
    const struct kernel_features *features;
    uint64_t uffd_features;
    int device_fd; /* /dev/userfaultfd, or -1 */
    bool serves_all;    /* uids; else only our own */
    bool maps_all_uids; /* as the initial user namespace does */
    struct proto_offer offer;
    struct listener listener;
    int signal_fd;
    struct domains domains;
    struct list conns; /* half open, oldest first */
    unsigned nr_conns;
    struct turn turn;
};

#define CONN_MAX 256
#define CONN_MAX_PER_UID 128
#define CONN_TIMEOUT_NS (5 * UINT64_C(1000000000))

/* Takes one connection from the listener. */
void conn_accept(struct keeper *k);
size_t conns_fill_pollfds(struct keeper *k, struct pollfd *p);
/* When the first one times out; UINT64_MAX: none is open. */
uint64_t conns_deadline_ns(const struct keeper *k);
/* `room`: a worker can take messages again.  Closes what has timed out. */
void conns_handle(struct keeper *k, const struct pollfd *p, bool room, uint64_t now);
void conns_close_all(struct keeper *k);

#endif
