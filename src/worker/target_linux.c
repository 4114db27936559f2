/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target_ops on the real kernel: the userfaultfd from outside, and captures
 * through the agent's ring.
 *
 * The ring is memory that the client can write.  Nothing is believed of it:
 * command numbers are our own, results are bytes that the core maps to an
 * error unless they are known, and the transfer area only ever becomes the
 * content of that client's own pages.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "worker/worker_priv.h"

/*
 * The kernel registers what is mapped at that moment.  Were a part of the range
 * just unmapped, and mapped anew a moment later, a page of it could be captured that
 * no fault would ask for.  The kernel does not merge a registered mapping with one
 * that is not, so the range then lies in more than one mapping.
 */
static enum kres t_reg(void *t, struct urange r)
{
    struct wclient *wc = t;
    enum kres res = kuffd_register(wc->uffd.fd, r, false);

    if (res != KRES_DONE || kmaps_covers(wc->agent_pid, r) == 1)
        return res;
    /*
     * It stays registered: what stands there now may have come by an mremap that was not
     * read yet, with pages moved out, which would read as zeros.
     */
    return KRES_RETRY;
}
static enum kres t_unreg(void *t, struct urange r)
{
    return kuffd_unregister(((struct wclient *)t)->uffd.fd, r);
}

/*
 * The page is charged to the client's memory cgroup.  When that is full and nothing in
 * it can be reclaimed, the kernel has just chosen whom to kill there, or leaves all of
 * them waiting (oom_kill_disable of version 1): the fault waits, as it would without us.
 */
static enum kres note_fill(struct wclient *wc, enum kres r)
{
    static struct log_ratelimit often;

    if (r != KRES_RETRY || errno != ENOMEM)
        return r;
    uint64_t now = now_ns();
    wc->c.mm.count->fill_no_memory++;
    if (!worker_is_starved(wc, now) && log_ratelimit(&often))
        log_warning("pid %d (%s): the kernel has no memory for a page of it: its cgroup is full "
                    "(memory.max, in version 1 memory.limit_in_bytes); it waits",
                    wc->program_pid, wc->comm);
    wc->starved_ns = now;
    return r;
}
static enum kres t_copy(void *t, struct uaddr dst, const void *src, uint64_t len,
                        uint64_t *ret_done)
{
    struct wclient *wc = t;

    return note_fill(wc, kuffd_copy(wc->uffd.fd, dst, src, len, ret_done));
}
static enum kres t_zero(void *t, struct uaddr dst, uint64_t len, uint64_t *ret_done)
{
    struct wclient *wc = t;

    return note_fill(wc, kuffd_zero(wc->uffd.fd, dst, len, ret_done));
}
static enum kres t_wake(void *t, struct urange r)
{
    int fd = ((struct wclient *)t)->uffd.fd;

    return r.len ? kuffd_wake(fd, r) : kuffd_wake_all(fd);
}
static enum kres t_poison(void *t, struct uaddr dst, uint64_t len, uint64_t *ret_done)
{
    return kuffd_poison(((struct wclient *)t)->uffd.fd, dst, len, ret_done);
}
static bool t_is_changing(void *t)
{
    return kuffd_is_changing(((struct wclient *)t)->uffd.fd);
}
/*
 * As the shim knows; and as the kernel does, of threads that were not made through libc (those that
 * end before anybody looks are not seen).
 */
static bool t_has_one_thread(void *t)
{
    struct wclient *wc = t;

    if (!wc->ring || wc->program_pid <= 0)
        return false;
    wc->had_threads |= atomic_load_explicit(&wc->ring->has_threads, memory_order_seq_cst) != 0 ||
                       kproc_nr_threads(wc->program_pid) != 1;
    return !wc->had_threads;
}

static enum kres t_is_registered(void *t, struct uaddr page)
{
    return kuffd_is_registered(((struct wclient *)t)->uffd.fd, page);
}
static uint64_t t_now(void *t)
{
    (void)t;
    return now_ns();
}

static int t_scan(void *t, struct urange r, struct scan_run *runs, uint32_t max,
                  struct uaddr *ret_next)
{
    struct wclient *wc = t;

    if (wc->pagemap_fd < 0)
        return -ENOTCONN;
    return kscan_present(wc->pagemap_fd, r, runs, max, ret_next);
}

static struct uaddr t_next_guard(void *t, struct urange r)
{
    struct wclient *wc = t;

    return wc->pagemap_fd < 0 ? uaddr(urange_end(r)) : kscan_next_guard(wc->pagemap_fd, r);
}

static const void *t_staged(void *t, struct sslot slot)
{
    struct wclient *wc = t;

    BUG_ON(slot.n >= RING_MAX_PAGES);
    return (char *)wc->ring + RING_TRANSFER_OFFSET + (size_t)slot.n * PAGE_SIZE;
}

static void post(struct wclient *wc, enum ring_op op)
{
    struct ring *ring = wc->ring;

    ring->op = (uint32_t)op;
    wc->posted++;
    atomic_store_explicit(&ring->posted, wc->posted, memory_order_release);
    atomic_fetch_add_explicit(&ring->bell, 1, memory_order_seq_cst);
    (void)kfutex_wake_shared(&ring->bell);
}

