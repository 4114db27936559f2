/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ordinary program that locks all of its memory for a moment, before it has much and again
 * when it has: fills MIB, verifies it.  Exit status: 77 when it may not lock.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u

static void lock_for_a_moment(void)
{
    if (mlockall(MCL_CURRENT) < 0) {
        perror("mlockall");
        exit(77);
    }
    if (munlockall() < 0)
        exit(99);
}

static unsigned touch(unsigned char *p, size_t bytes, unsigned char was)
{
    unsigned wrong = 0;

    for (size_t at = 0; at < bytes; at += PAGE) {
        wrong += p[at] != was || p[at + PAGE - 1] != was;
        memset(p + at, was + 1, PAGE);
    }
    return wrong;
}

int main(int argc, char **argv)
{
    size_t bytes = (argc > 1 ? strtoul(argv[1], NULL, 10) : 0) << 20;
    unsigned char *p;
    unsigned wrong = 0;

    lock_for_a_moment();
    p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return 99;
    for (unsigned char round = 0; round < 3; round++)
        wrong += touch(p, bytes, round);
    printf("%u pages wrong\n", wrong);
    return wrong != 0;
}
