/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's captures, byte by byte, against a fake daemon: this program is
 * the daemon, and runs itself under the shim as the program whose pages are
 * taken ("program" as argument).  The two speak through the program's stdin and
 * stdout, a word a line.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_program.h"

#define PAGES 512u
#define HOLE 10u
#define PINNED 20u

/* ---- the program ---- */

static unsigned char *map_aligned(size_t len)
{
    unsigned char *p = mmap(NULL, len + LEAF_SIZE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    FAKE_CHECK(p != MAP_FAILED);
    return (unsigned char *)(((uintptr_t)p + LEAF_SIZE - 1) & ~(LEAF_SIZE - 1));
}

static void fill(unsigned char *page, uint32_t n)
{
    uint32_t *w = (uint32_t *)(void *)page;

    for (uint32_t i = 0; i < PAGE_SIZE / 4; i++)
        w[i] = n * 2654435761u + i;
}

static bool is_filled(const unsigned char *page, uint32_t n)
{
    const uint32_t *w = (const uint32_t *)(const void *)page;

    for (uint32_t i = 0; i < PAGE_SIZE / 4; i++)
        if (w[i] != n * 2654435761u + i)
            return false;
    return true;
}

static sigjmp_buf on_sigbus;

static void sigbus(int signal)
{
    (void)signal;
    siglongjmp(on_sigbus, 1);
}

/* Says "number", or "sigbus". */
static void say_byte(const volatile unsigned char *p)
{
    struct sigaction act = {.sa_handler = sigbus};

    sigaction(SIGBUS, &act, NULL);
    if (sigsetjmp(on_sigbus, 1) == 0)
        printf("%u\n", *p);
    else
        printf("sigbus\n");
}

/*
 * Writes all over `area` for `ms`, by stores and through /proc/self/mem, while
 * its pages are being taken and brought back; says "same" when none was lost.
 */
struct writer {
    unsigned char *area;
    int64_t end_ns;
    uint64_t lost, nr;
};

static uint32_t next_random(uint32_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 17;
    return *x ^= *x << 5;
}

static void *write_through_proc(void *arg)
{
    struct writer *w = arg;
    int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    uint32_t x = 77;

    FAKE_CHECK(fd >= 0);
    for (uint64_t n = 1; fake_now_ns() < w->end_ns; n++) {
        volatile uint64_t *word =
            (void *)(w->area + next_random(&x) % PAGES * PAGE_SIZE + PAGE_SIZE / 2);

        /* EIO: the page is out, as pagerd-preload(7) says. */
        if (pwrite(fd, &n, sizeof(n), (off_t)(uintptr_t)word) != sizeof(n))
            continue;
        w->nr++;
        w->lost += *word != n;
    }
    close(fd);
    return NULL;
}

static void spin(unsigned char *area, unsigned ms)
{
    struct writer w = {area, fake_now_ns() + ms * 1000000LL, 0, 0};
    static uint32_t count[PAGES];
    uint64_t nr = 0, lost = 0;
    uint32_t x = 5;
    pthread_t t;

    for (uint32_t i = 0; i < PAGES; i++)
        *(uint32_t *)(void *)(area + i * PAGE_SIZE) = 0;
    FAKE_CHECK(pthread_create(&t, NULL, write_through_proc, &w) == 0);
    while (nr % 64 || fake_now_ns() < w.end_ns) {
        uint32_t i = next_random(&x) % PAGES;

        ++*(volatile uint32_t *)(void *)(area + i * PAGE_SIZE);
        count[i]++;
        nr++;
    }
    pthread_join(t, NULL);
    for (uint32_t i = 0; i < PAGES; i++)
        lost += *(uint32_t *)(void *)(area + i * PAGE_SIZE) != count[i];
    fprintf(stderr, "note: %" PRIu64 " stores, %" PRIu64 " writes through /proc/self/mem\n", nr,
            w.nr);
    if (lost || w.lost)
        printf("LOST:%" PRIu64 ":%" PRIu64 "\n", lost, w.lost);
    else
        printf("same\n");
}

static int program(void)
{
    unsigned char *small = map_aligned(LEAF_SIZE), *huge = map_aligned(LEAF_SIZE);
    struct iovec pinned = {small + PINNED * PAGE_SIZE, PAGE_SIZE};
    struct io_uring uring;
    char word[32];
    unsigned n;

    setvbuf(stdout, NULL, _IOLBF, 0);
    madvise(small, LEAF_SIZE, MADV_NOHUGEPAGE);
    madvise(huge, LEAF_SIZE, MADV_HUGEPAGE);
    for (uint32_t i = 0; i < PAGES; i++) {
        if (i != HOLE)
            fill(small + i * PAGE_SIZE, i);
        fill(huge + i * PAGE_SIZE, 1000 + i);
    }
    n = io_uring_queue_init(2, &uring, 0) == 0 &&
        io_uring_register_buffers(&uring, &pinned, 1) == 0;
    printf("%" PRIxPTR " %" PRIxPTR " %u\n", (uintptr_t)small, (uintptr_t)huge, n);
    while (scanf("%31s", word) == 1) {
        if (sscanf(word, "small:%u", &n) == 1)
            printf("%s\n", is_filled(small + n * PAGE_SIZE, n) ? "same" : "DIFFERS");
        else if (sscanf(word, "huge:%u", &n) == 1)
            printf("%s\n", is_filled(huge + n * PAGE_SIZE, 1000 + n) ? "same" : "DIFFERS");
        else if (sscanf(word, "byte:%u", &n) == 1)
            say_byte(small + n * PAGE_SIZE);
        else if (sscanf(word, "spin:%u", &n) == 1)
            spin(huge, n);
        else if (sscanf(word, "drop:%u", &n) == 1)
            printf("%d\n", madvise(small + n * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED));
        else
            break; /* "end" */
    }
    return 0;
}

/* ---- the daemon ---- */

struct run {
    struct fake_program p;
    uint64_t small, huge;
    bool has_pin;
};

static char socket_path[64];

static void start(struct run *r, int listener, char *self)
{
    int pin;

    fake_program_start(&r->p, listener, socket_path, self);
    FAKE_CHECK(fscanf(r->p.from, "%" SCNx64 " %" SCNx64 " %d", &r->small, &r->huge, &pin) == 3);
    r->has_pin = pin;
    FAKE_CHECK(r->p.c.attach.program_pid == r->p.pid);
    FAKE_CHECK(r->small >= r->p.c.attach.own_end || r->small + LEAF_SIZE <= r->p.c.attach.own_start);
    fake_register(&r->p.c, r->small, LEAF_SIZE);
    fake_register(&r->p.c, r->huge, LEAF_SIZE);
}

static bool gone_within(pid_t pid, int ms)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0), r;
    struct pollfd p = {fd, POLLIN, 0};

    if (fd < 0)
        return errno == ESRCH;
    r = poll(&p, 1, ms);
    close(fd);
    return r == 1;
}

