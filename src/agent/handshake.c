/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's side of the handshake (proto.h), and what it sets up between the
 * packets.  Any failure ends the agent: agent_fail() tells the shim.
 */
#include <linux/filter.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <linux/socket.h>
#include <linux/uio.h>
#include <linux/un.h>

#include "agent/agent_priv.h"

/* The parts of <sys/socket.h> that are the kernel's; that header is libc's. */
#define NET_AF_UNIX 1
#define NET_SOCK_SEQPACKET 5
#define NET_SOCK_CLOEXEC 02000000
#define NET_SOL_SOCKET 1
#define NET_SO_PEERCRED 17
#define NET_SCM_RIGHTS 1
#define NET_MSG_NOSIGNAL 0x4000
#define NET_MSG_CMSG_CLOEXEC 0x40000000
#define NET_OVERFLOW_UID 65534 /* a user that this user namespace has no name for */

struct net_msghdr {
    void *name;
    int32_t namelen;
    struct iovec *iov;
    size_t iovlen;
    void *control;
    size_t controllen;
    uint32_t flags;
};

struct net_ucred {
    int32_t pid;
    uint32_t uid, gid;
};

/* One control message with up to two descriptors. */
struct net_rights {
    size_t len;
    int32_t level, type;
    int32_t fd[2];
};

static void head_init(struct proto_head *h, enum proto_kind kind)
{
    h->magic = PROTO_MAGIC;
    h->version = PROTO_VERSION;
    h->kind = (uint16_t)kind;
}

/* fd < 0: none. */
static long send_packet(int conn, void *data, size_t len, int fd)
{
    struct net_rights rights = {sizeof(rights) - sizeof(int32_t), NET_SOL_SOCKET, NET_SCM_RIGHTS,
                                {fd, -1}};
    struct iovec iov = {data, len};
    struct net_msghdr m = {.iov = &iov, .iovlen = 1};
    long r;

    if (fd >= 0) {
        m.control = &rights;
        m.controllen = sizeof(rights);
    }
    r = sys(sendmsg, conn, &m, NET_MSG_NOSIGNAL, 0, 0, 0);
    return r < 0 ? r : (size_t)r == len ? 0 : -EMSGSIZE;
}

/* A whole packet of exactly that kind, or -errno; fds that did not come are -1. */
static long receive_packet(int conn, void *data, size_t len, enum proto_kind kind, int fds[2])
{
    struct net_rights rights = {0};
    struct iovec iov = {data, len};
    struct net_msghdr m = {
        .iov = &iov, .iovlen = 1, .control = &rights, .controllen = sizeof(rights)};
    const struct proto_head *head = data;
    long r = sys(recvmsg, conn, &m, NET_MSG_CMSG_CLOEXEC, 0, 0, 0);

    fds[0] = fds[1] = -1;
    if (r < 0)
        return r;
    if (r == 0)
        return -ECONNRESET;
    if (m.controllen >= sizeof(rights) - sizeof(int32_t) && rights.type == NET_SCM_RIGHTS) {
        fds[0] = rights.fd[0];
        if (rights.len >= sizeof(rights))
            fds[1] = rights.fd[1];
    }
    if ((size_t)r != len || head->magic != PROTO_MAGIC || head->version != PROTO_VERSION ||
        head->kind != kind)
        return -EPROTO;
    return 0;
}

static void refused(struct agent *a, const char *reason, long error)
{
    size_t i;

    for (i = 0; i < PROTO_REASON_LEN - 1 && reason[i]; i++)
        a->ctl->reason[i] = reason[i];
    a->ctl->reason[i] = '\0';
    agent_fail(a->ctl, AGENT_STEP_REFUSED, error);
}

static void connect_daemon(struct agent *a)
{
    struct sockaddr_un addr = {.sun_family = NET_AF_UNIX};
    struct net_ucred peer = {0, NET_OVERFLOW_UID, 0};
    uint32_t len = sizeof(peer);
    long r;

    _Static_assert(sizeof(addr.sun_path) == sizeof(a->ctl->socket), "a path fits");
    for (size_t i = 0; i < sizeof(addr.sun_path); i++)
        addr.sun_path[i] = a->ctl->socket[i];
    r = sys(socket, NET_AF_UNIX, NET_SOCK_SEQPACKET | NET_SOCK_CLOEXEC, 0, 0, 0, 0);
    if (r < 0)
        agent_fail(a->ctl, AGENT_STEP_CONNECT, r);
    a->conn = (int)r;
    r = sys(connect, a->conn, &addr, sizeof(addr), 0, 0, 0);
    if (r < 0)
        agent_fail(a->ctl, AGENT_STEP_CONNECT, r);
    /*
     * Whoever answers gets to read the program's memory: only root and the
     * program's own user may.
     */
    r = sys(getsockopt, a->conn, NET_SOL_SOCKET, NET_SO_PEERCRED, &peer, &len, 0);
    if (r < 0)
        agent_fail(a->ctl, AGENT_STEP_PEER, r);
    if (peer.uid != 0 && peer.uid != a->ctl->euid && peer.uid != NET_OVERFLOW_UID)
        agent_fail(a->ctl, AGENT_STEP_PEER, -EPERM);
    sys(chdir, "/", 0, 0, 0, 0, 0); /* keeps no directory busy */
}

