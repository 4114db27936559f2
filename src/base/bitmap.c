/* SPDX-License-Identifier: Apache-2.0 */
/* Searching and counting in bitmaps; the single-bit operations are in base.h. */
#include "base/base.h"

/* First bit in [from, nr_bits) whose value, xored with `flip`, is 1. */
static size_t find_next(const uint64_t *map, size_t nr_bits, size_t from, uint64_t flip)
{
    size_t word = from / 64;
    uint64_t bits;

    if (from >= nr_bits)
        return nr_bits;

    bits = (map[word] ^ flip) & (UINT64_MAX << (from % 64));
    while (!bits) {
        word++;
        if (word >= BITMAP_WORDS(nr_bits))
            return nr_bits;
        bits = map[word] ^ flip;
    }
    /* What lies behind nr_bits in the last word does not count. */
    return MIN(word * 64 + (size_t)__builtin_ctzll(bits), nr_bits);
}

size_t bitmap_find_next_set(const uint64_t *map, size_t nr_bits, size_t from)
{
    return find_next(map, nr_bits, from, 0);
}

size_t bitmap_find_next_zero(const uint64_t *map, size_t nr_bits, size_t from)
{
    return find_next(map, nr_bits, from, UINT64_MAX);
}

size_t bitmap_count(const uint64_t *map, size_t nr_bits)
{
    size_t count = 0;

    for (size_t i = 0; i < nr_bits / 64; i++)
        count += (size_t)__builtin_popcountll(map[i]);
    if (nr_bits % 64)
        count += (size_t)__builtin_popcountll(map[nr_bits / 64] &
                                              (UINT64_MAX >> (64 - nr_bits % 64)));
    return count;
}
