/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_WORKER_PRIV_H
#define PAGERD_WORKER_PRIV_H
/* What the files of the worker share. */
#include <jansson.h>
#include <signal.h>
#include <sys/uio.h>

#include "client/client.h"
#include "kernel/kernel.h"
#include "migrate/migrate.h"
#include "proto/proto.h"
#include "worker/worker.h"

/* ---- reactor.c: one io_uring that waits for everything ---- */

/*
 * A descriptor that is waited for.  Embedded in its owner; `ready` is called
 * once per reported readiness (edge: read until there is nothing left, or ask to be
 * called again: who sends without end must not keep the worker from the others).
 */
struct source {
    int fd;
    void (*ready)(struct source *s);
    void (*released)(struct source *s); /* the kernel has let go of it: it may be freed */
    struct list dying_link;             /* while that is waited for */
    struct list again_link;
    bool armed, dying, again;
};

struct reactor;

struct reactor *reactor_new(void); /* NULL with errno */
void source_add(struct reactor *r, struct source *s, int fd, void (*ready)(struct source *),
                void (*released)(struct source *));
/* There may be more: `ready` is called again in the next reactor_wait(), which does not sleep. */
void source_again(struct reactor *r, struct source *s);
/* Stops waiting; `released` is called later, from reactor_wait(). */
void source_remove(struct reactor *r, struct source *s);
/* One operation that is waited for: `done` is called once, from reactor_wait(). */
struct reactor_io {
    void (*done)(struct reactor_io *io, int res);
};
/*
 * Reads or writes; `iov` stays until it is done.  Goes to the kernel with the next reactor_wait().
 */
void reactor_submit_vec(struct reactor *r, struct reactor_io *io, bool write, int fd,
                        const struct iovec *iov, uint32_t nr, uint64_t offset);
/*
 * Waits at most until deadline_ns (0: not at all) and calls `ready` of what is ready. 0 or -errno.
 */
int reactor_wait(struct reactor *r, uint64_t deadline_ns);

/* ---- the worker ---- */

struct wclient;

struct worker {
    const struct worker_config *config;
    struct reactor *reactor;
    struct domain domain;
    struct source channel;
    struct list controls;
    struct list waiting_agents; /* of forked children whose fork events are kept back (forked.c) */
    struct list refused;        /* forked children that are not poisoned yet (refused.c) */
    uint32_t nr_controls;
    bool ending;
    uint32_t nr_ended; /* connections that ended, not told to the keeper yet */
    uint64_t next_housekeeping_ns;
    /* Faults follow each other closely: poll their client until then before sleeping. */
    struct wclient *hot;
    uint64_t hot_until_ns, last_fault_ns;
    bool check_wanted;     /* a check waits for all captures to end; none is started */
    bool no_new_captures;  /* while it runs */
    /* there are poisoned address spaces of which nothing is known (refused.c) */
    bool child_refused;
    struct state_client *table; /* in the state memfd */
    enum kproc_thp thp;         /* as it was when the worker started */
    struct blk_dev *swap; /* NULL: there is no `file` node */
};

/* Why a mapping is not adopted. */
enum unpageable {
    UNPAGEABLE_NOT = 0,
    UNPAGEABLE_SHARED,
    UNPAGEABLE_FILE, /* private, writable */
    UNPAGEABLE_LOCKED,
    UNPAGEABLE_STACK,
    UNPAGEABLE_NOFORK,  /* MADV_DONTFORK, MADV_WIPEONFORK */
    UNPAGEABLE_FOREIGN, /* registered with a userfaultfd of its own */
    UNPAGEABLE_READONLY,
    UNPAGEABLE_EXEC,
    UNPAGEABLE_OTHER, /* huge pages of hugetlbfs, devices, shadow stacks */
    UNPAGEABLE_NR
};

