/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "fake_program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int fake_program_listen(const char *name, char path[64])
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (syscall(SYS_userfaultfd, O_CLOEXEC) < 0) {
        printf("skipped: userfaultfd for kernel faults is not permitted (%s)\n", strerror(errno));
        exit(77);
    }
    snprintf(path, 64, "/tmp/pagerd-%s-%d.sock", name, (int)getpid());
    return fake_listen(path);
}

void fake_program_start(struct fake_program *p, int listener, const char *socket_path, char *self)
{
    char env_socket[96], env_preload[4096], *preload = getenv("PAGERD_PRELOAD");
    char *argv[] = {self, (char *)"program", NULL}, *envp[] = {env_socket, env_preload, NULL};
    int in[2], out[2], conn;

    FAKE_CHECK(preload && pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    snprintf(env_socket, sizeof(env_socket), "PAGERD_SOCKET=%s", socket_path);
    snprintf(env_preload, sizeof(env_preload), "LD_PRELOAD=%s", preload);
    p->pid = fork();
    FAKE_CHECK(p->pid >= 0);
    if (p->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        execve("/proc/self/exe", argv, envp);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    p->to = fdopen(in[1], "w");
    p->from = fdopen(out[0], "r");
    conn = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    FAKE_CHECK(conn >= 0 && fake_attach(conn, true, &p->c) && fake_ready(&p->c, 0));
}

void fake_ask(struct fake_program *p, const char *word, unsigned n)
{
    fprintf(p->to, "%s:%u\n", word, n);
    fflush(p->to);
}

void fake_expect(struct fake_program *p, const char *answer)
{
    char got[32];

    FAKE_CHECK(fscanf(p->from, "%31s", got) == 1);
    if (strcmp(got, answer) != 0) {
        fprintf(stderr, "the program answers %s, not %s\n", got, answer);
        exit(1);
    }
}

void fake_program_end(struct fake_program *p)
{
    int status;

    fprintf(p->to, "end\n");
    fclose(p->to);
    FAKE_CHECK(waitpid(p->pid, &status, 0) == p->pid && status == 0);
    fclose(p->from);
}
