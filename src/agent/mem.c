/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compiler may call memcpy() and memset() for a structure whatever it is
 * told, and libc's may not run in the agent (they are bound lazily, by code
 * that uses thread-local storage).  These are the agent's, hidden in the shim.
 */
#include "agent/sys.h"

__attribute__((visibility("hidden"))) void *memcpy(void *restrict dst, const void *restrict src,
                                                   size_t n);
__attribute__((visibility("hidden"))) void *memset(void *dst, int c, size_t n);

void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
    sys_copy(dst, src, n);
    return dst;
}

void *memset(void *dst, int c, size_t n)
{
    volatile unsigned char *d = dst; /* volatile: a plain loop would become a call to itself */

    while (n--)
        *d++ = (unsigned char)c;
    return dst;
}
