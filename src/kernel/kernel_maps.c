/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading /proc/PID/maps and smaps; what their text means is kernel_maps_parse.c.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/ioctl.h>

#include "kernel/kernel.h"
#include "kernel/uapi.h"

void kmap_free(struct kmap *m)
{
    free(m->vma);
    *m = (struct kmap){0};
}

const struct kmap_vma *kmap_find(const struct kmap *m, struct uaddr a)
{
    size_t lo = 0, hi = m->nr;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (urange_end(m->vma[mid].r) <= a.v)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < m->nr && m->vma[lo].r.start.v <= a.v ? &m->vma[lo] : NULL;
}

/*
 * The whole file, NUL-terminated; the caller frees *ret_text.  Or until a read that begins with
 * a mapping behind stop: what is not read costs nothing.
 */
static int read_until(pid_t pid, const char *file, uint64_t stop, char **ret_text, size_t *ret_len)
{
    _cleanup_close_ int fd = kproc_open(pid, file);
    _cleanup_free_ char *text = NULL;
    size_t len = 0, cap = 0;

    if (fd < 0)
        return fd;
    for (;;) {
        if (cap - len < 16384) {
            char *more = realloc(text, cap = cap ? 2 * cap : 65536);
            if (!more)
                return -ENOMEM;
            text = more;
        }
        ssize_t n = read(fd, text + len, cap - len - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        text[len + (size_t)n] = 0;
        /* A line within what is told of a mapping reads as a small number, or none. */
        bool behind = strtoull(text + len, NULL, 16) > stop;
        len += (size_t)n;
        if (behind)
            break;
    }
    text[len] = 0;
    *ret_text = TAKE_PTR(text);
    *ret_len = len;
    return 0;
}

static int read_all(pid_t pid, const char *file, char **ret_text, size_t *ret_len)
{
    return read_until(pid, file, UINT64_MAX, ret_text, ret_len);
}

static int read_mappings(pid_t pid, const char *file, bool with_flags, struct kmap *m)
{
    _cleanup_free_ char *text = NULL;
    size_t len;

    m->nr = 0;
    int r = read_all(pid, file, &text, &len);
    if (r < 0)
        return r;
    r = kmap_parse(m, text, len);
    if (r < 0)
        m->nr = 0;
    else if (with_flags)
        kmap_parse_flags(m, text, len);
    return r;
}

int kmaps_read(pid_t pid, struct kmap *m)
{
    return read_mappings(pid, "maps", false, m);
}

int kmaps_read_with_flags(pid_t pid, struct kmap *m)
{
    return read_mappings(pid, "smaps", true, m);
}

int kmaps_read_flags(pid_t pid, struct kmap *m, uint64_t stop)
{
    _cleanup_free_ char *text = NULL;
    size_t len = 0;
    int r = read_until(pid, "smaps", stop, &text, &len);

    /* After a failure no flag is known: what was read before may be wrong by now. */
    kmap_parse_flags(m, r == 0 ? text : "", len);
    return r;
}

int kmaps_find(pid_t pid, struct uaddr a, struct urange *ret)
{
    struct procmap_query q = {.size = sizeof(q), .query_addr = a.v};
    _cleanup_close_ int fd = kproc_open(pid, "maps");
    _cleanup_kmap_ struct kmap m = {0};

    if (fd < 0)
        return fd;
    if (ioctl(fd, PROCMAP_QUERY, &q) == 0) {
        *ret = urange(q.vma_start, q.vma_end);
        return 1;
    }
    if (errno == ENOENT)
        return 0;
    if (errno != ENOTTY && errno != EINVAL)
        return -errno;
    int err = kmaps_read(pid, &m);
    if (err < 0)
        return err;
    const struct kmap_vma *vma = kmap_find(&m, a);
    if (vma)
        *ret = vma->r;
    return vma != NULL;
}

int kmaps_covers(pid_t pid, struct urange r)
{
    struct urange at;
    int found = kmaps_find(pid, r.start, &at);

    return found == 1 ? urange_end(at) >= urange_end(r) : found;
}

int kmaps_is_one(pid_t pid, struct urange r)
{
    struct urange at;
    int found = kmaps_find(pid, r.start, &at);

    return found == 1 ? at.start.v == r.start.v && at.len == r.len : found;
}
