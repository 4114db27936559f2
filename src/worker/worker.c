/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's life: maps what survives it, takes connections from the keeper,
 * turns its clients, and sleeps in the reactor.
 *
 * After faults that follow each other closely it polls their client for a bounded
 * time before it sleeps: waking an idle core costs more than answering (DESIGN
 * section 8).  It yields at each look, so that whoever needs the core has it.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "worker/worker_priv.h"

#define HOT_TURNS 32
#define NEWCOMERS 16 /* connections taken in a turn */

/*
 * Leaves: enough to map many times what the nodes hold (each child of a fork has its own), and
 * never less than 128 GiB.  One takes memory, a page, only when it is used for the first time, as
 * the kernel's own page tables do for the same mappings.
 */
#define LEAVES_MIN ((uint64_t)1 << 16)
#define LEAVES_MAX ((uint64_t)1 << 22)

static uint32_t nr_leaves_for(uint64_t bytes)
{
    return (uint32_t)CLAMP(64 * (bytes >> LEAF_SHIFT), LEAVES_MIN, LEAVES_MAX);
}

static uint64_t table_bytes(void)
{
    return (sizeof(struct state_header) + STATE_MAX_CLIENTS * sizeof(struct state_client) +
            PAGE_SIZE - 1) & PAGE_MASK;
}

/* Client table, page tables, checksums of the slots: in this order. */
uint64_t worker_state_bytes(uint64_t ram_bytes, uint64_t swap_bytes)
{
    return table_bytes() +
           domain_state_bytes(nr_leaves_for(ram_bytes + swap_bytes), STATE_MAX_CLIENTS) +
           (swap_bytes >> PAGE_SHIFT) * sizeof(struct slot_sum);
}

/* Of a packet whose descriptors found no room here: that many below this are there. */
#define MSG_WITHOUT_FDS 100000

/* The keeper's packet with its descriptors; returns the number of descriptors or -errno. */
static int receive(int channel, struct worker_msg *msg, int fds[3])
{
    char control[CMSG_SPACE(3 * sizeof(int))];
    struct iovec iov = {msg, sizeof(*msg)};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control,
                        .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(channel, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    int nr = 0;

    if (n < 0)
        return -errno;
    if (n == 0)
        return -EPIPE;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        nr = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), (size_t)nr * sizeof(int));
    }
    BUG_ON(n != sizeof(*msg)); /* the keeper is ours */
    return mh.msg_flags & MSG_CTRUNC ? -nr - MSG_WITHOUT_FDS : nr;
}

static void channel_ready(struct source *s)
{
    struct worker *w = container_of(s, struct worker, channel);
    struct worker_msg msg;
    int fds[3];

    for (unsigned n = 0; n < NEWCOMERS; n++) {
        int nr = receive(s->fd, &msg, fds);
        if (nr == -EAGAIN || nr == -EINTR)
            return;
        if (nr < 0 && nr > -MSG_WITHOUT_FDS) {
            w->ending = true;
            return;
        }
        if (nr < 0) { /* the peer sees its connection end */
            static struct log_ratelimit often;
            for (int i = 0; i < -nr - MSG_WITHOUT_FDS; i++)
                fd_close(fds[i]);
            w->nr_ended++;
            if (log_ratelimit(&often))
                log_error("a connection is refused: out of descriptors; raise pagerd's hard limit "
                          "(ulimit -Hn)");
            continue;
        }
        if (msg.kind == WORKER_CLIENT && nr == 3)
            attach_client(w, &msg, fds[0], fds[1], fds[2]);
        else if (msg.kind == WORKER_CONTROL && nr == 1)
            control_open(w, fds[0]);
        else
            BUG_ON("a message of the keeper that does not exist");
    }
    source_again(w->reactor, s);
}

static void channel_released(struct source *s)
{
    s->fd = fd_close(s->fd);
}

static bool any_forked_child(struct worker *w)
{
    struct client *c;

    list_for_each_entry(c, &w->domain.clients, link)
        if (!wclient_of(c)->ring)
            return true;
    return !list_empty(&w->refused);
}

