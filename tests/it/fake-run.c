/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake-run PROGRAM [ARG...]: runs PROGRAM under the shim with a daemon that
 * attaches every agent and asks nothing of it.  Exits as PROGRAM did.  What the
 * shim and the agent alone change in a program shows here, without any paging.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_daemon.h"

#define MAX_CLIENTS 64

static struct fake_client clients[MAX_CLIENTS];
static pid_t peer_pid[MAX_CLIENTS];
static unsigned nr_clients;

static void attach(int listener)
{
    struct fake_client c;
    int conn = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    pid_t reap = 0;

    if (conn < 0)
        return;
    if (nr_clients == MAX_CLIENTS || !fake_attach(conn, true, &c)) {
        close(conn);
        return;
    }
    /* Same program, another agent: it was replaced by execve(). */
    for (unsigned i = 0; i < nr_clients; i++)
        if (peer_pid[i] == c.attach.program_pid)
            reap = clients[i].attach.agent_pid;
    if (!fake_ready(&c, reap)) {
        fake_detach(&c);
        return;
    }
    peer_pid[nr_clients] = c.attach.program_pid;
    clients[nr_clients++] = c;
}

/* Only stage 1 is registered, and only mlockall() touches it. */
static void answer_messages(const struct fake_client *c)
{
    struct uffd_msg msg;

    while (fake_message(c, 0, &msg)) {
        struct uffdio_zeropage zero = {
            .range = {msg.arg.pagefault.address & PAGE_MASK, PAGE_SIZE}};

        if (msg.event == UFFD_EVENT_PAGEFAULT)
            ioctl(c->uffd, UFFDIO_ZEROPAGE, &zero);
    }
}

static void serve(int listener, int program_pidfd)
{
    for (;;) {
        struct pollfd p[2 + 2 * MAX_CLIENTS] = {{listener, POLLIN, 0}, {program_pidfd, POLLIN, 0}};
        unsigned nr = nr_clients;

        for (unsigned i = 0; i < nr; i++) {
            p[2 + i] = (struct pollfd){clients[i].conn, POLLIN, 0};
            p[2 + nr + i] = (struct pollfd){clients[i].uffd, POLLIN, 0};
        }
        if (poll(p, 2 + 2 * nr, -1) < 0 && errno == EINTR)
            continue;
        for (unsigned i = nr; i-- > 0;) {
            char byte;

            if (p[2 + nr + i].revents)
                answer_messages(&clients[i]);
            if (!p[2 + i].revents || recv(clients[i].conn, &byte, 1, MSG_DONTWAIT) > 0)
                continue;
            fake_detach(&clients[i]);
            clients[i] = clients[--nr_clients];
            peer_pid[i] = peer_pid[nr_clients];
        }
        if (p[0].revents)
            attach(listener);
        if (p[1].revents)
            return;
    }
}

int main(int argc, char **argv)
{
    const char *preload = getenv("PAGERD_PRELOAD");
    char path[64];
    int listener, status;
    pid_t pid;

    if (argc < 2 || !preload) {
        fprintf(stderr, "usage: PAGERD_PRELOAD=... fake-run PROGRAM [ARG...]\n");
        return 125;
    }
    snprintf(path, sizeof(path), "/tmp/pagerd-fake-%d.sock", (int)getpid());
    listener = fake_listen(path);
    pid = fork();
    FAKE_CHECK(pid >= 0);
    if (pid == 0) {
        setenv("PAGERD_SOCKET", path, 1);
        setenv("LD_PRELOAD", preload, 1);
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    serve(listener, (int)syscall(SYS_pidfd_open, pid, 0));
    unlink(path);
    FAKE_CHECK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
