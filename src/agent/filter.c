/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiles the agent's allow-list.  Called by the keeper once at its start;
 * needs no privilege, and libseccomp writes the program to a memfd because that
 * is the only way out that this version of it has.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/mman.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/filter.h"
#include "kernel/uapi.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static int allow_arg(scmp_filter_ctx ctx, int nr, unsigned arg, uint64_t value)
{
    /* These arguments are 32 bits wide to the kernel; the upper half is anyone's. */
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 1,
                            SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, 0xffffffffu, value));
}

static int add_rules(scmp_filter_ctx ctx)
{
    int r = 0;

#define X(name, why) r = r ? r : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, __NR_##name, 0);
    AGENT_SYSCALLS(X)
#undef X
#define X(request, why) r = r ? r : allow_arg(ctx, __NR_ioctl, 1, request);
    AGENT_IOCTLS(X)
#undef X
#define X(advice, why) r = r ? r : allow_arg(ctx, __NR_madvise, 2, advice);
    AGENT_ADVICES(X)
#undef X
#define X(flags, why) r = r ? r : allow_arg(ctx, __NR_unshare, 0, flags);
    AGENT_UNSHARES(X)
#undef X
#define X(name, arg, value, why) r = r ? r : allow_arg(ctx, __NR_##name, arg, value);
    AGENT_BY_ARGUMENT(X)
#undef X
    return r;
}

static int read_back(int fd, struct sock_filter *out, unsigned max, unsigned *ret_n)
{
    off_t end = lseek(fd, 0, SEEK_END);
    ssize_t n;

    if (end < 0)
        return -errno;
    if (end == 0 || (size_t)end % sizeof(*out))
        return -EIO;
    if ((size_t)end > max * sizeof(*out))
        return -ENOSPC;
    n = pread(fd, out, (size_t)end, 0);
    if (n != end)
        return n < 0 ? -errno : -EIO;
    *ret_n = (unsigned)((size_t)end / sizeof(*out));
    return 0;
}

int agent_filter_export(struct sock_filter *out, unsigned max, unsigned *ret_n)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int fd, r;

    if (!ctx)
        return -ENOMEM;
    fd = memfd_create("pagerd-agent-filter", MFD_CLOEXEC);
    if (fd < 0) {
        r = -errno;
        seccomp_release(ctx);
        return r;
    }
    r = add_rules(ctx);
    if (r == 0)
        r = seccomp_export_bpf(ctx, fd);
    if (r == 0)
        r = read_back(fd, out, max, ret_n);
    close(fd);
    seccomp_release(ctx);
    return r;
}
