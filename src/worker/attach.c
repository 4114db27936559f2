/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The beginning and the end of a client's record.
 *
 * A client comes by its agent's handshake (attach_client) or by a fork event
 * (forked.c), and then gets its agent by a handshake later.  It ends when
 * its address space has, or when nothing of it is stored any more.  The record is
 * freed when the reactor has let go of all its descriptors.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "worker/worker_priv.h"

static void source_released(struct source *s, struct wclient *wc)
{
    s->fd = fd_close(s->fd);
    if (++wc->nr_released == wc->nr_sources && wc->gone)
        free(wc);
}

void wclient_uffd_released(struct source *s)
{
    source_released(s, container_of(s, struct wclient, uffd));
}
static void conn_released(struct source *s)
{
    source_released(s, container_of(s, struct wclient, conn));
}
static void program_released(struct source *s)
{
    source_released(s, container_of(s, struct wclient, program));
}
static void agent_released(struct source *s)
{
    source_released(s, container_of(s, struct wclient, agent));
}

void wclient_uffd_ready(struct source *s)
{
    struct wclient *wc = container_of(s, struct wclient, uffd);

    client_turn(wc);
}

/* The agent has ended: nothing more is moved, but what is moved out is served on. */
static void agent_ready(struct source *s)
{
    struct wclient *wc = container_of(s, struct wclient, agent);

    if (kproc_pidfd_ended(s->fd) == 0)
        return;
    source_remove(wc->w->reactor, s);
    if (mm_is_dead(wc)) {
        wclient_end(wc);
        return;
    }
    if (migrate_is_capturing(&wc->c.mm))
        capture_recover(wc);
    /* It leaves first when the program exits; when the program then lives on, that is news. */
    wc->next_dead_check_ns = 0;
    wc->agent_dead_ns = now_ns();
    client_turn(wc);
}

static void lose_agent(struct wclient *wc)
{
    if (wc->agent_lost)
        return;
    wc->agent_lost = true;
    wc->c.has_agent = wc->c.awaits_agent = false;
    if (wc->unsure)
        forked_give_up_doubt(wc);
    /*
     * A zombie's memory counts as nothing, and so does that of a main thread that has ended: from
     * now on a thread's is read.
     */
    pid_t tid = kproc_thread_with_memory(wc->program_pid);
    int statm = tid > 0 ? kproc_open(tid, "statm") : -ESRCH;
    if (statm >= 0) {
        fd_close(wc->statm_fd);
        wc->statm_fd = statm;
    }
    /* The connection is its lifeline; a process that closed it does not do as an agent does. */
    (void)syscall(SYS_pidfd_send_signal, wc->agent.fd, SIGKILL, NULL, 0);
    int fd = wc->agent.fd;
    source_add(wc->w->reactor, &wc->agent, fd, agent_ready, agent_released);
    wc->nr_sources++;
}

#define BELLS 64 /* looked at in a turn */

static void conn_ready(struct source *s)
{
    struct wclient *wc = container_of(s, struct wclient, conn);
    bool tid_changed = false;
    unsigned nr = 0;
    char bell;
    ssize_t n;

    while ((n = recv(s->fd, &bell, 1, MSG_DONTWAIT)) > 0 && ++nr < BELLS)
        tid_changed |= bell != BELL_DONE;
    if (n > 0) {
        tid_changed = true; /* of those that were not looked at, one may be */
        source_again(wc->w->reactor, s);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        source_remove(wc->w->reactor, s);
        lose_agent(wc);
        return;
    }
    /* The tid word is a hint that the program has ended or has executed another one (DESIGN D4). */
    if (client_turn(wc) && tid_changed && !wc->agent_lost && !wc->exit_posted &&
        kproc_any_thread_shares(wc->program_pid, wc->agent_pid) == 0)
        agent_post_exit(wc);
}

static void program_ready(struct source *s)
{
    struct wclient *wc = container_of(s, struct wclient, program);

    if (kproc_pidfd_ended(s->fd) == 0)
        return;
    source_remove(wc->w->reactor, s);
    wc->program_ended = true;
    /* Until the agent has left, the memory is held: at once. */
    agent_post_exit(wc);
    client_turn(wc);
}

