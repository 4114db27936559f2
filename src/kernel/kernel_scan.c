/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages are mapped: PAGEMAP_SCAN on /proc/PID/pagemap, 3 ns a page.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/ioctl.h>

#include "kernel/kernel.h"
#include "kernel/uapi.h"

#define SCAN_REGIONS 64

int kscan_open(pid_t pid)
{
    return kproc_open(pid, "pagemap");
}

int kscan_present(int pagemap_fd, struct urange r, struct scan_run *runs, uint32_t max,
                  struct uaddr *ret_next)
{
    struct page_region regions[SCAN_REGIONS];
    struct pm_scan_arg arg = {
        .size = sizeof(arg),
        .start = r.start.v,
        .end = urange_end(r),
        .vec = (uintptr_t)regions,
        .vec_len = MIN(max, (uint32_t)SCAN_REGIONS),
        .category_mask = PAGE_IS_PRESENT,
        .return_mask = PAGE_IS_PRESENT | PAGE_IS_HUGE,
    };

    BUG_ON(max == 0 || (r.start.v | r.len) & ~PAGE_MASK);
    int n = ioctl(pagemap_fd, PAGEMAP_SCAN, &arg);
    if (n < 0)
        return -errno;
    for (int i = 0; i < n; i++) {
        runs[i].r = urange(regions[i].start, regions[i].end);
        runs[i].huge = regions[i].categories & PAGE_IS_HUGE;
    }
    /* With room left in the vector everything up to the end was looked at. */
    uint64_t next = (uint64_t)n < arg.vec_len ? arg.end : arg.walk_end;
    if (next <= r.start.v || next > arg.end)
        next = n ? regions[n - 1].end : arg.end;
    ret_next->v = next;
    return n;
}

int kscan_count_present(int pagemap_fd, struct urange r, uint64_t *ret_pages)
{
    struct scan_run runs[SCAN_REGIONS];
    uint64_t pages = 0;

    for (struct uaddr at = r.start, next = at; at.v < urange_end(r); at = next) {
        int n = kscan_present(pagemap_fd, urange(at.v, urange_end(r)), runs, SCAN_REGIONS, &next);
        if (n < 0)
            return n;
        for (int i = 0; i < n; i++)
            pages += runs[i].r.len >> PAGE_SHIFT;
    }
    *ret_pages = pages;
    return 0;
}

struct uaddr kscan_next_guard(int pagemap_fd, struct urange r)
{
    struct page_region region;
    struct pm_scan_arg arg = {
        .size = sizeof(arg),
        .start = r.start.v,
        .end = urange_end(r),
        .vec = (uintptr_t)&region,
        .vec_len = 1,
        .category_mask = PAGE_IS_GUARD,
        .return_mask = PAGE_IS_GUARD,
    };

    return uaddr(ioctl(pagemap_fd, PAGEMAP_SCAN, &arg) == 1 ? region.start : arg.end);
}

int kscan_page_is_held(int pagemap_fd, struct uaddr a)
{
    struct page_region region;
    struct pm_scan_arg arg = {
        .size = sizeof(arg),
        .start = a.v,
        .end = a.v + PAGE_SIZE,
        .vec = (uintptr_t)&region,
        .vec_len = 1,
        .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        .return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
    };
    int n = ioctl(pagemap_fd, PAGEMAP_SCAN, &arg);

    return n < 0 ? -errno : n;
}
