/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper: one thread, one poll(2) over the listener, the half-open connections
 * and the workers.  poll and not epoll, because a handed-over connection lives
 * on in the worker: closing it here would not take it out of an epoll set.
 */
#define _GNU_SOURCE 1
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

#include "agent/filter.h"
#include "keeper/keeper_priv.h"

/* A private daemon that nobody comes to was started in vain. */
#define PRIVATE_WAIT_NS (30 * UINT64_C(1000000000))

int keeper_refuse(struct keeper_refusal *why, int err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why->text, sizeof(why->text), fmt, ap);
    va_end(ap);
    return err;
}

static int make_signal_fd(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    /* A file larger than RLIMIT_FSIZE is an error to report, not an end. */
    signal(SIGXFSZ, SIG_IGN);
    /* A caller that ignores it would make our workers' ends vanish. */
    signal(SIGCHLD, SIG_DFL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* The same for every client: only the descriptors beside it differ. */
static int make_offer(struct proto_offer *ret)
{
    struct sock_filter filter[PROTO_FILTER_MAX];
    unsigned nr = 0;
    int err = agent_filter_export(filter, ARRAY_SIZE(filter), &nr);

    _Static_assert(sizeof(filter) == sizeof(ret->filter), "the wire format is the kernel's");
    if (err)
        return err;
    packet_head(&ret->head, PROTO_OFFER);
    ret->nr_filter = nr;
    memcpy(ret->filter, filter, nr * sizeof(filter[0]));
    return 0;
}

/* Does every uid have a name here?  Else several users look like one (user_namespaces(7)). */
static bool maps_all_uids(void)
{
    FILE *f = fopen("/proc/self/uid_map", "re");
    unsigned inside, outside, count;
    bool all;

    if (!f)
        return false;
    all = fscanf(f, "%u %u %u", &inside, &outside, &count) == 3 && inside == 0 &&
          count == UINT32_MAX;
    fclose(f);
    return all;
}

static int open_all(struct keeper *k, struct keeper_refusal *why)
{
    int err = make_offer(&k->offer);

    if (err)
        return keeper_refuse(why, err, "cannot make the agent's seccomp filter: %s",
                             strerror(-err));
    err = worker_probe(why->text, sizeof(why->text));
    if (err)
        return err;
    k->signal_fd = make_signal_fd();
    if (k->signal_fd < 0)
        return keeper_refuse(why, -errno, "cannot make a signalfd: %s", strerror(errno));
    if (k->options->swap_bytes) {
        k->domains.first_swap_fd =
            swapfile_open(k->options->swap_path, k->options->swap_bytes, why);
        if (k->domains.first_swap_fd < 0)
            return k->domains.first_swap_fd;
    }
    k->device_fd = k->features->device_errno ? -1 : kuffd_open_device();
    if (k->device_fd < 0)
        k->device_fd = -1;
    return listener_open(k->options->socket, k->serves_all, k->options->is_private, &k->listener,
                         why);
}

static void close_all(struct keeper *k)
{
    listener_close(&k->listener);
    conns_close_all(k);
    domains_stop(&k->domains);
    fd_close(k->device_fd);
    fd_close(k->signal_fd);
}

/* Is a private daemon's work done? */
static bool finished(const struct keeper *k, uint64_t started_ns)
{
    if (!k->options->is_private || k->nr_conns)
        return false;
    if (!k->domains.any_handed)
        return now_ns() >= started_ns + PRIVATE_WAIT_NS;
    return domains_idle(&k->domains);
}

static uint64_t next_deadline_ns(const struct keeper *k, uint64_t started_ns)
{
    uint64_t deadline = MIN(conns_deadline_ns(k), domains_deadline_ns(&k->domains));

    if (k->options->is_private && !k->domains.any_handed)
        deadline = MIN(deadline, started_ns + PRIVATE_WAIT_NS);
    return deadline;
}

static int timeout_ms(uint64_t deadline)
{
    uint64_t now = now_ns();

    if (deadline == UINT64_MAX)
        return -1;
    return deadline <= now ? 0 : (int)((deadline - now) / 1000000) + 1;
}

enum { AT_SIGNAL, AT_LISTENER, AT_CONNS };

/* One round: -errno, 1 when a signal asks for the end, else 0. */
static int one_round(struct keeper *k, struct pollfd **p, size_t *cap, uint64_t started_ns)
{
    size_t need = AT_CONNS + k->nr_conns + domains_nr_pollfds(&k->domains);
    size_t nr = AT_CONNS, at_domains;
    uint64_t deadline;
    bool room;
    int r;

    if (need > *cap) {
        struct pollfd *bigger = reallocarray(*p, need + 64, sizeof(**p));

        if (!bigger)
            return -ENOMEM;
        *p = bigger;
        *cap = need + 64;
    }
    (*p)[AT_SIGNAL] = (struct pollfd){.fd = k->signal_fd, .events = POLLIN};
    (*p)[AT_LISTENER] = (struct pollfd){.fd = k->listener.fd, .events = POLLIN};
    nr += conns_fill_pollfds(k, *p + nr);
    at_domains = nr;
    nr += domains_fill_pollfds(&k->domains, *p + nr);
    deadline = next_deadline_ns(k, started_ns);
    turn_end(&k->turn);
    r = poll(*p, nr, timeout_ms(deadline));
    turn_begin(&k->turn, deadline);
    if (r < 0)
        return errno == EINTR ? 0 : -errno;
    if ((*p)[AT_SIGNAL].revents)
        return 1;
    room = domains_handle(&k->domains, *p + at_domains);
    conns_handle(k, *p + AT_CONNS, room, now_ns());
    domains_send_away_idle(&k->domains, now_ns());
    if ((*p)[AT_LISTENER].revents)
        conn_accept(k);
    return 0;
}

static void tell_ready(int fd)
{
    if (fd < 0)
        return;
    if (write(fd, "ok\n", 3) < 0)
        log_warning("nobody reads the ready descriptor: %s", strerror(errno));
    fd_close(fd);
}

int keeper_run(const struct keeper_options *options, const struct kernel_features *features,
               struct keeper_refusal *why)
{
    struct keeper k = {
        .options = options,
        .features = features,
        .uffd_features = KUFFD_MAIN_FEATURES,
        .device_fd = -1,
        .signal_fd = -1,
        .serves_all = geteuid() == 0 && !options->is_private,
        .maps_all_uids = maps_all_uids(),
        .listener = {.fd = -1, .lock_fd = -1},
    };
    uint64_t started_ns = now_ns();
    struct pollfd *p = NULL;
    size_t cap = 0;
    int err;

    protect_keeper();
    domains_init(&k.domains, options);
    list_init(&k.conns);
    err = open_all(&k, why);
    if (err) {
        close_all(&k);
        return err;
    }
    log_info("listening at %s", options->socket);
    tell_ready(options->ready_fd);
    do
        err = one_round(&k, &p, &cap, started_ns);
    while (!err && !finished(&k, started_ns));
    free(p);
    close_all(&k);
    if (err < 0) {
        log_error("cannot go on: %s", strerror(-err));
        return 1;
    }
    log_info("ended");
    return options->is_private && k.domains.nr_died ? 1 : 0;
}
