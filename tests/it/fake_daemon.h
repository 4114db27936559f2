/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_TESTS_FAKE_DAEMON_H
#define PAGERD_TESTS_FAKE_DAEMON_H
/*
 * The daemon's side of the agent's protocol, as small as it can be, so that
 * shim and agent can be tested without the daemon: no page tables, no policy, one
 * command at a time.  A failing call ends the test program with a sentence.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/uapi.h"
#include "proto/proto.h"
#include "target/target.h"

struct fake_client {
    int conn, uffd; /* -1: none */
    struct ring *ring;
    unsigned char *transfer;
    struct proto_attach attach;
};

_Noreturn void fake_die(const char *what);
#define FAKE_CHECK(x)                                                                              \
    do {                                                                                           \
        if (!(x))                                                                                  \
            fake_die(#x);                                                                          \
    } while (0)

/* A listening socket at `path`, whose file is made anew. */
int fake_listen(const char *path);

/* Agents that attach from now on do not wait at their barrier (DESIGN D3, rule 3). */
extern bool fake_without_barrier;

/* Makes a new userfaultfd usable, with all events but forks. */
void fake_api(int uffd);

/*
 * Takes one agent through the handshake, up to its ATTACH; fake_ready() is the
 * last packet.  `device`: offer /dev/userfaultfd, as a system daemon does.
 * False: the peer went away.
 */
bool fake_attach(int conn, bool device, struct fake_client *ret);
bool fake_ready(struct fake_client *c, pid_t reap_pid);
void fake_detach(struct fake_client *c);

void fake_register(const struct fake_client *c, uint64_t start, uint64_t len);
void fake_fill(const struct fake_client *c, uint64_t dst, const void *src, uint64_t len);
void fake_wake(const struct fake_client *c, uint64_t start, uint64_t len);

/* Posts one command, and waits for its end (at most 5 s). */
uint32_t fake_post(struct fake_client *c, enum ring_op op, const struct ring_vec *vecs,
                   uint32_t nr_vecs);
void fake_await(struct fake_client *c, uint32_t number);

/* Runs one command and waits for its end (at most 5 s); returns its nanoseconds. */
int64_t fake_command(struct fake_client *c, enum ring_op op, const struct ring_vec *vecs,
                     uint32_t nr_vecs);

/* Waits at most `ms` for a message; false: none. */
bool fake_message(const struct fake_client *c, int ms, struct uffd_msg *ret);

int64_t fake_now_ns(void);

#endif
