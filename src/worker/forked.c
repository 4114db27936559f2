/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forked children.  A child's record is made when its fork event is read, around the
 * userfaultfd that the event brought: its memory is registered with that one.  The
 * event names no process; who it is becomes known when the child's agent attaches:
 *
 *   fork event --> served, no agent --agent attaches--> as any client
 *                         |
 *                         +--no agent in FORK_GRACE_NS--> brought back, as the group has room
 *
 *  1. The fork event is read before fork() goes on in the parent and before the child
 *     runs (dup_userfaultfd_complete()), so a child's record, or at least its message, is
 *     there before its agent can attach.  Messages may be kept back (client.h): an agent
 *     that attaches meanwhile waits.
 *  2. Which record: siblings look alike, and their agents' areas lie at the same
 *     addresses.  The page that the agent names tells that an agent's area is there; then
 *     stage 1, where nothing is yet, is registered with the record's userfaultfd, and
 *     the agent's own is asked whether another one has it.  What is registered in a
 *     sibling by that will be so anyway.
 *     All of that a process can make up that wants a sibling's userfaultfd, by which it
 *     would answer the sibling's faults.  So random marks in stage 1 have the last word,
 *     which must appear in the agent's own pagemap (kuffd_is_of()).
 *  3. From then on the fork's userfaultfd is the main one, for the agent too, and the one
 *     that the agent made is closed: UFFDIO_MOVE to stage 1 is refused while an event
 *     is unread only through the one that has the events (DESIGN D3).
 *  4. A mapping of the parent that was registered between the fork and the reading of its
 *     event is in the child's tables, but not registered in the child: a page taken out of
 *     it would read as zeros.  Nothing is taken before forked_make_sure() was there.
 *  5. What the parent's agent had staged is not in the child (DONTFORK).
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "worker/worker_priv.h"

/* How much is asked of parent and child before the flags are read, for a fork and a mapping. */
#define MAX_FORK_LOOKS 256
#define MAX_PAGES_ASKED 4

struct client *attach_forked(struct client *parent, int uffd)
{
    struct wclient *from = wclient_of(parent), *wc = wclient_new(from->w);

    from->flags_read = false; /* as of this fork */
    from->nr_fork_looks = 0;
    from->fork_uffd = uffd;
    if (!wc || failpoint("fork-record") ||
        client_init(&wc->c, parent->domain, parent->group, &target_linux, wc) < 0) {
        free(wc);
        forked_refuse(parent, uffd);
        return NULL;
    }
    wc->c.leaving = wc->c.awaits_agent = true;
    wc->own_start = from->own_start;
    wc->own_end = from->own_end;
    wc->c.mm.own = from->c.mm.own;
    snprintf(wc->comm, sizeof(wc->comm), "%s", from->comm);
    source_add(from->w->reactor, &wc->uffd, uffd, wclient_uffd_ready, wclient_uffd_released);
    wc->nr_sources = 1;
    wclient_note(wc);
    from->w->next_housekeeping_ns = 0;
    return &wc->c;
}

/*
 * The maps of the address space, with flags, by whoever of it lives: the agent, or when that
 * has ended a thread (the main thread may have ended too, and shows nothing).
 */
static void read_flags(struct wclient *wc)
{
    struct kmap *m = &wc->maps;

    wc->adopt_cursor = 0;
    if (!wc->agent_lost && kmaps_read_with_flags(wc->agent_pid, m) == 0 && m->nr)
        return;
    pid_t tid = kproc_thread_with_memory(wc->program_pid);
    if (tid <= 0 || kmaps_read_with_flags(tid, m) < 0)
        m->nr = 0;
}

/*
 * Has the child a page of the parent's mapping?  Then all of the mapping was copied, since
 * the flag is the mapping's, and nothing has to be read (read_flags() may take long).  Where there
 * is none the child gets a zero there: it was wiped, or is dropped just now.  A child that has
 * ended already needs nothing.  Not of a child that an earlier worker had begun to make: its zeros
 * would be taken for pages.
 */
