/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_AGENT_SYS_H
#define PAGERD_AGENT_SYS_H
/*
 * The system calls of the agent and of the shim, without libc: the agent has
 * no thread-local storage, so nothing that touches errno may run in it, and
 * the shim must not be caught in the program's own interposed wrappers.
 * All return >= 0 or -errno.
 */
#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/futex.h>
#include <linux/time_types.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/uapi.h"

#define SYS_NR_clone __NR_clone
#if defined(__x86_64__) && defined(__LP64__)
#include "agent/sys_x86_64.h"
#elif defined(__aarch64__) && defined(__LP64__)
#include "agent/sys_aarch64.h"
#else
#error "the agent knows x86-64 and aarch64 only: add a sys_ARCH.h for this machine"
#endif

#define SYS_LONG(x) ((long)(x))
#define sys(nr, a, b, c, d, e, f)                                                                  \
    sys6(__NR_##nr, SYS_LONG(a), SYS_LONG(b), SYS_LONG(c), SYS_LONG(d), SYS_LONG(e), SYS_LONG(f))

static inline long sys_ioctl(int fd, unsigned long request, void *arg)
{
    return sys(ioctl, fd, request, arg, 0, 0, 0);
}

static inline long sys_mmap(void *addr, size_t len, int prot, int flags, int fd, uint64_t offset)
{
    return sys(mmap, addr, len, prot, flags, fd, offset);
}

static inline long sys_madvise(const void *addr, size_t len, int advice)
{
    return sys(madvise, addr, len, advice, 0, 0, 0);
}

static inline long sys_prctl(long option, long a, long b)
{
    return sys(prctl, option, a, b, 0, 0, 0);
}

static inline long sys_close(int fd)
{
    return sys(close, fd, 0, 0, 0, 0, 0);
}

static inline long sys_wait4(long pid, int *status, int options)
{
    return sys(wait4, pid, status, options, 0, 0, 0);
}

/* op: FUTEX_WAKE, perhaps with FUTEX_PRIVATE_FLAG. */
static inline long sys_futex_wake(const void *word, int op, int nr)
{
    return sys(futex, word, op, nr, 0, 0, 0);
}

/* <linux/time.h> and libc's <time.h>, which the shim needs, do not go together. */
#define SYS_CLOCK_MONOTONIC 1

/* Monotonic nanoseconds; the deadlines below are of this clock. */
static inline int64_t sys_now_ns(void)
{
    struct __kernel_timespec t = {0, 0};

    sys(clock_gettime, SYS_CLOCK_MONOTONIC, &t, 0, 0, 0, 0);
    return t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline struct futex_waitv sys_waiter(const void *word, uint32_t value, uint32_t flags)
{
    struct futex_waitv w = {.val = value, .uaddr = (uintptr_t)word, .flags = FUTEX_32 | flags};

    return w;
}

/*
 * Waits until one of the words is woken (its index), has another value
 * already (-EAGAIN), or the deadline has passed (-ETIMEDOUT).
 */
static inline long sys_futex_waitv(struct futex_waitv *w, unsigned nr, int64_t deadline_ns)
{
    struct __kernel_timespec t = {deadline_ns / 1000000000, deadline_ns % 1000000000};

    return sys(futex_waitv, w, nr, 0, &t, SYS_CLOCK_MONOTONIC, 0);
}

#endif
