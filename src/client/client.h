/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_CLIENT_H
#define PAGERD_CLIENT_H
/*
 * client: the life of the address spaces that a domain serves: how memory is
 * adopted, what the kernel's messages do to the tables, forks, ends; and the
 * groups that have a limit together.
 *
 * Everything here runs on target_ops, so the simulator drives it as the worker
 * does.  One turn for one address space:
 *
 *   1. a finished capture is collected   (client_captured)
 *   2. messages are read, all of them    (the worker; never while capturing)
 *   3. events are applied, in order      (client_upcalls)
 *   4. faults are answered, parked ones too  (client_answer)
 *   5. captured pages are committed      (client_commit)
 *   6. room is made when the group needs it  (group_balance)
 */
#include "kernel/kernel.h"
#include "pgtable/pgtable.h"
#include "node/node.h"

struct client;
struct domain;
struct reclaim_request;

/* A set of clients with one limit. */
struct group {
    struct list link; /* domain::groups */
    struct domain *domain;
    struct list clients; /* its own: looked over at every turn */
    char name[32];
    uint64_t limit_bytes; /* 0: none */
    uint64_t resident_bytes; /* sum over its clients, as last measured and moved since */
    uint64_t resident_peak_bytes;
    /* What is aimed at where clients without agent hold too much for the limit (group.c). */
    uint64_t goal_bytes;
    uint64_t left_to_each_bytes; /* of the others; 0: the limit is aimed at */
    uint64_t peak_pages[PTE_NR_TAGS]; /* most that were moved out to one place at once, by tag */
    uint32_t nr_clients;
    uint32_t nr_holders; /* control connections that keep it */
    bool stuck;          /* nothing was reclaimable: faults are let through above the limit */
    const char *note;    /* static: why it is stuck, where that is known; else NULL */
    bool has_request;    /* a reclaim_request is under way */
    struct counters count;
    struct hist fault_latency; /* message read to answered, ns */
};

/* A fault that is not answered yet. */
struct parked_fault {
    struct uaddr addr;
    uint64_t since_ns;
    bool write;
};

#define CLIENT_MAX_UPCALLS 256 /* messages in one batch */
#define CLIENT_MAX_PARKED 512
#define CLIENT_MAX_DOOMED 4096
#define CLIENT_MAX_MOVES 8
#define CLIENT_MAX_UNENTERED 16
#define CLIENT_MAX_LOST 64
#define CLIENT_MAX_LATE 8

/* A REMAP that was applied; its thread may not have unmapped the old place yet, as messages go. */
struct client_move {
    struct uaddr from, to;
    uint64_t len;
    bool tail_came, old_came; /* the UNMAPs that follow it */
};

/* Places of which nobody can tell what they hold once the batch is applied (order_lost.c). */
struct client_lost {
    uint32_t nr, nr_forks;
    bool is_odd; /* no order fits what is known */
    struct urange range[CLIENT_MAX_LOST];
    struct urange forks[CLIENT_MAX_LOST]; /* likewise at one of its forks: of the children */
    /*
     * Where zeros that are moved out lose their entries before the batch is applied: a touch
     * brings zeros all the same, and an entry might come to where a page is in the program.
     */
    uint32_t nr_zeros;
    struct urange zeros[CLIENT_MAX_LOST];
};

/*
 * What of a client survives the worker, in the state memory.  Messages are read straight
 * into raw[], from the first slot on; an empty slot is all zeros.  step[] says how far
 * each has been applied, and in which order, so that a half-applied one is completed and
 * none is applied twice (recover.c).
 */
