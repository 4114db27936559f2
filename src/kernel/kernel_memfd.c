/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memfds, which hold what must outlive a worker, and the futex that rings an
 * agent's bell.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "kernel/kernel.h"
#include "kernel/uapi.h"

static int memfd_sized(const char *name, uint64_t bytes, unsigned flags)
{
    int fd = memfd_create(name, MFD_CLOEXEC | flags | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL) /* before 6.3 */
        fd = memfd_create(name, MFD_CLOEXEC | flags);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)bytes) < 0) {
        int err = errno;
        close(fd);
        return -err;
    }
    return fd;
}

int kmemfd_sealed(const char *name, uint64_t bytes)
{
    int fd = memfd_sized(name, bytes, MFD_ALLOW_SEALING);

    if (fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        int err = errno;
        close(fd);
        return -err;
    }
    return fd;
}

int kmemfd_sparse(const char *name, uint64_t bytes)
{
    return memfd_sized(name, bytes, 0);
}

int kfutex_wake_shared(_Atomic uint32_t *word)
{
    long n = syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);

    return n < 0 ? -errno : (int)n;
}
