/* SPDX-License-Identifier: Apache-2.0 */
/*
 * domain: one worker process a uid (DESIGN D8, D9), its memfds and its channel.
 *
 * 1. A worker has the domain's uid, gid and no further groups, no descriptor
 *    but its channel and its memfds, and dies with the keeper.
 * 2. The keeper never waits for a worker: its channel is non-blocking here, and
 *    a message that does not fit is kept by who wants to send it.
 * 3. A dead worker's record goes at once, so the next client gets a new one.
 *    Its clients see the end of their connections and act on that.
 * 4. A worker that has had no connection for a while is sent away, and its memory and
 *    swap file with it; the next one starts another.  Only the keeper hands connections
 *    over, and it closes the channel first: who comes meanwhile waits for the old one's end.
 *    Fail point keeper-idle-short: it has to be idle for a moment only.
 */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "keeper/keeper_priv.h"

#define STOP_TIMEOUT_NS (10 * UINT64_C(1000000000))
#define IDLE_NS (30 * UINT64_C(1000000000))
#define IDLE_SHORT_NS (50 * UINT64_C(1000000))

struct domain {
    struct list link;
    uid_t uid;
    gid_t gid;
    pid_t pid;
    int pid_fd;
    int channel_fd;
    int state_fd, frames_fd;
    int swap_fd; /* -1: no `file` node */
    struct keeper_refusal no_swap; /* why not; empty: none was asked for */
    uint64_t nr_handed, nr_ended;
    uint64_t idle_since_ns; /* 0: it has connections */
    bool sent_away; /* its channel is closed, because it was idle */
    bool full; /* somebody waits for room in its channel */
    size_t poll_index; /* of two; NOT_POLLED: started after the pollfds were filled */
};

#define NOT_POLLED SIZE_MAX

void domains_init(struct domains *d, const struct keeper_options *options)
{
    *d = (struct domains){.options = options, .first_swap_fd = -1};
    list_init(&d->list);
}

static void domain_free(struct domain *dom)
{
    list_del(&dom->link);
    fd_close(dom->pid_fd);
    fd_close(dom->channel_fd);
    fd_close(dom->state_fd);
    fd_close(dom->frames_fd);
    fd_close(dom->swap_fd);
    free(dom);
}

/* ---- start ---- */

/* To descriptor `at` and following ones, and closes all others but 0..2. */
static int keep_only(int *fds, unsigned nr, int at)
{
    for (unsigned i = 0; i < nr; i++) {
        fds[i] = fcntl(fds[i], F_DUPFD, at + (int)nr);
        if (fds[i] < 0)
            return -errno;
    }
    for (unsigned i = 0; i < nr; i++) {
        if (dup2(fds[i], at + (int)i) < 0)
            return -errno;
        fds[i] = at + (int)i;
    }
    return syscall(SYS_close_range, at + nr, ~0u, 0) < 0 ? -errno : 0;
}

static int become(uid_t uid, gid_t gid)
{
    if (geteuid() != 0 || uid == 0)
        return 0;
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return -errno;
    return 0;
}

static void worker_signals(void)
{
    sigset_t none;

    /* Ctrl-C and a service manager signal every process: the keeper ends the workers, in order. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn static void worker_process(const struct domain *dom, int channel,
                                     const struct keeper_options *options, uint64_t state_bytes,
                                     pid_t keeper_pid)
{
    int fds[] = {channel, dom->state_fd, dom->frames_fd, dom->swap_fd};
    bool has_swap = dom->swap_fd >= 0;
    struct worker_config config;
    int err;

    worker_signals();
    err = keep_only(fds, has_swap ? 4 : 3, STDERR_FILENO + 1);
    if (!err)
        err = become(dom->uid, dom->gid);
    /* After the change of uid, which would clear it. */
    if (!err && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        err = -errno;
    if (err) {
        log_error("cannot set up the worker of uid %u: %s", dom->uid, strerror(-err));
        _exit(1);
    }
    if (getppid() != keeper_pid)
        _exit(1);
    err = protect_memory(); /* a fork inherits no locks */
    if (err)
        log_info("the memory of the worker of uid %u is not locked: %s", dom->uid, strerror(-err));
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)prctl(PR_SET_NAME, "pagerd-worker");
    config = (struct worker_config){
        .channel_fd = fds[0],
        .state_fd = fds[1],
        .frames_fd = fds[2],
        .ram_bytes = options->ram_bytes,
        .state_bytes = state_bytes,
        .swap_fd = has_swap ? fds[3] : -1,
        .swap_bytes = has_swap ? options->swap_bytes : 0,
        .swap_path = options->swap_path,
        .no_swap = dom->no_swap.text,
        .uid = dom->uid,
        .gid = dom->gid,
        .capture = options->capture,
        .unsafe_pins = options->unsafe_pins,
    };
    exit(worker_main(&config));
}

