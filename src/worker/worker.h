/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_WORKER_H
#define PAGERD_WORKER_H
/*
 * worker: the process that serves one merge domain (DESIGN D9): one reactor
 * thread that owns all pager state of the domain.  The keeper forks it, gives it the
 * memfds that hold what must survive a worker (D10), and hands it connections.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/proto.h"

/* keeper -> worker, one packet each; fds as SCM_RIGHTS in the order given. */
enum worker_msg_kind {
    WORKER_CLIENT = 1, /* fds: connection, main uffd (UFFDIO_API done), ring memfd */
    WORKER_CONTROL,    /* fds: connection */
};

struct worker_msg {
    uint32_t kind;
    int32_t pid; /* of the peer, in the daemon's pid namespace (SO_PEERCRED) */
    uint32_t uid, gid;
    struct proto_attach attach; /* WORKER_CLIENT: as received, not checked */
};

/* worker -> keeper: one packet each time a handed-over connection has ended. */
struct worker_ended {
    uint32_t nr_ended;
};

/* How pages are taken out of programs (DESIGN D3). */
enum capture_engine {
    CAPTURE_BY_MOVE = 0, /* UFFDIO_MOVE */
    CAPTURE_BY_MREMAP,   /* moves pinned pages too, hence only with unsafe_pins */
};

struct worker_config {
    int channel_fd;      /* SOCK_SEQPACKET to the keeper */
    int state_fd;        /* memfd: page tables and client table */
    int frames_fd;       /* memfd: the `ram` node's frames */
    uint64_t ram_bytes;  /* size of the `ram` node */
    uint64_t state_bytes;
    int swap_fd;           /* swap file or block device of the `file` node; -1: none */
    uint64_t swap_bytes;   /* its size; 0: none */
    const char *swap_path; /* for sentences */
    const char *no_swap;   /* why there is none although one was asked for; else empty */
    uid_t uid;           /* the domain */
    gid_t gid;
    enum capture_engine capture;
    bool unsafe_pins;
};

/* Bytes the state memfd needs for nodes of that size (it is sparse). */
uint64_t worker_state_bytes(uint64_t ram_bytes, uint64_t swap_bytes);

/*
 * Can a worker wait for anything here?  0, or -errno and why: one sentence with the cause
 * and what helps.
 */
int worker_probe(char *why, size_t size);

/*
 * Runs until the keeper closes the channel.  Called in the forked child, which
 * has dropped to the domain's uid already.  Returns the process's exit status.
 */
int worker_main(const struct worker_config *config);

#endif
