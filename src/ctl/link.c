/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link: connect, see who is there, ask.  One request a packet; the answer is
 * one JSON text that ends in a newline and may span several packets.
 */
#define _GNU_SOURCE 1
#include "ctl/link.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define SYSTEM_SOCKET "/run/pagerd/pagerd.sock"
#define ANSWER_TIMEOUT_MS 30000
#define ANSWER_MAX_BYTES ((size_t)64 << 20)

static int add_place(struct link_places *p, const char *dir, const char *name,
                     struct complaint *why)
{
    int n = snprintf(p->path[p->nr], LINK_PATH_MAX, "%s%s%s", dir, *dir ? "/" : "", name);

    if (n < 0 || (size_t)n >= LINK_PATH_MAX)
        return complain(why, -EINVAL,
                        "the socket path %s/%.64s... is longer than a socket address can hold "
                        "(%zu bytes): choose a shorter one with --socket",
                        dir, name, LINK_PATH_MAX - 1);
    p->nr++;
    return 0;
}

int link_places(const char *option, const char *environment, const char *runtime_dir, bool is_root,
                struct link_places *ret, struct complaint *why)
{
    const char *named = option ? option : environment;
    int err = 0;

    *ret = (struct link_places){0};
    if (option && !*option)
        return complain(why, -EINVAL, "--socket= is empty: give the path of pagerd's socket");
    if (named && *named) {
        _cleanup_free_ char *cwd = NULL;

        ret->chosen = true;
        if (*named == '/')
            return add_place(ret, "", named, why);
        /* The program may change its directory before it starts another one. */
        cwd = getcwd(NULL, 0);
        if (!cwd)
            return complain(why, -EINVAL,
                            "the socket path %s is relative and the current directory is gone: "
                            "give an absolute path",
                            named);
        return add_place(ret, cwd, named, why);
    }
    if (!is_root && runtime_dir && *runtime_dir == '/')
        err = add_place(ret, runtime_dir, "pagerd/pagerd.sock", why);
    if (!err)
        err = add_place(ret, "", SYSTEM_SOCKET, why);
    return err;
}

/* A socket that another user made could lead our memory to that user. */
static int check_owner(int fd, const char *path, struct complaint *why)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return complain(why, -errno, "cannot tell who listens at %s: %s", path, strerror(errno));
    if (peer.uid != 0 && peer.uid != geteuid())
        return complain(why, -EPERM,
                        "the socket %s belongs to another user (uid %u), who would hold this "
                        "program's memory: use a daemon of your own or root's",
                        path, peer.uid);
    return 0;
}

static int open_one(const char *path, struct link *ret, struct complaint *why)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = ANSWER_TIMEOUT_MS / 1000};
    int err;

    if (fd < 0)
        return complain(why, -errno, "cannot make a socket: %s", strerror(errno));
    memcpy(addr.sun_path, path, strlen(path) + 1);
    /* Bounds connect(2) too, which waits while the daemon's backlog is full. */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        switch (errno) {
        case ENOENT:
        case ENOTDIR:
        case ECONNREFUSED:
            return complain(why, -ENOENT,
                            "no pagerd answers at %s: start one with `pagerd --socket=%s`, or "
                            "leave the socket out to get a private one",
                            path, path);
        case EACCES:
        case EPERM:
            return complain(why, -EPERM,
                            "the socket %s belongs to another user and is closed to you: use a "
                            "daemon of your own or root's",
                            path);
        case EPROTOTYPE:
            return complain(why, -EPROTO,
                            "what listens at %s is not pagerd: choose its socket with --socket",
                            path);
        default:
            return complain(why, -errno, "cannot connect to %s: %s", path, strerror(errno));
        }
    }
    err = check_owner(fd, path, why);
    if (err)
        return err;
    memcpy(ret->path, path, strlen(path) + 1);
    ret->fd = TAKE_FD(fd);
    return 0;
}