static void end(struct run *r, int agent_ms)
{
    fake_program_end(&r->p);
    FAKE_CHECK(gone_within(r->p.c.attach.agent_pid, agent_ms));
    fake_detach(&r->p.c);
}

static void check_results(struct run *r)
{
    for (uint32_t i = 0; i < PAGES; i++) {
        unsigned want = i == HOLE                ? CAPTURE_HOLE
                        : i == PINNED && r->has_pin ? CAPTURE_BUSY
                                                 : CAPTURE_TAKEN;

        if (r->p.c.ring->result[i] != want) {
            fprintf(stderr, "slot %u: result %u, not %u\n", i, r->p.c.ring->result[i], want);
            exit(1);
        }
        if (want == CAPTURE_TAKEN)
            FAKE_CHECK(is_filled(r->p.c.transfer + i * PAGE_SIZE, i));
    }
}

/* Answers one fault of the program with page n of `from`. */
static void serve(struct run *r, uint64_t addr, const void *page)
{
    struct uffd_msg msg;

    FAKE_CHECK(fake_message(&r->p.c, 5000, &msg));
    FAKE_CHECK(msg.event == UFFD_EVENT_PAGEFAULT);
    FAKE_CHECK((msg.arg.pagefault.address & PAGE_MASK) == addr);
    fake_fill(&r->p.c, addr, page, PAGE_SIZE);
}