struct client_saved {
    _Atomic uint32_t mm; /* its number; 0: the record is free.  Set last, cleared last */
    uint32_t cookie;     /* the worker's own, to find its other half by */
    /* A child whose tables are being made: the parent's record, counted from 1; 0: complete. */
    _Atomic uint32_t parent;
    /*
     * Of a forked child: nobody could tell yet whether what its parent had moved out of here is
     * its own too.  Nothing of that is given to it until somebody can.  An end that is not above
     * the start: no doubt.  Widened before the entries are made, start first; ended by one store
     * when all that is to be withheld is POISON.
     */
    _Atomic uint64_t doubt_start, doubt_end;
    _Atomic uint32_t ordered;       /* every step[] has its place, and `lost` counts */
    _Atomic uint32_t batch_applied; /* all of the batch is; it is being wiped out */
    struct client_lost lost;
    _Atomic uint64_t fill;          /* mm::saved_fill */
    _Atomic uint32_t step[CLIENT_MAX_UPCALLS];
    uint8_t raw[CLIENT_MAX_UPCALLS][KUFFD_RAW_BYTES];
    /*
     * Dropped by a madvise whose message was read when they were registered no more.  What is
     * still seen there may be about to go, and is not entered (enter_present).
     */
    struct urange late[CLIENT_MAX_LATE];
    _Atomic uint32_t nr_late;
    /*
     * Pages to be poisoned as soon as the kernel lets us, with flags in their low bits (doomed.c).
     */
    struct uaddr doomed[CLIENT_MAX_DOOMED];
    _Atomic uint32_t nr_doomed;
    _Atomic bool doomed_overflow;
    struct area_store areas;
};

/* A limit below this cannot be kept: the batches in flight and the marks need their room. */
#define GROUP_MIN_LIMIT_BYTES (8 << 20)

/* One address space and who it belongs to.  Embedded in the worker's own record. */
struct client {
    struct mm mm;
    struct domain *domain;
    struct group *group;
    struct list link;     /* domain::clients */
    struct list in_group; /* group::clients */
    bool has_agent;   /* pages can be taken out; false: only served */
    /* a forked child's is to come: until then its faults wait for room as if it had one */
    bool awaits_agent;
    bool leaving;     /* everything is brought back, then it is let go */
    bool held;        /* messages were read and are not applied yet: nothing may be taken out */
    /* mappings are just being adopted, the next a moment later: nothing is taken yet */
    bool adopting;
    struct uaddr cursor; /* of bringing back */
    uint64_t resident_bytes;
    /* Reclaim: pages moved out ever, and before the last capture; captures in a row without any. */
    uint64_t moved_out, moved_out_before;
    uint32_t nr_fruitless;
    bool capture_asked;
    uint64_t deferred_until_ns; /* nothing is taken from it (group.c says why) */
    uint64_t last_message_ns;
    /*
     * Memory of it is asked for: pages under the last capture; tried in vain since the last
     * success.
     */
    struct reclaim_request *request;
    uint32_t nr_request_pages, nr_request_fruitless;
    uint64_t nr_request_tried, request_moved_before;
    /* Those that share pages with it since a fork: a ring of all that live (fork.c). */
    struct list relatives;
    bool has_strays; /* there may be others, which were let go */
    bool keeps_memory; /* it is known to have some that is not its children's */
    uint64_t unshare_until_ns;
    struct urange remap_stage; /* where only the agent itself moves something */
    struct uaddr tid_page; /* never moved: the kernel writes there when a thread ends; 0: none */
    struct parked_fault parked[CLIENT_MAX_PARKED];
    uint32_t nr_parked;
    struct client_saved *saved;
    uint32_t cookie;      /* client_saved::cookie; set before client_init() */
    uint64_t note_cursor; /* recovery looks there next for fills that were not noted; ~0: nowhere */
    struct client_move moves[CLIENT_MAX_MOVES]; /* in order (client_unmapped) */
    uint32_t nr_moves;
    /* Registered by us, and not changed since, but not entered yet (client_adopt). */
    struct urange unentered[CLIENT_MAX_UNENTERED];
    uint32_t nr_unentered;
    /* All that was registered while something changed, since the last batch; length 0: nothing. */
    struct urange reregistered;
    uint64_t late_ns; /* when the last of client_saved::late was heard of */
};

/* What the parent's mapping says of forks (MADV_WIPEONFORK, MADV_DONTFORK). */
enum fork_gets {
    FORK_GETS_BYTES,
    FORK_GETS_NOTHING, /* zeros, or there is no such mapping in the child */
    FORK_GETS_UNKNOWN, /* client_doubt() */
};

#define FORK_GETS_ALL (UINT64_MAX & PAGE_MASK) /* an end of what the answer is for */