/* One client, and how the kernel and its agent are reached. */
struct wclient {
    struct client c;
    struct worker *w;
    struct source uffd, conn, program, agent; /* fd -1: not there */
    int pagemap_fd, statm_fd;
    pid_t program_pid, agent_pid; /* as this process numbers them */
    int32_t ns_agent_pid;         /* as the client's pid namespace does */
    struct ring *ring;            /* NULL: no agent (forked child) */
    /* commands given; not the copy in the ring, which is the client's */
    uint32_t posted;
    uint32_t settled;             /* of them, collected */
    uint32_t nr_slots;            /* of the capture under way */
    struct capture_vec vecs[RING_MAX_VECS];
    uint32_t nr_vecs;
    bool capture_huge, capture_remaps;
    enum ring_op command; /* prepared */
    uint64_t posted_ns;
    uint64_t waited_ns; /* since then somebody waits for the command's end; 0: nobody */
    uint64_t own_start, own_end, stage1, stage1_huge, stage2, stage2_huge, remap;
    bool agent_lost;     /* its connection has ended */
    bool had_threads; /* seen once; see t_has_one_thread() */
    bool agent_killed;   /* by us: it did not answer */
    bool exit_posted;
    bool program_ended;
    uint64_t starved_ns; /* a fill was last refused for want of memory; 0: never */
    uint64_t retry_ns;   /* parked faults are tried again then; 0: none */
    struct kuffd_msg msgs[CLIENT_MAX_UPCALLS]; /* read, not applied (c.held) */
    bool wake_wanted; /* faults were read that there was no room for */
    uint32_t nr_msgs;
    struct kmap maps;
    bool flags_read; /* into maps, for the fork that is just applied */
    uint32_t nr_fork_looks;
    int fork_uffd; /* of its child, whose record owns it; -1: an earlier worker began that */
    bool adopt_wanted;
    uint64_t adopt_ns; /* not before */
    uint32_t adopt_tries; /* of the mapping at the cursor */
    uint64_t adopts_first_ns; /* since when captures wait for adoption; 0: they never did */
    struct urange *refused; /* mappings that were looked at and left alone, in order */
    uint32_t nr_refused, max_refused;
    uint64_t flags_took_ns, next_flags_ns; /* what reading them cost last; not before */
    /* what its relatives are counted for; when it is asked anew */
    uint64_t shared_bytes, next_share_ns;
    uint64_t measured_bytes, mapped_bytes, next_measure_ns, next_adopt_ns, next_release_ns;
    size_t adopt_cursor; /* index into maps where adoption goes on; 0: read them anew */
    uint64_t maps_read_ns;
    uint64_t unpageable_bytes[UNPAGEABLE_NR]; /* as of then */
    bool unpageable_known;
    uint32_t nr_quiet; /* measurements in a row without much change */
    uint64_t next_alive_ns, next_dead_check_ns;
    uint64_t agent_dead_ns; /* its end has not been told yet; 0: nothing to tell */
    uint64_t born_ns;
    uint32_t nr_released; /* sources that the kernel has let go of */
    uint32_t nr_sources;
    bool unsure;  /* of a forked child: its areas may not all be registered (forked_make_sure) */
    bool gone; /* client_fini() done; freed when all sources are released */
    char comm[16];
    uint32_t slot; /* in the state memfd's client table */
};

static inline struct wclient *wclient_of(struct client *c)
{
    return container_of(c, struct wclient, c);
}

/* Was a page of it refused a moment ago, because its cgroup is full? */
static inline bool worker_is_starved(const struct wclient *wc, uint64_t now)
{
    return wc->starved_ns && now - wc->starved_ns < 100000000;
}

/* ---- sandbox.c ---- */
/* From here on only the calls that a worker makes.  0 or -errno. */
int worker_sandbox(void);

/* ---- target_linux.c ---- */
extern const struct target_ops target_linux;
/* Has the capture under way been finished by the agent? */
bool capture_is_done(const struct wclient *wc);
/*
 * True: the capture under way, which is not done, has come to where it sleeps until its
 * message was read; it takes nothing more, so messages may be read, but not applied.
 */
bool capture_lets_read(const struct wclient *wc);
/* Hands its results to the core. */
void capture_collect(struct wclient *wc);
/* The agent is dead: finds where each page of its capture is, and ends the capture. */
void capture_recover(struct wclient *wc);
/* Tells the agent to leave. */
void agent_post_exit(struct wclient *wc);

/* ---- blk_uring.c: a swap file or block device through the reactor's ring ---- */

struct blk_dev;
extern const struct blk_ops blk_uring;
/* NULL: no memory.  fd and reactor are borrowed. */
struct blk_dev *blk_dev_new(struct reactor *r, int fd);
/* Is there something that goes to the kernel only with the next reactor_wait()? */
bool blk_dev_take_queued(struct blk_dev *dev);

/* ---- attach.c ---- */
void attach_client(struct worker *w, const struct worker_msg *msg, int conn, int uffd, int ring);
struct wclient *wclient_new(struct worker *w);
/* Into the table that survives the worker, or anew when something of it has changed. */
void wclient_note(struct wclient *wc);
void wclient_uffd_ready(struct source *s);
void wclient_uffd_released(struct source *s);
/* Ends the client's record; its address space has ended or needs us no more. */
void wclient_end(struct wclient *wc);

/* ---- forked.c ---- */
struct client *attach_forked(struct client *parent, int uffd);
/*
 * There is no record for that child: it goes on unserved, and fails closed.  Takes uffd.
 * (refused.c)
 */
