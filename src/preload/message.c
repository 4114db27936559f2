/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a program runs unmanaged: one line, "pagerd: NAME runs unmanaged: CAUSE;
 * REMEDY".  Called by start.c, once at most.
 */
#define _GNU_SOURCE
#include <linux/prctl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/sys.h"
#include "preload/shim.h"

#define TEXT_LEN 512

/* strerror() may allocate and translate. */
static const char *errno_name(int error)
{
    switch (-error) {
    case EAGAIN: return "EAGAIN";
    case EACCES: return "EACCES";
    case EBUSY: return "EBUSY";
    case EFAULT: return "EFAULT";
    case EINVAL: return "EINVAL";
    case EMFILE: return "EMFILE";
    case ENFILE: return "ENFILE";
    case ENODEV: return "ENODEV";
    case ENOENT: return "ENOENT";
    case ENOMEM: return "ENOMEM";
    case ENOSYS: return "ENOSYS";
    case EPERM: return "EPERM";
    case EPIPE: return "EPIPE";
    case EPROTO: return "EPROTO";
    case ECONNRESET: return "ECONNRESET";
    case ETIMEDOUT: return "ETIMEDOUT";
    default: return "an unexpected error";
    }
}

static const char *const STEP_NAMES[AGENT_NR_STEPS] = {
    [AGENT_STEP_AREA] = "mapping the agent's memory",
    [AGENT_STEP_CLONE] = "starting the agent",
    [AGENT_STEP_ISOLATE] = "close_range() in the agent",
    [AGENT_STEP_CONNECT] = "connecting to the daemon",
    [AGENT_STEP_PEER] = "asking who the daemon is",
    [AGENT_STEP_HELLO] = "greeting the daemon",
    [AGENT_STEP_OFFER] = "the daemon's offer",
    [AGENT_STEP_REFUSED] = "the daemon's answer",
    [AGENT_STEP_RING] = "mapping the ring",
    [AGENT_STEP_UFFD] = "opening a userfaultfd",
    [AGENT_STEP_UFFD_OWN] = "opening the agent's own userfaultfd",
    [AGENT_STEP_ATTACH] = "attaching",
    [AGENT_STEP_READY] = "waiting for the worker",
    [AGENT_STEP_FILTER] = "installing the agent's seccomp filter",
    [AGENT_STEP_DIED] = "the agent's start",
    [AGENT_STEP_TIMEOUT] = "waiting for the agent",
};

