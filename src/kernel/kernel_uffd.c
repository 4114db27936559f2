/* SPDX-License-Identifier: Apache-2.0 */
/*
 * userfaultfd from the daemon's side.  What every errno means is in
 * kres_classify() and nowhere else.
 *
 *  1. The result field of a filling call is signed and can be short: it counts
 *     only when the call failed with EAGAIN or when it is positive.
 *  2. A short answer is followed up, so that the caller sees the reason of the
 *     first page that was not filled, never "some of it".
 *  3. REGISTER and UNREGISTER answer ENOMEM both when memory or mappings are
 *     short and when the address space has ended, where the others say ESRCH:
 *     a second question decides, so that nobody retries for ever.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "kernel/kernel.h"
#include "kernel/uapi.h"

const uint64_t KUFFD_EVENT_FORK = UFFD_FEATURE_EVENT_FORK;
const uint64_t KUFFD_MAIN_FEATURES =
    UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
    UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED |
    UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_POISON | UFFD_FEATURE_MOVE;

int kuffd_open_device(void)
{
    int fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int kuffd_new(int device_fd)
{
    int fd = device_fd >= 0 ? ioctl(device_fd, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK)
                            : (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    return fd < 0 ? -errno : fd;
}

bool kuffd_is_userfaultfd(int fd)
{
    char path[32], name[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, name, sizeof(name) - 1);
    if (n < 0)
        return false;
    name[n] = 0;
    return !strcmp(name, "anon_inode:[userfaultfd]");
}

int kuffd_api(int fd, uint64_t features)
{
    struct uffdio_api api = {.api = UFFD_API, .features = features};

    return ioctl(fd, UFFDIO_API, &api) < 0 ? -errno : 0;
}

enum kres kres_classify(enum kuffd_op op, int err)
{
    switch (err) {
    case 0:
        return KRES_DONE;
    case EAGAIN: /* an event is unread */
    case EINTR:
        return KRES_RETRY;
    case ENOMEM: /* memory, the client's cgroup, or its mapping count; see invariant 3 */
        return KRES_RETRY;
    case EEXIST:
        return KRES_RACED;
    case ENOENT:
        return KRES_GONE;
    case ESRCH:
        return KRES_DEAD;
    case EBUSY:  /* register: another userfaultfd's */
    case EPERM:  /* register: a mapping that can never be written */
    case EINVAL: /* both: no mapping there, or not of a kind that can be registered */
        return op == KUFFD_REGISTER || op == KUFFD_UNREGISTER ? KRES_GONE : KRES_FATAL;
    default:
        return KRES_FATAL;
    }
}

const char *kres_name(enum kres k)
{
    switch (k) {
    case KRES_DONE:
        return "done";
    case KRES_RETRY:
        return "retry";
    case KRES_RACED:
        return "raced";
    case KRES_GONE:
        return "gone";
    case KRES_DEAD:
        return "dead";
    case KRES_FATAL:
        return "fatal";
    }
    return "?";
}

static void check_range(struct urange r)
{
    BUG_ON((r.start.v | r.len) & ~PAGE_MASK || r.len == 0);
}

/*
 * Invariant 3.  Lifting a write-protection is the one call that tells ESRCH and
 * changes nothing: at worst a page that is armed counts as written.
 */
static enum kres classify_registering(int fd, enum kuffd_op op, struct urange r, int err)
{
    struct uffdio_writeprotect arg = {
        .range = {r.start.v, PAGE_SIZE},
        .mode = UFFDIO_WRITEPROTECT_MODE_DONTWAKE,
    };

    if (err == ENOMEM && ioctl(fd, UFFDIO_WRITEPROTECT, &arg) < 0 && errno == ESRCH)
        err = ESRCH;
    return kres_classify(op, err);
}

enum kres kuffd_register(int fd, struct urange r, bool with_wp)
{
    struct uffdio_register arg = {
        .range = {r.start.v, r.len},
        .mode = UFFDIO_REGISTER_MODE_MISSING | (with_wp ? UFFDIO_REGISTER_MODE_WP : 0),
    };

