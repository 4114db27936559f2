/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client has that adoption leaves alone (adopt.c), by reason: for those who look
 * why a program does not get smaller.  Address space, not resident bytes, as the maps
 * were when adoption last read the flags too; nothing is read for it.
 */
#include <string.h>

#include "worker/worker_priv.h"

const char *unpageable_name(enum unpageable why)
{
    switch (why) {
    case UNPAGEABLE_NOT:
        return "";
    case UNPAGEABLE_SHARED:
        return "shared";
    case UNPAGEABLE_FILE:
        return "file";
    case UNPAGEABLE_LOCKED:
        return "locked";
    case UNPAGEABLE_STACK:
        return "stack";
    case UNPAGEABLE_NOFORK:
        return "nofork";
    case UNPAGEABLE_FOREIGN:
        return "foreign";
    case UNPAGEABLE_READONLY:
        return "readonly";
    case UNPAGEABLE_EXEC:
        return "exec";
    case UNPAGEABLE_OTHER:
        return "other";
    case UNPAGEABLE_NR:
        break;
    }
    return "";
}

static enum unpageable by_flags(uint32_t flags)
{
    if (!(flags & KMAP_VMF_KNOWN) || adopt_flags_allow(flags))
        return UNPAGEABLE_NOT;
    if (flags & KMAP_VMF_GROWSDOWN)
        return UNPAGEABLE_STACK;
    if (flags & KMAP_VMF_LOCKED)
        return UNPAGEABLE_LOCKED;
    if (flags & (KMAP_VMF_DONTCOPY | KMAP_VMF_WIPEONFORK))
        return UNPAGEABLE_NOFORK;
    return UNPAGEABLE_OTHER;
}

enum unpageable unpageable_why(const struct kmap_vma *vma, size_t nr_below, uint64_t own_start,
                               uint64_t own_end)
{
    const uint32_t rw = KMAP_PROT_READ | KMAP_PROT_WRITE;
    bool is_anon = vma->kind == KMAP_ANON || vma->kind == KMAP_HEAP || vma->kind == KMAP_NAMED_ANON;

    if (vma->r.start.v < own_end && urange_end(vma->r) > own_start)
        return UNPAGEABLE_NOT; /* the agent's, not the program's */
    if (vma->kind == KMAP_SPECIAL || !(vma->prot & rw))
        return UNPAGEABLE_NOT; /* of the kernel's; reserved, and empty */
    if (vma->prot & KMAP_SHARED)
        return vma->prot & KMAP_PROT_WRITE ? UNPAGEABLE_SHARED : UNPAGEABLE_NOT;
    if (vma->kind == KMAP_STACK)
        return UNPAGEABLE_STACK;
    if (!is_anon) /* what of it was never written is the page cache's */
        return vma->prot & KMAP_PROT_WRITE ? UNPAGEABLE_FILE : UNPAGEABLE_NOT;
    if (vma->prot & KMAP_PROT_EXEC)
        return UNPAGEABLE_EXEC;
    if ((vma->prot & rw) != rw)
        return UNPAGEABLE_READONLY;
    if (!adopt_is_candidate(vma, nr_below, own_start, own_end))
        return UNPAGEABLE_STACK; /* the guard below it says so */
    return by_flags(vma->flags);
}

void unpageable_count(struct wclient *wc)
{
    const struct kmap *m = &wc->maps;

    memset(wc->unpageable_bytes, 0, sizeof(wc->unpageable_bytes));
    for (size_t i = 0; i < m->nr; i++) {
        const struct kmap_vma *vma = &m->vma[i];
        enum unpageable why = unpageable_why(vma, i, wc->own_start, wc->own_end);
        if (why == UNPAGEABLE_NOT && vma->flags & KMAP_VMF_UFFD &&
            !(vma->r.start.v < wc->own_end && urange_end(vma->r) > wc->own_start) &&
            mm_area_next_start(&wc->c.mm, vma->r.start.v) >= urange_end(vma->r) &&
            !mm_area_find(&wc->c.mm, vma->r.start.v))
            why = UNPAGEABLE_FOREIGN;
        wc->unpageable_bytes[why] += vma->r.len;
    }
    wc->unpageable_known = true;
}
