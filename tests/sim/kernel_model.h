/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_SIM_KERNEL_MODEL_H
#define PAGERD_SIM_KERNEL_MODEL_H
/*
 * A model of what the kernel does with address spaces that have a userfaultfd
 * (docs/architecture.md and the probes that it names are where each rule is from).
 *
 * Addresses are page numbers within one window of three leaves; every program
 * uses the same window.  Two mapped neighbours are one mapping when their
 * attributes agree and no boundary lies between them.
 *
 * Modelled rules:
 *  1. Waiting faults are read before events, whichever came first.
 *  2. mmap_changing is raised before a change and lowered when the thread that
 *     changed runs again after its event was read; until then COPY, ZEROPAGE,
 *     POISON and captures answer EAGAIN.  Registering is not stopped.
 *  3. REMOVE is delivered before the pages go, which happens at a later step;
 *     UNMAP, REMAP and FORK after the change, and possibly some steps after it.
 *     madvise sends one REMOVE a mapping; munmap one UNMAP; mremap [UNMAP of what was at
 *     the new place] REMAP [UNMAP of a cut-off tail] [UNMAP of the old place], each when
 *     the one before was read and the thread ran again.
 *     A place whose UNMAP or REMAP is not queued yet may be used anew (settings::reuse).
 *     Only with settings::unordered: mappings grow in place as well as that; a fork overtakes the event of a change that it has
 *     copied, or is overtaken.  The kernel allows that too, mostly in a window of a
 *     microsecond, and gives no means to tell; the core does not withstand it.
 *  4. A fill covers one registered mapping or answers ENOENT (looked up after rule 2 was
 *     asked, so a change just begun may show as ENOENT first); a page that is
 *     there answers EEXIST, and its waiters are not woken by that.
 *  5. A waiter goes on only by a fill or wake of its page, or by a signal; then
 *     it looks again, and a fault that is still one is queued anew.
 *  6. A capture runs later, page by page, in the address space itself: it does not
 *     ask whether the page is registered.  It refuses pinned, shared (after a
 *     fork, until written) and write-protected pages.  Shared ones it may write to itself,
 *     when the worker says so.  A page may have gone though the kernel answers EEXIST: the agent
 *     puts it back, or takes it where that is refused (one page at a time; not of a run).
 *  7. After a fork the child has a copy of what is present, and its own queues.
 *  8. A huge page is put into place (src/agent/fill.c) in one go, or, where the kernel has
 *     none, one page of it; or page by page up to the first that is there.  It asks
 *     for unread events as a fill does.  The results are told later.
 *  9. The agent takes a run by mremap() (src/agent/remap.c) in one go: whatever refers to
 *     the pages, and whatever has happened since its MOVE of the first one.  Its message
 *     waits as others do.  Not modelled is what that engine is documented to lose: pins, and
 *     what another thread has moved, or mapped and touched, there in between.
 * 10. MADV_FREE sends REMOVE like MADV_DONTNEED, but of its pages those that the program alone has
 *     stay, until the kernel takes them, at any time and without a message.
 * 11. Mappings with MADV_WIPEONFORK are in the child, registered and with the flag, and empty. The
 *     flag is set and cleared without a message, whatever is moved out.
 * 12. An exec leaves the old address space behind, with its agent; its threads are gone and
 *     so are messages that were not read.
 */
#include "kernel/kernel.h"
#include "sim.h"
#include "target/target.h"

#define KM_BASE ((uint64_t)0x7f5540000000)
#define KM_PAGES (3u * PTES_PER_LEAF)
#define KM_STAGE (KM_BASE - 2 * LEAF_SIZE) /* where the agent's mremap() puts a run */
#define KM_THREADS 4
#define KM_MAX_EVENTS 24
#define KM_MAX_MMS 24 /* in one schedule, dead ones included */

enum km_page_state { KP_NONE = 0, KP_ZERO, KP_PAGE, KP_POISON };
#define KP_EXCLUSIVE (1u << 0)
#define KP_PINNED (1u << 1)
#define KP_LAZY (1u << 2) /* may vanish until it is written */