    check_range(r);
    if (failpoint("kuffd-register"))
        return kres_classify(KUFFD_REGISTER, ENOMEM);
    int err = ioctl(fd, UFFDIO_REGISTER, &arg) < 0 ? errno : 0;
    return classify_registering(fd, KUFFD_REGISTER, r, err);
}

enum kres kuffd_unregister(int fd, struct urange r)
{
    struct uffdio_range arg = {r.start.v, r.len};

    check_range(r);
    int err = ioctl(fd, UFFDIO_UNREGISTER, &arg) < 0 ? errno : 0;
    return classify_registering(fd, KUFFD_UNREGISTER, r, err);
}

enum kres kuffd_wake(int fd, struct urange r)
{
    struct uffdio_range arg = {r.start.v, r.len};

    check_range(r);
    return kres_classify(KUFFD_WAKE, ioctl(fd, UFFDIO_WAKE, &arg) < 0 ? errno : 0);
}

/* One filling call; bytes done (>= 0), and errno of the page behind them in *ret_err (0: all). */
static uint64_t fill_once(int fd, enum kuffd_op op, uint64_t dst, const void *src, uint64_t len,
                          int *ret_err)
{
    int64_t done;
    int r;

    if (op == KUFFD_COPY) {
        struct uffdio_copy c = {.dst = dst, .src = (uintptr_t)src, .len = len};
        r = ioctl(fd, UFFDIO_COPY, &c);
        done = c.copy;
    } else if (op == KUFFD_ZERO) {
        struct uffdio_zeropage z = {.range = {dst, len}};
        r = ioctl(fd, UFFDIO_ZEROPAGE, &z);
        done = z.zeropage;
    } else {
        struct uffdio_poison p = {.range = {dst, len}};
        r = ioctl(fd, UFFDIO_POISON, &p);
        done = p.updated;
    }
    *ret_err = r < 0 ? errno : 0;
    if (r == 0)
        return len;
    return done > 0 && (uint64_t)done <= len ? (uint64_t)done : 0;
}

static enum kres fill(int fd, enum kuffd_op op, const char *failpoint_name, struct uaddr dst,
                      const void *src, uint64_t len, uint64_t *ret_done)
{
    int err = 0;

    check_range((struct urange){dst, len});
    *ret_done = 0;
    if (failpoint(failpoint_name)) {
        errno = ENOMEM;
        return kres_classify(op, ENOMEM);
    }
    while (*ret_done < len) {
        const char *from = src ? (const char *)src + *ret_done : NULL;
        uint64_t n = fill_once(fd, op, dst.v + *ret_done, from, len - *ret_done, &err);
        *ret_done += n;
        if (!n) {
            errno = err;
            return kres_classify(op, err);
        }
    }
    return KRES_DONE;
}

enum kres kuffd_copy(int fd, struct uaddr dst, const void *src, uint64_t len, uint64_t *ret_done)
{
    return fill(fd, KUFFD_COPY, "kuffd-copy", dst, src, len, ret_done);
}

enum kres kuffd_zero(int fd, struct uaddr dst, uint64_t len, uint64_t *ret_done)
{
    return fill(fd, KUFFD_ZERO, "kuffd-zero", dst, NULL, len, ret_done);
}

enum kres kuffd_poison(int fd, struct uaddr dst, uint64_t len, uint64_t *ret_done)
{
    return fill(fd, KUFFD_POISON, "kuffd-poison", dst, NULL, len, ret_done);
}

enum kres kuffd_wake_all(int fd)
{
    const uint64_t start = 1 << 16; /* below is the kernel's vm.mmap_min_addr */
    enum kres r = KRES_FATAL;

    /* The address space's end is not known here, and a range beyond it is refused. */
    for (unsigned bits = 56; bits >= 36 && r == KRES_FATAL; bits--)
        r = kuffd_wake(fd, urange(start, ((uint64_t)1 << bits) - PAGE_SIZE));
    return r;
}

enum kres kuffd_is_registered(int fd, struct uaddr page)
{
    /* Nothing can be continued in anonymous memory, which is found out when it was found. */
    struct uffdio_continue c = {
        .range = {page.v, PAGE_SIZE},
        .mode = UFFDIO_CONTINUE_MODE_DONTWAKE,
    };