static enum fork_gets look_into_child(struct wclient *from, struct uaddr at, uint64_t *ret_end)
{
    struct mm *mm = &from->c.mm;
    struct uaddr page;
    struct urange r;
    uint64_t done;

    if (from->agent_lost || from->fork_uffd < 0 || from->nr_fork_looks++ >= MAX_FORK_LOOKS ||
        kmaps_find(from->agent_pid, at, &r) != 1)
        return FORK_GETS_UNKNOWN;
    page = r.start;
    for (unsigned i = 0; i < MAX_PAGES_ASKED && pte_next_mapped(mm, &page, urange_end(r));
         page.v += PAGE_SIZE) {
        if (pte_tag(pte_get(mm, page)) != PTE_PRESENT || page.v == from->c.tid_page.v)
            continue;
        i++;
        switch (kuffd_zero(from->fork_uffd, page, PAGE_SIZE, &done)) {
        case KRES_RACED:
            *ret_end = urange_end(r);
            return FORK_GETS_BYTES;
        case KRES_DONE:
            break;
        case KRES_DEAD:
            *ret_end = FORK_GETS_ALL;
            return FORK_GETS_NOTHING;
        case KRES_RETRY:
        case KRES_GONE:
        case KRES_FATAL:
            return FORK_GETS_UNKNOWN;
        }
    }
    return FORK_GETS_UNKNOWN;
}

/*
 * WIPEONFORK and DONTFORK memory of the parent is not the child's.  Such mappings are not
 * adopted, but a program can say so afterwards, without an event.  The parent runs on already:
 * what is not there any more, or cannot be read, is for the child's own mappings to tell,
 * which have the same flags.
 */
enum fork_gets forked_gets(struct client *parent, struct uaddr at, uint64_t *ret_end)
{
    struct wclient *from = wclient_of(parent);

    *ret_end = FORK_GETS_ALL;
    /*
     * Nothing was ever taken out of a parent without agent: what it has out its own parent had, in
     * mappings that were not wiped.  The shim brings back what it gives such a flag since.
     */
    if (!from->ring)
        return FORK_GETS_BYTES;
    if (atomic_load_explicit(&from->ring->keeps_memory, memory_order_seq_cst))
        parent->keeps_memory = true;
    if (!from->flags_read) {
        enum fork_gets seen = look_into_child(from, at, ret_end);
        if (seen != FORK_GETS_UNKNOWN)
            return seen;
        read_flags(from);
    }
    from->flags_read = true;
    const struct kmap_vma *vma = kmap_find(&from->maps, at);
    if (!vma || !(vma->flags & KMAP_VMF_KNOWN)) {
        *ret_end = at.v + PAGE_SIZE;
        return FORK_GETS_UNKNOWN;
    }
    *ret_end = urange_end(vma->r);
    if (!(vma->flags & (KMAP_VMF_WIPEONFORK | KMAP_VMF_DONTCOPY)))
        return FORK_GETS_BYTES;
    parent->keeps_memory = true;
    return FORK_GETS_NOTHING;
}

/* ---- the child's agent ---- */

struct waiting_agent {
    struct list link;
    struct worker_msg msg;
    int conn, uffd, ring;
};

static bool fork_is_kept_back(struct worker *w)
{
    struct client *c;

    list_for_each_entry(c, &w->domain.clients, link) {
        const struct wclient *wc = wclient_of(c);
        for (uint32_t i = 0; i < wc->nr_msgs; i++)
            if (wc->msgs[i].type == KUFFD_FORK)
                return true;
    }
    return false;
}

bool forked_must_wait(struct worker *w, const struct worker_msg *msg, int conn, int uffd, int ring)
{
    if (!msg->attach.forked || !fork_is_kept_back(w))
        return false;
    struct waiting_agent *a = malloc(sizeof(*a));
    if (!a)
        return false;
    *a = (struct waiting_agent){.msg = *msg, .conn = conn, .uffd = uffd, .ring = ring};
    list_add_tail(&a->link, &w->waiting_agents);
    return true;
}

