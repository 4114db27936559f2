/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_TESTS_ATTACH_H
#define PAGERD_TESTS_ATTACH_H
/* ATTACH by a process that is no agent of ours. */
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/proto.h"

static inline bool send_attach(int conn, struct proto_attach *attach, int uffd)
{
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.buf = {0}};
    struct iovec iov = {attach, sizeof(*attach)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.buf,
                       .msg_controllen = sizeof(control.buf)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &uffd, sizeof(int));
    return sendmsg(conn, &m, 0) == (ssize_t)sizeof(*attach);
}

#endif