/* uffd: the one that the agent is to use in place of its own; -1: none. */
static void send_ready(int conn, int status, int32_t reap_pid, const char *reason, int uffd)
{
    struct proto_ready ready = {
        .head = {PROTO_MAGIC, PROTO_VERSION, PROTO_READY},
        .status = status,
        .reap_pid = reap_pid,
    };
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {&ready, sizeof(ready)};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

    snprintf(ready.reason, sizeof(ready.reason), "%s", reason);
    if (uffd >= 0) {
        mh.msg_control = control.buf;
        mh.msg_controllen = sizeof(control.buf);
        struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &uffd, sizeof(int));
    }
    (void)sendmsg(conn, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Numbers from the client: the worker registers and scans there, so they have to make sense. */
static bool attach_is_sane(const struct proto_attach *a)
{
    const uint64_t stages[] = {a->stage1, a->stage1_huge, a->stage2, a->stage2_huge,
                               a->remap};

    if (a->own_start >= a->own_end || (a->own_start | a->own_end) & ~PAGE_MASK ||
        a->own_end > (uint64_t)1 << 56)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(stages); i++)
        if (stages[i] < a->own_start || stages[i] & (LEAF_SIZE - 1) ||
            stages[i] > a->own_end - REMAP_BYTES)
            return false;
    return true;
}

/*
 * The page by which mm_is_dead() asks.  Where there can be no memory the kernel says so before
 * it says that the memory is gone: such a client would never end.
 */
static bool can_be_asked(const struct wclient *wc, int uffd)
{
    uint64_t done;

    return kuffd_zero(uffd, uaddr(wc->own_end - PAGE_SIZE), PAGE_SIZE, &done) != KRES_FATAL;
}

static struct wclient *find_by_program(struct worker *w, pid_t pid)
{
    struct client *c;

    list_for_each_entry(c, &w->domain.clients, link)
        if (wclient_of(c)->program_pid == pid && wclient_of(c)->ring)
            return wclient_of(c);
    return NULL;
}

/*
 * A name is bytes, and may be cut in the middle of a character.  It goes into JSON, which takes
 * UTF-8 only, and to terminals.
 */
static void make_text(char *name)
{
    json_t *text = json_string(name);
    bool is_utf8 = text != NULL;

    json_decref(text);
    for (unsigned char *c = (unsigned char *)name; *c; c++)
        if (*c < ' ' || *c == 0x7f || (*c >= 0x80 && !is_utf8))
            *c = '?';
}

static void read_comm(struct wclient *wc)
{
    _cleanup_close_ int fd = kproc_open(wc->program_pid, "comm");
    ssize_t n = fd < 0 ? -1 : read(fd, wc->comm, sizeof(wc->comm) - 1);

    wc->comm[n > 0 ? n : 0] = 0;
    wc->comm[strcspn(wc->comm, "\n")] = 0;
    make_text(wc->comm);
}

void wclient_note(struct wclient *wc)
{
    struct state_client *t = wc->w->table;
    uint32_t i = wc->slot;

    for (i = i < STATE_MAX_CLIENTS ? i : 0; i < STATE_MAX_CLIENTS; i++) {
        if (t[i].mm && i != wc->slot)
            continue;
        struct state_client *s = &t[i];
        memcpy(s->group, wc->c.group->name, sizeof(s->group));
        s->own_start = wc->own_start;
        s->own_end = wc->own_end;
        s->stage1 = wc->stage1;
        s->stage1_huge = wc->stage1_huge;
        s->stage2 = wc->stage2;
        s->stage2_huge = wc->stage2_huge;
        s->remap = wc->remap;
        s->agent_pid = wc->agent_pid;
        s->program_pid = wc->program_pid;
        atomic_thread_fence(memory_order_release);
        s->has_agent = wc->ring != NULL;
        s->mm = wc->c.mm.id; /* last: a record that has a number is whole */
        wc->slot = i;
        return;
    }
}

struct wclient *wclient_new(struct worker *w)
{
    struct wclient *wc = calloc(1, sizeof(*wc));

    if (!wc)
        return NULL;
    wc->w = w;
    wc->uffd.fd = wc->conn.fd = wc->program.fd = wc->agent.fd = -1;
    wc->pagemap_fd = wc->statm_fd = wc->fork_uffd = -1;
    wc->born_ns = now_ns();
    wc->slot = STATE_MAX_CLIENTS;
    return wc;
}

