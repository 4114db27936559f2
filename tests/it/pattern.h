/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_TESTS_PATTERN_H
#define PAGERD_TESTS_PATTERN_H
/*
 * Contents of pages that can be checked byte by byte.  A page's content is a function
 * of its tag, a number that is used once; so a page that has another one's content tells
 * whose it is.  Tag 0 is a page of zeros.
 */
#include <stdbool.h>
#include <stdint.h>

#define PAGE 4096u

void tag_fill(void *page, uint64_t tag);
uint64_t tag_of_content(const void *page); /* 0 when it is none */
bool page_is_zero(const void *page);

/* Random numbers from a state that is a seed at first. */
uint64_t random_u64(uint64_t *state);
static inline uint32_t random_u32_below(uint64_t *state, uint32_t n)
{
    return (uint32_t)((random_u64(state) >> 32) * n >> 32);
}

/* What differs between two pages' bytes. */
struct page_difference {
    uint32_t at, nr_bytes; /* the first byte, and how many; 0: none */
};
struct page_difference page_compare(const void *expected, const void *found);

#endif
