/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of /proc/PID/maps and smaps.  Pure; lines that do not read as
 * expected are passed over, so that a newer kernel's additions do no harm.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kernel/kernel.h"

static enum kmap_kind kind_of(const char *name, uint64_t inode)
{
    /* Shared anonymous memory may be named in brackets too: [anon_shmem:...]. */
    if (inode)
        return KMAP_FILE;
    if (!name[0])
        return KMAP_ANON;
    if (name[0] != '[')
        return KMAP_FILE;
    if (!strcmp(name, "[heap]"))
        return KMAP_HEAP;
    if (!strcmp(name, "[stack]"))
        return KMAP_STACK;
    if (!strncmp(name, "[anon:", 6))
        return KMAP_NAMED_ANON;
    return KMAP_SPECIAL;
}

/* One line without its newline: "start-end rwxp offset major:minor inode   name". */
static bool parse_line(const char *line, struct kmap_vma *ret)
{
    uint64_t start, end, offset, inode;
    char perms[5];
    unsigned major, minor;
    int at = 0;

    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64 " %n", &start, &end,
               perms, &offset, &major, &minor, &inode, &at) < 7 ||
        !at || strlen(perms) != 4 || start >= end || (start | end) & ~PAGE_MASK)
        return false;
    *ret = (struct kmap_vma){
        .r = urange(start, end),
        .prot = (perms[0] == 'r' ? KMAP_PROT_READ : 0) | (perms[1] == 'w' ? KMAP_PROT_WRITE : 0) |
                (perms[2] == 'x' ? KMAP_PROT_EXEC : 0) | (perms[3] == 's' ? KMAP_SHARED : 0),
        .kind = kind_of(line + at, inode),
        .dev_major = major,
        .dev_minor = minor,
        .offset = offset,
        .inode = inode,
    };
    return true;
}

/* The next line into buf (cut when longer), and where the one after it starts. */
static const char *next_line(const char *at, const char *end, char *buf, size_t size)
{
    const char *nl = memchr(at, '\n', (size_t)(end - at));
    size_t len = (size_t)((nl ? nl : end) - at);
    size_t n = MIN(len, size - 1);

    memcpy(buf, at, n);
    buf[n] = 0;
    return nl ? nl + 1 : end;
}

int kmap_parse(struct kmap *m, const char *text, size_t len)
{
    const char *at = text, *end = text + len;
    char line[512];

    m->nr = 0;
    while (at < end) {
        struct kmap_vma vma;
        at = next_line(at, end, line, sizeof(line));
        if (!parse_line(line, &vma))
            continue;
        if (m->nr && urange_end(m->vma[m->nr - 1].r) > vma.r.start.v)
            continue; /* maps changed while it was read: the kernel may repeat itself */
        if (m->nr == m->cap) {
            size_t cap = m->cap ? 2 * m->cap : 128;
            struct kmap_vma *more = reallocarray(m->vma, cap, sizeof(*more));
            if (!more)
                return -ENOMEM;
            m->vma = more;
            m->cap = cap;
        }
        m->vma[m->nr++] = vma;
    }
    return 0;
}

static const struct {
    char name[3];
    uint32_t flag;
} vm_flags[] = {
    {"lo", KMAP_VMF_LOCKED},    {"dc", KMAP_VMF_DONTCOPY},    {"wf", KMAP_VMF_WIPEONFORK},
    {"gd", KMAP_VMF_GROWSDOWN}, {"io", KMAP_VMF_IO},          {"pf", KMAP_VMF_PFNMAP},
    {"ht", KMAP_VMF_HUGETLB},   {"um", KMAP_VMF_UFFD},        {"uw", KMAP_VMF_UFFD},
    {"ui", KMAP_VMF_UFFD},      {"hg", KMAP_VMF_HUGEPAGE},    {"nh", KMAP_VMF_NOHUGEPAGE},
    {"mg", KMAP_VMF_MERGEABLE}, {"mm", KMAP_VMF_MIXEDMAP},    {"ss", KMAP_VMF_SHADOWSTACK},
    {"dp", KMAP_VMF_DROPPABLE},
};

static uint32_t parse_vm_flags(const char *words)
{
    uint32_t flags = KMAP_VMF_KNOWN;

    while (*words) {
        size_t len;
        words += strspn(words, " ");
        len = strcspn(words, " ");
        for (size_t i = 0; len == 2 && i < ARRAY_SIZE(vm_flags); i++)
            if (!strncmp(words, vm_flags[i].name, 2))
                flags |= vm_flags[i].flag;
        words += len;
    }
    return flags;
}

void kmap_parse_flags(struct kmap *m, const char *text, size_t len)
{
    const char *at = text, *end = text + len;
    struct kmap_vma *current = NULL;
    char line[512];

    for (size_t i = 0; i < m->nr; i++)
        m->vma[i].flags = 0;
    while (at < end) {
        struct kmap_vma vma;
        at = next_line(at, end, line, sizeof(line));
        if (!strncmp(line, "VmFlags:", 8)) {
            if (current)
                current->flags = parse_vm_flags(line + 8);
            current = NULL;
        } else if (parse_line(line, &vma)) {
            current = (struct kmap_vma *)kmap_find(m, vma.r.start);
            if (current && (current->r.start.v != vma.r.start.v || current->r.len != vma.r.len))
                current = NULL;
        }
    }
}
