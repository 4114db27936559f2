/* SPDX-License-Identifier: Apache-2.0 */
/*
 * huge-touch MIB: touches that much MADV_HUGEPAGE memory for the first time, page by
 * page upwards, then reads all of it back.  0: every byte was right.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE 4096u
#define WORDS (PAGE / sizeof(uint64_t))

int main(int argc, char **argv)
{
    size_t pages = (size_t)(argc > 1 ? atoi(argv[1]) : 64) << 8;
    uint64_t *mem = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                         -1, 0);

    if (mem == MAP_FAILED || madvise(mem, pages * PAGE, MADV_HUGEPAGE) < 0) {
        perror("huge-touch");
        return 2;
    }
    for (size_t i = 0; i < pages; i++) {
        mem[i * WORDS + i % WORDS] = i + 1;
        for (size_t k = 0; k < WORDS; k += 64)
            if (k != i % WORDS && mem[i * WORDS + k]) {
                printf("page %zu is not zero when it is touched first\n", i);
                return 1;
            }
    }
    for (size_t i = 0; i < pages; i++)
        for (size_t k = 0; k < WORDS; k++)
            if (mem[i * WORDS + k] != (k == i % WORDS ? i + 1 : 0)) {
                printf("page %zu word %zu is wrong\n", i, k);
                return 1;
            }
    return 0;
}