struct domain {
    struct pgtable *pt;
    struct node ram;
    struct client_saved *saved;
    uint32_t nr_saved;
    struct client *forking; /* the parent of who is just being made */
    struct node file; /* with the next two, only after domain_add_file() */
    struct writeback *writeback;
    struct swapin *swapin;
    struct mm_ids ids;
    struct list groups, clients;
    uint32_t next_group;
    struct counters retired;        /* of groups that have ended */
    struct hist retired_latency;
    /*
     * A program forked: makes the child's record (client_init() done, same
     * group) around its userfaultfd `fd`, which it owns from then on.  NULL: it
     * could not; the child is lost and must not run on with wrong bytes.
     */
    struct client *(*fork)(struct client *parent, int fd);
    /*
     * Who gets what is moved out at `at` of the parent, and the same up to *ret_end: asked in
     * ascending order while the child's tables are made.  FORK_GETS_ALL: whatever mappings there
     * are, or were.  NULL: the child.  Sets keeps_memory of the parent where it is known.
     */
    enum fork_gets (*fork_gets)(struct client *parent, struct uaddr at, uint64_t *ret_end);
    /*
     * A read that faults of this client wait for has ended: client_answer() has news.  NULL: none.
     */
    void (*wake)(struct client *c);
};

/* Bytes of state memory for so many leaves and clients. */
uint64_t domain_state_bytes(uint32_t nr_leaves, uint32_t nr_clients);
/*
 * `state` is domain_state_bytes() long, `frames` nr_frames pages; both all zeros, or what
 * an earlier worker left: then each of its clients is to be taken up by client_recover()
 * before anything else is done.  0 or -ENOMEM.
 */
int domain_init(struct domain *d, void *state, uint32_t nr_leaves, uint32_t nr_clients,
                void *frames, uint32_t nr_frames);
/*
 * Before the first client.  `file` as for node_file_init(): borrowed until domain_fini(),
 * when nothing may be under way on the device any more.  0 or -ENOMEM.  Slots that an
 * earlier worker was writing are left alone until domain_orphans_ended().
 */
int domain_add_file(struct domain *d, const struct node_file *file, uint32_t nr_slots);
/* Every write that an earlier worker began has ended, done or not. */
void domain_orphans_ended(struct domain *d);
static inline bool domain_has_file(const struct domain *d)
{
    return d->swapin != NULL;
}
void domain_fini(struct domain *d);
/* True: nobody is left and no frame is in use.  What derived state took for them has gone back. */
bool domain_rest(struct domain *d);

/* Is there room for what a capture would take out? */
enum domain_room {
    DOMAIN_ROOM,
    DOMAIN_WAIT, /* write-back makes some */
    DOMAIN_FULL, /* no node has any: nothing is to be taken out */
};
enum domain_room domain_room(const struct domain *d, uint64_t now_ns);
/* Starts write-back when it is called for; a bounded amount of work, cheap when it is not. */
void domain_writeback(struct domain *d, uint64_t now_ns);

/* ---- groups ---- */

/* An empty name gets a number.  NULL: no memory.  Freed with its last client and holder. */
struct group *group_new(struct domain *d, const char *name, uint64_t limit_bytes);
struct group *group_find(struct domain *d, const char *name);
void group_hold(struct group *g);
void group_release(struct group *g);

/* Resident bytes above which pages are taken out in the background, and where that ends. */
uint64_t group_high_bytes(const struct group *g);
uint64_t group_low_bytes(const struct group *g);
/* What may come in unasked: it ends below the limit's mark. */
uint64_t group_room_bytes(const struct group *g);

/*
 * Starts captures while the group is above its mark.  Returns true when
 * captures run or wait, false when there is nothing to do or nothing to take.
 */
bool group_balance(struct group *g);

/*
 * Sets the limit; 0: none.  The caller has clients measured, mappings adopted and faults
 * that wait for room answered, each by a turn.
 */
void group_set_limit(struct group *g, uint64_t bytes);

/* ---- reclaim on request (reclaim_request.c) ---- */

/* Somebody wants memory of a group moved out now, whatever its limit. */
struct reclaim_request {
    struct group *group; /* held; NULL: there is no request */
    uint64_t want_pages, moved_before;
    bool again; /* nothing has to be waited for: a page was just not due yet */
};