static void map_ring(struct agent *a, int fd)
{
    const int prot = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_FIXED;
    void *ring = (void *)(a->ctl->area + AGENT_AT_RING);
    void *transfer = (void *)(a->ctl->area + AGENT_AT_TRANSFER);
    long r = sys_mmap(ring, AGENT_RING_BYTES, prot, flags, fd, 0);

    if (r == (long)ring)
        r = sys_mmap(transfer, RING_TRANSFER_BYTES, prot, flags, fd, RING_TRANSFER_OFFSET);
    if (r != (long)transfer)
        agent_fail(a->ctl, AGENT_STEP_RING, r < 0 ? r : -EINVAL);
    sys_madvise(transfer, AGENT_AT_CTL - AGENT_AT_TRANSFER, MADV_DONTFORK);
    sys_madvise(transfer, AGENT_AT_CTL - AGENT_AT_TRANSFER, MADV_DONTDUMP);
    sys_close(fd);
    a->ring = ring;
    atomic_store_explicit(&a->ring->keeps_memory, a->ctl->keeps_memory, memory_order_seq_cst);
    atomic_store_explicit(&a->ring->has_threads, a->ctl->has_threads, memory_order_seq_cst);
    a->transfer = transfer;
}

/* <linux/fcntl.h> and <linux/memfd.h> of old do not have all of these. */
#define MEMFD_CLOEXEC_SEALING 3
#define MEMFD_ADD_SEALS 1033
#define MEMFD_SEALS (1 /* SEAL */ | 2 /* SHRINK */ | 4 /* GROW */ | 0x10 /* FUTURE_WRITE */)

/*
 * The worker has userfaultfds of forked children, of which it does not know the
 * processes.  A mapping that can never be written is refused by each of them with an
 * error of its own (EPERM), and changes nothing: that finds the one of this address space.
 * Returns its address, 0: there is none, the child will be served without agent.
 */
static uint64_t map_id_page(struct agent *a)
{
    void *at = (void *)(a->ctl->area + AGENT_AT_ID);
    long fd = sys(memfd_create, "pagerd-id", MEMFD_CLOEXEC_SEALING, 0, 0, 0, 0), r;

    if (fd < 0)
        return 0;
    r = sys(ftruncate, fd, PAGE_SIZE, 0, 0, 0, 0);
    if (r == 0)
        r = sys(fcntl, fd, MEMFD_ADD_SEALS, MEMFD_SEALS, 0, 0, 0);
    if (r == 0)
        r = sys_mmap(at, PAGE_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, (int)fd, 0);
    sys_close((int)fd);
    if (r != (long)at)
        return 0;
    sys_madvise(at, PAGE_SIZE, MADV_DONTFORK);
    sys_madvise(at, PAGE_SIZE, MADV_DONTDUMP);
    return (uint64_t)(uintptr_t)at;
}

/* A new userfaultfd of this address space: by the keeper's device, or by our own right. */
static long new_uffd(int device, int flags)
{
    const int open_flags = 02000000 /* O_CLOEXEC */ | 04000 /* O_NONBLOCK */;
    long r = -EPERM;

    if (device >= 0)
        r = sys(ioctl, device, USERFAULTFD_IOC_NEW, open_flags, 0, 0, 0);
    if (r < 0)
        r = sys(userfaultfd, open_flags | flags, 0, 0, 0, 0, 0);
    return r;
}

/*
 * Stage 2 belongs to a userfaultfd without events.  SIGBUS: a fault in it by
 * the kernel (mlockall) fails instead of waiting for somebody to answer.
 */
