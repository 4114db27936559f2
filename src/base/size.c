/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes as people write them: 4096, 96M, 2G. */
#include "base/base.h"

static int suffix_shift(char c)
{
    switch (c) {
    case 'K': case 'k': return 10;
    case 'M': case 'm': return 20;
    case 'G': case 'g': return 30;
    case 'T': case 't': return 40;
    }
    return -EINVAL;
}

int parse_size(const char *text, uint64_t *ret_bytes)
{
    uint64_t value = 0;
    const char *p = text;
    int shift = 0;

    /* By hand: strtoull takes signs, blanks and "0x". */
    if (*p < '0' || *p > '9')
        return -EINVAL;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value)) {
            /* "No size" comes before "too large": look at the rest. */
            while (*p >= '0' && *p <= '9')
                p++;
            if (*p && (suffix_shift(*p) < 0 || p[1]))
                return -EINVAL;
            return -ERANGE;
        }

    if (*p) {
        shift = suffix_shift(*p);
        if (shift < 0 || p[1])
            return -EINVAL;
    }
    if (shift && value > UINT64_MAX >> shift)
        return -ERANGE;

    *ret_bytes = value << shift;
    return 0;
}