enum reclaim_outcome {
    RECLAIM_UNDER_WAY,
    RECLAIM_DONE,         /* as much as was wanted has left */
    RECLAIM_NOTHING_LEFT, /* nothing that is adopted is resident any more */
    RECLAIM_NO_ROOM,      /* no node takes more */
    RECLAIM_REFUSED,      /* what is left is pinned, locked, or wanted back at once */
    RECLAIM_NO_AGENT,     /* no client that pages can be taken from */
};

/*
 * At most `bytes` (UINT64_MAX: all) of what is resident now, as last measured, in the
 * group's clients that there are now, or in one of them only (NULL: all).  One at a time
 * in a group: -EBUSY.  Ended by reclaim_request_end(); until then `r` stays where it is.
 */
MUST_CHECK int reclaim_request_start(struct reclaim_request *r, struct group *g,
                                     struct client *only, uint64_t bytes);
/*
 * Starts captures where none is under way, and says how it stands.  Called after turns.
 * An outcome other than DONE may change when more is adopted.
 */
enum reclaim_outcome reclaim_request_progress(struct reclaim_request *r);
uint64_t reclaim_request_moved_bytes(const struct reclaim_request *r);
void reclaim_request_end(struct reclaim_request *r);
const char *reclaim_outcome_sentence(enum reclaim_outcome o);

/* ---- clients ---- */

/* All zeros before.  0, -ENOMEM, or -ENOSPC: too many.  target and ops as in struct mm. */
int client_init(struct client *c, struct domain *d, struct group *g, const struct target_ops *ops,
                void *target);
/*
 * The child is a copy of the parent since a fork: their pages are shared.  A fork event
 * does this itself; without one (nothing was registered) whoever finds it out does.
 */
void client_relate(struct client *parent, struct client *child);
/* Forgets every entry and gives all back.  The address space has ended, or is all brought back. */
void client_fini(struct client *c);

/*
 * What is moved out of [start, end) is not to be given to this program, or nobody can tell
 * whether it is: it fails closed.  Returns the number of pages.
 */
uint64_t client_withhold(struct client *c, uint64_t start, uint64_t end);
/*
 * In the address space of a child that gets no record: poisons what its parent has moved
 * out, from *cursor on, or all that is missing in r.  RETRY: not now, go on later.
 */
typedef enum kres client_poison_fn(void *target, struct uaddr at, uint64_t len, uint64_t *ret_done);
enum kres client_poison_out(struct client *parent, client_poison_fn *poison, void *target,
                            struct uaddr *cursor);
enum kres client_poison_range(client_poison_fn *poison, void *target, struct urange r);
/* What client_saved says of it; length 0: no doubt. */
static inline struct urange client_doubt(const struct client *c)
{
    uint64_t start = c->saved->doubt_start, end = c->saved->doubt_end;

    return start < end ? urange(start, end) : (struct urange){0};
}
/* Somebody can tell: what there was in doubt and was not withheld is the program's. */
void client_end_doubt(struct client *c);
/* Does the page wait for that? */
bool client_is_doubtful(const struct client *c, struct uaddr addr);

/*
 * Registers a whole mapping and, with `scan`, enters its present pages.  Not
 * `scan` when the kernel registered it by itself (it grew): its pages then come
 * by faults, and a page seen there may be about to be dropped by an event
 * already read.  Every event must have been applied before.  KRES_GONE: not registrable.
 * KRES_RETRY: the mappings are just changing; ask again, of what there is then.
 */
enum kres client_adopt(struct client *c, struct urange r, bool scan);

/*
 * Decides in which order a batch (at most CLIENT_MAX_UPCALLS) is to be applied.  It should
 * hold every message of each change that has begun: until the kernel stops answering
 * EAGAIN.  Who keeps messages back for that sets `held`, and does nothing else to the
 * client meanwhile.  False: a change has begun just now; its messages belong to the batch.
 */
MUST_CHECK bool client_order(struct client *c, const struct kuffd_msg *msgs, uint32_t nr);

