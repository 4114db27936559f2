/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The place of the `file` nodes: a file that is made for each domain and has no name
 * any more when it is used, or one block device for the first domain that comes.
 *
 * A name that exists is never written to unless it is a block device: a slip of the
 * hand in --swap must not cost anybody a file.  What a device holds is lost; one that is
 * mounted, or in use otherwise, is refused by the kernel (O_EXCL).
 */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/base.h"
#include "keeper/keeper_priv.h"
#include "target/target.h"

/* Whole pageblocks, as the pools are made of. */
#define SWAP_UNIT ((uint64_t)2 << 20)
#define SWAP_MIN ((uint64_t)16 << 20)
#define SWAP_MAX ((uint64_t)1 << 40)

int swap_parse(const char *text, char *path, size_t path_size, uint64_t *ret_bytes,
               struct keeper_refusal *why)
{
    const char *colon = strrchr(text, ':');
    uint64_t bytes;

    if (!colon || parse_size(colon + 1, &bytes) || bytes < SWAP_MIN || bytes > SWAP_MAX)
        return keeper_refuse(why, -EINVAL,
                             "--swap=%.128s has no size from 16M to 1T at its end: give PATH:SIZE, "
                             "the size with K, M, G or T",
                             text);
    if (*text != '/')
        return keeper_refuse(why, -EINVAL,
                             "--swap=%.128s does not begin with a '/': give an absolute path",
                             text);
    if ((size_t)(colon - text) >= path_size)
        return keeper_refuse(why, -ENAMETOOLONG, "--swap=%.64s... is too long a path", text);
    memcpy(path, text, (size_t)(colon - text));
    path[colon - text] = 0;
    *ret_bytes = bytes & ~(SWAP_UNIT - 1);
    return 0;
}

/* With O_DIRECT where a page can be read so; else through the page cache. */
static void try_direct(int fd)
{
    _cleanup_free_ void *page = NULL;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || posix_memalign(&page, PAGE_SIZE, PAGE_SIZE) ||
        fcntl(fd, F_SETFL, flags | O_DIRECT) < 0)
        return;
    if (pread(fd, page, PAGE_SIZE, 0) < 0) {
        log_info("swap goes through the page cache: the file system has no direct I/O by pages");
        (void)fcntl(fd, F_SETFL, flags);
    }
}

static int open_device(const char *path, uint64_t bytes, struct keeper_refusal *why)
{
    uint64_t has = 0;
    int fd = open(path, O_RDWR | O_EXCL | O_CLOEXEC), err;

    if (fd < 0 && errno == EBUSY)
        return keeper_refuse(why, -EBUSY,
                             "the swap device %.128s is in use (mounted, swapped to, part of "
                             "another device, or another user's pagerd worker has it): give a free "
                             "one, or a file",
                             path);
    if (fd < 0)
        return keeper_refuse(why, -errno, "cannot open the swap device %.128s: %s", path,
                             strerror(errno));
    err = ioctl(fd, BLKGETSIZE64, &has) < 0 ? -errno : 0;
    if (!err && has >= bytes) {
        try_direct(fd);
        return fd;
    }
    fd_close(fd);
    if (err)
        return keeper_refuse(why, err, "cannot ask the swap device %.128s for its size: %s", path,
                             strerror(-err));
    return keeper_refuse(why, -ENOSPC,
                         "the swap device %.128s has %llu MiB only: give --swap a smaller size",
                         path, (unsigned long long)(has >> 20));
}

static int refuse_space(const char *path, uint64_t bytes, int err, struct keeper_refusal *why)
{
    unsigned long long mib = (unsigned long long)(bytes >> 20);

    if (err == -ENOSPC || err == -EDQUOT)
        return keeper_refuse(why, err,
                             "no room for the swap file %.128s of %llu MiB: %s; make room there, "
                             "or give --swap a smaller size or another place",
                             path, mib, strerror(-err));
    if (err == -EFBIG)
        return keeper_refuse(why, err,
                             "the swap file %.128s may not have %llu MiB: raise the limit of file "
                             "sizes (ulimit -Hf), or give --swap a smaller size",
                             path, mib);
    return keeper_refuse(why, err, "cannot set aside %llu MiB for the swap file %.128s: %s", mib,
                         path, strerror(-err));
}

static int make_file(const char *path, uint64_t bytes, struct keeper_refusal *why)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), err = 0;

    if (fd < 0 && errno == EEXIST)
        return keeper_refuse(why, -EEXIST,
                             "%.128s exists and is no block device: pagerd does not overwrite it; "
                             "remove it, or give --swap a new name",
                             path);
    if (fd < 0)
        return keeper_refuse(why, -errno,
                             "cannot make the swap file %.128s: %s; give --swap a name in a "
                             "directory where pagerd may write",
                             path, strerror(errno));
    if (unlink(path) < 0)
        err = -errno;
    /* Set aside now: a disk that is full later would stop the programs' pages half-way. */
    if (!err && fallocate(fd, 0, 0, (off_t)bytes) < 0)
        err = -errno;
    if (err == -EOPNOTSUPP) {
        log_warning("the file system of %s cannot set room aside: the swap file may find the disk "
                    "full later", path);
        err = ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
    }
    if (err) {
        fd_close(fd);
        return refuse_space(path, bytes, err, why);
    }
    try_direct(fd);
    return fd;
}

int swapfile_open(const char *path, uint64_t bytes, struct keeper_refusal *why)
{
    struct stat st;

    if (stat(path, &st) == 0 && S_ISBLK(st.st_mode))
        return open_device(path, bytes, why);
    return make_file(path, bytes, why);
}
