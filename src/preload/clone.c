/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syscall(), clone() and _Fork() where they make a child with a memory of its own: no
 * fork handler runs in such a child, so it is given its agent here (forked.c).  Without,
 * nothing could be moved out of it, and it would not be held to the limit.
 *
 * Everything else goes straight on, as libc would do it.  A child that shares the memory
 * (CLONE_VM: threads, vfork) has its parent's agent.  One that begins on a stack of its
 * own cannot come back through a C function: only libc's clone() calls one for it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/types.h>
#include <unistd.h>

#include "agent/sys.h"
#include "preload/shim.h"

typedef int clone_fn(int (*)(void *), void *, int, void *, ...);
typedef pid_t fork_fn(void);

static clone_fn *next_clone;
static fork_fn *next_fork;

__attribute__((constructor)) static void find_next(void)
{
    int saved_errno = errno;

    if (!next_clone)
        *(void **)&next_clone = dlsym(RTLD_NEXT, "clone");
    if (!next_fork)
        *(void **)&next_fork = dlsym(RTLD_NEXT, "_Fork"); /* none before glibc 2.34 */
    errno = saved_errno;
}

/* Does this call return twice, the second time with a copy of the memory? */
static bool makes_a_copy(long nr, long a, long b)
{
    switch (nr) {
#ifdef __NR_fork
    case __NR_fork:
        return true;
#endif
    case __NR_clone:
        return !(a & CLONE_VM) && !b;
    case __NR_clone3: {
        const struct clone_args *args = (const struct clone_args *)a;
        return b >= CLONE_ARGS_SIZE_VER0 && args && !(args->flags & CLONE_VM) && !args->stack;
    }
    default:
        return false;
    }
}

/* A thread, or as good as one: the parent of a vfork() waits. */
static bool shares_memory(unsigned long long flags)
{
    return (flags & (CLONE_VM | CLONE_VFORK)) == CLONE_VM;
}

static bool makes_a_thread(long nr, long a, long b)
{
    const struct clone_args *args = (const struct clone_args *)a;

    return (nr == __NR_clone && shares_memory((unsigned long)a)) ||
           (nr == __NR_clone3 && b >= CLONE_ARGS_SIZE_VER0 && args && shares_memory(args->flags));
}

SHIM_EXPORT long syscall(long nr, ...)
{
    long a[6];
    va_list args;

    /* As libc's: always six, whatever they are. */
    va_start(args, nr);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (nr == __NR_madvise)
        return shim_result(shim_madvise((void *)a[0], (size_t)a[1], (int)a[2]));
    if (makes_a_thread(nr, a[0], a[1]))
        shim_tell_threads();
    long r = sys6(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (r >= 0 && (nr == __NR_seccomp || (nr == __NR_prctl && a[0] == PR_SET_SECCOMP)))
        shim.is_filtered = true;
    if (r == 0 && shim.has_started && makes_a_copy(nr, a[0], a[1]))
        shim_forked();
    return shim_result(r);
}

struct entry {
    int (*fn)(void *);
    void *arg;
};

static int enter(void *arg)
{
    struct entry e = *(struct entry *)arg;

    shim_forked();
    return e.fn(e.arg);
}

SHIM_EXPORT int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
    struct entry e = {fn, arg}; /* the child has a copy of this frame */
    void *more[3];
    va_list args;

    va_start(args, arg);
    for (int i = 0; i < 3; i++)
        more[i] = va_arg(args, void *);
    va_end(args);
    if (!next_clone)
        find_next(); /* in a constructor that ran before ours */
    if (shares_memory((unsigned)flags))
        shim_tell_threads();
    if (fn && shim.has_started && !(flags & CLONE_VM))
        return next_clone(enter, stack, flags, &e, more[0], more[1], more[2]);
    return next_clone(fn, stack, flags, arg, more[0], more[1], more[2]);
}

SHIM_EXPORT pid_t _Fork(void)
{
    pid_t pid;

    if (!next_fork)
        find_next();
    if (!next_fork) {
        errno = ENOSYS;
        return -1;
    }
    pid = next_fork();
    if (pid == 0 && shim.has_started)
        shim_forked();
    return pid;
}