/*
 * Applies a batch in the order decided on; when none was (it is full, the address space is
 * ending), in what the messages alone say.  Faults are parked, to be answered by
 * client_answer().  Message i is in saved->raw[i] as well.
 */
void client_upcalls(struct client *c, const struct kuffd_msg *msgs, uint32_t nr, uint64_t now_ns);

/*
 * Of messages [first, first + nr), which were just read: those that only the agent's own
 * mremap() has raised (client::remap_stage) become VOID, in saved->raw[] too.
 */
void client_void_own(struct client *c, struct kuffd_msg *msgs, uint32_t first, uint32_t nr);

/*
 * Answers what can be answered.  Returns the number of faults that are to be tried
 * again soon; those that wait for a read stay parked until domain::wake() tells.
 */
uint32_t client_answer(struct client *c);

/*
 * What became of a captured page that is nowhere any more, when these messages were read and not
 * applied: the program has dropped it, or has ended, and nobody misses it (HOLE).  But a child
 * whose fork is among them runs already, without the page: to it zeros would be a wrong byte (LOST).
 */
enum capture_result client_result_of_missing(const struct kuffd_msg *msgs, uint32_t nr);
/* The agent has finished. */
void client_captured(struct client *c, const uint8_t result[CAPTURE_MAX_PAGES]);
/* Commits up to max captured pages; returns how many wait. */
uint32_t client_commit(struct client *c, uint32_t max);

/*
 * Brings back up to max pages of a leaving client.  Returns true when nothing
 * is stored any more: it may be unregistered.
 */
bool client_bring_back(struct client *c, uint32_t max);

/*
 * Unregisters all of it when nothing is moved out and no message has come for a while.
 * Asked for now and then, when every message was applied.  True: it has been tried.
 */
bool client_release_quiet(struct client *c, uint64_t now_ns);

/* Removes the entries of [start, end) with what they hold. */
void client_forget(struct client *c, uint64_t start, uint64_t end);

/* A measurement of what is resident. */
void client_set_resident(struct client *c, uint64_t bytes);
/* Likewise; what it finds above the limit, beside what was counted, no fault of ours has let in. */
void client_measured(struct client *c, uint64_t bytes);

/* ---- what an earlier worker left (recover.c) ---- */

/* The record of a client after `before` (NULL: the first), or NULL. */
struct client_saved *domain_next_saved(const struct domain *d, const struct client_saved *before);

/*
 * Takes up the client of that record instead of client_init(): 0 or -ENOMEM.  A capture
 * counts as under way when pages are MIGRATING, or a huge page was to be put somewhere: once the
 * last command is finished, at once if it is, its results go to client_captured(), the same ones a
 * second time if need be; also when the address space is dead, since a child may share them.
 * Waiting threads look again.
 */
int client_recover(struct client *c, struct domain *d, struct group *g,
                   const struct target_ops *ops, void *target, struct client_saved *saved);

/*
 * When all clients are taken up: a batch that was being applied is applied to its end,
 * before anybody is served; a forked child may be in the making.
 */
void client_finish_batch(struct client *c, uint64_t now_ns);

/*
 * The messages that had been read and not applied, for client_upcalls(); returns how many.
 * When there are any, the client is `held` until the caller has applied them.
 */
uint32_t client_saved_messages(struct client *c, struct kuffd_msg *msgs);

/*
 * Looks for pages that were filled and not noted.  Called with no message unapplied and no
 * move open, until it returns true.
 */
bool client_note_filled(struct client *c);

/* ---- the sums ---- */

struct domain_report {
    uint64_t entries[PTE_NR_TAGS]; /* [PTE_NONE]: in leaves, but never touched or dropped */
    struct frame_count frames;
    uint64_t frames_by_entries; /* entries that name a frame */
    struct frame_count slots;   /* of the file node; zeros: there is none */
    uint64_t slots_by_entries;
    uint64_t kept; /* PRESENT entries that keep a frame or slot; not in the two above */
    const char *wrong;          /* NULL, or the first invariant that does not hold */
};

void counters_add(struct counters *into, const struct counters *from);

/* Counts each term on its own. */
void domain_check(struct domain *d, struct domain_report *ret);

#endif