/* The agent and its program, as the handshake tells; NULL, or the reason why not. */
static const char *describe(struct wclient *wc, const struct worker_msg *msg, int ring_fd)
{
    const struct proto_attach *a = &msg->attach;

    if (!attach_is_sane(a))
        return "the agent's handshake makes no sense; is another version of the library loaded?";
    wc->agent_pid = msg->pid;
    wc->program_pid = kproc_ppid(msg->pid);
    wc->c.mm.pid = wc->program_pid;
    wc->ns_agent_pid = a->agent_pid;
    wc->own_start = a->own_start;
    wc->own_end = a->own_end;
    wc->stage1 = a->stage1;
    wc->stage1_huge = a->stage1_huge;
    wc->stage2 = a->stage2;
    wc->stage2_huge = a->stage2_huge;
    wc->remap = a->remap;
    wc->c.remap_stage = (struct urange){uaddr(a->remap), STAGE_BYTES};
    wc->c.tid_page = uaddr_page(uaddr(a->tid_word));
    /* An agent whose program is just ending is another one's child by now. */
    int same = wc->program_pid > 0 ? kproc_same_mm(wc->program_pid, wc->agent_pid) : 1;
    if (same == 0 || same == -ESRCH)
        return "the program has ended";
    if (wc->program_pid <= 0)
        return "the program is not visible to pagerd; it must run in pagerd's pid namespace or "
               "below";
    wc->program.fd = kproc_pidfd(wc->program_pid);
    wc->agent.fd = kproc_pidfd(wc->agent_pid);
    wc->pagemap_fd = kscan_open(wc->agent_pid);
    wc->statm_fd = kproc_open(wc->agent_pid, "statm");
    if (wc->pagemap_fd == -EMFILE || wc->statm_fd == -EMFILE || wc->agent.fd == -EMFILE ||
        wc->program.fd == -EMFILE)
        return "pagerd's worker is out of descriptors; raise its hard limit (ulimit -Hn)";
    if (wc->program.fd < 0 || wc->agent.fd < 0 || wc->pagemap_fd < 0 || wc->statm_fd < 0)
        return "pagerd may not look at the program under /proc; is it non-dumpable, or another "
               "user's?";
    wc->ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, 0);
    if (wc->ring == MAP_FAILED) {
        wc->ring = NULL;
        return "pagerd is short of memory";
    }
    read_comm(wc);
    return NULL;
}

/* A new address space: its stage 1 and its group. */
static const char *join(struct wclient *wc, const struct proto_attach *a, int uffd)
{
    struct worker *w = wc->w;
    struct wclient *parent = NULL;
    struct group *g;

    for (unsigned huge = 0; huge < 2; huge++) {
        uint64_t stage = huge ? wc->stage1_huge : wc->stage1;
        if (kuffd_register(uffd, urange(stage, stage + STAGE_BYTES), false) != KRES_DONE)
            return "the agent's staging area could not be registered";
    }
    /* A window of zeros would go over the poison. */
    if (a->forked && w->child_refused)
        return "it may be one that could not be served when it was forked";
    /* nothing of the parent was registered, or there would be a record of the child */
    if (a->forked)
        parent = find_by_program(w, kproc_ppid(wc->program_pid));
    g = a->group[0] ? group_find(&w->domain, a->group) : NULL;
    if (!g && parent)
        g = parent->c.group;
    if (!g)
        g = group_new(&w->domain, NULL, 0); /* of its own; the name is a client's word, not used */
    if (!g || client_init(&wc->c, &w->domain, g, &target_linux, wc) < 0) {
        if (g && !g->nr_clients && !g->nr_holders) {
            group_hold(g);
            group_release(g);
        }
        return "pagerd is short of memory";
    }
    if (parent) {
        client_relate(&parent->c, &wc->c);
        forked_share_at_start(wc);
    }
    return NULL;
}

static void refuse(struct wclient *wc, const struct worker_msg *msg, int conn, const char *wrong)
{
    if (msg->attach.forked)
        log_debug("pid %d: a forked child's agent is refused: %s", msg->pid, wrong);
    else
        log_warning("pid %d: not attached: %s", msg->pid, wrong);
    send_ready(conn, -ECANCELED, 0, wrong, -1);
    if (!wc)
        return;
    if (wc->ring)
        munmap(wc->ring, RING_BYTES);
    fd_close(wc->program.fd);
    fd_close(wc->agent.fd);
    fd_close(wc->pagemap_fd);
    fd_close(wc->statm_fd);
    free(wc);
}

