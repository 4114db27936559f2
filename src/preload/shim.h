/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_PRELOAD_SHIM_H
#define PAGERD_PRELOAD_SHIM_H
/*
 * preload: libpagerd-preload.so.  Starts the agent before the program's main(),
 * sends it away at the program's end, and keeps the program from seeing it.
 *
 *   start.c    constructor: the agent's memory, its process, its reaping when it fails
 *   message.c  why a program runs unmanaged, as a sentence
 *   advise.c   madvise(MADV_GUARD_INSTALL), of which the kernel tells the daemon nothing
 *   forked.c   the child of a fork(): an agent of its own
 *   clone.c    syscall(), clone() and _Fork(), in whose children no fork handler runs
 *   thread.c   pthread_create(): where stacks end; robust mutexes at a thread's end
 *   leave.c    destructor, _exit() and _Exit()
 *   reap.c     wait*() of a program that collects orphans (PID 1, child subreaper)
 *
 * Rules: no allocation, no descriptor kept, errno, signal mask and environment
 * as they were; system calls are raw (agent/sys.h), so that no wrapper that the
 * program interposes is called.  Whatever fails, the program runs.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/agent.h"

/* What the program is to find here in place of libc's; everything else is hidden. */
#define SHIM_EXPORT __attribute__((visibility("default")))

/*
 * The agent of this process; `ctl` is NULL when there is none.  A forked child
 * has a copy of this, but neither the agent nor the memory behind `ctl`: the first
 * thing it does is to make its own (forked.c).  A child of vfork(), or of a clone that was
 * not made through libc, does not: whoever uses `ctl` compares owner_pid first.
 */
struct shim {
    struct agent_ctl *ctl;
    int32_t owner_pid;
    int32_t agent_pid;
    _Atomic uint32_t left;
    bool is_filtered; /* the program has a seccomp filter of its own making */
    bool keeps_memory; /* of it or an ancestor some is not its children's (advise.c) */
    bool has_threads;  /* or had some; or a clone that has its memory */
    bool has_started; /* an agent in this program or an ancestor of it: children get theirs */
    /* What the agents of children are told. */
    char socket[AGENT_SOCKET_MAX];
    char group[PROTO_GROUP_LEN];
};

extern struct shim shim;

struct shim_failure {
    enum agent_step step;
    int error;          /* -errno; for AGENT_STEP_DIED the signal's number */
    const char *socket; /* its path */
    uint32_t at;        /* AGENT_STEP_TIMEOUT: enum agent_step, what the agent was doing */
    const char *reason; /* AGENT_STEP_REFUSED: the daemon's own sentence */
};

/* What libc's function of a system call returns; r: what the kernel does. */
static inline long shim_result(long r)
{
    if (r >= 0 || r < -4095)
        return r;
    errno = (int)-r;
    return -1;
}

/* message.c: one line on stderr. */
void shim_complain(const struct shim_failure *f);

/*
 * start.c: memory for an agent; its struct agent_ctl, filled from `shim`; its process
 * (the pid); that memory given back.  Safe in the child of a fork; >= 0 or -errno.
 */
long shim_map_area(uintptr_t *ret_area);
struct agent_ctl *shim_fill_ctl(uintptr_t area);
long shim_clone_agent(struct agent_ctl *ctl);
void shim_unmap_area(uintptr_t area);

/* forked.c: runs in the child of fork() and the like, first of all. */
void shim_forked(void);

/* tell.c: the agent of this very process, or NULL; the daemon is told. */
struct agent_ctl *shim_own_ctl(void);
void shim_tell_kept_memory(void);
void shim_tell_threads(void);

/* advise.c: madvise(2), and what the daemon has to know of it; 0 or -errno. */
long shim_madvise(void *addr, size_t len, int advice);

/* thread.c: in the child of a fork no thread is about to start. */
void shim_forget_threads(void);

/* reap.c: is this child, as waitid() saw it, an agent that has ended? */
bool shim_is_dead_agent(const siginfo_t *info);

#endif
