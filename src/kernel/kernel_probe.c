/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the running kernel can do and lets us do, tried on throw-away
 * descriptors, and the sentences for what is missing.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

#include "kernel/kernel.h"
#include "kernel/uapi.h"

#define EVENTS (UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP)

static uint64_t offered_features(int fd)
{
    struct uffdio_api api = {.api = UFFD_API};

    return ioctl(fd, UFFDIO_API, &api) < 0 ? 0 : api.features;
}

static bool probe_scan(void)
{
    struct scan_run run;
    struct uaddr next;
    _cleanup_close_ int fd = kscan_open(getpid());
    uint64_t here = (uintptr_t)&run & PAGE_MASK;

    return fd >= 0 && kscan_present(fd, urange(here, here + PAGE_SIZE), &run, 1, &next) == 1;
}

void kernel_probe(struct kernel_features *ret)
{
    struct utsname name = {0};
    int device = kuffd_open_device();
    int by_call = kuffd_new(-1), by_device = device >= 0 ? kuffd_new(device) : device;

    *ret = (struct kernel_features){0};
    (void)uname(&name);
    snprintf(ret->release, sizeof(ret->release), "%s", name.release);
    ret->syscall_errno = by_call < 0 ? -by_call : 0;
    ret->device_errno = by_device < 0 ? -by_device : 0;
    if (failpoint("probe-uffd")) {
        ret->syscall_errno = EPERM;
        ret->device_errno = EACCES;
    } else if (by_call >= 0 || by_device >= 0) {
        ret->features = offered_features(by_call >= 0 ? by_call : by_device);
        int again = kuffd_new(by_call >= 0 ? -1 : device);
        ret->event_fork = again >= 0 && ret->features & KUFFD_EVENT_FORK &&
                          kuffd_api(again, KUFFD_EVENT_FORK) == 0 && !failpoint("probe-event-fork");
        fd_close(again);
    }
    ret->move = ret->features & UFFD_FEATURE_MOVE && !failpoint("probe-move");
    ret->wp_async = ret->features & UFFD_FEATURE_WP_ASYNC &&
                    ret->features & UFFD_FEATURE_WP_UNPOPULATED && !failpoint("probe-wp-async");
    ret->poison = ret->features & UFFD_FEATURE_POISON;
    ret->events = (ret->features & EVENTS) == EVENTS;
    ret->pagemap_scan = probe_scan() && !failpoint("probe-pagemap-scan");
    fd_close(by_call);
    fd_close(by_device);
    fd_close(device);
}

const char *kernel_features_complaint(const struct kernel_features *f, char *buf, size_t size)
{
    const char *missing = NULL;

    if (f->syscall_errno == ENOSYS && f->device_errno == ENOENT) {
        snprintf(buf, size,
                 "this kernel (%s) has no userfaultfd, or a container's seccomp profile hides it; "
                 "pagerd needs Linux 6.8 with CONFIG_USERFAULTFD",
                 f->release);
        return buf;
    }
    if (f->syscall_errno && f->device_errno) {
        snprintf(buf, size,
                 "userfaultfd is not permitted (system call: %s; /dev/userfaultfd: %s): run pagerd "
                 "as root or give it CAP_SYS_PTRACE; a container's seccomp profile must allow it",
                 strerror(f->syscall_errno), strerror(f->device_errno));
        return buf;
    }
    if (!f->move)
        missing = "UFFDIO_MOVE";
    else if (!f->wp_async)
        missing = "asynchronous write-protection (UFFD_FEATURE_WP_ASYNC)";
    else if (!f->pagemap_scan)
        missing = "PAGEMAP_SCAN";
    else if (!f->events || !f->poison)
        missing = "userfaultfd's events or UFFDIO_POISON";
    if (!missing && !f->event_fork) {
        snprintf(buf, size,
                 "fork events of userfaultfd are not permitted, without which a forked child would "
                 "read zeros: run pagerd as root or give it CAP_SYS_PTRACE");
        return buf;
    }
    if (!missing)
        return NULL;
    snprintf(buf, size, "this kernel (%s) lacks %s; pagerd needs Linux 6.8 or newer", f->release,
             missing);
    return buf;
}
