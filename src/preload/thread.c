/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel writes when a thread ends it cannot wait for: a userfault of an ending
 * thread is refused (handle_userfault(), PF_EXITING).  That concerns two things.
 *
 *  1. The thread's tid word, in libc's descriptor at the top of its stack.  Stacks stay where they
 *     are; but since Linux 6.7 they are VM_NOHUGEPAGE, and the kernel joins one with memory of
 *     the same flags right above it, which then looks like part of it.  The descriptor's page
 *     is given a flag of its own (MADV_RANDOM), so that the stack has an end that is seen.
 *  2. The robust mutexes that it holds: one that is moved out would never be marked, and whoever
 *     locks it next would wait for ever.  They are read just before the thread ends.
 *
 * Both take system calls that a program's own seccomp filter may not know; with a filter that
 * the program has set up through libc, nothing is done here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <threads.h>

#include "agent/sys.h"
#include "preload/shim.h"

typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static create_fn *next_create;

__attribute__((constructor)) static void find_next(void)
{
    int saved_errno = errno;

    if (!next_create)
        *(void **)&next_create = dlsym(RTLD_NEXT, "pthread_create");
    errno = saved_errno;
}

/* ---- what a new thread is to run: a thread may have no memory of malloc's, and gets none ---- */

struct start {
    void *(*fn)(void *);
    void *arg;
    bool own_stack; /* the program's memory */
};

#define NR_STARTS 64

static struct start starts[NR_STARTS];
static _Atomic uint64_t starts_taken; /* a bit each, until the thread has read it */

void shim_forget_threads(void)
{
    atomic_store_explicit(&starts_taken, 0, memory_order_relaxed);
}

/* -1: all are taken. */
static int take_start(void)
{
    uint64_t taken = atomic_load_explicit(&starts_taken, memory_order_relaxed);

    while (~taken) {
        int i = __builtin_ctzll(~taken);
        if (atomic_compare_exchange_weak_explicit(&starts_taken, &taken, taken | 1ull << i,
                                                  memory_order_acquire, memory_order_relaxed))
            return i;
    }
    return -1;
}

static void give_back(int i)
{
    atomic_fetch_and_explicit(&starts_taken, ~(1ull << i), memory_order_release);
}

/* ---- the stack's end ---- */

#define PAGE ((uintptr_t)4096)

static void show_end_of_stack(void)
{
#ifdef __x86_64__ /* where libc's descriptor is the last thing in the stack; its size at least */
    uintptr_t pd = (uintptr_t)pthread_self(), start = pd & ~(PAGE - 1);
    uintptr_t end = (pd + 0x900 + PAGE - 1) & ~(PAGE - 1);

    sys_madvise((void *)start, end - start, MADV_RANDOM);
#endif
}

/* ---- robust mutexes ---- */

static struct robust_list_head *robust_list(void)
{
    struct robust_list_head *head = NULL;
    size_t len = 0;

    return sys(get_robust_list, 0, &head, &len, 0, 0, 0) == 0 && len == sizeof(*head) ? head : NULL;
}

/* Not by touching it: what is not there is an error here, and none to the kernel either. */
static bool bring(uintptr_t at, size_t len)
{
    uintptr_t start = at & ~(PAGE - 1), end = (at + len + PAGE - 1) & ~(PAGE - 1);

    return sys_madvise((void *)start, end - start, MADV_POPULATE_READ) == 0;
}

/* As the kernel goes through it (exit_robust_list()). */
static void bring_back(void *list)
{
    const struct robust_list_head *head = list;
    uintptr_t at;

    if (!head || (at = (uintptr_t)head->list.next) == (uintptr_t)&head->list || shim.is_filtered)
        return;
    for (unsigned limit = ROBUST_LIST_LIMIT; limit && at != (uintptr_t)&head->list; limit--) {
        uintptr_t entry = at & ~(uintptr_t)1;
        if (!bring(entry, sizeof(at)) ||
            !bring(entry + (uintptr_t)head->futex_offset, sizeof(uint32_t)))
            return;
        memcpy(&at, (const void *)entry, sizeof(at));
    }
}

/* Of its own, so that nothing of its caller lives in registers across the macro's setjmp(). */
__attribute__((noinline)) static void *call(const struct start *s, struct robust_list_head *head)
{
    void *result;

    pthread_cleanup_push(bring_back, head); /* pthread_exit() and cancellation come here too */
    result = s->fn(s->arg);
    pthread_cleanup_pop(1);
    return result;
}

static void *run(void *arg)
{
    int i = (int)((struct start *)arg - starts);
    struct start s = starts[i];
    struct robust_list_head *head = NULL;

    give_back(i);
    if (!shim.is_filtered) {
        if (!s.own_stack)
            show_end_of_stack();
        head = robust_list();
    }
    return call(&s, head);
}

static bool has_own_stack(const pthread_attr_t *attr)
{
    void *addr = NULL;
    size_t size = 0;

    /* Where there is none libc computes its low end from address 0. */
    return attr && pthread_attr_getstack(attr, &addr, &size) == 0 && (uintptr_t)addr + size != 0;
}

SHIM_EXPORT int pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                               void *arg)
{
    int i;

    if (!next_create)
        find_next();
    shim_tell_threads();
    if (!shim.has_started || shim.is_filtered || (i = take_start()) < 0)
        return next_create(ret, attr, fn, arg);
    starts[i] = (struct start){fn, arg, has_own_stack(attr)};
    int r = next_create(ret, attr, run, &starts[i]);
    if (r != 0)
        give_back(i);
    return r;
}

/* Through libc's own pthread_create(), which does not come by here. */
SHIM_EXPORT int thrd_create(thrd_t *ret, thrd_start_t fn, void *arg)
{
    int (*next)(thrd_t *, thrd_start_t, void *);

    *(void **)&next = dlsym(RTLD_NEXT, "thrd_create");
    if (!next)
        return thrd_error;
    shim_tell_threads();
    return next(ret, fn, arg);
}

SHIM_EXPORT int prctl(int option, ...)
{
    long a[4];
    va_list args;

    va_start(args, option);
    for (int i = 0; i < 4; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    long r = sys(prctl, option, a[0], a[1], a[2], a[3], 0);
    if (r >= 0 && option == PR_SET_SECCOMP)
        shim.is_filtered = true;
    return (int)shim_result(r);
}
