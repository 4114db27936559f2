/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "fake_daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "agent/filter.h"

_Noreturn void fake_die(const char *what)
{
    fprintf(stderr, "failed: %s (%s)\n", what, strerror(errno));
    exit(1);
}

int64_t fake_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int fake_listen(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    FAKE_CHECK(fd >= 0 && strlen(path) < sizeof(addr.sun_path));
    strcpy(addr.sun_path, path);
    unlink(path);
    FAKE_CHECK(bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    FAKE_CHECK(chmod(path, 0666) == 0); /* programs that have dropped root may attach */
    FAKE_CHECK(listen(fd, 64) == 0);
    return fd;
}

static bool receive(int conn, void *data, size_t len, enum proto_kind kind, int *ret_fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {data, len};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof(control)};
    const struct proto_head *head = data;
    ssize_t n = recvmsg(conn, &m, MSG_CMSG_CLOEXEC);
    struct cmsghdr *h;

    if (n <= 0)
        return false;
    FAKE_CHECK((size_t)n == len && head->magic == PROTO_MAGIC && head->kind == kind);
    h = CMSG_FIRSTHDR(&m);
    if (ret_fd) {
        FAKE_CHECK(h && h->cmsg_type == SCM_RIGHTS);
        memcpy(ret_fd, CMSG_DATA(h), sizeof(int));
    }
    return true;
}

static bool send_packet(int conn, void *data, size_t len, const int *fds, unsigned nr_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec iov = {data, len};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    if (nr_fds) {
        struct cmsghdr *h = &control.align;

        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
        memcpy(CMSG_DATA(h), fds, nr_fds * sizeof(int));
    }
    return sendmsg(conn, &m, MSG_NOSIGNAL) == (ssize_t)len;
}

bool fake_without_barrier;

/* madvise(MADV_DONTFORK) succeeds, and does nothing. */
static const struct sock_filter no_barrier[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_DONTFORK, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),
};

static void fill_offer(struct proto_offer *offer)
{
    struct sock_filter filter[PROTO_FILTER_MAX];
    unsigned nr, prefix = 0;

    if (fake_without_barrier) {
        prefix = sizeof(no_barrier) / sizeof(no_barrier[0]);
        memcpy(filter, no_barrier, sizeof(no_barrier));
    }
    FAKE_CHECK(agent_filter_export(filter + prefix, PROTO_FILTER_MAX - prefix, &nr) == 0);
    nr += prefix;
    memset(offer, 0, sizeof(*offer));
    offer->head = (struct proto_head){PROTO_MAGIC, PROTO_VERSION, PROTO_OFFER};
    offer->nr_filter = nr;
    _Static_assert(sizeof(offer->filter[0]) == sizeof(filter[0]), "the same thing");
    memcpy(offer->filter, filter, nr * sizeof(filter[0]));
}

void fake_api(int uffd)
{
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = UFFD_FEATURE_MOVE | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP |
                    UFFD_FEATURE_EVENT_REMAP};

    FAKE_CHECK(ioctl(uffd, UFFDIO_API, &api) == 0);
}

bool fake_attach(int conn, bool device, struct fake_client *c)
{
    struct proto_hello hello;
    struct proto_offer offer;
    int ring_fd, fds[2];

    memset(c, 0, sizeof(*c));
    c->conn = conn;
    c->uffd = -1;
    if (!receive(conn, &hello, sizeof(hello), PROTO_HELLO, NULL))
        return false;
    ring_fd = memfd_create("ring", MFD_CLOEXEC);
    FAKE_CHECK(ring_fd >= 0 && ftruncate(ring_fd, RING_BYTES) == 0);
    c->ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, 0);
    FAKE_CHECK(c->ring != MAP_FAILED);
    c->transfer = (unsigned char *)c->ring + RING_TRANSFER_OFFSET;
    fill_offer(&offer);
    fds[0] = ring_fd;
    fds[1] = device ? open("/dev/userfaultfd", O_RDWR | O_CLOEXEC) : -1;
    if (!send_packet(conn, &offer, sizeof(offer), fds, fds[1] >= 0 ? 2 : 1))
        return false;
    close(ring_fd);
    if (fds[1] >= 0)
        close(fds[1]);
    if (!receive(conn, &c->attach, sizeof(c->attach), PROTO_ATTACH, &c->uffd))
        return false;
    fake_api(c->uffd);
    fake_register(c, c->attach.stage1, STAGE_BYTES);
    fake_register(c, c->attach.stage1_huge, STAGE_BYTES);
    return true;
}

bool fake_ready(struct fake_client *c, pid_t reap_pid)
{
    struct proto_ready ready = {.head = {PROTO_MAGIC, PROTO_VERSION, PROTO_READY},
                                .reap_pid = reap_pid};

    return send_packet(c->conn, &ready, sizeof(ready), NULL, 0);
}

void fake_detach(struct fake_client *c)
{
    if (c->conn >= 0)
        close(c->conn);
    if (c->uffd >= 0)
        close(c->uffd);
    if (c->ring)
        munmap(c->ring, RING_BYTES);
    c->conn = c->uffd = -1;
    c->ring = NULL;
}

void fake_register(const struct fake_client *c, uint64_t start, uint64_t len)
{
    struct uffdio_register reg = {.range = {start, len}, .mode = UFFDIO_REGISTER_MODE_MISSING};

    FAKE_CHECK(ioctl(c->uffd, UFFDIO_REGISTER, &reg) == 0);
}

void fake_fill(const struct fake_client *c, uint64_t dst, const void *src, uint64_t len)
{
    struct uffdio_copy copy = {.dst = dst, .src = (uintptr_t)src, .len = len};

    FAKE_CHECK(ioctl(c->uffd, UFFDIO_COPY, &copy) == 0);
}

void fake_wake(const struct fake_client *c, uint64_t start, uint64_t len)
{
    struct uffdio_range range = {start, len};

    FAKE_CHECK(ioctl(c->uffd, UFFDIO_WAKE, &range) == 0);
}

uint32_t fake_post(struct fake_client *c, enum ring_op op, const struct ring_vec *vecs,
                   uint32_t nr_vecs)
{
    uint32_t number = c->ring->posted + 1;

    c->ring->op = op;
    c->ring->nr_vecs = nr_vecs;
    c->ring->flags = RING_MAY_UNSHARE;
    memcpy(c->ring->vecs, vecs, nr_vecs * sizeof(*vecs));
    atomic_store_explicit(&c->ring->posted, number, memory_order_release);
    atomic_fetch_add(&c->ring->bell, 1);
    syscall(SYS_futex, &c->ring->bell, FUTEX_WAKE, 1, NULL, NULL, 0);
    return number;
}

void fake_await(struct fake_client *c, uint32_t number)
{
    while (atomic_load_explicit(&c->ring->done, memory_order_acquire) != number) {
        struct pollfd p = {c->conn, POLLIN, 0};
        char byte;

        FAKE_CHECK(poll(&p, 1, 5000) == 1);
        FAKE_CHECK(recv(c->conn, &byte, 1, 0) == 1);
    }
}

int64_t fake_command(struct fake_client *c, enum ring_op op, const struct ring_vec *vecs,
                     uint32_t nr_vecs)
{
    int64_t start = fake_now_ns();

    fake_await(c, fake_post(c, op, vecs, nr_vecs));
    return fake_now_ns() - start;
}

bool fake_message(const struct fake_client *c, int ms, struct uffd_msg *ret)
{
    struct pollfd p = {c->uffd, POLLIN, 0};

    return poll(&p, 1, ms) == 1 && read(c->uffd, ret, sizeof(*ret)) == sizeof(*ret);
}
