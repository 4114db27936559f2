/* SPDX-License-Identifier: Apache-2.0 */
/*
 * swapped MIB [wait|fork]: a program that can tell a wrong page from a lost one.
 *
 * It fills MIB mebibytes and looks at every page in an order of its own; a page whose
 * touch is SIGBUS is lost.  With `wait` it says "filled" in between, and waits for a
 * line on standard input; with `fork` a child looks at all pages at the same time.
 * Prints "pages N wrong W lost L", the child's counts with its own; status 1 when one
 * is wrong.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE_BYTES 4096u
#define PAGE_WORDS (PAGE_BYTES / sizeof(uint64_t))

static sigjmp_buf lost_page;
static uint64_t *memory;
static uint64_t nr_pages;

static void on_bus(int sig)
{
    (void)sig;
    siglongjmp(lost_page, 1);
}

static uint64_t word(uint64_t page, uint64_t w)
{
    uint64_t x = (page * PAGE_WORDS + w + 1) * UINT64_C(0x9e3779b97f4a7c15);

    return (x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
}

static int is_wrong(uint64_t page)
{
    volatile const uint64_t *at = memory + page * PAGE_WORDS;

    for (uint64_t w = 0; w < PAGE_WORDS; w++)
        if (at[w] != word(page, w))
            return 1;
    return 0;
}

struct counts {
    uint64_t wrong, lost;
};

static struct counts look(uint64_t stride)
{
    static struct counts c; /* lives through siglongjmp() */
    static uint64_t i;

    c = (struct counts){0};
    for (i = 0; i < nr_pages; i++) {
        if (sigsetjmp(lost_page, 1)) {
            c.lost++;
            continue;
        }
        c.wrong += (uint64_t)is_wrong(i * stride % nr_pages);
    }
    return c;
}

static int wait_for_a_line(void)
{
    char line[16];

    puts("filled");
    fflush(stdout);
    return fgets(line, sizeof(line), stdin) ? 0 : -1;
}

int main(int argc, char **argv)
{
    const char *how = argc > 2 ? argv[2] : "";
    struct counts c, child = {0};
    int pipes[2];
    pid_t pid = -1;

    nr_pages = (argc > 1 ? strtoull(argv[1], NULL, 10) : 64) * 256;
    memory = mmap(NULL, nr_pages * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                  0);
    if (memory == MAP_FAILED || pipe(pipes) < 0)
        return 2;
    signal(SIGBUS, on_bus);
    for (uint64_t page = 0; page < nr_pages; page++)
        for (uint64_t w = 0; w < PAGE_WORDS; w++)
            memory[page * PAGE_WORDS + w] = word(page, w);
    if (!strcmp(how, "wait") && wait_for_a_line() < 0)
        return 2;
    if (!strcmp(how, "fork")) {
        pid = fork();
        if (pid < 0)
            return 2;
    }
    /* Odd, so that with pages by the power of two, or not, hardly one follows the other. */
    c = look(nr_pages % 10007 ? 10007 : 1);
    if (pid == 0)
        return write(pipes[1], &c, sizeof(c)) == sizeof(c) ? 0 : 2;
    if (pid > 0 && (read(pipes[0], &child, sizeof(child)) != sizeof(child) || waitpid(pid, NULL, 0) != pid))
        return 2;
    printf("pages %llu wrong %llu lost %llu\n", (unsigned long long)nr_pages,
           (unsigned long long)(c.wrong + child.wrong), (unsigned long long)(c.lost + child.lost));
    return c.wrong + child.wrong != 0;
}
