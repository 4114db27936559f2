/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that wants the userfaultfd of somebody else's forked child.
 *
 *   fork-thief victim MIB     run paged: fills memory, says "filled", and when told (a byte on
 *                             standard input) has a child by a clone() of which nobody knows: without
 *                             an agent; it maps what one would; says "ready".  Both verify their memory
 *                             at the end of standard input.
 *   fork-thief thief SOCKET   not paged: maps the like at the same place, and tells the daemon
 *                             that it is the agent of the child.  Status 0: it got nothing, and
 *                             the daemon's sentence; 1: it has the child's userfaultfd.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/uapi.h"
#include "proto/proto.h"
#include "attach.h"
#include "raw_clone.h"

/* Where nothing else is, in both of them. */
#define AREA ((uintptr_t)0x100000000000)
#define NR_STAGES 5
#define AT_ID (AREA + (NR_STAGES + 1) * STAGE_BYTES)
#define AREA_BYTES ((NR_STAGES + 2) * (size_t)STAGE_BYTES)
#define PAGE 4096u

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "fork-thief: %s: %s\n", what, strerror(errno));
    _exit(2);
}
#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            die(#x);                                                                               \
    } while (0)

static void map_as_an_agent_does(void)
{
    int fd = memfd_create("pagerd-id", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0);
    CHECK(mmap((void *)AREA, AREA_BYTES, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) ==
          (void *)AREA);
    CHECK(mmap((void *)AT_ID, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == (void *)AT_ID);
    close(fd);
}

/* ---- the victim ---- */

static unsigned nr_wrong(const unsigned char *p, size_t bytes)
{
    unsigned nr = 0;

    for (size_t i = 0; i < bytes; i++)
        nr += p[i] != (unsigned char)(i / PAGE * 31 + i);
    return nr;
}

static int victim(size_t bytes)
{
    unsigned char *p = malloc(bytes);
    int told[2], status;
    char byte;

    CHECK(p && pipe(told) == 0);
    for (size_t i = 0; i < bytes; i++)
        p[i] = (unsigned char)(i / PAGE * 31 + i);
    puts("filled");
    fflush(stdout);
    CHECK(read(STDIN_FILENO, &byte, 1) == 1);
    pid_t child = raw_clone();
    CHECK(child >= 0);
    if (!child) {
        map_as_an_agent_does();
        CHECK(write(told[1], "r", 1) == 1);
        CHECK(read(STDIN_FILENO, &byte, 1) == 0);
        _exit(nr_wrong(p, bytes));
    }
    CHECK(read(told[0], &byte, 1) == 1);
    puts("ready");
    fflush(stdout);
    CHECK(waitpid(child, &status, 0) == child);
    return status || nr_wrong(p, bytes) ? 1 : 0;
}

/* ---- the thief ---- */

static int new_uffd(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1 /* USER_MODE_ONLY */);
    CHECK(fd >= 0);
    return fd;
}

/* So that the one in ATTACH finds the stages taken by another, as an agent's would. */
static void register_stages(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register reg = {
        .range = {AREA, NR_STAGES * STAGE_BYTES},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    int fd = new_uffd();

    CHECK(ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &reg) == 0);
}

static void attach_as_child(int conn, int uffd)
{
    struct proto_attach attach = {
        .head = {PROTO_MAGIC, PROTO_VERSION, PROTO_ATTACH},
        .agent_pid = getpid(),
        .program_pid = getppid(),
        .own_start = AREA,
        .own_end = AREA + AREA_BYTES,
        .stage1 = AREA,
        .stage1_huge = AREA + STAGE_BYTES,
        .stage2 = AREA + 2 * STAGE_BYTES,
        .stage2_huge = AREA + 3 * STAGE_BYTES,
        .remap = AREA + 4 * STAGE_BYTES,
        .id_page = AT_ID,
        .forked = 1,
    };

    CHECK(send_attach(conn, &attach, uffd));
}

/* The daemon wants to see that an agent shares the memory of its parent. */
static int false_agent(void *path)
{
    static struct proto_offer offer;
    const struct proto_hello hello = {{PROTO_MAGIC, PROTO_VERSION, PROTO_HELLO}};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct proto_ready ready;
    char control[CMSG_SPACE(2 * sizeof(int))];
    struct iovec iov = {&ready, sizeof(ready)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    int conn = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", (const char *)path);
    CHECK(connect(conn, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    CHECK(send(conn, &hello, sizeof(hello), 0) == (ssize_t)sizeof(hello));
    CHECK(recv(conn, &offer, sizeof(offer), 0) == (ssize_t)sizeof(offer) && offer.status == 0);
    register_stages();
    attach_as_child(conn, new_uffd());
    CHECK(recvmsg(conn, &m, 0) == (ssize_t)sizeof(ready));
    if (m.msg_controllen) {
        puts("it has the userfaultfd of another process");
        return 1;
    }
    printf("it got nothing: %s\n", ready.status ? ready.reason : "a record of its own");
    return 0;
}

static int thief(char *path)
{
    const size_t stack_bytes = 256u << 10;
    char *stack = malloc(stack_bytes);
    int status;

    CHECK(stack);
    map_as_an_agent_does();
    pid_t agent = clone(false_agent, stack + stack_bytes, CLONE_VM | SIGCHLD, path);
    CHECK(agent > 0 && waitpid(agent, &status, 0) == agent);
    fflush(stdout);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "victim"))
        return victim(strtoul(argv[2], NULL, 10) << 20);
    if (argc == 3 && !strcmp(argv[1], "thief"))
        return thief(argv[2]);
    fprintf(stderr, "usage: fork-thief victim MIB | fork-thief thief SOCKET\n");
    return 2;
}
