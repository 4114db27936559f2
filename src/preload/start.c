/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts the agent before main().  Runs as a constructor in every program that
 * is started with the shim, so its cost is paid by every exec: about 0.5 ms,
 * most of it waiting for the daemon's two answers.
 *
 *  1. The agent's memory is mapped here, because its stack must be there
 *     before it is.  All of it is DONTFORK (a child must not inherit half a
 *     capture, and a fork between two moves would make staged pages shared,
 *     which cannot be moved) and DONTDUMP.
 *  2. All signals are blocked while the clone is made, and stay so in the agent.
 *  3. On every way out but success nothing is left behind: no process, no memory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/prctl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/sys.h"
#include "preload/shim.h"

#define START_TIMEOUT_NS 5000000000LL
/* A wait that took longer counts as one: the machine was paused, the daemon with it. */
#define START_SLICE_NS 250000000LL
#define REAP_TIMEOUT_NS 100000000LL
#define REAP_PAUSE_NS 200000LL

struct shim shim;

static long unmap(uintptr_t start, uintptr_t end)
{
    return start < end ? sys(munmap, start, end - start, 0, 0, 0, 0) : 0;
}

/* 0 or -errno; all or nothing. */
long shim_map_area(uintptr_t *ret_area)
{
    long r = sys_mmap(NULL, AGENT_AREA_BYTES + AGENT_AREA_ALIGN, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uintptr_t start = (uintptr_t)r, area, end = start + AGENT_AREA_BYTES + AGENT_AREA_ALIGN;

    if (r < 0 && r > -4096)
        return r;
    area = (start + AGENT_AREA_ALIGN - 1) & ~(AGENT_AREA_ALIGN - 1);
    unmap(start, area);
    unmap(area + AGENT_AREA_BYTES, end);
    r = sys_madvise((void *)area, AGENT_AREA_BYTES, MADV_DONTFORK);
    if (r == 0)
        r = sys_madvise((void *)area, AGENT_AREA_BYTES, MADV_DONTDUMP);
    if (r == 0)
        r = sys(mprotect, area + AGENT_AT_GUARD, AGENT_AT_STACK - AGENT_AT_GUARD, PROT_NONE, 0, 0,
                0);
    if (r == 0)
        r = sys(mprotect, area + AGENT_AT_REMAP, REMAP_BYTES, PROT_NONE, 0, 0, 0);
    if (r < 0) {
        unmap(area, area + AGENT_AREA_BYTES);
        return r;
    }
    /* EINVAL from a kernel without huge pages is as good. */
    sys_madvise((void *)(area + AGENT_AT_STAGE1), STAGE_BYTES, MADV_NOHUGEPAGE);
    sys_madvise((void *)(area + AGENT_AT_STAGE2), STAGE_BYTES, MADV_NOHUGEPAGE);
    sys_madvise((void *)(area + AGENT_AT_FILL), STAGE_BYTES, MADV_HUGEPAGE);
    *ret_area = area;
    return 0;
}

void shim_unmap_area(uintptr_t area)
{
    unmap(area, area + AGENT_AREA_BYTES);
}

struct agent_ctl *shim_fill_ctl(uintptr_t area)
{
    struct agent_ctl *ctl = (struct agent_ctl *)(area + AGENT_AT_CTL);
    const _Atomic uint32_t *tid_word = NULL;

    memcpy(ctl->socket, shim.socket, sizeof(ctl->socket));
    memcpy(ctl->group, shim.group, sizeof(ctl->group));
    ctl->program_pid = (int32_t)sys(getpid, 0, 0, 0, 0, 0, 0);
    ctl->euid = (uint32_t)sys(geteuid, 0, 0, 0, 0, 0, 0);
    ctl->area = area;
    ctl->keeps_memory = shim.keeps_memory;
    ctl->has_threads = shim.has_threads;
    ctl->step = AGENT_STEP_CLONE;
    /* Not there in a kernel without CONFIG_CHECKPOINT_RESTORE: then only the worker notices. */
    if (sys_prctl(PR_GET_TID_ADDRESS, (long)&tid_word, 0) == 0 && tid_word) {
        ctl->tid_word = tid_word;
        ctl->tid_value = atomic_load_explicit(tid_word, memory_order_relaxed);
    }
    return ctl;
}

/* Its pid or -errno. */
long shim_clone_agent(struct agent_ctl *ctl)
{
    const unsigned long flags = CLONE_VM | CLONE_FILES | CLONE_UNTRACED | CLONE_PARENT_SETTID |
                                CLONE_CHILD_CLEARTID; /* exit signal: none */
    void *stack_top = (void *)(ctl->area + AGENT_AREA_BYTES);
    uint64_t all = ~0ull, old;
    long pid;

    sys(rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof(all), 0, 0);
    pid = sys_clone_call(flags, stack_top, &ctl->tid, &ctl->tid, agent_main, ctl);
    sys(rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old), 0, 0);
    return pid;
}

/*
 * Until the agent has said something, or is gone.  True when it is ready.
 * Else it is gone and reaped, and *f says why.
 */