static void set_up_stage2(struct agent *a, int device)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_MOVE | UFFD_FEATURE_SIGBUS};
    struct uffdio_register reg = {
        .range = {a->ctl->area + AGENT_AT_STAGE2, STAGE_BYTES},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    long r = new_uffd(device, 1 /* UFFD_USER_MODE_ONLY: needs no privilege */);

    if (r < 0)
        agent_fail(a->ctl, AGENT_STEP_UFFD_OWN, r);
    a->own = (int)r;
    r = sys_ioctl(a->own, UFFDIO_API, &api);
    if (r == 0)
        r = sys_ioctl(a->own, UFFDIO_REGISTER, &reg);
    if (r == 0) {
        reg.range.start = a->ctl->area + AGENT_AT_STAGE2_HUGE;
        r = sys_ioctl(a->own, UFFDIO_REGISTER, &reg);
    }
    if (r < 0)
        agent_fail(a->ctl, AGENT_STEP_UFFD_OWN, r);
}

static void install_filter(struct agent *a, struct proto_offer *offer)
{
    struct sock_fprog prog = {.len = (unsigned short)offer->nr_filter,
                              .filter = (struct sock_filter *)(void *)offer->filter};
    long r = sys(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);

    if (r == 0)
        r = sys(seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog, 0, 0, 0);
    if (r < 0)
        agent_fail(a->ctl, AGENT_STEP_FILTER, r);
}

void agent_handshake(struct agent *a)
{
    struct agent_ctl *ctl = a->ctl;
    struct proto_hello hello;
    struct proto_offer offer;
    struct proto_attach attach = {0};
    struct proto_ready ready;
    int fds[2];
    long r;

    ctl->step = AGENT_STEP_CONNECT;
    connect_daemon(a);

    head_init(&hello.head, PROTO_HELLO);
    r = send_packet(a->conn, &hello, sizeof(hello), -1);
    if (r < 0)
        agent_fail(ctl, AGENT_STEP_HELLO, r);
    ctl->step = AGENT_STEP_OFFER;
    r = receive_packet(a->conn, &offer, sizeof(offer), PROTO_OFFER, fds);
    if (r < 0)
        agent_fail(ctl, AGENT_STEP_OFFER, r);
    if (offer.status < 0)
        refused(a, offer.reason, offer.status);
    if (fds[0] < 0)
        agent_fail(ctl, AGENT_STEP_OFFER, -EMFILE);
    if (offer.nr_filter == 0 || offer.nr_filter > PROTO_FILTER_MAX)
        agent_fail(ctl, AGENT_STEP_OFFER, -EPROTO);
    ctl->step = AGENT_STEP_RING;
    map_ring(a, fds[0]);

    ctl->step = AGENT_STEP_UFFD;
    r = new_uffd(fds[1], 0);
    if (r < 0)
        agent_fail(ctl, AGENT_STEP_UFFD, r);
    a->uffd = (int)r;
    set_up_stage2(a, fds[1]);
    if (fds[1] >= 0)
        sys_close(fds[1]);

    head_init(&attach.head, PROTO_ATTACH);
    attach.agent_pid = (int32_t)sys(getpid, 0, 0, 0, 0, 0, 0);
    attach.program_pid = ctl->program_pid;
    for (size_t i = 0; i < sizeof(attach.group); i++)
        attach.group[i] = ctl->group[i];
    attach.tid_word = (uintptr_t)ctl->tid_word;
    attach.own_start = ctl->area;
    attach.own_end = ctl->area + AGENT_AREA_BYTES;
    attach.stage1 = ctl->area + AGENT_AT_STAGE1;
    attach.stage1_huge = ctl->area + AGENT_AT_STAGE1_HUGE;
    attach.stage2 = ctl->area + AGENT_AT_STAGE2;
    attach.stage2_huge = ctl->area + AGENT_AT_STAGE2_HUGE;
    attach.remap = ctl->area + AGENT_AT_REMAP;
    attach.forked = ctl->forked;
    if (ctl->forked)
        attach.id_page = map_id_page(a);
    r = send_packet(a->conn, &attach, sizeof(attach), a->uffd);
    if (r < 0)
        agent_fail(ctl, AGENT_STEP_ATTACH, r);
    ctl->step = AGENT_STEP_READY;
    r = receive_packet(a->conn, &ready, sizeof(ready), PROTO_READY, fds);
    if (r < 0)
        agent_fail(ctl, AGENT_STEP_READY, r);
    if (ready.status < 0)
        refused(a, ready.reason, ready.status);
    if (fds[0] >= 0) { /* the one that the child's memory is registered with */
        sys_close(a->uffd);
        a->uffd = fds[0];
    }
    ctl->reap_pid = ready.reap_pid;
    ctl->step = AGENT_STEP_FILTER;
    install_filter(a, &offer);
}
