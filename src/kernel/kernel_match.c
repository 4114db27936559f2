/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose userfaultfd is it?  That of a fork event comes without a name, and the kernel tells
 * of none which process it belongs to.  It is found out by what can be seen of its address
 * space from both sides, and without a change of any byte in it: who asks may be wrong, or
 * somebody may want it to be.
 *
 * The proof (kuffd_is_of): a random choice of pages is armed through the userfaultfd, and
 * just these have to appear in the pagemap of the process.  Two things that it must not do:
 *
 *  1. Unregister before it is sure: in another address space that might be memory with
 *     pages moved out, which would then read as zeros.  Arming registered memory for
 *     asynchronous write-protection as well changes nothing for its program.
 *  2. Be slow: which pages are armed can be read in /proc/PID/maps, by less of a right than
 *     it takes to read the memory; a process that copies the choice needs longer than the
 *     proof may last.
 */
#define _GNU_SOURCE
#include <sys/ioctl.h>
#include <sys/random.h>

#include "kernel/kernel.h"
#include "kernel/uapi.h"

bool kuffd_finds_readonly(int fd, struct uaddr page)
{
    struct uffdio_register arg = {
        .range = {page.v, PAGE_SIZE},
        .mode = UFFDIO_REGISTER_MODE_MINOR, /* anonymous memory refuses it: EINVAL, as a hole */
    };
    struct uffdio_range range = {page.v, PAGE_SIZE};

    if (ioctl(fd, UFFDIO_REGISTER, &arg) < 0)
        return errno == EPERM;
    /* some writable shared memory: not what was meant */
    (void)ioctl(fd, UFFDIO_UNREGISTER, &range);
    return false;
}

bool kuffd_finds_anothers(int fd, struct urange r)
{
    struct uffdio_register arg = {
        .range = {r.start.v, r.len},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    struct uffdio_range range = arg.range;

    BUG_ON((r.start.v | r.len) & ~PAGE_MASK || r.len == 0);
    if (ioctl(fd, UFFDIO_REGISTER, &arg) < 0)
        return errno == EBUSY;
    (void)ioctl(fd, UFFDIO_UNREGISTER, &range);
    return false;
}

/* ---- the proof ---- */

#define NR_MARKS 8 /* of 512 pages: a choice of 31 bits in the half that is timed */
#define SCAN_REGIONS 64
#define WORDS (KUFFD_MATCH_PAGES / 64)

/*
 * What registering the second half of them and one scan may take: mostly a sixth of it.  Who was
 * interrupted has proven nothing, and tries again; on a loaded machine that is often.
 */
#define QUICK_NS 100000
#define TRIES 40

/* The pages of [r) that are armed for asynchronous write-protection: a bit each.  0 or -errno. */
static int armed_pages(int pagemap_fd, struct urange r, uint64_t ret[WORDS])
{
    struct page_region regions[SCAN_REGIONS];
    uint64_t at = r.start.v, end = urange_end(r);

    for (unsigned i = 0; i < WORDS; i++)
        ret[i] = 0;
    while (at < end) {
        struct pm_scan_arg arg = {
            .size = sizeof(arg),
            .start = at,
            .end = end,
            .vec = (uintptr_t)regions,
            .vec_len = SCAN_REGIONS,
            .category_mask = PAGE_IS_WPALLOWED,
            .return_mask = PAGE_IS_WPALLOWED,
        };
        int n = ioctl(pagemap_fd, PAGEMAP_SCAN, &arg);

        if (n < 0)
            return -errno;
        for (int i = 0; i < n; i++)
            for (uint64_t a = regions[i].start; a < regions[i].end; a += PAGE_SIZE)
                bitmap_set(ret, (a - r.start.v) >> PAGE_SHIFT);
        at = n < SCAN_REGIONS ? end : regions[n - 1].end;
    }
    return 0;
}

static bool has_choice(struct urange r, const uint64_t armed[WORDS])
{
    size_t nr_pages = r.len >> PAGE_SHIFT;

    return nr_pages - bitmap_count(armed, nr_pages) >= MAX(nr_pages / 4, (size_t)NR_MARKS);
}

/* Arms that many pages that are not in `armed`, and adds them to it. */
static bool mark(int fd, struct urange r, uint64_t armed[WORDS], unsigned nr_marks)
{
    size_t nr_pages = r.len >> PAGE_SHIFT;

    for (unsigned nr = 0; nr < nr_marks;) {
        uint16_t page;

        if (getrandom(&page, sizeof(page), 0) != sizeof(page))
            return false;
        page = (uint16_t)(page % nr_pages);
        if (bitmap_test(armed, page))
            continue;
        struct uaddr a = uaddr(r.start.v + ((uint64_t)page << PAGE_SHIFT));
        if (kuffd_register(fd, (struct urange){a, PAGE_SIZE}, true) != KRES_DONE)
            return false;
        bitmap_set(armed, page);
        nr++;
    }
    return true;
}

bool kuffd_is_of(int fd, int pagemap_fd, struct urange r)
{
    BUG_ON((r.start.v | r.len) & ~PAGE_MASK || r.len == 0 ||
           r.len > (uint64_t)KUFFD_MATCH_PAGES << PAGE_SHIFT);
    for (unsigned i = 0; i < TRIES; i++) {
        uint64_t want[WORDS], seen[WORDS], start_ns;

        if (armed_pages(pagemap_fd, r, want) < 0)
            return false;
        if (!has_choice(r, want)) /* it was wrong often */
            return false;
        if (!mark(fd, r, want, NR_MARKS / 2))
            return false;
        start_ns = now_ns();
        if (!mark(fd, r, want, NR_MARKS / 2) || armed_pages(pagemap_fd, r, seen) < 0)
            return false;
        for (unsigned w = 0; w < WORDS; w++)
            if (want[w] != seen[w])
                return false;
        if (now_ns() - start_ns <= QUICK_NS)
            /* Its own: one mapping again, as UFFDIO_MOVE wants it, and armed no more. */
            return kuffd_unregister(fd, r) == KRES_DONE &&
                   kuffd_register(fd, r, false) == KRES_DONE;
    }
    return false;
}