/* The causes that are worth a sentence of their own; false: none of them. */
static bool explain(char *out, size_t len, const struct shim_failure *f)
{
    switch (f->step) {
    case AGENT_STEP_REFUSED:
        return f->reason && *f->reason && snprintf(out, len, "%s", f->reason) > 0;
    case AGENT_STEP_AREA:
        if (f->error == -EOPNOTSUPP)
            return snprintf(out, len, "this kernel's pages are not 4 KiB; "
                                      "pagerd needs a kernel with 4 KiB pages") > 0;
        /* fall through */
    case AGENT_STEP_RING:
        if (f->error == -ENOMEM)
            return snprintf(out, len, "the address space limit leaves no room for its agent "
                                      "(%zu MiB); raise `ulimit -v`",
                            (AGENT_AREA_BYTES + AGENT_AREA_ALIGN) >> 20) > 0;
        break;
    case AGENT_STEP_CLONE:
        if (f->error == -EAGAIN)
            return snprintf(out, len, "the process limit leaves no room for its agent; "
                                      "raise `ulimit -u` or the cgroup's pids.max") > 0;
        if (f->error == -ENOMEM)
            return snprintf(out, len, "there is no memory for its agent's process; "
                                      "free memory or raise the cgroup's memory.max") > 0;
        break;
    case AGENT_STEP_CONNECT:
        if (f->error == -ECONNREFUSED || f->error == -ENOENT)
            return snprintf(out, len, "nobody is at the socket %s; start pagerd there or correct "
                                      "PAGERD_SOCKET",
                            f->socket) > 0;
        if (f->error == -EACCES)
            return snprintf(out, len, "it may not use the socket %s; change the permissions of the "
                                      "socket and its directory, or use a daemon of its own user",
                            f->socket) > 0;
        if (f->error == -EPROTOTYPE || f->error == -ENOTSOCK)
            return snprintf(out, len, "%s is not pagerd's socket; correct PAGERD_SOCKET",
                            f->socket) > 0;
        if (f->error == -ENAMETOOLONG)
            return snprintf(out, len, "the socket's path is longer than %d bytes; "
                                      "give PAGERD_SOCKET a shorter one",
                            AGENT_SOCKET_MAX - 1) > 0;
        break;
    case AGENT_STEP_PEER:
        if (f->error == -EPERM)
            return snprintf(out, len, "the daemon at %s is another user's, who could read its "
                                      "memory; use a daemon of root or of its own user",
                            f->socket) > 0;
        break;
    case AGENT_STEP_HELLO:
    case AGENT_STEP_OFFER:
    case AGENT_STEP_ATTACH:
    case AGENT_STEP_READY:
        if (f->error == -ECONNRESET || f->error == -EPIPE)
            return snprintf(out, len, "the daemon at %s closed the connection while %s; "
                                      "see the daemon's log",
                            f->socket, STEP_NAMES[f->step]) > 0;
        if (f->error == -EPROTO)
            return snprintf(out, len, "the daemon at %s speaks another protocol; install shim and "
                                      "daemon of the same version",
                            f->socket) > 0;
        if (f->error == -EMFILE)
            return snprintf(out, len, "the descriptor limit leaves its agent too few; "
                                      "raise `ulimit -n` to 8 or more") > 0;
        break;
    case AGENT_STEP_UFFD:
        if (f->error == -EPERM)
            return snprintf(out, len, "it may not use userfaultfd; run pagerd as root, or set the "
                                      "sysctl vm.unprivileged_userfaultfd to 1") > 0;
        /* fall through */
    case AGENT_STEP_UFFD_OWN:
        if (f->error == -EMFILE)
            return snprintf(out, len, "the descriptor limit leaves its agent too few; "
                                      "raise `ulimit -n` to 8 or more") > 0;
        if (f->error == -ENOSYS || f->error == -EINVAL)
            return snprintf(out, len, "this kernel has no userfaultfd, or none with UFFDIO_MOVE; "
                                      "use Linux 6.8 or later") > 0;
        break;
    case AGENT_STEP_DIED:
        if (f->error == SIGSYS)
            return snprintf(out, len, "a seccomp filter that it inherited killed its agent; "
                                      "allow clone, userfaultfd, ioctl and futex_waitv in it") > 0;
        return snprintf(out, len, "its agent was killed by signal %d; see the kernel's log",
                        f->error) > 0;
    case AGENT_STEP_TIMEOUT:
        if (f->error != -ETIMEDOUT || f->at >= AGENT_NR_STEPS)
            break;
        if (f->at == AGENT_STEP_CONNECT || f->at == AGENT_STEP_OFFER || f->at == AGENT_STEP_READY)
            return snprintf(out, len, "the daemon at %s did not answer within 5 s (%s); see whether "
                                      "it is stopped or overloaded",
                            f->socket, STEP_NAMES[f->at]) > 0;
        return snprintf(out, len, "its agent did not start within 5 s (%s); see whether the "
                                  "machine is overloaded",
                        STEP_NAMES[f->at]) > 0;
    default:
        break;
    }
    return false;
}

void shim_complain(const struct shim_failure *f)
{
    char text[TEXT_LEN], line[TEXT_LEN + 64], name[17] = "?";
    int n;

    sys_prctl(PR_GET_NAME, (long)name, 0);
    if (!explain(text, sizeof(text), f))
        snprintf(text, sizeof(text),
                 "%s failed with %s (%d); see the daemon's log, and pagerd-preload(7)",
                 STEP_NAMES[f->step], errno_name(f->error), -f->error);
    n = snprintf(line, sizeof(line), "pagerd: %s runs unmanaged: %s\n", name, text);
    sys(write, STDERR_FILENO, line, n, 0, 0, 0);
}
