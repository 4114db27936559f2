/* SPDX-License-Identifier: Apache-2.0 */
/* The content of pages and how it is checked; see churn.h. */
#include "churn.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORDS (PAGE / sizeof(uint64_t))

uint64_t random_next(struct churner *c)
{
    return random_u64(&c->random);
}

uint32_t random_below(struct churner *c, uint32_t n)
{
    return random_u32_below(&c->random, n);
}

bool random_chance(struct churner *c, uint32_t one_in)
{
    return random_below(c, one_in) == 0;
}

/* ---- tags ---- */

uint64_t tag_new(struct churner *c, const struct region *r, uint32_t page)
{
    return (uint64_t)c->id << 60 | (uint64_t)(c->depth & 3) << 58 | (uint64_t)(r->id & 63) << 52 |
           (uint64_t)(page & 0xffff) << 36 | (++c->next_generation & 0xfffffffff);
}

/* ---- pages ---- */

static bool is_odd(const struct region *r, uint32_t page)
{
    return page - r->odd_page < r->nr_odd;
}

bool page_readable(const struct region *r, uint32_t page)
{
    return !is_odd(r, page) || r->odd_prot & PROT_READ;
}

bool page_writable(const struct region *r, uint32_t page)
{
    return !is_odd(r, page) || r->odd_prot & PROT_WRITE;
}

void page_write(struct churner *c, struct region *r, uint32_t page)
{
    struct shadow *s = &r->shadow[page];

    *s = (struct shadow){.tag = tag_new(c, r, page)};
    tag_fill(page_at(r, page), s->tag);
}

void page_settle(struct churner *c, struct region *r, uint32_t page)
{
    const struct shadow *s = &r->shadow[page];

    if (s->unknown || s->maybe_zero)
        page_write(c, r, page);
}

static void expected_content(const struct shadow *s, void *out)
{
    tag_fill(out, s->tag);
    if (s->patch_len) {
        char patch[PAGE];
        tag_fill(patch, s->patch_tag);
        memcpy((char *)out + s->patch_at, patch + s->patch_at, s->patch_len);
    }
}

static void describe_tag(uint64_t tag, char *out, size_t size)
{
    if (tag)
        snprintf(out, size, "thread %u depth %u region %u page %u generation %llu",
                 (unsigned)(tag >> 60), (unsigned)(tag >> 58) & 3, (unsigned)(tag >> 52) & 63,
                 (unsigned)(tag >> 36) & 0xffff, (unsigned long long)(tag & 0xfffffffff));
    else
        snprintf(out, size, "zeros");
}

enum verdict { RIGHT, DROPPED, WRONG }; /* DROPPED: zeros, as MADV_FREE allows */

static enum verdict judge(const struct region *r, uint32_t page, void *expected)
{
    const struct shadow *s = &r->shadow[page];

    if (s->unknown)
        return RIGHT;
    expected_content(s, expected);
    if (memcmp(page_at(r, page), expected, PAGE) == 0)
        return RIGHT;
    return s->maybe_zero && page_is_zero(page_at(r, page)) ? DROPPED : WRONG;
}

static bool is_wrong(const struct region *r, uint32_t page)
{
    uint64_t expected[WORDS];

    return page_readable(r, page) && judge(r, page, expected) == WRONG;
}

/* Which pages of the region are wrong, and the flags of the mappings that it lies in. */
static void describe_region(const struct region *r)
{
    unsigned long start = (unsigned long)r->base, end = start + (size_t)r->nr_pages * PAGE, from, to;
    bool inside = false;
    char line[256];

    for (uint32_t i = 0, first; i < r->nr_pages; i++) {
        for (first = i; i < r->nr_pages && is_wrong(r, i); i++)
            ;
        if (i > first)
            dprintf(STDERR_FILENO, "  wrong: pages %u..%u of region %u (%u pages)\n", first, i - 1,
                    r->id, r->nr_pages);
    }
    FILE *f = fopen("/proc/self/smaps", "re");
    while (f && fgets(line, sizeof(line), f)) {
        bool is_head = sscanf(line, "%lx-%lx ", &from, &to) == 2;
        if (is_head)
            inside = to > start && from < end;
        if (inside && (is_head || !strncmp(line, "VmFlags:", 8)))
            dprintf(STDERR_FILENO, "  %s", line);
    }
    if (f)
        fclose(f);
}

static _Noreturn void mismatch(struct churner *c, struct region *r, uint32_t page,
                               const unsigned char *expected)
{
    struct shadow *s = &r->shadow[page];
    unsigned char found[PAGE];
    char want[96], got[96], patch[96];
    struct page_difference d;

    memcpy(found, page_at(r, page), PAGE); /* once: it may be right again by the second look */
    d = page_compare(expected, found);
    describe_tag(s->tag, want, sizeof(want));
    describe_tag(s->patch_tag, patch, sizeof(patch));
    uint64_t tag = tag_of_content(found);
    if (!d.nr_bytes)
        snprintf(got, sizeof(got), "at the second look what was expected");
    else if (tag || page_is_zero(found))
        describe_tag(tag, got, sizeof(got));
    else
        snprintf(got, sizeof(got), "a mixture");
    describe_region(r);
    fail(c, "page %u of region %u at %p: byte %u: expected %02x, found %02x; %u bytes differ; "
            "expected: %s%s%s at %u+%u; found: %s", page, r->id, (void *)page_at(r, page),
         d.at, expected[d.at], found[d.at], d.nr_bytes, want, s->patch_len ? ", patched by " : "",
         s->patch_len ? patch : "", s->patch_at, s->patch_len, got);
}

void page_verify(struct churner *c, struct region *r, uint32_t page)
{
    uint64_t expected[WORDS];

    switch (judge(r, page, expected)) {
    case RIGHT:
        return;
    case DROPPED: /* it does not come back */
        r->shadow[page] = (struct shadow){0};
        return;
    case WRONG:
        mismatch(c, r, page, (const unsigned char *)expected);
    }
}

void region_verify(struct churner *c, struct region *r)
{
    note(c, "verify all", r, 0, r->nr_pages);
    for (uint32_t i = 0; i < r->nr_pages; i++)
        if (page_readable(r, i))
            page_verify(c, r, i);
}