/* Who has the block device, of which there is one for all users: a domain, or NULL. */
static const struct domain *owner_of_device(const struct domains *d)
{
    const struct domain *dom;
    struct stat st;

    list_for_each_entry(dom, &d->list, link)
        if (dom->swap_fd >= 0 && fstat(dom->swap_fd, &st) == 0 && S_ISBLK(st.st_mode))
            return dom;
    return NULL;
}

/* Without it the domain has no `file` node: better less room than no service. */
static void take_swap(struct domains *d, struct domain *dom)
{
    const struct domain *owner = owner_of_device(d);

    dom->swap_fd = d->first_swap_fd;
    d->first_swap_fd = -1;
    if (dom->swap_fd >= 0 || !d->options->swap_bytes)
        return;
    if (owner)
        dom->swap_fd = keeper_refuse(&dom->no_swap, -EBUSY,
                                     "the swap device %.128s serves one user only, and that is uid "
                                     "%u: give --swap the name of a file, of which each user gets "
                                     "one",
                                     d->options->swap_path, owner->uid);
    else
        dom->swap_fd = swapfile_open(d->options->swap_path, d->options->swap_bytes, &dom->no_swap);
    if (dom->swap_fd < 0)
        log_warning("uid %u has no node file: %s", dom->uid, dom->no_swap.text);
}

static int start_worker(struct domains *d, struct domain *dom)
{
    take_swap(d, dom);

    uint64_t ram_bytes = d->options->ram_bytes;
    uint64_t swap_bytes = dom->swap_fd < 0 ? 0 : d->options->swap_bytes;
    uint64_t state_bytes = worker_state_bytes(ram_bytes, swap_bytes);
    pid_t keeper_pid = getpid();
    int pair[2], err;

    dom->state_fd = kmemfd_sparse("pagerd-state", state_bytes);
    if (dom->state_fd < 0)
        return dom->state_fd;
    dom->frames_fd = kmemfd_sparse("pagerd-frames", ram_bytes);
    if (dom->frames_fd < 0)
        return dom->frames_fd;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    dom->channel_fd = pair[0];
    if (fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0 || (dom->pid = fork()) < 0) {
        err = -errno;
        close(pair[1]);
        return err;
    }
    if (dom->pid == 0)
        worker_process(dom, pair[1], d->options, state_bytes, keeper_pid);
    close(pair[1]);
    dom->pid_fd = kproc_pidfd(dom->pid);
    if (dom->pid_fd < 0) {
        (void)kill(dom->pid, SIGKILL);
        (void)waitpid(dom->pid, NULL, 0);
        return dom->pid_fd;
    }
    return 0;
}

static int domain_get(struct domains *d, uid_t uid, gid_t gid, struct domain **ret)
{
    struct domain *dom;
    int err;

    list_for_each_entry(dom, &d->list, link) {
        if (dom->uid == uid) {
            *ret = dom;
            return 0;
        }
    }
    dom = calloc(1, sizeof(*dom));
    if (!dom)
        return -ENOMEM;
    dom->uid = uid;
    dom->gid = gid;
    dom->pid_fd = dom->channel_fd = dom->state_fd = dom->frames_fd = dom->swap_fd = -1;
    dom->poll_index = NOT_POLLED;
    dom->idle_since_ns = now_ns();
    list_add_tail(&dom->link, &d->list);
    err = start_worker(d, dom);
    if (err) {
        log_error("cannot start a worker for uid %u: %s", uid, strerror(-err));
        domain_free(dom);
        return err;
    }
    log_info("worker %d serves uid %u", dom->pid, uid);
    *ret = dom;
    return 0;
}

/* ---- hand over ---- */

int domains_hand_over(struct domains *d, const struct worker_msg *msg, const int *fds,
                      unsigned nr_fds)
{
    union {
        char buf[CMSG_SPACE(sizeof(int) * DOMAIN_MAX_FDS)];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)msg, .iov_len = sizeof(*msg)};
    struct msghdr h = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.buf,
        .msg_controllen = CMSG_SPACE(sizeof(int) * nr_fds),
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    struct domain *dom;
    ssize_t n;
    int err;

    BUG_ON(nr_fds == 0 || nr_fds > DOMAIN_MAX_FDS);
    err = domain_get(d, msg->uid, msg->gid, &dom);
    if (err)
        return err;
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * nr_fds);
    memcpy(CMSG_DATA(c), fds, sizeof(int) * nr_fds);
    do
        n = sendmsg(dom->channel_fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    /* A worker that is just ending: its process's end makes room for a new one. */
    if (n < 0) {
        dom->full = errno == EAGAIN;
        return errno == EPIPE || errno == ECONNRESET || errno == EBADF ? -EAGAIN : -errno;
    }
    dom->nr_handed++;
    dom->idle_since_ns = 0;
    d->any_handed = true;
    return 0;
}

/* ---- what workers say ---- */

