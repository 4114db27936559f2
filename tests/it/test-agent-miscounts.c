/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A UFFDIO_MOVE that has moved pages and does not count them (Linux 6.18, up to 6.18.50; rule 6 of
 * src/agent/capture.c).  The kernel does it once in some million pages; here whatever the kernel, and each
 * time: the agent is traced, and what the call answers is changed after it was made.
 *
 * As test-agent-capture, this is the fake daemon, and runs itself as the program.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* <sys/user.h> has its own, as it likes */
#undef PAGE_SIZE
#undef PAGE_MASK

#include "fake_program.h"
#include "kernel/uapi.h"
#include "pattern.h"

#define PAGES 64u

/* ---- the program ---- */

static int program(void)
{
    unsigned char *area = mmap(NULL, (PAGES + 1) * PAGE, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char word[32];
    unsigned n;

    FAKE_CHECK(area != MAP_FAILED && madvise(area, PAGES * PAGE, MADV_NOHUGEPAGE) == 0);
    for (uint32_t i = 0; i < PAGES; i++)
        tag_fill(area + i * PAGE, i + 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%" PRIxPTR "\n", (uintptr_t)area);
    while (scanf("%31s", word) == 1) {
        if (sscanf(word, "drop:%u", &n) == 1) {
            printf("%d\n", madvise(area + PAGES * PAGE, PAGE, MADV_DONTNEED));
            continue;
        }
        if (sscanf(word, "from:%u", &n) != 1)
            break;
        for (; n < PAGES && tag_of_content(area + n * PAGE) == n + 1; n++)
            ;
        printf(n == PAGES ? "same\n" : "DIFFERS\n");
    }
    return 0;
}

/* ---- the agent's calls ---- */

struct lie {
    uint64_t start, end; /* of which source */
    uint32_t counted;    /* pages; 0: none, and EEXIST */
    bool with_event;     /* and a message is unread from then on */
};

static void set_result(pid_t pid, long result)
{
#ifdef __x86_64__
    struct user_regs_struct regs;
    struct iovec iov = {&regs, sizeof(regs)};

    FAKE_CHECK(ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &iov) == 0);
    regs.rax = (unsigned long long)result;
#else
    struct user_regs_struct regs;
    struct iovec iov = {&regs, sizeof(regs)};

    FAKE_CHECK(ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &iov) == 0);
    regs.regs[0] = (unsigned long long)result;
#endif
    FAKE_CHECK(ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &iov) == 0);
}

/* At the end of a call; true when it was the one. */
static bool tell(pid_t pid, uint64_t arg, const struct lie *lie)
{
    struct uffdio_move m;
    struct iovec local = {&m, sizeof(m)}, remote = {(void *)(uintptr_t)arg, sizeof(m)};

    FAKE_CHECK(process_vm_readv(pid, &local, 1, &remote, 1, 0) == sizeof(m));
    if (m.src < lie->start || m.src >= lie->end || m.move != (int64_t)m.len)
        return false;
    m.move = lie->counted ? (int64_t)lie->counted * PAGE : -EEXIST;
    FAKE_CHECK(process_vm_writev(pid, &local, 1, &remote, 1, 0) == sizeof(m));
    set_result(pid, lie->counted ? -EAGAIN : -EEXIST);
    return true;
}

static void next_stop(pid_t pid)
{
    int status;

    FAKE_CHECK(ptrace(PTRACE_SYSCALL, pid, 0, 0) == 0);
    FAKE_CHECK(waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status));
}

/* Captures all pages; of the first move from there the agent hears what is not so. */
static void capture(struct fake_program *p, uint64_t area, const struct lie *lie)
{
    struct fake_client *c = &p->c;
    struct ring_vec all = {area, PAGES, 0};
    pid_t pid = c->attach.agent_pid;
    uint64_t request = 0, arg = 0;
    bool told = false;
    int status;

    FAKE_CHECK(ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD) == 0);
    FAKE_CHECK(ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0);
    FAKE_CHECK(waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status));
    uint32_t number = fake_post(c, RING_CAPTURE, &all, 1);
    while (!told) {
        struct __ptrace_syscall_info info;

        next_stop(pid);
        FAKE_CHECK(ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) > 0);
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
            request = info.entry.nr == SYS_ioctl ? info.entry.args[1] : 0;
            arg = info.entry.args[2];
        } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && request == UFFDIO_MOVE) {
            told = tell(pid, arg, lie);
        }
    }
    struct pollfd event = {c->uffd, POLLIN, 0};
    struct uffd_msg msg;
    if (lie->with_event)
        fake_ask(p, "drop", 0);
    FAKE_CHECK(poll(&event, 1, lie->with_event ? 5000 : 0) == lie->with_event);
    FAKE_CHECK(ptrace(PTRACE_DETACH, pid, 0, 0) == 0);
    fake_await(c, number);
    if (lie->with_event) {
        FAKE_CHECK(fake_message(c, 0, &msg) && msg.event == UFFD_EVENT_REMOVE);
        fake_expect(p, "0");
    }
}

/* The first `nr` are taken, and come back; none of the others has left the program. */
static void check(struct fake_program *p, uint64_t area, uint32_t nr, const char *what)
{
    struct uffd_msg msg;

    for (uint32_t i = 0; i < PAGES; i++) {
        if (p->c.ring->result[i] != (i < nr ? CAPTURE_TAKEN : CAPTURE_BUSY)) {
            fprintf(stderr, "%s: page %u: result %u\n", what, i, p->c.ring->result[i]);
            exit(1);
        }
        if (i < nr)
            FAKE_CHECK(tag_of_content(p->c.transfer + i * PAGE) == i + 1);
    }
    fake_ask(p, "from", nr);
    FAKE_CHECK(!fake_message(&p->c, 200, &msg));
    fake_expect(p, "same");
    if (nr)
        fake_fill(&p->c, area, p->c.transfer, (uint64_t)nr * PAGE);
    fake_ask(p, "from", 0);
    fake_expect(p, "same");
    printf("%s: right\n", what);
}

int main(int argc, char **argv)
{
    struct fake_program p;
    char socket_path[64];
    uint64_t area;

    if (argc > 1 && strcmp(argv[1], "program") == 0)
        return program();
    fake_program_start(&p, fake_program_listen("miscounts", socket_path), socket_path, argv[0]);
    FAKE_CHECK(fscanf(p.from, "%" SCNx64, &area) == 1);
    fake_register(&p.c, area, (PAGES + 1) * PAGE);
    uint64_t end = area + PAGES * PAGE;
    const struct {
        struct lie lie;
        uint32_t taken;
        const char *what;
    } cases[] = {
        {{area, end, 0, false}, 0, "all moved, none counted"},
        {{area, end, 10, false}, 10, "all moved, ten counted"},
        {{area, end, 0, true}, PAGES, "none counted, and a message comes"},
        {{area, end, 10, true}, PAGES, "ten counted, and a message comes"},
        {{p.c.attach.own_start, p.c.attach.own_end, 0, false}, PAGES, "from stage to stage"},
        {{area, end, 0, false}, 0, "and again"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        capture(&p, area, &cases[i].lie);
        check(&p, area, cases[i].taken, cases[i].what);
    }
    fake_program_end(&p);
    fake_detach(&p.c);
    unlink(socket_path);
    return 0;
}
