/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The beginning and the end of a client's record.
 *
 * A client comes by its agent's handshake (attach_client) or by a fork event
 * (attach_forked: no agent; it is only served, and brought back whole).  It ends when
 * its address space has, or when nothing of it is stored any more.  The record is
 * freed when the reactor has let go of all its descriptors.
 */
#define _GNU_SOURCE
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

static void uffd_released(struct source *s)
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

static void uffd_ready(struct source *s)
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
    if (migrate_is_capturing(&wc->c.mm))
        capture_recover(wc);
    if (mm_is_dead(wc)) {
        wclient_end(wc);
        return;
    }
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
    wc->c.has_agent = false;
    /* A zombie's memory counts as nothing: from now on the program's own is read. */
    int statm = kproc_open(wc->program_pid, "statm");
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

static void conn_ready(struct source *s)
{
    struct wclient *wc = container_of(s, struct wclient, conn);
    bool tid_changed = false;
    char bell;
    ssize_t n;

    while ((n = recv(s->fd, &bell, 1, MSG_DONTWAIT)) > 0)
        tid_changed |= bell != BELL_DONE;
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
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

static void send_ready(int conn, int status, int32_t reap_pid, const char *reason)
{
    struct proto_ready ready = {
        .head = {PROTO_MAGIC, PROTO_VERSION, PROTO_READY},
        .status = status,
        .reap_pid = reap_pid,
    };

    snprintf(ready.reason, sizeof(ready.reason), "%s", reason);
    (void)send(conn, &ready, sizeof(ready), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Numbers from the client: the worker registers and scans there, so they have to make sense. */
static bool attach_is_sane(const struct proto_attach *a)
{
    const uint64_t stages[] = {a->stage1, a->stage1_huge, a->stage2, a->stage2_huge};

    if (a->own_start >= a->own_end || (a->own_start | a->own_end) & ~PAGE_MASK ||
        a->own_end > (uint64_t)1 << 56)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(stages); i++)
        if (stages[i] < a->own_start || stages[i] & (LEAF_SIZE - 1) ||
            stages[i] > a->own_end - STAGE_BYTES)
            return false;
    return true;
}

static struct wclient *find_by_program(struct worker *w, pid_t pid)
{
    struct client *c;

    list_for_each_entry(c, &w->domain.clients, link)
        if (wclient_of(c)->program_pid == pid && wclient_of(c)->ring)
            return wclient_of(c);
    return NULL;
}

static void read_comm(struct wclient *wc)
{
    _cleanup_close_ int fd = kproc_open(wc->program_pid, "comm");
    ssize_t n = fd < 0 ? -1 : read(fd, wc->comm, sizeof(wc->comm) - 1);

    wc->comm[n > 0 ? n : 0] = 0;
    wc->comm[strcspn(wc->comm, "\n")] = 0;
}

static void note_in_table(struct wclient *wc)
{
    struct state_client *t = wc->w->table;

    wc->slot = STATE_MAX_CLIENTS;
    for (uint32_t i = 0; i < STATE_MAX_CLIENTS; i++) {
        if (t[i].mm)
            continue;
        t[i] = (struct state_client){
            .agent_pid = wc->agent_pid,
            .program_pid = wc->program_pid,
            .has_agent = wc->ring != NULL,
            .own_start = wc->own_start,
            .own_end = wc->own_end,
            .stage1 = wc->stage1,
            .stage1_huge = wc->stage1_huge,
            .stage2 = wc->stage2,
            .stage2_huge = wc->stage2_huge,
        };
        memcpy(t[i].group, wc->c.group->name, sizeof(t[i].group));
        atomic_thread_fence(memory_order_release);
        t[i].mm = wc->c.mm.id; /* last: a record that has a number is whole */
        wc->slot = i;
        return;
    }
}

static struct wclient *wclient_new(struct worker *w)
{
    struct wclient *wc = calloc(1, sizeof(*wc));

    if (!wc)
        return NULL;
    wc->w = w;
    wc->uffd.fd = wc->conn.fd = wc->program.fd = wc->agent.fd = -1;
    wc->pagemap_fd = wc->statm_fd = -1;
    wc->born_ns = now_ns();
    wc->slot = STATE_MAX_CLIENTS;
    return wc;
}

/* Everything that can fail; the descriptors are the caller's until it returns NULL (no reason). */
static const char *set_up(struct worker *w, struct wclient *wc, const struct worker_msg *msg,
                          int uffd, int ring_fd, int32_t *ret_reap)
{
    const struct proto_attach *a = &msg->attach;
    struct group *g;

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
    wc->c.tid_page = uaddr_page(uaddr(a->tid_word));
    /* An agent whose program is just ending is another one's child by now. */
    if (wc->program_pid > 0 && kproc_same_mm(wc->program_pid, wc->agent_pid) == 0)
        return "the program has ended";
    if (wc->program_pid <= 0)
        return "the program is not visible to pagerd; it must run in pagerd's pid namespace or below";
    wc->program.fd = kproc_pidfd(wc->program_pid);
    wc->agent.fd = kproc_pidfd(wc->agent_pid);
    wc->pagemap_fd = kscan_open(wc->agent_pid);
    wc->statm_fd = kproc_open(wc->agent_pid, "statm");
    if (wc->pagemap_fd == -EMFILE || wc->statm_fd == -EMFILE || wc->agent.fd == -EMFILE ||
        wc->program.fd == -EMFILE)
        return "pagerd's worker is out of descriptors; raise its hard limit (ulimit -Hn)";
    if (wc->program.fd < 0 || wc->agent.fd < 0 || wc->pagemap_fd < 0 || wc->statm_fd < 0)
        return "pagerd may not look at the program under /proc; is it non-dumpable, or another user's?";
    wc->ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, 0);
    if (wc->ring == MAP_FAILED) {
        wc->ring = NULL;
        return "pagerd is short of memory";
    }
    for (unsigned huge = 0; huge < 2; huge++) {
        uint64_t stage = huge ? wc->stage1_huge : wc->stage1;
        if (kuffd_register(uffd, urange(stage, stage + STAGE_BYTES), false) != KRES_DONE)
            return "the agent's staging area could not be registered";
    }

    struct wclient *before = find_by_program(w, wc->program_pid);
    if (before) { /* this image replaced another one by exec: its agent has to leave */
        *ret_reap = before->ns_agent_pid;
        before->program_ended = true;
        agent_post_exit(before);
    }
    g = a->group[0] ? group_find(&w->domain, a->group) : NULL;
    if (!g)
        g = group_new(&w->domain, NULL, 0); /* of its own; the name is a client's word, not used */
    if (!g || client_init(&wc->c, &w->domain, g, &target_linux, wc) < 0) {
        if (g && !g->nr_clients && !g->nr_holders) {
            group_hold(g);
            group_release(g);
        }
        return "pagerd is short of memory";
    }
    return NULL;
}

void attach_client(struct worker *w, const struct worker_msg *msg, int conn, int uffd, int ring_fd)
{
    struct wclient *wc = wclient_new(w);
    int32_t reap = 0;
    const char *wrong = wc ? set_up(w, wc, msg, uffd, ring_fd, &reap) : "pagerd is short of memory";

    fd_close(ring_fd);
    if (wrong) {
        log_warning("pid %d: not attached: %s", msg->pid, wrong);
        send_ready(conn, -ECANCELED, 0, wrong);
        if (wc) {
            if (wc->ring)
                munmap(wc->ring, RING_BYTES);
            fd_close(wc->program.fd);
            fd_close(wc->agent.fd);
            fd_close(wc->pagemap_fd);
            fd_close(wc->statm_fd);
            free(wc);
        }
        fd_close(conn);
        fd_close(uffd);
        w->nr_ended++;
        return;
    }
    wc->c.has_agent = true;
    wc->c.mm.own = urange(wc->own_start, wc->own_end);
    read_comm(wc);
    source_add(w->reactor, &wc->uffd, uffd, uffd_ready, uffd_released);
    source_add(w->reactor, &wc->conn, conn, conn_ready, conn_released);
    int pidfd = wc->program.fd;
    source_add(w->reactor, &wc->program, pidfd, program_ready, program_released);
    wc->nr_sources = 3;
    note_in_table(wc);
    send_ready(conn, 0, reap, "");
    w->next_housekeeping_ns = 0;
    log_debug("pid %d (%s): attached to group %s", wc->program_pid, wc->comm, wc->c.group->name);
}

struct client *attach_forked(struct client *parent, int uffd)
{
    struct wclient *from = wclient_of(parent), *wc = wclient_new(from->w);

    if (!wc || client_init(&wc->c, parent->domain, parent->group, &target_linux, wc) < 0) {
        free(wc);
        /* Kept open and unattended: its faults wait, they do not read zeros. */
        return NULL;
    }
    wc->c.leaving = true;
    wc->own_start = from->own_start;
    wc->own_end = from->own_end;
    wc->c.mm.own = from->c.mm.own;
    snprintf(wc->comm, sizeof(wc->comm), "%s", from->comm);
    source_add(from->w->reactor, &wc->uffd, uffd, uffd_ready, uffd_released);
    wc->nr_sources = 1;
    note_in_table(wc);
    from->w->next_housekeeping_ns = 0;
    return &wc->c;
}

/*
 * What the parent's mapping says about forks counts for the child: its WIPEONFORK
 * and DONTFORK memory is not the parent's.  Such mappings are not adopted, but a
 * program can say so afterwards, without an event.
 */
void forked_flags(struct client *parent, struct client *child)
{
    struct wclient *from = wclient_of(parent);
    struct kmap *m = &from->maps;

    if (!child->mm.nr_leaves || !from->ring || kmaps_read(from->program_pid, m) < 0 ||
        kmaps_read_flags(from->program_pid, m) < 0)
        return;
    for (size_t i = 0; i < m->nr; i++)
        if (m->vma[i].flags & (KMAP_VMF_WIPEONFORK | KMAP_VMF_DONTCOPY))
            client_forget(child, m->vma[i].r.start.v, urange_end(m->vma[i].r));
}

void wclient_end(struct wclient *wc)
{
    struct worker *w = wc->w;
    struct source *sources[] = {&wc->uffd, &wc->conn, &wc->program, &wc->agent};

    BUG_ON(wc->gone);
    wc->gone = true;
    if (w->hot == wc)
        w->hot = NULL;
    if (wc->slot < STATE_MAX_CLIENTS)
        w->table[wc->slot].mm = 0;
    if (migrate_is_capturing(&wc->c.mm)) { /* the pages went with the address space */
        uint8_t none[CAPTURE_MAX_PAGES];
        memset(none, CAPTURE_HOLE, sizeof(none));
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
    if (list_empty(&w->domain.clients) && frame_nr_free(w->domain.ram.frames) ==
                                              frame_nr_total(w->domain.ram.frames))
        (void)madvise(w->domain.ram.base, w->config->ram_bytes, MADV_REMOVE);
}