/* A private daemon ends with its last connection, but not while forked children need it. */
static void tell_ended(struct worker *w)
{
    struct worker_ended ended = {.nr_ended = w->nr_ended};

    if (!w->nr_ended || any_forked_child(w))
        return;
    if (send(w->channel.fd, &ended, sizeof(ended), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(ended))
        w->nr_ended = 0;
    else
        w->next_housekeeping_ns = MIN(w->next_housekeeping_ns, now_ns() + 10000000);
}

static int open_state(struct worker *w, struct state_header **ret)
{
    const struct worker_config *config = w->config;
    uint64_t need = worker_state_bytes(config->ram_bytes, config->swap_bytes);
    struct state_header *head = mmap(NULL, config->state_bytes, PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_NORESERVE, config->state_fd, 0);

    if (head == MAP_FAILED)
        return -errno;
    BUG_ON(config->state_bytes < need);
    *head = (struct state_header){
        .magic = STATE_MAGIC,
        .version = 1,
        .nr_leaves = nr_leaves_for(config->ram_bytes + config->swap_bytes),
        .nr_frames = (uint32_t)(config->ram_bytes >> PAGE_SHIFT),
        .max_clients = STATE_MAX_CLIENTS,
        .nr_slots = (uint32_t)(config->swap_bytes >> PAGE_SHIFT),
    };
    if (getrandom(head->swap_secret, sizeof(head->swap_secret), 0) != sizeof(head->swap_secret))
        return -EIO;
    w->table = (struct state_client *)(head + 1);
    *ret = head;
    return 0;
}

static void wake_client(struct client *c)
{
    struct wclient *wc = wclient_of(c);

    if (migrate_is_capturing(&c->mm)) /* its end is the next turn */
        return;
    wc->retry_ns = 1; /* at once */
    wc->w->next_housekeeping_ns = 0;
}

/* The `file` node, when there is a swap file. */
static int open_swap(struct worker *w, struct state_header *head)
{
    const struct worker_config *config = w->config;

    if (config->swap_fd < 0 || !head->nr_slots)
        return 0;
    w->swap = blk_dev_new(w->reactor, config->swap_fd);
    if (!w->swap)
        return -ENOMEM;
    char *leaves = (char *)head + table_bytes();
    struct node_file file = {
        .blk = &blk_uring,
        .blk_arg = w->swap,
        .sums = (struct slot_sum *)(void *)(leaves + domain_state_bytes(head->nr_leaves,
                                                                        STATE_MAX_CLIENTS)),
        .writes = &head->swap_writes,
        .secret = head->swap_secret,
        .name = config->swap_path,
    };
    w->domain.wake = wake_client;
    return domain_add_file(&w->domain, &file, head->nr_slots);
}

/* The kernel maps as many neighbours with one that is read (fault_around_bytes). */
#define FAULT_AROUND 16u

/*
 * node_fresh::write on the memfd of the frames.  They are mapped at once: the kernel's copy to a
 * program, which reads them under the program's mmap lock, has to let go of it for each that is
 * not.
 */
static int write_fresh(void *arg, struct pfn first, const struct iovec *page, uint32_t nr)
{
    const struct worker *w = arg;
    ssize_t n = pwritev(w->config->frames_fd, page, (int)nr, (off_t)first.n << PAGE_SHIFT);

    if (n < 0)
        return -errno;
    uint32_t end = first.n + (uint32_t)(n >> PAGE_SHIFT);
    for (uint32_t i = first.n; i < end; i = (i / FAULT_AROUND + 1) * FAULT_AROUND)
        (void)*(volatile const char *)node_bytes(&w->domain.ram, (struct pfn){i});
    return (int)(end - first.n);
}

/*
 * A client's record and its move are some tens of KiB each.  As mappings of their own they
 * go back to the system one by one; in the heap, which is locked, they would stay for the
 * most clients that there ever were at once.
 */
#define HEAP_MAX_BYTES (16 << 10)

static int worker_open(struct worker *w)
{
    const struct worker_config *config = w->config;
    struct state_header *head = NULL;

    (void)mallopt(M_MMAP_THRESHOLD, HEAP_MAX_BYTES);
    int r = open_state(w, &head);

    if (r < 0)
        return r;
    void *frames = mmap(NULL, config->ram_bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_NORESERVE, config->frames_fd, 0);
    if (frames == MAP_FAILED)
        return -errno;
    /* The pool holds what programs would rather keep to themselves. */
    (void)madvise(frames, config->ram_bytes, MADV_DONTDUMP);
    r = domain_init(&w->domain, (char *)head + table_bytes(), head->nr_leaves, STATE_MAX_CLIENTS,
                    frames, head->nr_frames);
    if (r < 0)
        return r;
    r = node_fresh_init(&w->domain.ram, write_fresh, w);
    if (r < 0)
        return r;
    w->domain.fork = attach_forked;
    w->domain.fork_gets = forked_gets;
    list_init(&w->controls);
    list_init(&w->waiting_agents);
    list_init(&w->refused);
    w->reactor = reactor_new();
    if (!w->reactor)
        return -errno;
    w->thp = kproc_thp_mode();
    r = open_swap(w, head);
    if (r < 0)
        return r;
    source_add(w->reactor, &w->channel, config->channel_fd, channel_ready, channel_released);
    return worker_sandbox();
}


/*
 * Looks at the client whose faults follow each other, until it has been quiet for a
 * while; not longer than a few turns before the others are looked at.
 */
static void poll_hot_client(struct worker *w)
{
    for (int turn = 0; w->hot; turn++) {
        if (now_ns() >= w->hot_until_ns) {
            w->hot = NULL;
            return;
        }
        uint64_t seen_ns = w->last_fault_ns;
        if (turn == HOT_TURNS || !client_turn(w->hot))
            return;
        if (blk_dev_take_queued(w->swap)) /* a fault waits for the disk */
            return;
        /* On our own core an answer lets the thread run at once: its next fault may be there. */
        if (w->last_fault_ns == seen_ns)
            sched_yield();
    }
}

/*
 * The memory of clients that have an agent is not ours to touch at the end: the agents see us go
 * and fail closed.  Nothing is freed either, the process ends: what it still had can be found from
 * here, so that a leak checker tells of what was lost while it lived, and of that only.
 */
static struct worker the_worker;

int worker_main(const struct worker_config *config)
{
    struct worker *w = &the_worker;
    int r;

    w->config = config;
    (void)prctl(PR_SET_NAME, "pagerd-worker");
    r = worker_open(w);
    if (r < 0)
        goto fail;
    while (!w->ending) {
        poll_hot_client(w);
        uint64_t now = now_ns();
        if (now >= w->next_housekeeping_ns) {
            w->next_housekeeping_ns = UINT64_MAX;
            uint64_t next = housekeeping(w, now);
            w->next_housekeeping_ns = MIN(w->next_housekeeping_ns, next);
        }
        control_run_requests(w);
        tell_ended(w);
        r = reactor_wait(w->reactor, w->hot ? 0 : w->next_housekeeping_ns);
        if (r < 0)
            goto fail;
    }
    fail_closed(w);
    control_flush_all(w);
    return 0;
fail:
    log_error("the worker of uid %u ends: %s", config->uid, strerror(-r));
    return 1;
}
