/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_AGENT_FILTER_H
#define PAGERD_AGENT_FILTER_H
/*
 * The agent's seccomp allow-list: all that it calls once it is ready, beside
 * the reason.  Why there is one: the agent keeps the credentials with which the
 * program started; a program that drops them later can write to the agent's
 * stack, and must gain nothing by it.  Anything else kills the agent (its
 * program then runs on, served but no longer moved).
 *
 * The daemon compiles it with libseccomp and sends it in the handshake; this
 * header and filter.c are the daemon's, not the shim's.
 */
#include <linux/filter.h>

/* X(system call, why) */
#define AGENT_SYSCALLS(X)                                                                          \
    X(futex_waitv, "sleep on the bell, the tid word and the leave word")                           \
    X(futex, "pass the tid word's wake-up on to a pthread_join() of the main thread")              \
    X(clock_gettime, "deadlines of that sleep")                                                    \
    X(recvfrom, "has the daemon closed the connection?")                                           \
    X(sendto, "ring the worker")                                                                   \
    X(getppid, "has the program ended?")                                                           \
    X(read, "messages of the userfaultfd, when the daemon is gone")                                \
    X(ppoll, "wait for them")                                                                      \
    X(close, "userfaultfds of children that have ended")                                           \
    X(restart_syscall, "the kernel's own, after SIGSTOP and SIGCONT or a tracer")                  \
    X(exit_group, "leave")

/* ioctl(), by request: X(request, why) */
#define AGENT_IOCTLS(X)                                                                            \
    X(UFFDIO_MOVE, "capture")                                                                      \
    X(UFFDIO_REGISTER, "capture by mremap: does it belong to the main userfaultfd?")               \
    X(UFFDIO_UNREGISTER, "the same: drop it without a message")                                    \
    X(UFFDIO_WAKE, "when the daemon is gone: have unanswered faults posted again")                 \
    X(UFFDIO_POISON, "when the daemon is gone: SIGBUS instead of zeros")

/* madvise(), by advice: X(advice, why) */
#define AGENT_ADVICES(X)                                                                           \
    X(MADV_DONTFORK, "the barrier of a capture")                                                   \
    X(MADV_DONTNEED_LOCKED, "empty stage 2")                                                       \
    X(MADV_GUARD_INSTALL, "capture by mremap: put back a guard that came along")

/* X(system call, which argument, its one value, why): all for the capture by mremap */
#define AGENT_BY_ARGUMENT(X)                                                                       \
    X(mremap, 3, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, "take a run, or put it back")   \
    X(mprotect, 2, PROT_READ, "read what was protected meanwhile")                                 \
    X(mmap, 2, PROT_NONE, "drop what was taken")

/* unshare(), by flags: X(flags, why) */
#define AGENT_UNSHARES(X) X(CLONE_VM, "is any other task using this memory?")

/*
 * The filter as the kernel takes it, for the machine this runs on: *ret_n
 * instructions in `out`.  -ENOSPC: more than `max`; -errno otherwise.
 */
int agent_filter_export(struct sock_filter *out, unsigned max, unsigned *ret_n);

#endif