#define KV_MAPPED (1u << 0)
#define KV_REGISTERED (1u << 1)
#define KV_READONLY (1u << 2)
#define KV_HUGE (1u << 3)
#define KV_BOUNDARY (1u << 4) /* a mapping starts here, whatever is before it */
#define KV_WIPE (1u << 5)     /* MADV_WIPEONFORK */
#define KV_NOFORK (1u << 6)   /* MADV_DONTFORK */
#define KV_NOT_CHILDS (KV_WIPE | KV_NOFORK)

struct km_pte {
    uint8_t *page; /* KP_PAGE */
    uint8_t state, flags, vma;
};

/* What a thread waits for inside the kernel. */
enum km_wait {
    KW_RUNNING = 0,
    KW_FAULT_UNREAD,
    KW_FAULT_READ,
    KW_EVENT_LATE, /* the change is done, the event not queued yet */
    KW_EVENT_UNREAD,
    KW_EVENT_READ, /* to run again */
};

struct km_thread {
    bool alive;
    enum km_wait wait;
    uint64_t queued; /* order in its queue */
    uint32_t page;   /* KW_FAULT_* */
    bool write;
    struct kuffd_msg event[KM_MAX_EVENTS];
    uint32_t nr_events, next_event;
    struct km_mm *child; /* of the FORK among them */
};

enum km_job_state { JOB_NONE = 0, JOB_MOVING, JOB_DONE };

/* Of the run that goes by mremap(), after all else of the command. */
enum km_run { RUN_NONE = 0, RUN_FIRST, RUN_REMAP, RUN_ASLEEP, RUN_SETTLE };

/* The agent's work, and the transfer area. */
struct km_agent {
    enum km_job_state state;
    bool huge;
    bool may_unshare; /* as it was ordered: its worker may be dead by now */
    bool fills;       /* a huge page of zeros is put at page[0], nothing is taken out */
    uint32_t nr_put;  /* of it, and no result says so yet */
    uint32_t nr, at;
    uint32_t page[CAPTURE_MAX_PAGES]; /* by slot; UINT32_MAX: slot not used */
    uint8_t result[CAPTURE_MAX_PAGES];
    uint8_t *staged[CAPTURE_MAX_PAGES];
    enum km_run run;
    uint32_t run_slot, run_nr;
    struct km_pte taken[CAPTURE_MAX_PAGES]; /* by mremap(), or astray; by slot */
    uint32_t astray; /* slot of a page that was moved and not counted (rule 6); UINT32_MAX: none */
    struct km_thread thread;                /* for its message */
};

struct km_mm {
    struct sim *sim;
    uint32_t id;
    bool has_uffd;
    bool has_agent;
    bool keeps_memory; /* it, or an ancestor, was asked for KV_NOT_CHILDS; the shim tells */
    bool had_agent; /* its worker has the agent's ring, also when the agent is dead */
    bool exited; /* no thread any more; its memory stays until the agent leaves */
    bool dead;
    uint32_t mmap_changing;
    const bool *may_unshare; /* the next capture may write to what a fork left shared; NULL: not */
    uint32_t no_move_page; /* never to be captured; UINT32_MAX: none */
    uint32_t recent[4];    /* pages that were waited for last: where programs look for trouble */
    uint32_t nr_recent;
    uint32_t nr_held; /* references that a writer holds: the agent's barrier waits for them */
    struct km_pte pte[KM_PAGES];
    struct km_thread thread[KM_THREADS];
    struct km_agent agent;
};

static inline uint64_t km_addr(uint32_t page)
{
    return KM_BASE + ((uint64_t)page << PAGE_SHIFT);
}
static inline uint32_t km_page(uint64_t addr)
{
    return (uint32_t)((addr - KM_BASE) >> PAGE_SHIFT);
}

extern const uint8_t km_zeros[PAGE_SIZE];

void km_init(struct km_mm *mm, struct sim *s, uint32_t id);

/* ---- the program's side (kernel_model.c) ---- */

enum km_access { KA_OK, KA_WAITS, KA_SIGBUS, KA_SEGV };
/* One touch.  OK: *ret are the page's bytes, to be written only for `write`. */
enum km_access km_touch(struct km_mm *mm, uint32_t tid, uint32_t page, bool write, uint8_t **ret);

