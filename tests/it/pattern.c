/* SPDX-License-Identifier: Apache-2.0 */
#include "pattern.h"

#include <string.h>

#define STEP 0x9e3779b97f4a7c15u
#define FACTOR 0xd6e8feb86659fd93u
#define WORDS (PAGE / sizeof(uint64_t))

uint64_t random_u64(uint64_t *state)
{
    uint64_t z = (*state += STEP);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t word(uint64_t tag, uint32_t i)
{
    return tag ? (tag + i * STEP) * FACTOR : 0;
}

void tag_fill(void *page, uint64_t tag)
{
    uint64_t *p = page;

    for (uint32_t i = 0; i < WORDS; i++)
        p[i] = word(tag, i);
}

uint64_t tag_of_content(const void *page)
{
    uint64_t inverse = FACTOR, first, tag;

    for (int i = 0; i < 6; i++) /* Newton: each step doubles the bits that are right */
        inverse *= 2 - FACTOR * inverse;
    memcpy(&first, page, sizeof(first));
    tag = first * inverse;
    for (uint32_t i = 0; i < WORDS; i++) {
        uint64_t w;
        memcpy(&w, (const char *)page + i * sizeof(w), sizeof(w));
        if (w != word(tag, i))
            return 0;
    }
    return tag;
}

bool page_is_zero(const void *page)
{
    const char *p = page;

    return p[0] == 0 && memcmp(p, p + 1, PAGE - 1) == 0;
}

struct page_difference page_compare(const void *expected, const void *found)
{
    const unsigned char *a = expected, *b = found;
    struct page_difference d = {0, 0};

    for (uint32_t i = PAGE; i-- > 0;) {
        if (a[i] != b[i]) {
            d.at = i;
            d.nr_bytes++;
        }
    }
    return d;
}
