/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three rules of a capture (DESIGN D3), on this kernel: what happens where one
 * is broken, and that nothing happens where it is kept.  The real agent is driven by
 * a fake daemon, which can break each of them from its side:
 *
 *   1. it registers the program's memory with another userfaultfd than stage 1, as if
 *      the stage belonged to the agent's own;
 *   2. it reads messages while a capture is posted;
 *   3. it sends the agent a system call filter in which the barrier does nothing.
 *
 * A broken rule must show its wrong byte here: it would be a test of nothing if it
 * did not.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "fake_program.h"
#include "pattern.h"

#define PAGES 16u
#define BYTES (PAGES * (size_t)PAGE)

/* ---- the program ---- */

static char *area;
static uint32_t generation;

static void fill(void)
{
    generation++;
    for (uint32_t i = 0; i < PAGES; i++)
        tag_fill(area + i * (size_t)PAGE, generation << 8 | i);
}

static void map(int flags)
{
    void *p;

    do
        p = mmap(area, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    while (p == MAP_FAILED && errno == EEXIST && sched_yield() == 0); /* not unmapped yet */
    FAKE_CHECK(p != MAP_FAILED && (!area || p == area));
    area = p;
    madvise(area, BYTES, MADV_NOHUGEPAGE);
    fill();
}

static void *unmap(void *arg)
{
    FAKE_CHECK(munmap(area, BYTES) == 0); /* comes back when its message was read */
    return arg;
}

static const char *look(void)
{
    for (uint32_t i = 0; i < PAGES; i++)
        if (tag_of_content(area + i * (size_t)PAGE) != (generation << 8 | i))
            return "DIFFERS";
    return "same";
}

/*
 * Interrupts the writer, on whose CPU it is, some 30,000 times a second: a page is written
 * to in a quarter of a microsecond, and has to be taken and copied in that time.
 */
static void *interrupt(void *arg)
{
    const struct itimerspec often = {{0, 30000}, {0, 30000}};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    atomic_bool *enough = arg;
    uint64_t nr;

    FAKE_CHECK(fd >= 0 && timerfd_settime(fd, 0, &often, NULL) == 0);
    while (!atomic_load(enough))
        FAKE_CHECK(read(fd, &nr, sizeof(nr)) == sizeof(nr));
    close(fd);
    return NULL;
}

/* The writer's CPU is one, the agent's and the daemon's the other. */
static void stay_on(pid_t pid, int cpu)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    FAKE_CHECK(sched_setaffinity(pid, sizeof(one), &one) == 0);
}

static int nr_cpus(int *ret_first, int *ret_last)
{
    cpu_set_t all;

    FAKE_CHECK(sched_getaffinity(0, sizeof(all), &all) == 0);
    *ret_first = *ret_last = -1;
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &all))
            continue;
        *ret_first = *ret_first < 0 ? i : *ret_first;
        *ret_last = i;
    }
    return CPU_COUNT(&all);
}

/* The first page through /proc/self/mem, for at most `ms`: by a plain reference to the page. */
static const char *write_through_proc(unsigned ms)
{
    int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    int64_t end_ns = fake_now_ns() + ms * 1000000LL;
    static uint64_t page[PAGE / sizeof(uint64_t)];
    volatile uint64_t *last = (uint64_t *)(void *)(area + PAGE) - 1; /* written last */
    const char *answer = "same";
    int first_cpu, cpu;
    atomic_bool enough = false;
    pthread_t interrupter;

    nr_cpus(&first_cpu, &cpu);
    stay_on(0, cpu);
    FAKE_CHECK(fd >= 0 && pthread_create(&interrupter, NULL, interrupt, &enough) == 0);
    for (uint32_t n = 1; answer[0] == 's' && fake_now_ns() < end_ns; n++) {
        page[PAGE / sizeof(uint64_t) - 1] = n;
        /* EIO: the page is out, as pagerd-preload(7) says; the look brings it back. */
        if (pwrite(fd, page, PAGE, (off_t)(uintptr_t)area) != PAGE)
            (void)*last;
        else if (*last != n)
            answer = "DIFFERS";
    }
    atomic_store(&enough, true);
    pthread_join(interrupter, NULL);
    close(fd);
    return answer;
}