    if (ioctl(fd, UFFDIO_CONTINUE, &c) == 0)
        return KRES_FATAL;
    return errno == EINVAL ? KRES_DONE : kres_classify(KUFFD_ZERO, errno);
}

bool kuffd_has_unread(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) > 0 && p.revents & POLLIN;
}

bool kuffd_is_changing(int fd)
{
    /* An empty range is refused (EINVAL), but only after the look for changes. */
    struct uffdio_zeropage z = {.range = {0, 0}};

    return ioctl(fd, UFFDIO_ZEROPAGE, &z) < 0 && errno == EAGAIN;
}

#define EVENT_VOID 0 /* no event of the kernel's has that number */

int kuffd_decode(const void *raw, struct kuffd_msg *ret)
{
    struct uffd_msg m;

    _Static_assert(sizeof(m) == KUFFD_RAW_BYTES, "the kernel's message");
    memcpy(&m, raw, sizeof(m));
    *ret = (struct kuffd_msg){.fd = -1};
    switch (m.event) {
    case UFFD_EVENT_PAGEFAULT:
        ret->type = KUFFD_FAULT;
        ret->addr = uaddr_page(uaddr(m.arg.pagefault.address));
        ret->write = m.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE;
        return 0;
    case UFFD_EVENT_FORK:
        ret->type = KUFFD_FORK;
        ret->fd = (int)m.arg.fork.ufd;
        return 0;
    case UFFD_EVENT_REMAP:
        ret->type = KUFFD_REMAP;
        ret->from = uaddr(m.arg.remap.from);
        ret->to = uaddr(m.arg.remap.to);
        ret->len = m.arg.remap.len;
        return 0;
    case UFFD_EVENT_REMOVE:
    case UFFD_EVENT_UNMAP:
        ret->type = m.event == UFFD_EVENT_REMOVE ? KUFFD_REMOVE : KUFFD_UNMAP;
        ret->range = urange(m.arg.remove.start, m.arg.remove.end);
        return 0;
    case EVENT_VOID:
        ret->type = KUFFD_VOID;
        return 0;
    default:
        return -EPROTO;
    }
}

void kuffd_void(void *raw)
{
    *((volatile uint8_t *)raw + offsetof(struct uffd_msg, event)) = EVENT_VOID;
}

#define READ_BATCH 64

int kuffd_read_raw(int fd, void *slots, struct kuffd_msg *out, unsigned max)
{
    struct uffd_msg *raw = slots;
    int nr = 0;
    struct iovec iov = {raw, max * sizeof(raw[0])};
    /* O_NONBLOCK is a flag of the open file, which the client shares and can clear. */
    ssize_t n = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);

    if (n < 0 && errno == EOPNOTSUPP) /* a kernel whose userfaultfd knows no RWF_NOWAIT */
        n = read(fd, raw, iov.iov_len);
    if (n < 0)
        return errno == EAGAIN ? 0 : -errno;
    for (size_t i = 0; i < (size_t)n / sizeof(raw[0]); i++) {
        if (kuffd_decode(&raw[i], &out[nr]) < 0) {
            log_error("userfaultfd message of unknown kind 0x%x is passed over", raw[i].event);
            continue;
        }
        /* A forked child's userfaultfd inherits our flags in new kernels only. */
        if (out[nr].type == KUFFD_FORK) {
            (void)fcntl(out[nr].fd, F_SETFL, O_RDWR | O_NONBLOCK);
            (void)fcntl(out[nr].fd, F_SETFD, FD_CLOEXEC);
        }
        if (nr != (int)i)
            raw[nr] = raw[i];
        nr++;
    }
    memset(raw + nr, 0, (size_t)n - (size_t)nr * sizeof(raw[0]));
    return nr;
}

int kuffd_read(int fd, struct kuffd_msg *out, unsigned max)
{
    struct uffd_msg raw[READ_BATCH];

    return kuffd_read_raw(fd, raw, out, MIN(max, (unsigned)READ_BATCH));
}
