/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ordinary program: fills memory above its limit, guards single pages of it,
 * takes the guards away, and expects zeros there and its bytes elsewhere.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define GUARD_INSTALL 102
#define GUARD_REMOVE 103
#define PAGE 4096u
#define BYTES ((size_t)96 << 20)
#define STEP ((size_t)256 << 10)

int main(void)
{
    unsigned char *p =
        mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned stale = 0, lost = 0;

    if (p == MAP_FAILED)
        return 1;
    for (unsigned round = 0; round < 2; round++)
        for (size_t at = 0; at < BYTES; at += PAGE)
            memset(p + at, 7, PAGE);
    for (size_t at = STEP; at < BYTES; at += STEP) {
        if (madvise(p + at, PAGE, GUARD_INSTALL) < 0) {
            printf("no guards in this kernel: %s\n", strerror(errno));
            return errno == EINVAL ? 77 : 1;
        }
        if (madvise(p + at, PAGE, GUARD_REMOVE) < 0)
            return 1;
        stale += p[at] != 0;
        lost += p[at + PAGE] != 7 || p[at - 1] != 7;
    }
    printf("%u stale, %u lost\n", stale, lost);
    return stale || lost;
}