static bool await_ready(struct agent_ctl *ctl, long pid, struct shim_failure *f)
{
    int64_t left_ns = START_TIMEOUT_NS;
    uint32_t state;
    int status = 0;
    long r = 0;

    while ((state = atomic_load_explicit(&ctl->state, memory_order_acquire)) == AGENT_STARTING &&
           atomic_load_explicit(&ctl->tid, memory_order_acquire) != 0) {
        struct futex_waitv w[2] = {
            sys_waiter(&ctl->state, AGENT_STARTING, FUTEX_PRIVATE_FLAG),
            sys_waiter(&ctl->tid, (uint32_t)pid, 0), /* shared: the kernel wakes it */
        };
        int64_t before_ns = sys_now_ns(), took_ns;

        r = sys_futex_waitv(w, 2, before_ns + START_SLICE_NS);
        took_ns = sys_now_ns() - before_ns;
        left_ns -= took_ns < START_SLICE_NS ? took_ns : START_SLICE_NS;
        if (r == -ETIMEDOUT)
            r = 0;
        if (left_ns <= 0)
            r = -ETIMEDOUT;
        if (r < 0 && r != -EAGAIN && r != -EINTR)
            break;
    }
    state = atomic_load_explicit(&ctl->state, memory_order_acquire); /* its last word */
    if (state == AGENT_READY)
        return true;
    if (r < 0 && r != -EAGAIN && r != -EINTR) {
        f->step = AGENT_STEP_TIMEOUT;
        f->error = (int)r;
        sys(kill, pid, SIGKILL, 0, 0, 0, 0);
    } else if (state == AGENT_FAILED) {
        f->step = ctl->step;
        f->error = ctl->error;
        f->reason = ctl->reason;
    }
    while (sys_wait4(pid, &status, __WCLONE) == -EINTR)
        ;
    f->at = ctl->step;
    if (f->step == AGENT_STEP_DIED)
        f->error = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    return false;
}

/*
 * This image may have replaced another by execve(): the agent of that one is our
 * child, is leaving or has left, and nobody else will collect it.  It is a child
 * that only __WCLONE finds; the program may have such ones of its own.
 *
 * True: there is such a child, and *ret_collected: it was a dead agent, and is none any more.
 */
static bool find_predecessor(bool *ret_collected)
{
    siginfo_t info = {.si_pid = 0};
    long r = sys(waitid, P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WCLONE, NULL, 0);

    *ret_collected = false;
    if (r < 0)
        return false;
    /* By its status too: /proc may be another pid namespace's, or not there. */
    if (info.si_pid && (shim_is_dead_agent(&info) ||
                        (info.si_code == CLD_EXITED && info.si_status == AGENT_EXIT_STATUS)))
        *ret_collected = sys_wait4(info.si_pid, NULL, __WCLONE | WNOHANG) > 0;
    return true;
}

/* `pid`: as the daemon knows it, or 0.  It leaves within a millisecond, and is given a hundred. */
static void reap_predecessor(struct agent_ctl *ctl, int32_t pid)
{
    int64_t deadline_ns = sys_now_ns() + REAP_TIMEOUT_NS;
    bool collected = false;

    for (;;) {
        struct futex_waitv w = sys_waiter(&ctl->leave, 0, FUTEX_PRIVATE_FLAG); /* nobody wakes it */
        int64_t now_ns = sys_now_ns();

        if (pid && sys_wait4(pid, NULL, __WCLONE | WNOHANG) != 0)
            return;
        if (!pid && (!find_predecessor(&collected) || collected))
            return;
        if (now_ns >= deadline_ns)
            return;
        sys_futex_waitv(&w, 1, now_ns + REAP_PAUSE_NS);
    }
}

/* The environment is not to be read in a forked child. */
static void keep_names(const char *socket)
{
    const char *group = getenv("PAGERD_GROUP");

    memcpy(shim.socket, socket, strlen(socket) + 1);
    if (group)
        memcpy(shim.group, group, strnlen(group, sizeof(shim.group) - 1));
}

static bool start_agent(const char *socket, struct shim_failure *f)
{
    bool collected, predecessor = find_predecessor(&collected) && !collected;
    struct agent_ctl *ctl;
    uintptr_t area;
    long r;

    f->socket = socket;
    f->step = AGENT_STEP_CONNECT;
    f->error = -ENAMETOOLONG;
    if (strlen(socket) >= AGENT_SOCKET_MAX)
        return false;
    f->step = AGENT_STEP_AREA;
    r = getauxval(AT_PAGESZ) == 4096 ? shim_map_area(&area) : -EOPNOTSUPP;
    f->error = (int)r;
    if (r < 0)
        return false;
    keep_names(socket);
    ctl = shim_fill_ctl(area);
    r = shim_clone_agent(ctl);
    if (r < 0) {
        f->step = AGENT_STEP_CLONE;
        f->error = (int)r;
    } else {
        f->step = AGENT_STEP_DIED;
        if (await_ready(ctl, r, f)) {
            shim.owner_pid = ctl->program_pid;
            shim.agent_pid = (int32_t)r;
            shim.ctl = ctl;
            shim.has_started = true;
            pthread_atfork(NULL, NULL, shim_forked);
            if (predecessor)
                reap_predecessor(ctl, ctl->reap_pid);
            return true;
        }
    }
    if (f->reason) { /* it lies in what is unmapped now */
        static char kept[PROTO_REASON_LEN];

        memcpy(kept, f->reason, sizeof(kept) - 1);
        f->reason = kept;
    }
    shim_unmap_area(area);
    return false;
}

__attribute__((constructor)) static void shim_start(void)
{
    const char *socket = getenv("PAGERD_SOCKET");
    struct shim_failure failure = {.reason = NULL};
    int saved_errno = errno;

    if (socket && *socket && !start_agent(socket, &failure) && !getenv("PAGERD_OPTIONAL_QUIET"))
        shim_complain(&failure);
    errno = saved_errno;
}