/* What the agent keeps of the program's: the memory. */
static void test_process(struct run *r)
{
    pid_t agent = r->p.c.attach.agent_pid;
    char path[300], line[256], cwd[64] = "";
    unsigned right = 0, nr_fds = 0;
    struct dirent *e;
    FILE *f;
    DIR *d;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)agent);
    f = fopen(path, "re");
    FAKE_CHECK(f);
    while (fgets(line, sizeof(line), f))
        right += strcmp(line, "Name:\tpagerd-agent\n") == 0 || strcmp(line, "Seccomp:\t2\n") == 0 ||
                 strcmp(line, "NoNewPrivs:\t1\n") == 0 ||
                 strcmp(line, "SigBlk:\tfffffffffffbfeff\n") == 0; /* all but KILL and STOP */
    fclose(f);
    FAKE_CHECK(right == 4 && getsid(agent) == agent);
    snprintf(path, sizeof(path), "/proc/%d/cwd", (int)agent);
    FAKE_CHECK(readlink(path, cwd, sizeof(cwd) - 1) > 0 && strcmp(cwd, "/") == 0);
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)agent);
    d = opendir(path);
    FAKE_CHECK(d);
    while ((e = readdir(d)))
        nr_fds += e->d_name[0] != '.';
    closedir(d);
    FAKE_CHECK(nr_fds == 3);
    printf("the agent: filtered, no signals, own session, three descriptors\n");
}

static void test_small(struct run *r)
{
    struct ring_vec all = {r->small, PAGES, 0}, two[2];
    static unsigned char copy[PAGES * PAGE_SIZE];
    int64_t ns = fake_command(&r->p.c, RING_CAPTURE, &all, 1);

    check_results(r);
    printf("capture of %u pages: %" PRId64 " ns a page, results and bytes right\n", PAGES,
           ns / PAGES);
    memcpy(copy, r->p.c.transfer, sizeof(copy));
    /* The transfer area must be a copy: nothing of it goes back by itself. */
    memset(r->p.c.transfer, 0xee, RING_TRANSFER_BYTES);
    fake_ask(&r->p, "small", 7);
    serve(r, r->small + 7 * PAGE_SIZE, copy + 7 * PAGE_SIZE);
    fake_expect(&r->p, "same");

    /* Again, scattered, out of order, while other pages are away. */
    for (unsigned i = 100; i < 140; i++)
        fake_fill(&r->p.c, r->small + i * PAGE_SIZE, copy + i * PAGE_SIZE, PAGE_SIZE);
    two[0] = (struct ring_vec){r->small + 120 * PAGE_SIZE, 25, 300};
    two[1] = (struct ring_vec){r->small + 100 * PAGE_SIZE, 15, 5};
    fake_command(&r->p.c, RING_CAPTURE, two, 2);
    for (uint32_t i = 0; i < 20; i++) {
        FAKE_CHECK(r->p.c.ring->result[300 + i] == CAPTURE_TAKEN);
        FAKE_CHECK(is_filled(r->p.c.transfer + (300 + i) * PAGE_SIZE, 120 + i));
    }
    for (uint32_t i = 20; i < 25; i++)
        FAKE_CHECK(r->p.c.ring->result[300 + i] == CAPTURE_HOLE);
    for (uint32_t i = 0; i < 15; i++)
        FAKE_CHECK(is_filled(r->p.c.transfer + (5 + i) * PAGE_SIZE, 100 + i));
    printf("scattered vecs: right\n");

    /* Nonsense from a ring that the program can write: nothing happens, and there is an answer. */
    two[0] = (struct ring_vec){r->small + 100 * PAGE_SIZE, 600, 0};
    two[1] = (struct ring_vec){r->p.c.attach.own_start, 8, 0};
    fake_command(&r->p.c, RING_CAPTURE, two, 2);
    FAKE_CHECK(r->p.c.ring->result[0] == CAPTURE_NOT_TRIED);
    fake_command(&r->p.c, (enum ring_op)77, two, 2);
    two[0] = (struct ring_vec){~0ull << 12, 512, 0};
    fake_command(&r->p.c, RING_CAPTURE, two, 1);
    FAKE_CHECK(r->p.c.ring->result[0] != CAPTURE_TAKEN);
    printf("vecs out of range: ignored\n");

    for (unsigned i = 0; i < PAGES; i++) {
        if (i == 7 || i == HOLE || i == PINNED || (i >= 115 && i < 120) || i == 140)
            continue; /* there already, or to be asked for below */
        fake_fill(&r->p.c, r->small + i * PAGE_SIZE, copy + i * PAGE_SIZE, PAGE_SIZE);
    }
    fake_ask(&r->p, "small", 140);
    serve(r, r->small + 140 * PAGE_SIZE, copy + 140 * PAGE_SIZE);
    fake_expect(&r->p, "same");
    fake_ask(&r->p, "small", PAGES - 1);
    fake_expect(&r->p, "same");
}

