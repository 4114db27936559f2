/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent of a forked child waits before it does anything: most children execute
 * another program or end within a few milliseconds, and a handshake would be in vain.
 * Until then the child is served from outside, over the userfaultfd of its fork event.
 *
 * Its descriptors are its own already (start.c), and so are its root and its working
 * directory, since CLONE_FS is not asked for: a child that closes everything, calls
 * chroot() or drops its privileges meanwhile does not disturb it.
 */
#include "agent/agent_priv.h"

#define LAZY_NS 4000000LL
#define FIRST_PAUSE_NS 125000LL

void agent_be_lazy(struct agent *a)
{
    int64_t until_ns = sys_now_ns() + LAZY_NS, pause_ns = FIRST_PAUSE_NS, now_ns;

    while ((now_ns = sys_now_ns()) < until_ns) {
        struct futex_waitv w[2];
        int64_t next_ns = until_ns;
        unsigned nr = 0;

        if (atomic_load_explicit(&a->ctl->leave, memory_order_acquire) ||
            sys(getppid, 0, 0, 0, 0, 0, 0) != a->ctl->program_pid)
            agent_exit();
        w[nr++] = sys_waiter(&a->ctl->leave, 0, FUTEX_PRIVATE_FLAG);
        if (agent_tid_changed(a)) {
            /* The word is cleared some microseconds before the memory is given up (loop.c). */
            if (agent_is_alone())
                agent_exit();
            next_ns = now_ns + pause_ns;
            pause_ns *= 2;
        } else if (a->ctl->tid_word) {
            w[nr++] = sys_waiter(a->ctl->tid_word, a->ctl->tid_value, 0);
        }
        if (sys_futex_waitv(w, nr, next_ns < until_ns ? next_ns : until_ns) == -EFAULT && nr == 2)
            a->ctl->tid_word = NULL;
    }
}
