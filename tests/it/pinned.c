/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pinned: a program with memory that is pinned, protected, locked, or shared with a child.
 * Says "ready", and then does what its standard input says, a line each, until that ends:
 *
 *   pin       registers PAGES pages with an io_uring; says "pinned"
 *   receive   looks at them, has the kernel write to them, which it does without asking the
 *             page tables again, and says "arrived" or "lost"
 *   unpin     says "unpinned"
 *   protect   makes as many read-only; says "protected"
 *   lock      locks as many; says "locked"
 *   fork      has a child that does nothing; says "forked"
 *   reap      ends the child; says "reaped"
 *   verify    looks at every word; says "verified" or ends with status 1
 */
#define _GNU_SOURCE
#include <liburing.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define PAGES ((size_t)16)        /* less than a pipe holds */
#define ALL_PAGES ((size_t)1024)  /* of each of the parts */

static const size_t words = ALL_PAGES * PAGE / sizeof(uint64_t);
static uint64_t *pinned, *protected, *locked; /* each a mapping of its own */
static struct io_uring ring;
static int data[2], end_of_child[2];
static pid_t child;

static void must(int is_right, const char *what)
{
    if (is_right)
        return;
    perror(what);
    exit(2);
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ (x >> 27);
}

static uint64_t *map(uint64_t seed)
{
    uint64_t *p = mmap(NULL, ALL_PAGES * PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    must(p != MAP_FAILED, "mmap");
    madvise(p, ALL_PAGES * PAGE, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < words; i++)
        p[i] = mix(seed + i);
    return p;
}

static void verify(const uint64_t *p, uint64_t seed)
{
    for (size_t i = 0; i < words; i++) {
        if (p[i] == mix(seed + i))
            continue;
        printf("word %zu of part %u is wrong\n", i, (unsigned)(seed >> 32));
        exit(1);
    }
}

static void pin(void)
{
    struct iovec v = {pinned, PAGES * PAGE};

    must(io_uring_register_buffers(&ring, &v, 1) == 0, "io_uring_register_buffers");
}

static void receive(void)
{
    uint64_t bytes[PAGES * PAGE / sizeof(uint64_t)];
    const size_t n = sizeof(bytes) / sizeof(*bytes);
    struct io_uring_cqe *cqe = NULL;

    for (size_t i = 0; i < n; i++) {
        must(pinned[i] == mix(i), "what was there before");
        bytes[i] = mix(~i);
    }
    must(write(data[1], bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes), "write");
    io_uring_prep_read_fixed(io_uring_get_sqe(&ring), data[0], pinned, sizeof(bytes), 0, 0);
    must(io_uring_submit(&ring) == 1 && io_uring_wait_cqe(&ring, &cqe) == 0, "io_uring");
    must(cqe->res == (int)sizeof(bytes), "io_uring: a short read");
    io_uring_cqe_seen(&ring, cqe);
    puts(memcmp(pinned, bytes, sizeof(bytes)) ? "lost" : "arrived");
    for (size_t i = 0; i < n; i++)
        pinned[i] = mix(i);
}

static void begin_child(void)
{
    char byte;

    must(pipe(end_of_child) == 0, "pipe");
    child = fork();
    must(child >= 0, "fork");
    if (child)
        return;
    close(end_of_child[1]);
    must(read(end_of_child[0], &byte, 1) == 0, "read");
    _exit(0);
}

static void end_child(void)
{
    close(end_of_child[1]);
    must(waitpid(child, NULL, 0) == child, "waitpid");
}

static void obey(const char *order)
{
    if (!strcmp(order, "receive\n")) {
        receive();
    } else if (!strcmp(order, "pin\n")) {
        pin();
        puts("pinned");
    } else if (!strcmp(order, "unpin\n")) {
        must(io_uring_unregister_buffers(&ring) == 0, "io_uring_unregister_buffers");
        puts("unpinned");
    } else if (!strcmp(order, "protect\n")) {
        must(mprotect(protected, ALL_PAGES * PAGE, PROT_READ) == 0, "mprotect");
        puts("protected");
    } else if (!strcmp(order, "lock\n")) {
        must(mlock(locked, PAGES * PAGE) == 0, "mlock");
        puts("locked");
    } else if (!strcmp(order, "fork\n")) {
        begin_child();
        puts("forked");
    } else if (!strcmp(order, "reap\n")) {
        end_child();
        puts("reaped");
    } else {
        verify(pinned, 0);
        verify(protected, UINT64_C(1) << 32);
        verify(locked, UINT64_C(2) << 32);
        puts("verified");
    }
}

int main(void)
{
    char line[64];

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (io_uring_queue_init(4, &ring, 0) < 0) {
        puts("no io_uring");
        return 77;
    }
    must(pipe(data) == 0, "pipe");
    pinned = map(0);
    protected = map(UINT64_C(1) << 32);
    locked = map(UINT64_C(2) << 32);
    puts("ready");
    while (fgets(line, sizeof(line), stdin))
        obey(line);
    return 0;
}
