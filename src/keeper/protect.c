/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protect: what pagerd holds is other programs' memory, so the system should neither swap
 * it out behind our back (a fault in a program would then wait for two) nor choose us
 * first when memory is short, which whoever holds a large pool invites.
 *
 * Memory is locked as it is touched (MCL_ONFAULT): the pools and tables are far larger than
 * what is used of them.  Locked memory refuses MADV_REMOVE and MADV_DONTNEED; what goes back
 * to the system goes by a hole in its memfd.
 */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "keeper/keeper_priv.h"

/* Not -1000: whatever else the system may end, it is not nothing. */
#define OOM_SCORE_ADJ (-900)

/* Asked of the kernel by doing it: a capability may be one of a user namespace's only. */
static bool may_lock_more_than(uint64_t limit)
{
    size_t len = (size_t)limit + PAGE_SIZE;
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    bool may;

    if (p == MAP_FAILED)
        return false;
    may = mlock2(p, len, MLOCK_ONFAULT) == 0;
    (void)munmap(p, len);
    return may;
}

/*
 * With a finite limit that counts for us the lock itself may succeed, and an mmap fail much
 * later because of it: then rather none.
 */
int protect_memory(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0)
        return -errno;
    if (limit.rlim_cur != RLIM_INFINITY && !may_lock_more_than(limit.rlim_cur))
        return -EPERM;
    return mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0 ? -errno : 0;
}

static int lower_oom_score(void)
{
    _cleanup_close_ int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    char text[16] = "";

    if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
        return -errno;
    if (atoi(text) <= OOM_SCORE_ADJ) /* who started us knows better */
        return 0;
    snprintf(text, sizeof(text), "%d", OOM_SCORE_ADJ);
    return pwrite(fd, text, strlen(text), 0) < 0 ? -errno : 0;
}

/*
 * Ahead of the programs: one that waits for a page waits for us, and one that grows is
 * held to its limit only as promptly as we come to look.
 */
#define NICE (-10)

static void raise_priority(void)
{
    errno = 0;
    if (getpriority(PRIO_PROCESS, 0) > NICE && !errno)
        (void)setpriority(PRIO_PROCESS, 0, NICE); /* without the right to: as it was started */
}

void protect_keeper(void)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    int err;

    /* For the workers, which keep the limit and not the capability. */
    if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0 && getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_MEMLOCK, &limit);
    }
    err = protect_memory();
    if (err)
        log_warning("its memory is not locked, and may be swapped out: %s; raise the hard limit of "
                    "RLIMIT_MEMLOCK (ulimit -Hl, LimitMEMLOCK=), or give it CAP_IPC_LOCK",
                    strerror(-err));
    raise_priority();
    err = lower_oom_score();
    if (err)
        log_info("its oom_score_adj stays as it is: %s", strerror(-err));
}
