/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent does all its life: sleep on three words, run commands, and
 * notice when it is no longer needed.  Called once, by agent_main().
 *
 *   ring.bell   the worker posted a command
 *   tid word    the kernel cleared it: the main thread ended, or exec'd
 *   ctl.leave   the shim: the program is about to exit
 *
 * The end of the program.  The tid word is only a hint (it also fires when the
 * main thread calls pthread_exit(), and not any more after set_tid_address()).
 * What is exact: unshare(CLONE_VM) does nothing, and succeeds if and only if
 * no other task uses this memory.  It is asked when a hint came, again at
 * growing intervals (the word is cleared some microseconds before the memory is
 * given up), and now and then without a hint, because it may walk all
 * processes.
 */
#include <linux/sched.h>
#include <linux/socket.h>

#include "agent/agent_priv.h"

#define MSEC 1000000LL
#define PERIOD_NS (1000 * MSEC)
#define FIRST_PAUSE_NS (MSEC / 8)
#define PERIODS_PER_ALONE_CHECK 4
#define NET_MSG_PEEK 2
#define NET_MSG_DONTWAIT 0x40
#define NET_MSG_NOSIGNAL 0x4000

bool agent_is_alone(void)
{
    return sys(unshare, CLONE_VM, 0, 0, 0, 0, 0) == 0;
}

static void ring_worker(struct agent *a, enum proto_bell what)
{
    const char bell = (char)what;

    sys(sendto, a->conn, &bell, 1, NET_MSG_DONTWAIT | NET_MSG_NOSIGNAL, 0, 0);
}

static void check_daemon(struct agent *a)
{
    char byte;
    long r = sys(recvfrom, a->conn, &byte, 1, NET_MSG_PEEK | NET_MSG_DONTWAIT, 0, 0);

    if (r == 0 || (r < 0 && r != -EAGAIN && r != -EINTR))
        agent_orphan(a);
}

static void run_command(struct agent *a)
{
    uint32_t posted = atomic_load_explicit(&a->ring->posted, memory_order_acquire);

    if (posted == a->done)
        return;
    switch (*(volatile uint32_t *)&a->ring->op) {
    case RING_CAPTURE:
        agent_capture(a, posted, false);
        break;
    case RING_CAPTURE_HUGE:
        agent_capture(a, posted, true);
        break;
    case RING_FILL_HUGE:
        agent_fill_huge(a);
        break;
    case RING_EXIT:
        agent_exit();
    default: /* RING_NOP, or a word that the program scribbled on */
        break;
    }
    a->done = posted;
    atomic_store_explicit(&a->ring->done, posted, memory_order_release);
    ring_worker(a, BELL_DONE);
}

bool agent_tid_changed(const struct agent *a)
{
    return a->ctl->tid_word &&
           atomic_load_explicit(a->ctl->tid_word, memory_order_relaxed) != a->ctl->tid_value;
}

/* Returns when something is to be looked at, at the latest at the deadline. */
static void wait_for_work(struct agent *a, uint32_t bell, int64_t deadline_ns)
{
    struct futex_waitv w[3];
    unsigned nr = 0;
    long r;

    w[nr++] = sys_waiter(&a->ring->bell, bell, 0);
    w[nr++] = sys_waiter(&a->ctl->leave, 0, FUTEX_PRIVATE_FLAG);
    /* Shared, though the memory is not: so the kernel wakes it (mm_release()). */
    if (a->ctl->tid_word && !a->tid_told)
        w[nr++] = sys_waiter(a->ctl->tid_word, a->ctl->tid_value, 0);
    r = sys_futex_waitv(w, nr, deadline_ns);
    if (r == -EFAULT && nr == 3)
        a->ctl->tid_word = NULL; /* the program unmapped it: a hint less */
}

_Noreturn void agent_loop(struct agent *a)
{
    int64_t pause_ns = PERIOD_NS;
    unsigned periods = 0;

    a->done = atomic_load_explicit(&a->ring->done, memory_order_relaxed);
    for (;;) {
        uint32_t bell = atomic_load_explicit(&a->ring->bell, memory_order_acquire);
        int64_t deadline_ns = sys_now_ns() + pause_ns;
        bool timed_out;

        if (atomic_load_explicit(&a->ring->posted, memory_order_acquire) == a->done)
            wait_for_work(a, bell, deadline_ns);
        run_command(a);
        if (atomic_load_explicit(&a->ctl->leave, memory_order_acquire))
            agent_exit();
        timed_out = sys_now_ns() >= deadline_ns;
        if (timed_out)
            periods++;

        if (agent_tid_changed(a) && (!a->tid_told || timed_out)) {
            /*
             * The kernel wakes one waiter of the word, and a pthread_join() of
             * the main thread waits there too: pass it on.
             */
            if (!a->tid_told)
                sys_futex_wake((const void *)a->ctl->tid_word, FUTEX_WAKE, INT32_MAX);
            if (agent_is_alone())
                agent_exit();
            pause_ns = a->tid_told ? pause_ns * 2 : FIRST_PAUSE_NS;
            if (pause_ns >= PERIOD_NS || !a->tid_told)
                ring_worker(a, BELL_TID);
            if (pause_ns > PERIOD_NS)
                pause_ns = PERIOD_NS;
            a->tid_told = true;
        } else if (timed_out && periods % PERIODS_PER_ALONE_CHECK == 0 && agent_is_alone()) {
            agent_exit();
        }
        if (sys(getppid, 0, 0, 0, 0, 0, 0) != a->ctl->program_pid)
            agent_exit();
        check_daemon(a);
    }
}
