/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_PROTO_H
#define PAGERD_PROTO_H
/*
 * proto: what travels between the parts.  Shapes only; no I/O, no allocation,
 * and no libc beyond string.h in what the agent includes.
 *
 * 1. The socket (SOCK_SEQPACKET, one path for everything).  The first byte of
 *    the first packet decides: '{' is control (JSON lines, see ctl_proto in
 *    docs), PROTO_MAGIC's first byte is an agent's handshake.
 *
 *      agent                      keeper                     worker
 *      HELLO ------------------->
 *            <------------------- OFFER  (fds: ring, [/dev/userfaultfd])
 *      ATTACH (fd: main uffd) --->
 *                                 UFFDIO_API, then hands on -->
 *            <-------------------------------------------- READY
 *
 *    Afterwards the connection is the agent's lifeline and its bell towards the
 *    worker: each byte the agent sends says what to look at (enum proto_bell);
 *    end of file means that the agent is gone.  The worker sends nothing more on it.
 *
 * 2. The ring (a sealed memfd of RING_BYTES, one a client): commands for the
 *    agent, their results, and the transfer area through which captured pages
 *    travel.  The worker's bell is the futex word `bell` (shared futex).
 *    The client can write all of it: the worker trusts nothing in it, copies
 *    before it checks, and clamps every number.
 */
#include <stdatomic.h>
#include <stdint.h>

#define PROTO_MAGIC 0x31524750u /* "PGR1", little endian */
#define PROTO_VERSION 3
#define PROTO_REASON_LEN 192
#define PROTO_GROUP_LEN 32
#define PROTO_FILTER_MAX 128 /* BPF instructions of the agent's seccomp filter */

/* Any other byte counts as BELL_TID. */
enum proto_bell {
    BELL_DONE = 1, /* a command is finished: look at the ring */
    BELL_TID,      /* the tid word changed: has the program ended, or executed another one? */
};

enum proto_kind { PROTO_HELLO = 1, PROTO_OFFER, PROTO_ATTACH, PROTO_READY };

struct proto_head {
    uint32_t magic; /* PROTO_MAGIC */
    uint16_t version;
    uint16_t kind;
};

/* agent -> keeper */
struct proto_hello {
    struct proto_head head;
};

/* keeper -> agent; fds: ring memfd, then, where the keeper has it, /dev/userfaultfd */
struct proto_offer {
    struct proto_head head;
    int32_t status; /* 0, or -errno with `reason` set and no fds */
    uint32_t nr_filter;
    struct {
        uint16_t code;
        uint8_t jt, jf;
        uint32_t k;
    } filter[PROTO_FILTER_MAX]; /* struct sock_filter of the client's architecture */
    char reason[PROTO_REASON_LEN];
};

/* agent -> keeper -> worker; fd: the main userfaultfd, before UFFDIO_API */
struct proto_attach {
    struct proto_head head;
    int32_t agent_pid;   /* as the client's pid namespace numbers it */
    int32_t program_pid; /* likewise */
    char group[PROTO_GROUP_LEN]; /* PAGERD_GROUP, NUL-terminated; empty: a group of its own */
    uint64_t tid_word;   /* address of the main thread's clear_child_tid word, 0: none */
    /* The agent's own mappings, never adopted: [own_start, own_end) holds all of them. */
    uint64_t own_start, own_end;
    uint64_t stage1;      /* S1: STAGE_BYTES, 2 MiB aligned; the worker registers it */
    uint64_t stage1_huge; /* the same, for whole huge pages */
    /* Where pages are between stage 1 and the transfer area: read if the agent dies there. */
    uint64_t stage2, stage2_huge;
    /* REMAP_BYTES: one mapping of their own, but while an mremap() has put a run there */
    uint64_t remap;
    /*
     * Of a forked child: a shared page that can never be written, by which the worker
     * finds the userfaultfd that the fork event brought (worker/forked.c); 0: none.
     */
    uint64_t id_page;
    uint32_t forked; /* the agent of a forked child, not of a new program */
    uint32_t pad;
};

