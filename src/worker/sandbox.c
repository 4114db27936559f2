/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's seccomp allow-list (DESIGN D10).  The worker parses what clients
 * send; whoever takes it over through that gets the domain's uid, and of the
 * kernel only what stands here: no new process, no exec, no socket, no file opened
 * for writing.  The ring, whose operations no filter sees, is restricted by itself (reactor.c).
 *
 * Anything else fails with EPERM rather than killing the worker: a call that a
 * newer libc makes for comfort must not cost every client of the domain its memory.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <seccomp.h>
#include <string.h>
#include <sys/prctl.h>

#include "worker/worker_priv.h"

/* X(system call, why) */
#define WORKER_SYSCALLS(X)                                                                         \
    X(io_uring_enter, "the reactor waits")                                                         \
    X(preadv2, "messages of a userfaultfd")                                                        \
    X(read, "files in /proc; messages where a userfaultfd knows no RWF_NOWAIT")                    \
    X(pwritev, "frames that have no memory yet")                                                   \
    X(pread64, "statm")                                                                            \
    X(close, "descriptors of clients that ended")                                                  \
    X(ioctl, "userfaultfd, PAGEMAP_SCAN")                                                          \
    X(recvmsg, "connections from the keeper")                                                      \
    X(recvfrom, "agents' bells, control requests")                                                 \
    X(sendto, "control replies, what ended")                                                       \
    X(sendmsg, "READY")                                                                            \
    X(futex, "an agent's bell")                                                                    \
    X(sched_yield, "between two looks at a hot client")                                            \
    X(mmap, "rings, memory")                                                                       \
    X(munmap, "rings, memory")                                                                     \
    X(mremap, "realloc")                                                                           \
    X(brk, "malloc")                                                                               \
    X(madvise, "malloc")                                                                           \
    X(fallocate, "what nobody uses of the pool goes back to the system")                           \
    X(getdents64, "the threads of a program")                                                      \
    X(newfstatat, "opendir")                                                                       \
    X(fstat, "opendir")                                                                            \
    X(lseek, "readdir")                                                                            \
    X(fcntl, "a forked child's userfaultfd")                                                       \
    X(kcmp, "does a thread still share the memory?")                                               \
    X(pidfd_open, "when a program or its agent ends")                                              \
    X(pidfd_send_signal, "an agent that does not answer")                                          \
    X(poll, "has it ended? can the log be written?")                                               \
    X(ppoll, "the same (where there is no poll)")                                                  \
    X(process_vm_readv, "the pages of an agent that died half-way")                                \
    X(clock_gettime, "where the vDSO has none")                                                    \
    X(getpid, "status")                                                                            \
    X(gettid, "abort")                                                                             \
    X(tgkill, "abort")                                                                             \
    X(rt_sigprocmask, "abort")                                                                     \
    X(rt_sigaction, "abort")                                                                       \
    X(rt_sigreturn, "end of a signal handler")                                                     \
    X(getrandom, "malloc, jansson's hash seed")                                                    \
    X(write, "the log")                                                                            \
    X(restart_syscall, "the kernel's own, after SIGCONT or a tracer")                              \
    X(exit_group, "the end")

/* A sanitizer makes calls of its own, which are not ours to list. */
extern void __asan_init(void) __attribute__((weak));
extern void __tsan_init(void) __attribute__((weak));

static int allow_all(scmp_filter_ctx ctx)
{
    int r = 0;

#define ALLOW(name, why)                                                                           \
    if (!r)                                                                                        \
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(name), 0);
    WORKER_SYSCALLS(ALLOW)
#undef ALLOW
    if (!r) /* /proc, for reading only; O_TRUNC truncates with O_RDONLY as well */
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
    return r;
}

int worker_sandbox(void)
{
    if (__asan_init || __tsan_init)
        return 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!ctx)
        return -ENOMEM;
    int r = allow_all(ctx);
    if (!r)
        r = seccomp_load(ctx);
    seccomp_release(ctx);
    return r;
}