/*
 * By mremap() only while its stage is empty, by which is seen later how far it came,
 * and never a guard: what mremap() takes it takes with everything.
 */
static bool may_remap(struct wclient *wc, const struct capture_vec *vecs, uint32_t nr_vecs)
{
    const struct worker_config *config = wc->w->config;

    if (config->capture != CAPTURE_BY_MREMAP || !config->unsafe_pins ||
        kmaps_is_one(wc->agent_pid, urange(wc->remap, wc->remap + REMAP_BYTES)) != 1)
        return false;
    for (uint32_t i = 0; i < nr_vecs; i++) {
        struct urange r = {vecs[i].addr, (uint64_t)vecs[i].nr_pages << PAGE_SHIFT};
        if (t_next_guard(wc, r).v != urange_end(r))
            return false;
    }
    return true;
}

static int t_capture_prepare(void *t, const struct capture_vec *vecs, uint32_t nr_vecs, bool huge)
{
    struct wclient *wc = t;

    if (!wc->ring || wc->agent_lost || wc->exit_posted)
        return -ENOTCONN;
    BUG_ON(wc->posted != wc->settled || nr_vecs > RING_MAX_VECS);
    wc->nr_slots = 0;
    for (uint32_t i = 0; i < nr_vecs; i++) {
        wc->ring->vecs[i] = (struct ring_vec){vecs[i].addr.v, vecs[i].nr_pages, vecs[i].slot};
        wc->nr_slots += vecs[i].nr_pages;
    }
    /* Our own copy, for the day the agent dies half-way: the ring's is not to be trusted. */
    memcpy(wc->vecs, vecs, nr_vecs * sizeof(*vecs));
    wc->nr_vecs = nr_vecs;
    wc->capture_huge = huge;
    wc->command = huge ? RING_CAPTURE_HUGE : RING_CAPTURE;
    wc->ring->nr_vecs = nr_vecs;
    wc->capture_remaps = may_remap(wc, vecs, nr_vecs);
    wc->ring->flags = (wc->c.mm.may_unshare ? RING_MAY_UNSHARE : 0) |
                      (wc->capture_remaps ? RING_MAY_REMAP : 0);
    wc->ring->nr_unshared = 0;
    wc->ring->nr_remapped = 0;
    /* An agent, or a worker, that dies before it begins leaves no earlier results behind. */
    memset(wc->ring->result, CAPTURE_NOT_TRIED, sizeof(wc->ring->result));
    atomic_thread_fence(memory_order_release);
    return 0;
}

static void t_capture_start(void *t)
{
    struct wclient *wc = t;

    wc->posted_ns = now_ns();
    post(wc, wc->command);
}

static int t_fill_prepare(void *t, struct uaddr base)
{
    struct wclient *wc = t;

    if (!wc->ring || wc->agent_lost || wc->exit_posted || wc->posted != wc->settled)
        return -ENOTCONN;
    wc->ring->vecs[0] = (struct ring_vec){base.v, RING_MAX_PAGES, 0};
    wc->ring->nr_vecs = 1;
    wc->capture_remaps = false;
    wc->nr_vecs = 0; /* nothing to look for should the agent die */
    wc->command = RING_FILL_HUGE;
    memset(wc->ring->result, CAPTURE_NOT_TRIED, sizeof(wc->ring->result));
    atomic_thread_fence(memory_order_release);
    return 0;
}

const struct target_ops target_linux = {
    .reg = t_reg,
    .unreg = t_unreg,
    .copy = t_copy,
    .zero = t_zero,
    .wake = t_wake,
    .poison = t_poison,
    .capture_prepare = t_capture_prepare,
    .capture_start = t_capture_start,
    .fill_prepare = t_fill_prepare,
    .staged = t_staged,
    .scan = t_scan,
    .next_guard = t_next_guard,
    .is_changing = t_is_changing,
    .is_registered = t_is_registered,
    .has_one_thread = t_has_one_thread,
    .now_ns = t_now,
};

void agent_post_exit(struct wclient *wc)
{
    if (!wc->ring || wc->agent_lost || wc->exit_posted || wc->posted != wc->settled)
        return; /* while it captures: again when that is collected */
    wc->exit_posted = true;
    post(wc, RING_EXIT);
}

bool capture_is_done(const struct wclient *wc)
{
    return wc->posted != wc->settled &&
           atomic_load_explicit(&wc->ring->done, memory_order_acquire) == wc->posted;
}

/*
 * The mremap() of the agent has been, when its stage is not that one mapping any more.
 * Before that nothing is read: a thread that changes the mappings sleeps until its
 * message is, and so cannot map anew where something is just being taken.
 */