/*
 * worker -> agent; fd: a forked child's userfaultfd that is to be used in place of the
 * one in ATTACH, because the child's memory is registered with it already
 */
struct proto_ready {
    struct proto_head head;
    int32_t status; /* 0, or -errno with `reason` */
    int32_t reap_pid; /* agent of the image that this exec replaced, to be waited for; 0: none */
    char reason[PROTO_REASON_LEN];
};

#define STAGE_BYTES (2u << 20)
/* A page more than is ever put there: a run never is all of it. */
#define REMAP_BYTES (STAGE_BYTES + 4096u)

/* ---- the ring ---- */

enum ring_op {
    RING_NOP = 0,
    RING_CAPTURE,      /* small pages: through stage1 */
    RING_CAPTURE_HUGE, /* vecs[0] is one whole huge page: through stage1_huge */
    /* vecs[0].addr: a huge page of zeros there; the first results say how much of it */
    RING_FILL_HUGE,
    RING_EXIT,         /* leave: the address space has no other user any more */
};

#define RING_MAX_VECS 512
#define RING_MAX_PAGES 512

/*
 * Flag of a capture: pages that a fork left shared may be written to, so that they
 * can be taken; while a relative maps them, each costs a copy.
 */
#define RING_MAY_UNSHARE (1u << 0)
/*
 * And: one run of it by mremap(), as its last, which takes pinned pages too.  That sleeps
 * until the worker has read its message (RING_REMAPPING).
 */
#define RING_MAY_REMAP (1u << 1)

struct ring_vec {
    uint64_t addr;
    uint32_t nr_pages;
    uint32_t slot;
};

/*
 * Control part, at offset 0.  One command at a time: the worker writes op,
 * nr_vecs, vecs, then posted (release), then bell, then FUTEX_WAKE(bell).  The
 * agent writes result[], then done = posted (release), then sends a byte.
 *
 *   posted == done: idle          posted == done + 1: the agent has a command
 */
struct ring {
    _Atomic uint32_t bell;   /* futex word: the worker adds 1 */
    _Atomic uint32_t posted; /* number of the newest command */
    _Atomic uint32_t done;   /* number of the newest finished command */
    uint32_t op;             /* enum ring_op */
    uint32_t nr_vecs;
    uint32_t flags;       /* RING_MAY_UNSHARE, RING_MAY_REMAP */
    uint32_t nr_unshared; /* by the agent: pages that were copied from a relative's to be taken */
    uint32_t nr_remapped; /* by the agent: pages taken by mremap() */
    /*
     * How far the running command has come, for who must finish it if the agent
     * dies.  Counts only while phase_of == posted; else the command was not begun.
     */
    _Atomic uint32_t phase;    /* enum ring_phase */
    _Atomic uint32_t phase_of; /* number of the command that `phase` is about */
    /* By shim and agent: the program has memory that is not its children's (MADV_WIPEONFORK). */
    _Atomic uint32_t keeps_memory;
    /* Likewise: it has made a thread, or a process that shares its memory. */
    _Atomic uint32_t has_threads;
    uint32_t pad2[4];
    struct ring_vec vecs[RING_MAX_VECS];
    uint8_t result[RING_MAX_PAGES]; /* enum capture_result, by slot */
};

/* A capture's way; a dead agent's pages are found by it (migrate, client). */
enum ring_phase {
    RING_IDLE = 0,
    RING_TAKING,  /* pages are in the program or in stage 1 */
    /* a run is in the program or where mremap() puts it; nothing is taken after it */
    RING_REMAPPING,
    RING_STAGED,  /* pages are in stage 1 or stage 2 */
    RING_COPIED,  /* the transfer area holds every taken page's bytes */
};

#define RING_TRANSFER_OFFSET (2u << 20)
#define RING_TRANSFER_BYTES (RING_MAX_PAGES * 4096u)
#define RING_BYTES (RING_TRANSFER_OFFSET + RING_TRANSFER_BYTES)

_Static_assert(sizeof(struct ring) <= RING_TRANSFER_OFFSET,
               "control part overlaps the transfer area");
_Static_assert(sizeof(struct ring_vec) == 16, "ring_vec is a wire format");

#endif