int link_open(const struct link_places *places, struct link *ret, struct complaint *why)
{
    for (unsigned i = 0; i < places->nr; i++) {
        int err = open_one(places->path[i], ret, why);

        if (err != -ENOENT)
            return err;
    }
    if (!places->chosen)
        return complain(why, -ENOENT,
                        "no pagerd answers at %s: start `pagerd`, or name its socket with --socket",
                        places->path[0]);
    return -ENOENT;
}

int link_open_default(const char *option, struct link *ret, struct complaint *why)
{
    struct link_places places;
    int err = link_places(option, getenv("PAGERD_SOCKET"), getenv("XDG_RUNTIME_DIR"),
                          geteuid() == 0, &places, why);

    return err ? err : link_open(&places, ret, why);
}

void link_close(struct link *l)
{
    l->fd = fd_close(l->fd);
}

static int send_request(struct link *l, const char *text, struct complaint *why)
{
    ssize_t n;

    do
        n = send(l->fd, text, strlen(text), MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EPIPE && errno != ECONNRESET)
        return complain(why, -EPROTO, "cannot ask pagerd at %s: %s", l->path, strerror(errno));
    /* A daemon that refuses may have hung up already; its sentence waits to be read. */
    return 0;
}

/* One packet at the end of text[*len]; 0 at the end of the connection. */
static ssize_t receive_packet(struct link *l, char **text, size_t *len, size_t *cap)
{
    struct pollfd p = {.fd = l->fd, .events = POLLIN};
    ssize_t n;
    int r;

    if (*cap - *len < (size_t)256 << 10) {
        size_t bigger = *cap + ((size_t)1 << 20);
        char *t = realloc(*text, bigger);

        if (!t)
            return -ENOMEM;
        *text = t;
        *cap = bigger;
    }
    do
        r = poll(&p, 1, ANSWER_TIMEOUT_MS);
    while (r < 0 && errno == EINTR);
    if (r == 0)
        return -ETIMEDOUT;
    do
        n = recv(l->fd, *text + *len, *cap - *len, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    *len += (size_t)n;
    return n;
}

static int receive_answer(struct link *l, json_t **ret, struct complaint *why)
{
    _cleanup_free_ char *text = NULL;
    size_t len = 0, cap = 0;
    json_error_t jerr;
    ssize_t n;

    do {
        n = receive_packet(l, &text, &len, &cap);
        if (n == -ETIMEDOUT)
            return complain(why, -EPROTO,
                            "pagerd at %s does not answer: look at its log, and restart it if it "
                            "hangs",
                            l->path);
        if (n <= 0 || len > ANSWER_MAX_BYTES)
            return complain(why, -EPROTO,
                            "pagerd at %s closed the connection without an answer: look at its log",
                            l->path);
    } while (text[len - 1] != '\n');
    *ret = json_loadb(text, len, 0, &jerr);
    if (!json_is_object(*ret)) {
        json_decref(*ret);
        return complain(why, -EPROTO,
                        "the answer of pagerd at %s is not understood (%s): use a pagerctl of the "
                        "same version",
                        l->path, *jerr.text ? jerr.text : "not an object");
    }
    return 0;
}

int link_ask(struct link *l, json_t *request, json_t **ret_reply, struct complaint *why)
{
    _cleanup_free_ char *text = json_dumps(request, JSON_COMPACT);
    json_t *reply = NULL;
    int err;

    json_decref(request);
    if (!text)
        return complain(why, -ENOMEM, "out of memory");
    err = send_request(l, text, why);
    if (!err)
        err = receive_answer(l, &reply, why);
    if (err)
        return err;
    if (!json_is_true(json_object_get(reply, "ok"))) {
        const char *sentence = json_string_value(json_object_get(reply, "error"));

        err = complain(why, -EREMOTEIO, "%s",
                       sentence ? sentence : "pagerd refused without a reason: look at its log");
        json_decref(reply);
        return err;
    }
    json_object_del(reply, "ok");
    *ret_reply = reply;
    return 0;
}