bool capture_lets_read(const struct wclient *wc)
{
    const struct ring *ring = wc->ring;

    if (!wc->capture_remaps || wc->posted == wc->settled ||
        atomic_load_explicit(&ring->phase_of, memory_order_acquire) != wc->posted)
        return false;
    uint32_t phase = atomic_load_explicit(&ring->phase, memory_order_acquire);
    if (phase == RING_REMAPPING)
        return kmaps_is_one(wc->agent_pid, urange(wc->remap, wc->remap + REMAP_BYTES)) == 0;
    return phase == RING_STAGED || phase == RING_COPIED;
}

void capture_collect(struct wclient *wc)
{
    uint8_t result[CAPTURE_MAX_PAGES];

    memcpy(result, wc->ring->result, sizeof(result));
    uint32_t unshared = wc->ring->nr_unshared;
    wc->c.mm.count->unshared += MIN(unshared, (uint32_t)RING_MAX_PAGES);
    uint32_t remapped = wc->ring->nr_remapped;
    wc->c.mm.count->capture_remapped += MIN(remapped, (uint32_t)RING_MAX_PAGES);
    wc->settled = wc->posted;
    client_captured(&wc->c, result);
}

/* The bytes at addr in the client into the transfer slot, by any of the program's threads. */
static bool fetch(struct wclient *wc, uint64_t addr, uint32_t slot)
{
    struct iovec local = {(char *)wc->ring + RING_TRANSFER_OFFSET + (size_t)slot * PAGE_SIZE,
                          PAGE_SIZE};
    struct iovec remote = {(void *)(uintptr_t)addr, PAGE_SIZE};
    pid_t tid = kproc_thread_with_memory(wc->program_pid);

    /* It is held, and nobody else's to touch: this does not wait for a fault. */
    return tid > 0 && process_vm_readv(tid, &local, 1, &remote, 1, 0) == (ssize_t)PAGE_SIZE;
}

/* What became of one page: see capture_recover(). */
static enum capture_result find_page(struct wclient *wc, uint64_t addr, uint64_t s1, uint64_t s2,
                                     uint32_t slot)
{
    uint64_t off = (uint64_t)slot * PAGE_SIZE;
    int in_program = kscan_page_is_held(wc->pagemap_fd, uaddr(addr));
    int in_s2 = kscan_page_is_held(wc->pagemap_fd, uaddr(s2 + off));
    int in_s1 = kscan_page_is_held(wc->pagemap_fd, uaddr(s1 + off));
    int in_remap = kscan_page_is_held(wc->pagemap_fd, uaddr(wc->remap + off));

    /*
     * The stages first: of what was taken the mapping may have been moved away since, and something
     * else stand in its place.  Is it in a stage from an earlier capture, that does no harm: what the
     * program has there counts, whatever the entry says.
     */
    if ((in_s2 == 1 && fetch(wc, s2 + off, slot)) || (in_s1 == 1 && fetch(wc, s1 + off, slot)) ||
        (in_remap == 1 && fetch(wc, wc->remap + off, slot)))
        return CAPTURE_TAKEN;
    if (in_program == 1 && !in_s2 && !in_s1 && !in_remap)
        return CAPTURE_NOT_TRIED;
    /* Only what was seen to be nowhere is a hole: else zeros would stand for lost bytes. */
    if (!in_program && !in_s2 && !in_s1 && !in_remap)
        return client_result_of_missing(wc->msgs, wc->nr_msgs);
    return mm_is_dead(wc) ? CAPTURE_HOLE : CAPTURE_LOST; /* its end is no loss */
}

/*
 * Where is a page whose capture the agent did not finish?  It goes program ->
 * stage 1 (or the stage of mremap) -> stage 2 -> transfer area, and leaves these only when the
 * command's phase is COPIED, when every result stands in the ring; before that, the place where it
 * is found has it.  A page that cannot be read, or not be looked for, is lost.
 */
void capture_recover(struct wclient *wc)
{
    uint8_t result[CAPTURE_MAX_PAGES];
    struct ring *ring = wc->ring;
    uint64_t s1 = wc->capture_huge ? wc->stage1_huge : wc->stage1;
    uint64_t s2 = wc->capture_huge ? wc->stage2_huge : wc->stage2;
    bool copied = atomic_load_explicit(&ring->phase_of, memory_order_acquire) == wc->posted &&
                  atomic_load_explicit(&ring->phase, memory_order_acquire) == RING_COPIED;

    if (capture_is_done(wc)) {
        capture_collect(wc);
        return;
    }
    memset(result, CAPTURE_NOT_TRIED, sizeof(result));
    for (uint32_t i = 0; i < wc->nr_vecs; i++) {
        for (uint32_t k = 0; k < wc->vecs[i].nr_pages; k++) {
            uint32_t slot = wc->vecs[i].slot + k;
            result[slot] = copied ? ring->result[slot]
                                  : (uint8_t)find_page(wc, wc->vecs[i].addr.v + k * PAGE_SIZE, s1,
                                                       s2, slot);
        }
    }
    wc->settled = wc->posted;
    log_warning("pid %d: its agent ended during a capture; its pages were found again",
                wc->program_pid);
    client_captured(&wc->c, result);
}