size_t domains_nr_pollfds(const struct domains *d)
{
    const struct domain *dom;
    size_t nr = 0;

    list_for_each_entry(dom, &d->list, link)
        nr += 2;
    return nr;
}

size_t domains_fill_pollfds(struct domains *d, struct pollfd *p)
{
    struct domain *dom;
    size_t nr = 0;

    list_for_each_entry(dom, &d->list, link) {
        short events = dom->full ? POLLIN | POLLOUT : POLLIN;

        dom->poll_index = nr;
        p[nr++] = (struct pollfd){.fd = dom->channel_fd, .events = events};
        p[nr++] = (struct pollfd){.fd = dom->pid_fd, .events = POLLIN};
    }
    return nr;
}

static void count_ended(struct domain *dom)
{
    struct worker_ended ended;
    ssize_t n;

    while ((n = recv(dom->channel_fd, &ended, sizeof(ended), MSG_DONTWAIT)) == sizeof(ended))
        dom->nr_ended += ended.nr_ended;
    if (!dom->idle_since_ns && dom->nr_ended >= dom->nr_handed)
        dom->idle_since_ns = now_ns();
    /* Closed: it is about to end, and nothing more can be handed to it. */
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        dom->channel_fd = fd_close(dom->channel_fd);
}

static void bury(struct domains *d, struct domain *dom)
{
    int status = 0;

    if (waitpid(dom->pid, &status, WNOHANG) != dom->pid)
        return;
    if (dom->sent_away) {
        log_info("worker %d of uid %u ended: it had nothing to do", dom->pid, dom->uid);
        domain_free(dom);
        return;
    }
    if (WIFSIGNALED(status))
        log_error("worker %d of uid %u was killed by signal %d (%s); its programs are on their "
                  "own, new ones get a new worker",
                  dom->pid, dom->uid, WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        log_error("worker %d of uid %u ended with status %d; its programs are on their own, new "
                  "ones get a new worker",
                  dom->pid, dom->uid, WEXITSTATUS(status));
    d->nr_died++;
    domain_free(dom);
}

bool domains_handle(struct domains *d, const struct pollfd *p)
{
    struct domain *dom, *next;
    bool room = false;

    list_for_each_entry_safe(dom, next, &d->list, link) {
        if (dom->poll_index == NOT_POLLED)
            continue;
        if (p[dom->poll_index].revents & ~POLLOUT)
            count_ended(dom);
        if (p[dom->poll_index].revents) {
            dom->full = false;
            room = true;
        }
        if (p[dom->poll_index + 1].revents) {
            room = true;
            bury(d, dom);
        }
    }
    return room;
}

static uint64_t idle_deadline_ns(const struct domain *dom)
{
    if (!dom->idle_since_ns)
        return UINT64_MAX;
    if (dom->sent_away)
        return dom->idle_since_ns + STOP_TIMEOUT_NS;
    return dom->idle_since_ns + (failpoint("keeper-idle-short") ? IDLE_SHORT_NS : IDLE_NS);
}

uint64_t domains_deadline_ns(const struct domains *d)
{
    uint64_t deadline = UINT64_MAX;
    const struct domain *dom;

    list_for_each_entry(dom, &d->list, link)
        deadline = MIN(deadline, idle_deadline_ns(dom));
    return deadline;
}

void domains_send_away_idle(struct domains *d, uint64_t now)
{
    struct domain *dom;

    list_for_each_entry(dom, &d->list, link) {
        if (idle_deadline_ns(dom) > now)
            continue;
        if (dom->sent_away) {
            log_warning("worker %d of uid %u does not end and is killed", dom->pid, dom->uid);
            (void)kill(dom->pid, SIGKILL);
        }
        dom->channel_fd = fd_close(dom->channel_fd);
        dom->sent_away = true;
        dom->idle_since_ns = now;
    }
}

bool domains_idle(const struct domains *d)
{
    const struct domain *dom;

    list_for_each_entry(dom, &d->list, link)
        if (dom->nr_ended < dom->nr_handed)
            return false;
    return true;
}

void domains_stop(struct domains *d)
{
    uint64_t deadline = now_ns() + STOP_TIMEOUT_NS;
    struct domain *dom, *next;

    d->first_swap_fd = fd_close(d->first_swap_fd);
    list_for_each_entry(dom, &d->list, link)
        dom->channel_fd = fd_close(dom->channel_fd);
    list_for_each_entry_safe(dom, next, &d->list, link) {
        struct pollfd p = {.fd = dom->pid_fd, .events = POLLIN};
        uint64_t now = now_ns();
        int left_ms = now < deadline ? (int)((deadline - now) / 1000000) + 1 : 0;

        if (poll(&p, 1, left_ms) <= 0) {
            log_warning("worker %d of uid %u does not end and is killed", dom->pid, dom->uid);
            (void)kill(dom->pid, SIGKILL);
        }
        (void)waitpid(dom->pid, NULL, 0);
        domain_free(dom);
    }
}