static void test_events(struct run *r)
{
    struct ring_vec v = {r->small, 64, 0};
    struct pollfd p = {r->p.c.uffd, POLLIN, 0};
    struct uffd_msg msg;

    fake_ask(&r->p, "drop", 200);
    FAKE_CHECK(poll(&p, 1, 5000) == 1); /* the event is there, and not read */
    fake_command(&r->p.c, RING_CAPTURE, &v, 1);
    FAKE_CHECK(r->p.c.ring->result[0] == CAPTURE_EVENTS);
    for (uint32_t i = 1; i < 64; i++)
        FAKE_CHECK(r->p.c.ring->result[i] == CAPTURE_NOT_TRIED);
    FAKE_CHECK(fake_message(&r->p.c, 0, &msg) && msg.event == UFFD_EVENT_REMOVE);
    fake_expect(&r->p, "0");
    fake_command(&r->p.c, RING_CAPTURE, &v, 1);
    FAKE_CHECK(r->p.c.ring->result[0] == CAPTURE_TAKEN);
    fake_fill(&r->p.c, r->small, r->p.c.transfer, (uint64_t)HOLE * PAGE_SIZE);
    fake_ask(&r->p, "small", 3);
    fake_expect(&r->p, "same");
    printf("unread event: nothing is taken; read: it goes on\n");
}

static void test_huge(struct run *r)
{
    struct ring_vec v = {r->huge, PAGES, 0};

    for (unsigned round = 0; round < 2; round++) {
        int64_t ns = fake_command(&r->p.c, RING_CAPTURE_HUGE, &v, 1);

        for (uint32_t i = 0; i < PAGES; i++) {
            FAKE_CHECK(r->p.c.ring->result[i] == CAPTURE_TAKEN);
            FAKE_CHECK(is_filled(r->p.c.transfer + i * PAGE_SIZE, 1000 + i));
        }
        printf("huge capture, %s: %" PRId64 " us, bytes right\n",
               round ? "of a page that is huge no more" : "whole", ns / 1000);
        /* Back as small pages, so that the next round has to go page by page. */
        fake_fill(&r->p.c, r->huge, r->p.c.transfer, LEAF_SIZE);
        fake_ask(&r->p, "huge", 511);
        fake_expect(&r->p, "same");
    }
}