/* This image may have replaced another one by exec: its agent has to leave.  Its pid, or 0. */
static int32_t retire_predecessor(struct worker *w, pid_t program)
{
    struct wclient *before = find_by_program(w, program);

    if (!before)
        return 0;
    before->program_ended = true;
    agent_post_exit(before);
    return before->ns_agent_pid;
}

void attach_client(struct worker *w, const struct worker_msg *msg, int conn, int uffd, int ring_fd)
{
    if (forked_must_wait(w, msg, conn, uffd, ring_fd))
        return;
    struct wclient *wc = wclient_new(w), *child = NULL;
    const char *wrong = wc ? describe(wc, msg, ring_fd) : "pagerd is short of memory";
    int32_t reap = 0;

    fd_close(ring_fd);
    if (!wrong && !can_be_asked(wc, uffd))
        wrong = "the agent's handshake makes no sense; is another version of the library loaded?";
    if (!wrong) {
        reap = retire_predecessor(w, wc->program_pid);
        child = forked_find(w, wc, &msg->attach, uffd);
        wrong = child ? NULL : join(wc, &msg->attach, uffd);
    }
    if (wrong) {
        refuse(wc, msg, conn, wrong);
        fd_close(conn);
        fd_close(uffd);
        w->nr_ended++;
        return;
    }
    if (child) {
        forked_gets_agent(child, wc); /* frees wc */
        wc = child;
        fd_close(uffd);
    } else {
        source_add(w->reactor, &wc->uffd, uffd, wclient_uffd_ready, wclient_uffd_released);
        wc->nr_sources = 1;
    }
    wc->c.has_agent = !wc->unsure;
    wc->c.awaits_agent = wc->unsure;
    wc->c.mm.own = urange(wc->own_start, wc->own_end);
    source_add(w->reactor, &wc->conn, conn, conn_ready, conn_released);
    int pidfd = wc->program.fd;
    source_add(w->reactor, &wc->program, pidfd, program_ready, program_released);
    wc->nr_sources += 2;
    wclient_note(wc);
    send_ready(conn, 0, reap, "", child ? child->uffd.fd : -1);
    w->next_housekeeping_ns = 0;
    log_debug("pid %d (%s): attached to group %s%s", wc->program_pid, wc->comm, wc->c.group->name,
              child ? ", a forked child" : "");
}

void wclient_end(struct wclient *wc)
{
    struct worker *w = wc->w;
    struct source *sources[] = {&wc->uffd, &wc->conn, &wc->program, &wc->agent};

    BUG_ON(wc->gone);
    wc->gone = true;
    relatives_changed(wc);
    if (w->hot == wc)
        w->hot = NULL;
    if (wc->slot < STATE_MAX_CLIENTS)
        w->table[wc->slot].mm = 0;
    if (migrate_is_capturing(&wc->c.mm)) { /* the pages went with the address space */
        uint8_t none[CAPTURE_MAX_PAGES];
        memset(none, client_result_of_missing(wc->msgs, wc->nr_msgs), sizeof(none));
        client_captured(&wc->c, none);
    }
    apply_messages(wc); /* there may be a child in them, which lives on */
    client_fini(&wc->c);
    if (wc->ring) {
        munmap(wc->ring, RING_BYTES);
        w->nr_ended++;
    }
    fd_close(wc->pagemap_fd);
    fd_close(wc->statm_fd);
    kmap_free(&wc->maps);
    free(wc->refused);
    for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
        struct source *s = sources[i];
        if (s->ready && !s->dying)
            source_remove(w->reactor, s);
        else if (!s->ready)
            s->fd = fd_close(s->fd);
    }
    if (wc->nr_released == wc->nr_sources)
        free(wc);
    /* The pool's memory goes back to the system when nobody is left; by pageblocks, later. */
    if (domain_rest(&w->domain)) {
        (void)fallocate(w->config->frames_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                        (off_t)w->config->ram_bytes); /* not MADV_REMOVE: it is locked */
        node_fresh_again(&w->domain.ram);
    }
}