void forked_attach_waiting(struct worker *w)
{
    struct list all;

    if (list_empty(&w->waiting_agents) || fork_is_kept_back(w))
        return;
    list_init(&all);
    list_splice_tail(&w->waiting_agents, &all);
    while (!list_empty(&all)) {
        struct waiting_agent *a = list_first_entry(&all, struct waiting_agent, link);
        list_del(&a->link);
        attach_client(w, &a->msg, a->conn, a->uffd, a->ring);
        free(a);
    }
}

static bool is_its_userfaultfd(const struct wclient *wc, const struct proto_attach *a, int agents,
                               int pagemap)
{
    const uint64_t stages[] = {a->stage1, a->stage1_huge};
    static struct log_ratelimit often;

    if (!kuffd_finds_readonly(wc->uffd.fd, uaddr(a->id_page)))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(stages); i++) {
        struct urange r = urange(stages[i], stages[i] + STAGE_BYTES);
        if (kuffd_register(wc->uffd.fd, r, false) != KRES_DONE || !kuffd_finds_anothers(agents, r))
            return false;
    }
    if (kuffd_is_of(wc->uffd.fd, pagemap, urange(a->stage1, a->stage1 + STAGE_BYTES)))
        return true;
    if (log_ratelimit(&often))
        log_warning("an agent looks like that of a forked child of uid %u, and is not: it does not "
                    "get the child's memory", wc->w->config->uid);
    return false;
}

struct wclient *forked_find(struct worker *w, const struct wclient *described,
                            const struct proto_attach *a, int uffd)
{
    struct client *c;

    if (!a->forked || a->id_page < a->own_start || a->id_page >= a->own_end ||
        a->id_page & ~PAGE_MASK)
        return NULL;
    list_for_each_entry(c, &w->domain.clients, link) {
        struct wclient *wc = wclient_of(c);
        if (!wc->ring && !c->mm.dead && is_its_userfaultfd(wc, a, uffd, described->pagemap_fd))
            return wc;
    }
    return NULL;
}

/* All that it has not been filled with is its relatives' too, until that is asked. */
void forked_share_at_start(struct wclient *wc)
{
    uint64_t bytes, mapped;

    if (kproc_memory(wc->statm_fd, &bytes, &mapped) == 0)
        wc->shared_bytes = bytes - MIN(bytes, wc->c.resident_bytes);
    wc->next_share_ns = now_ns();
    relatives_changed(wc);
}

/*
 * What was in doubt, by the child's own flags: they are its parent's as of the fork, or it has
 * set them since.  Which of the two nobody can tell.  False: not all of it can be seen.
 */
static bool settle_doubt(struct wclient *wc, const struct kmap *m)
{
    struct client *c = &wc->c;
    struct urange doubt = client_doubt(c);
    struct uaddr at = doubt.start;

    for (; pte_next_mapped(&c->mm, &at, urange_end(doubt)); at.v += PAGE_SIZE) {
        if (!client_is_doubtful(c, at))
            continue;
        const struct kmap_vma *vma = kmap_find(m, at);
        if (!vma) { /* it was not copied (MADV_DONTFORK), or nobody would wait for the page there */
            client_forget(c, at.v, at.v + PAGE_SIZE);
            continue;
        }
        if (!(vma->flags & KMAP_VMF_KNOWN))
            return false;
        if (vma->flags & KMAP_VMF_WIPEONFORK)
            (void)client_withhold(c, at.v, MIN(urange_end(vma->r), urange_end(doubt)));
        at.v = urange_end(vma->r) - PAGE_SIZE;
    }
    client_end_doubt(c);
    return true;
}

void forked_give_up_doubt(struct wclient *wc)
{
    struct urange doubt = client_doubt(&wc->c);

    if (!doubt.len)
        return;
    uint64_t nr = client_withhold(&wc->c, doubt.start.v, urange_end(doubt));
    client_end_doubt(&wc->c);
    if (nr)
        log_error("a forked child of %s: nobody can tell whether %" PRIu64 " pages were to be kept from "
                  "it (MADV_WIPEONFORK): a touch of them is SIGBUS",
                  wc->comm, nr);
}