/* Of the mapping that holds `page`, which is mapped: its first page, and the first behind it. */
uint32_t km_vma_start(const struct km_mm *mm, uint32_t page);
uint32_t km_vma_end(const struct km_mm *mm, uint32_t page);
void km_mmap(struct km_mm *mm, uint32_t page, uint32_t nr);
void km_mprotect(struct km_mm *mm, uint32_t page, uint32_t nr, bool readonly);
/* flag: KV_WIPE, KV_NOFORK, or 0: all is a child's. */
void km_advise_fork(struct km_mm *mm, uint32_t page, uint32_t nr, uint8_t flag);
/* Each of these may leave the thread waiting for its events to be read. */
void km_munmap(struct km_mm *mm, uint32_t tid, uint32_t page, uint32_t nr);
/* madvise(MADV_DONTNEED) on a part of one mapping: first half; km_zap() when it is not waiting any
 * more. */
void km_remove(struct km_mm *mm, uint32_t tid, uint32_t page, uint32_t nr);
void km_zap(struct km_mm *mm, uint32_t page, uint32_t nr);
/* Likewise of MADV_FREE. */
void km_give_up(struct km_mm *mm, uint32_t page, uint32_t nr);
/* The kernel takes one or more of the pages that were given up, from there on.  False: there are none. */
bool km_reclaim(struct km_mm *mm, uint32_t from, uint32_t max);
/* The old range lies in one mapping; the new one is unmapped first. */
void km_mremap(struct km_mm *mm, uint32_t tid, uint32_t from, uint32_t old_nr, uint32_t to,
               uint32_t new_nr, bool dontunmap);
/* Grows a mapping in place over unmapped pages. */
void km_grow(struct km_mm *mm, uint32_t page, uint32_t nr);
/* `child` is fresh.  Its first thread runs once the parent's is not waiting any more. */
void km_fork(struct km_mm *mm, uint32_t tid, struct km_mm *child);
void km_exit(struct km_mm *mm);

/* A thread that waits for events takes a step: queues them, or runs again.  False: it waits on. */
bool km_thread_event_step(struct km_mm *mm, uint32_t tid);
/* Rule 3: is no change under way whose event a fork's could overtake? */
bool km_may_fork(const struct km_mm *mm);
/* May a hole be used anew, or is the event of what was there not in the queue yet? */
bool km_is_reusable(const struct km_mm *mm, uint32_t page, uint32_t nr);
void km_signal(struct km_mm *mm, uint32_t tid);
/* The same for any thread, the agent's among them. */
bool km_event_step(struct km_mm *mm, struct km_thread *t);
/* The agent's own mremap(): its message. */
void km_agent_remapped(struct km_mm *mm, struct urange from, struct uaddr to);
/* The kernel puts a fresh page there. */
void km_give_page(struct km_mm *mm, uint32_t page);
/* The memory goes: every operation answers ESRCH from now on. */
void km_die(struct km_mm *mm);

/* ---- the worker's side (kernel_ops.c) ---- */

extern const struct target_ops km_target_ops; /* t is a struct km_mm */
/* One message, as the kernel writes it too; false: none is waiting. */
bool km_read(struct km_mm *mm, void *raw, struct kuffd_msg *ret);
void km_close(struct km_mm *mm);
/* The agent goes on with a capture.  False: it has nothing to do. */
bool km_agent_step(struct km_mm *mm);
/* Its mremap() has been: from here on it takes nothing, and sleeps until messages are read. */
bool km_agent_lets_read(const struct km_mm *mm);
int km_capture_prepare(void *t, const struct capture_vec *vecs, uint32_t nr_vecs, bool huge);
int km_fill_prepare(void *t, struct uaddr base);
void km_capture_start(void *t);
const void *km_staged(void *t, struct sslot slot);
/* Killed by somebody: what it did not take stays. */
void km_agent_die(struct km_mm *mm);
uint32_t km_resident_pages(const struct km_mm *mm);
void km_wake(struct km_mm *mm, uint32_t page, uint32_t nr);

#endif