void forked_refuse(struct client *parent, int uffd);
/* A little more of those that could not be poisoned at once. */
void refused_go_on(struct worker *w);
/*
 * The worker is about to end: what has an agent is its agent's to poison.  The rest has no
 * userfaultfd but ours.  (refused.c)
 */
void fail_closed(struct worker *w);
enum fork_gets forked_gets(struct client *parent, struct uaddr at, uint64_t *ret_end);
/* No agent will come that could tell: what is in doubt fails closed. */
void forked_give_up_doubt(struct wclient *wc);
/* True: an agent's handshake is put aside until fork events that are kept back were applied. */
bool forked_must_wait(struct worker *w, const struct worker_msg *msg, int conn, int uffd, int ring);
void forked_attach_waiting(struct worker *w);
/*
 * The record of the address space that this agent is in, of which `described` tells; NULL: there
 * is none.  uffd: the agent's own.
 */
struct wclient *forked_find(struct worker *w, const struct wclient *described,
                            const struct proto_attach *a, int uffd);
/* What a child that has just got its agent counts for. */
void forked_share_at_start(struct wclient *wc);
/*
 * Drops areas that the child's mappings are not registered for; then pages may be taken
 * out.  Every message that was read has been applied.  False: not now.
 */
bool forked_make_sure(struct wclient *wc);
/* It has an agent now, of which `described` (freed) tells. */
void forked_gets_agent(struct wclient *wc, struct wclient *described);

/* ---- turn.c ---- */
/* One turn of one client.  False when the client has ended (and must not be touched). */
bool client_turn(struct wclient *wc);
/* Timed work of all clients; returns when it wants to be called next. */
uint64_t housekeeping(struct worker *w, uint64_t now);
/* Applies the messages that are kept back. */
void apply_messages(struct wclient *wc);
/*
 * What the client counts for, and what it maps.  Pages that it shares with relatives since a
 * fork count once, divided among them.  0 or -errno; mapped 0: it is ending, or has ended.
 */
int resident_of(struct wclient *wc, uint64_t now, uint64_t *ret_bytes, uint64_t *ret_mapped);
/* It has come to its relatives, or leaves them: what is shared is asked anew, of all. */
void relatives_changed(struct wclient *wc);
/* The address space is asked whether it still lives. */
bool mm_is_dead(struct wclient *wc);

/* ---- adopt.c ---- */
/* Registers every adoptable mapping that is not registered yet.  False: address space dead. */
bool adopt_mappings(struct wclient *wc);
/* Pure: may this mapping be taken over?  Those below it stand before it; so many there are. */
bool adopt_is_candidate(const struct kmap_vma *vma, size_t nr_below, uint64_t own_start,
                        uint64_t own_end);
bool adopt_flags_allow(uint32_t flags);

/* ---- unpageable.c ---- */
/* Counts what the maps as read last hold, for the report. */
void unpageable_count(struct wclient *wc);
/* Pure. */
enum unpageable unpageable_why(const struct kmap_vma *vma, size_t nr_below, uint64_t own_start,
                               uint64_t own_end);
const char *unpageable_name(enum unpageable why);

/* ---- control.c ---- */
void control_open(struct worker *w, int fd);
/* At the end: what can be sent at once. */
void control_flush_all(struct worker *w);
/* What is answered later: checks once no capture is under way, reclaims when they have ended. */
void control_run_requests(struct worker *w);

/* ---- report.c: the replies ---- */
json_t *report_status(struct worker *w);
json_t *report_clients(struct worker *w);
json_t *report_stat(struct worker *w);
json_t *report_nodes(struct worker *w);
json_t *report_check(struct worker *w);
json_t *report_group(struct worker *w, struct group *g);
json_t *report_limit(struct worker *w, struct group *g);
json_t *report_reclaim(const struct reclaim_request *r, enum reclaim_outcome o);
/* Groups without a limit are not measured by the clock; whoever looks has them measured. */
void measure_all(struct worker *w);

/* ---- what survives a worker: the client table in the state memfd ---- */

#define STATE_MAGIC 0x3153525044474150u
#define STATE_MAX_CLIENTS 4096

struct state_client {
    uint32_t mm; /* 0: free slot */
    int32_t agent_pid, program_pid;
    uint32_t has_agent;
    char group[32];
    uint64_t own_start, own_end, stage1, stage1_huge, stage2, stage2_huge, remap;
};

struct state_header {
    uint64_t magic;
    uint32_t version;
    uint32_t nr_leaves;
    uint32_t nr_frames;
    uint32_t max_clients;
    uint32_t nr_slots;                    /* of the `file` node; 0: there is none */
    struct node_writes swap_writes;
    /* the key of its checksums, which lie behind the leaves */
    uint8_t swap_secret[NODE_SECRET_BYTES];
};

#endif