/* Runs of the program's pages go out and come back, without pause, while it writes to them. */
static void test_writers(struct run *r)
{
    struct pollfd p = {fileno(r->p.from), POLLIN, 0};
    static unsigned char copy[64 * PAGE_SIZE];
    uint64_t taken = 0;
    int64_t deadline_ns = fake_now_ns() + 60 * 1000000000LL;
    struct uffd_msg msg = {0};
    uint32_t x = 9;
    bool asked;

    fake_ask(&r->p, "spin", 1500);
    while (poll(&p, 1, 0) == 0) {
        uint32_t first = next_random(&x) % (PAGES - 64);
        struct ring_vec v = {r->huge + first * PAGE_SIZE, 64, first};

        fake_command(&r->p.c, RING_CAPTURE, &v, 1);
        memcpy(copy, r->p.c.transfer + first * PAGE_SIZE, sizeof(copy));
        for (asked = false; fake_message(&r->p.c, 0, &msg);)
            asked = true;
        if (fake_now_ns() > deadline_ns) {
            fprintf(stderr, "the program hangs; last fault (%d) at page %u\n", asked,
                    (unsigned)((msg.arg.pagefault.address - r->huge) / PAGE_SIZE));
            abort(); /* and leaves the program to be looked at */
        }
        for (uint32_t i = 0, n; i < 64; i += n) {
            for (n = 0; i + n < 64 && r->p.c.ring->result[first + i + n] == CAPTURE_TAKEN; n++)
                ;
            if (n)
                fake_fill(&r->p.c, v.addr + i * PAGE_SIZE, copy + i * PAGE_SIZE, n * PAGE_SIZE);
            taken += n;
            n += !n;
        }
        /* Every fault wants an answer, those of pages that are back or never went too. */
        if (asked)
            fake_wake(&r->p.c, r->huge, LEAF_SIZE);
    }
    fake_expect(&r->p, "same");
    printf("writers: no write lost while %" PRIu64 " pages were taken and brought back\n", taken);
    FAKE_CHECK(taken > 0);
}

static int compare_ns(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

/* What a capture costs when everything has been used before. */
static void measure(struct run *r)
{
    struct ring_vec v = {r->small + 256 * PAGE_SIZE, 256, 256};
    static unsigned char copy[256 * PAGE_SIZE];
    int64_t ns[31];

    for (unsigned i = 0; i < 31; i++) {
        ns[i] = fake_command(&r->p.c, RING_CAPTURE, &v, 1);
        memcpy(copy, r->p.c.transfer + 256 * PAGE_SIZE, sizeof(copy));
        fake_fill(&r->p.c, v.addr, copy, sizeof(copy));
    }
    qsort(ns, 31, sizeof(ns[0]), compare_ns);
    printf("warm capture of 256 pages, median: %" PRId64 " us (%" PRId64 " ns a page)\n",
           ns[15] / 1000, ns[15] / 256);
}

/* The daemon dies while pages are out. */
static void test_orphan(struct run *r)
{
    struct ring_vec v = {r->small + 30 * PAGE_SIZE, 10, 0};
    int64_t start_ns;

    fake_command(&r->p.c, RING_CAPTURE, &v, 1);
    fake_ask(&r->p, "byte", 31); /* a fault that waits, */
    FAKE_CHECK(fake_message(&r->p.c, 5000, &(struct uffd_msg){0})); /* is read, and is not answered */
    start_ns = fake_now_ns();
    fake_detach(&r->p.c);
    fake_expect(&r->p, "sigbus");
    printf("daemon gone: the waiting fault gets SIGBUS after %" PRId64 " ms\n",
           (fake_now_ns() - start_ns) / 1000000);
    fake_ask(&r->p, "byte", 32);
    fake_expect(&r->p, "sigbus");
    fake_ask(&r->p, "small", 50);
    fake_expect(&r->p, "same");
}

int main(int argc, char **argv)
{
    struct run r;
    int listener;

    if (argc > 1 && strcmp(argv[1], "program") == 0)
        return program();
    listener = fake_program_listen("capture", socket_path);
    start(&r, listener, argv[0]);
    printf("attached%s\n", r.has_pin ? "" : " (no io_uring: pinned page not tested)");
    test_process(&r);
    test_small(&r);
    test_events(&r);
    test_huge(&r);
    test_writers(&r);
    measure(&r);
    end(&r, 100);
    start(&r, listener, argv[0]);
    test_orphan(&r);
    end(&r, 500); /* it looks five times a second */
    unlink(socket_path);
    printf("ok\n");
    return 0;
}
