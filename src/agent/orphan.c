/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon is gone, all of it.  What was moved out is lost, and the agent
 * holds the last userfaultfd: were it to close it, the program would read zeros
 * where its data was; were it to do nothing, the program would wait for ever.
 * So it answers every fault with poison (SIGBUS), for the program and for the
 * children that it forks from now on, until nobody of them is left.
 *
 * A page that was never touched is poisoned too: only the daemon knew which.
 */
#include <linux/poll.h>

#include "agent/agent_priv.h"

#define NR_CHILDREN 63
#define PERIOD_MS 200
#define MSG_BATCH 16

struct orphan {
    struct agent *a;
    int uffd[1 + NR_CHILDREN]; /* [0]: the program's; the rest: of its children, -1: free */
    bool again;                /* an answer was refused because an event was unread */
};

static void wake(int uffd, uint64_t start, uint64_t len)
{
    struct uffdio_range range = {start, len};

    sys_ioctl(uffd, UFFDIO_WAKE, &range);
}

/*
 * The address space's end is not known here (47, 48, 56 bits, less a page or
 * not), and a range that goes beyond it is refused: so the largest that is taken.
 */
static void wake_all(int uffd)
{
    const uint64_t start = 1 << 16; /* below is the kernel's vm.mmap_min_addr */

    for (unsigned bits = 56; bits >= 36; bits--) {
        struct uffdio_range range = {start, (1ull << bits) - PAGE_SIZE - start};

        if (sys_ioctl(uffd, UFFDIO_WAKE, &range) == 0)
            return;
    }
}

static long poison(int uffd, uint64_t page)
{
    struct uffdio_poison p = {.range = {page, PAGE_SIZE}};

    return sys_ioctl(uffd, UFFDIO_POISON, &p);
}

static void answer_fault(struct orphan *o, int uffd, uint64_t page)
{
    long r = poison(uffd, page);

    if (r == 0)
        return;
    if (r == -EAGAIN)
        o->again = true;
    /* Filled by somebody, unmapped, or an event first: let it look (and ask) again. */
    wake(uffd, page, PAGE_SIZE);
}

/* With no place left it is kept open, unanswered: waiting is the lesser evil than zeros. */
static void keep_child(struct orphan *o, int uffd)
{
    for (unsigned i = 1; i <= NR_CHILDREN; i++)
        if (o->uffd[i] < 0) {
            o->uffd[i] = uffd;
            return;
        }
}

static void read_messages(struct orphan *o, int uffd)
{
    struct uffd_msg msgs[MSG_BATCH];
    long n = sys(read, uffd, msgs, sizeof(msgs), 0, 0, 0);

    for (long i = 0; i < n / (long)sizeof(msgs[0]); i++) {
        if (msgs[i].event == UFFD_EVENT_PAGEFAULT)
            answer_fault(o, uffd, msgs[i].arg.pagefault.address & PAGE_MASK);
        else if (msgs[i].event == UFFD_EVENT_FORK)
            keep_child(o, (int)msgs[i].arg.fork.ufd);
        /* The others are only to be read: there is no table to keep. */
    }
}

/* The address spaces of children that have ended. */
static bool any_child_left(struct orphan *o)
{
    bool any = false;

    for (unsigned i = 1; i <= NR_CHILDREN; i++) {
        if (o->uffd[i] < 0)
            continue;
        /* The agent's area is not in a child (DONTFORK): ENOENT in a living one. */
        if (poison(o->uffd[i], o->a->ctl->area) == -ESRCH) {
            sys_close(o->uffd[i]);
            o->uffd[i] = -1;
        } else {
            any = true;
        }
    }
    return any;
}

_Noreturn void agent_orphan(struct agent *a)
{
    struct orphan o = {.a = a};

    atomic_store_explicit(&a->ctl->state, AGENT_ORPHANED, memory_order_release);
    o.uffd[0] = a->uffd;
    for (unsigned i = 1; i <= NR_CHILDREN; i++)
        o.uffd[i] = -1;
    wake_all(a->uffd); /* faults that the daemon had read and not answered are posted again */
    for (;;) {
        struct pollfd fds[1 + NR_CHILDREN];
        struct __kernel_timespec t = {0, (o.again ? 1 : PERIOD_MS) * 1000000L};
        long r;

        /* Refused answers have been woken and are posted again; events go first: a little later. */
        for (unsigned i = 0; i <= NR_CHILDREN; i++)
            fds[i] = (struct pollfd){.fd = o.uffd[i], .events = POLLIN};
        if (o.again)
            sys(ppoll, NULL, 0, &t, NULL, 0, 0);
        o.again = false;
        r = sys(ppoll, fds, 1 + NR_CHILDREN, &t, NULL, 0, 0);
        for (unsigned i = 0; r > 0 && i <= NR_CHILDREN; i++)
            if (fds[i].fd >= 0 && fds[i].revents)
                read_messages(&o, fds[i].fd);
        if (r == 0 && agent_is_alone() && !any_child_left(&o))
            agent_exit();
    }
}
