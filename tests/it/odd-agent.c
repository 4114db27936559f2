/* SPDX-License-Identifier: Apache-2.0 */
/*
 * odd-agent SOCKET OWN_END: a process that speaks as an agent does, says that its area ends at
 * OWN_END (hexadecimal), and ends.  Prints the status of the answer, or "closed".
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attach.h"

#define AREA ((size_t)16 << 20)

static const char *socket_name;
static uint64_t own_end;
static char *area;

static int attach(int conn, int uffd)
{
    struct proto_attach a = {
        .head = {PROTO_MAGIC, PROTO_VERSION, PROTO_ATTACH},
        .agent_pid = getpid(),
        .program_pid = getppid(),
        .own_start = (uintptr_t)area,
        .own_end = own_end,
        .stage1 = (uintptr_t)area,
        .stage1_huge = (uintptr_t)area + STAGE_BYTES,
        .stage2 = (uintptr_t)area + 2 * STAGE_BYTES,
        .stage2_huge = (uintptr_t)area + 3 * STAGE_BYTES,
        .remap = (uintptr_t)area + 4 * STAGE_BYTES,
    };

    return send_attach(conn, &a, uffd) ? 0 : -1;
}

static int agent(void *unused)
{
    struct proto_head hello = {PROTO_MAGIC, PROTO_VERSION, PROTO_HELLO};
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct proto_offer offer;
    struct proto_ready ready;
    int conn = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    (void)unused;
    snprintf(at.sun_path, sizeof(at.sun_path), "%s", socket_name);
    if (conn < 0 || uffd < 0 || connect(conn, (struct sockaddr *)&at, sizeof(at)) < 0 ||
        send(conn, &hello, sizeof(hello), 0) != (ssize_t)sizeof(hello) ||
        recv(conn, &offer, sizeof(offer), 0) != (ssize_t)sizeof(offer) || attach(conn, uffd) < 0) {
        perror("odd-agent");
        return 1;
    }
    if (recv(conn, &ready, sizeof(ready), 0) == (ssize_t)sizeof(ready))
        printf("status %d %s\n", ready.status, ready.reason);
    else
        puts("closed");
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    static char stack[65536] __attribute__((aligned(16)));
    uintptr_t p = (uintptr_t)mmap(NULL, 2 * AREA, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int status = 1;

    if (argc != 3)
        return 2;
    socket_name = argv[1];
    area = (char *)((p + STAGE_BYTES - 1) & ~(uintptr_t)(STAGE_BYTES - 1));
    own_end = strtoull(argv[2], NULL, 16);
    if (!own_end)
        own_end = (uintptr_t)area + AREA;
    pid_t pid = clone(agent, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
    return pid < 0 || waitpid(pid, &status, 0) != pid || status ? 1 : 0;
}