static bool drop(struct wclient *wc, uint64_t start, uint64_t end)
{
    if (start >= end)
        return true;
    client_forget(&wc->c, start, end);
    return mm_area_remove(&wc->c.mm, start, end) == 0;
}

/* Is anything of ours there?  What is not has not to be asked for. */
static bool concerns(struct mm *mm, struct urange r)
{
    struct uaddr at = r.start;

    return mm_area_find(mm, r.start.v) || mm_area_next_start(mm, r.start.v) < urange_end(r) ||
           pte_next_mapped(mm, &at, urange_end(r));
}

bool forked_make_sure(struct wclient *wc)
{
    struct kmap *m = &wc->maps;
    bool in_doubt = client_doubt(&wc->c).len;
    uint64_t at = 0;

    /*
     * An event is under way until it is read, and here nothing is read: so none came
     * between the two looks, and what is registered has not moved meanwhile.
     */
    if (kuffd_is_changing(wc->uffd.fd) ||
        (in_doubt ? kmaps_read_with_flags(wc->agent_pid, m) : kmaps_read(wc->agent_pid, m)) < 0 ||
        kuffd_is_changing(wc->uffd.fd))
        return false;
    wc->adopt_cursor = 0;
    if (!m->nr) /* the agent has ended; its program may live */
        return false;
    if (in_doubt && !settle_doubt(wc, m))
        return false;
    /* Holes too: what is mapped there later is not registered either. */
    for (size_t i = 0; i < m->nr; i++) {
        if (!concerns(&wc->c.mm, m->vma[i].r))
            continue;
        switch (kuffd_is_registered(wc->uffd.fd, m->vma[i].r.start)) {
        case KRES_DONE:
            if (!drop(wc, at, m->vma[i].r.start.v))
                return false;
            at = urange_end(m->vma[i].r);
            break;
        case KRES_GONE:
            break;
        case KRES_RETRY:
        case KRES_RACED:
        case KRES_DEAD:
        case KRES_FATAL:
            return false; /* it has changed just now */
        }
    }
    return !kuffd_is_changing(wc->uffd.fd) && drop(wc, at, UINT64_MAX);
}

void forked_gets_agent(struct wclient *wc, struct wclient *described)
{
    struct wclient *from = described;
    struct mm *mm = &wc->c.mm;

    wc->agent_pid = from->agent_pid;
    wc->program_pid = from->program_pid;
    wc->ns_agent_pid = from->ns_agent_pid;
    wc->own_start = from->own_start;
    wc->own_end = from->own_end;
    wc->stage1 = from->stage1;
    wc->stage1_huge = from->stage1_huge;
    wc->stage2 = from->stage2;
    wc->stage2_huge = from->stage2_huge;
    wc->remap = from->remap;
    wc->c.remap_stage = from->c.remap_stage;
    wc->c.tid_page = from->c.tid_page;
    wc->program.fd = from->program.fd;
    wc->agent.fd = from->agent.fd;
    wc->pagemap_fd = from->pagemap_fd;
    wc->statm_fd = from->statm_fd;
    wc->ring = from->ring;
    memcpy(wc->comm, from->comm, sizeof(wc->comm));
    free(from);

    wc->unsure = true;
    wc->c.leaving = false;
    wc->c.cursor = uaddr(0);
    wc->retry_ns = now_ns();
    /* What the parent had there is not in the child (DONTFORK). */
    client_forget(&wc->c, wc->own_start, wc->own_end);
    (void)mm_area_remove(mm, wc->own_start, wc->own_end);
    forked_share_at_start(wc);
    /* Never captured.  The agent has looked at the word, so the page is there. */
    if (pte_tag(pte_get(mm, wc->c.tid_page)) == PTE_PRESENT)
        (void)pte_transition(mm, wc->c.tid_page, PTE_EV_REMOVE, (struct pte_arg){0}, NULL);
}