static int program(void)
{
    pthread_t unmapper;
    char word[32];
    unsigned n;

    setvbuf(stdout, NULL, _IOLBF, 0);
    while (scanf("%31s", word) == 1) {
        if (sscanf(word, "map:%u", &n) == 1) {
            map(area ? MAP_FIXED_NOREPLACE : 0);
            printf("%" PRIxPTR "\n", (uintptr_t)area);
        } else if (sscanf(word, "unmap:%u", &n) == 1) {
            FAKE_CHECK(pthread_create(&unmapper, NULL, unmap, NULL) == 0);
        } else if (sscanf(word, "look:%u", &n) == 1) {
            FAKE_CHECK(pthread_join(unmapper, NULL) == 0);
            printf("%s\n", look());
        } else if (sscanf(word, "uffd:%u", &n) == 1) {
            printf("%ld\n", syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
        } else if (sscanf(word, "write:%u", &n) == 1) {
            printf("%s\n", write_through_proc(n));
        } else {
            break; /* "end" */
        }
    }
    return 0;
}

/* ---- the daemon ---- */

static char socket_path[64];
static char *self;
static int listener;

static uint64_t ask_map(struct fake_program *p)
{
    uint64_t addr;

    fake_ask(p, "map", 0);
    FAKE_CHECK(fscanf(p->from, "%" SCNx64, &addr) == 1);
    return addr;
}

static bool is_taken(struct fake_program *p)
{
    for (uint32_t i = 0; i < PAGES; i++)
        if (p->c.ring->result[i] == CAPTURE_TAKEN)
            return true;
    return false;
}

static void await_event(int uffd)
{
    struct pollfd p = {uffd, POLLIN, 0};

    FAKE_CHECK(poll(&p, 1, 5000) == 1);
}

/* What was captured is of a mapping that is gone: nothing of it is kept. */
static void read_unmap(int uffd)
{
    struct fake_client c = {.uffd = uffd};
    struct uffd_msg msg;

    FAKE_CHECK(fake_message(&c, 0, &msg) && msg.event == UFFD_EVENT_UNMAP);
}

static void end(struct fake_program *p)
{
    fake_program_end(p);
    fake_detach(&p->c);
}

/*
 * One thread has unmapped, which is not read yet; another has mapped there and filled it.
 * A capture that was started before must not take that.
 */
static void test_staging(bool other_userfaultfd)
{
    struct ring_vec v = {0, PAGES, 0};
    struct fake_program p;
    int uffd;

    fake_program_start(&p, listener, socket_path, self);
    uffd = p.c.uffd;
    if (other_userfaultfd) {
        int fd, pidfd = (int)syscall(SYS_pidfd_open, p.pid, 0);

        fake_ask(&p, "uffd", 0);
        FAKE_CHECK(fscanf(p.from, "%d", &fd) == 1 && fd >= 0 && pidfd >= 0);
        uffd = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
        FAKE_CHECK(uffd >= 0);
        close(pidfd);
        fake_api(uffd);
    }
    v.addr = ask_map(&p);
    fake_register(&(struct fake_client){.uffd = uffd}, v.addr, BYTES);
    fake_ask(&p, "unmap", 0);
    await_event(uffd);
    FAKE_CHECK(ask_map(&p) == v.addr);
    fake_command(&p.c, RING_CAPTURE, &v, 1);
    FAKE_CHECK(is_taken(&p) == other_userfaultfd);
    read_unmap(uffd);
    fake_ask(&p, "look", 0);
    fake_expect(&p, other_userfaultfd ? "DIFFERS" : "same");
    end(&p);
    if (other_userfaultfd)
        close(uffd);
    printf("rule 1 %s\n", other_userfaultfd ? "broken: another mapping's pages are taken" : "kept");
}

static void wait_until_stopped(pid_t pid)
{
    char path[64], line[512];

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    for (int64_t end_ns = fake_now_ns() + 5000000000LL; fake_now_ns() < end_ns; sched_yield()) {
        FILE *f = fopen(path, "re");
        bool stopped = f && fgets(line, sizeof(line), f) && strstr(line, ") T ");
        if (f)
            fclose(f);
        if (stopped)
            return;
    }
    fake_die("the agent does not stop");
}

/*
 * Reading the message wakes the thread that unmapped; until it has run on, the kernel
 * counts its change as under way, and moves nothing.  An empty range is refused only
 * after that was looked at.
 */
static void wait_until_unchanged(int uffd)
{
    struct uffdio_zeropage z = {.range = {0, 0}};

    for (int64_t end_ns = fake_now_ns() + 5000000000LL; fake_now_ns() < end_ns; sched_yield())
        if (ioctl(uffd, UFFDIO_ZEROPAGE, &z) < 0 && errno != EAGAIN)
            return;
    fake_die("the change does not end");
}

/* The same, and the capture is only posted: its agent gets to run late. */
static void test_in_flight(bool read_meanwhile)
{
    struct ring_vec v = {0, PAGES, 0};
    struct fake_program p;
    uint32_t number;

    fake_program_start(&p, listener, socket_path, self);
    v.addr = ask_map(&p);
    fake_register(&p.c, v.addr, BYTES);
    FAKE_CHECK(kill(p.c.attach.agent_pid, SIGSTOP) == 0);
    wait_until_stopped(p.c.attach.agent_pid);
    number = fake_post(&p.c, RING_CAPTURE, &v, 1);
    fake_ask(&p, "unmap", 0);
    await_event(p.c.uffd);
    if (read_meanwhile) {
        read_unmap(p.c.uffd);
        wait_until_unchanged(p.c.uffd);
    }
    FAKE_CHECK(ask_map(&p) == v.addr);
    FAKE_CHECK(kill(p.c.attach.agent_pid, SIGCONT) == 0);
    fake_await(&p.c, number);
    FAKE_CHECK(is_taken(&p) == read_meanwhile);
    if (!read_meanwhile)
        read_unmap(p.c.uffd);
    fake_ask(&p, "look", 0);
    fake_expect(&p, read_meanwhile ? "DIFFERS" : "same");
    end(&p);
    printf("rule 2 %s\n", read_meanwhile ? "broken: another mapping's pages are taken" : "kept");
}

/*
 * A page goes out and comes back without pause until the program has an answer.  One
 * alone: it is copied soon after it was taken, while the writer is still at it.
 */
static void take_and_bring_back(struct fake_program *p, uint64_t addr)
{
    struct pollfd answer = {fileno(p->from), POLLIN, 0};
    struct ring_vec v = {addr, 1, 0};
    unsigned char copy[PAGE];
    struct uffd_msg msg;

    while (poll(&answer, 1, 0) == 0) {
        fake_command(&p->c, RING_CAPTURE, &v, 1);
        memcpy(copy, p->c.transfer, PAGE);
        while (fake_message(&p->c, 0, &msg))
            ;
        if (p->c.ring->result[0] == CAPTURE_TAKEN)
            fake_fill(&p->c, addr, copy, PAGE);
        fake_wake(&p->c, addr, BYTES); /* every fault wants an answer */
    }
}

static void test_barrier(bool without)
{
    struct fake_program p;
    cpu_set_t all;
    int cpu, last;
    uint64_t addr;

    if (nr_cpus(&cpu, &last) < 2) {
        printf("note: one CPU only: rule 3 cannot be seen\n");
        return;
    }
    FAKE_CHECK(sched_getaffinity(0, sizeof(all), &all) == 0);
    fake_without_barrier = without;
    fake_program_start(&p, listener, socket_path, self);
    fake_without_barrier = false;
    addr = ask_map(&p);
    fake_register(&p.c, addr, BYTES);
    fake_ask(&p, "write", without ? 100000 : 6000);
    stay_on(0, cpu);
    stay_on(p.c.attach.agent_pid, cpu);
    int64_t start_ns = fake_now_ns();
    take_and_bring_back(&p, addr);
    fake_expect(&p, without ? "DIFFERS" : "same");
    printf("rule 3 %s (%" PRId64 " ms)\n", without ? "broken: a write is lost" : "kept",
           (fake_now_ns() - start_ns) / 1000000);
    FAKE_CHECK(sched_setaffinity(0, sizeof(all), &all) == 0);
    end(&p);
}

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc > 1 && strcmp(argv[1], "program") == 0)
        return program();
    listener = fake_program_listen("rules", socket_path);
    test_staging(true);
    test_staging(false);
    test_in_flight(true);
    test_in_flight(false);
    test_barrier(true);
    test_barrier(false);
    unlink(socket_path);
    return 0;
}
