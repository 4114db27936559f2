/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One turn of one client, and what is done by the clock.
 *
 * The order in a turn is the capture's second rule (DESIGN D3): collect the
 * capture, then read all messages, apply the events, answer the faults, commit,
 * and only then start the next capture.  While one is under way nothing is read.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/syscall.h>

#include "worker/worker_priv.h"

#define COMMIT_SLICE 64           /* captured pages between two looks for messages */
#define MSGS 64
#define ROOM_FOR_EVENTS 64        /* in a batch that is read while a capture sleeps */
#define RETRY_NS 200000           /* pacing of faults that the kernel told to come again */
#define STARVED_RETRY_NS 5000000  /* the same when the client's cgroup is full: each try searches it */
#define STARVED_BEFORE_NS 1000000000u /* a command that was given: its agent may lack memory too */
#define HELD_RETRY_NS 100000     /* the same for a batch of messages that is not whole yet */
#define AGENT_TIMEOUT_NS 5000000000u
#define FORK_GRACE_NS 500000000u  /* its agent comes within some milliseconds, or not at all (forked.c) */
#define NO_ROOM_NS 20000000u      /* bringing back waits for its group to have room */
/* What relatives share is asked this often, and not for more than one part in so many of the time. */
#define SHARE_PERIOD_NS 10000000u
#define SHARE_COST 20
#define SHARE_LATEST_NS 200000000u
#define UNSURE_NS 2000000u        /* the maps of a child changed while they were read */
#define WAITING_NS 1000000u       /* agents that wait for a fork event */
#define REFUSED_NS 1000000u       /* children that could not be poisoned at once */
#define BRING_BACK_SLICE 256
#define HOT_GAP_NS 200000         /* faults that follow each other closer than this keep it awake */
#define HOT_SPIN_NS 50000
#define ALIVE_CHECK_NS 1000000000u
/* A program that touches memory as fast as the kernel gives it: 2.5 bytes a nanosecond on each of two cores. */
#define GROWTH_BYTES_PER_US 5000
#define OVERSHOOT_BYTES ((uint64_t)32 << 20) /* what it may fill when it was quiet before */
#define ADOPT_PERIOD_NS 50000000u /* a mapping that took another's place, of the same size */
#define RELEASE_PERIOD_NS 1000000000u /* looks whether a client may be unregistered */
#define MEASURE_MIN_NS 2000000u
#define MEASURE_NEAR_MAX_NS 8000000u
#define MEASURE_MAX_NS 100000000u

bool mm_is_dead(struct wclient *wc)
{
    uint64_t done;

    if (wc->c.mm.dead)
        return true;
    if (wc->c.held) /* something may have been moved there, as far as the tables are behind */
        return false;
    /*
     * The last page of the agent's area is never registered, and a hole in a forked
     * child: GONE as long as the address space lives.  Should a child have moved
     * something there, zeros for a page that was never touched change nothing.
     */
    struct uaddr probe = uaddr(wc->own_end - PAGE_SIZE);
    if (pte_tag(pte_get(&wc->c.mm, probe)) == PTE_NONE &&
        kuffd_zero(wc->uffd.fd, probe, PAGE_SIZE, &done) == KRES_DEAD)
        wc->c.mm.dead = true;
    return wc->c.mm.dead;
}

void apply_messages(struct wclient *wc)
{
    uint32_t nr = wc->nr_msgs;

    wc->nr_msgs = 0;
    wc->c.held = false;
    if (nr)
        client_upcalls(&wc->c, wc->msgs, nr, now_ns());
}

static bool has_events(const struct wclient *wc)
{
    for (uint32_t i = 0; i < wc->nr_msgs; i++)
        if (wc->msgs[i].type != KUFFD_FAULT && wc->msgs[i].type != KUFFD_VOID)
            return true;
    return false;
}

/* At most `max` into what is kept back. */
static int read_some(struct wclient *wc, uint32_t max)
{
    uint32_t at = wc->nr_msgs;
    int n = max ? kuffd_read_raw(wc->uffd.fd, wc->c.saved->raw[at], wc->msgs + at, max) : 0;

    if (n > 0) {
        wc->nr_msgs += (uint32_t)n;
        client_void_own(&wc->c, wc->msgs, at, (uint32_t)n);
    }
    return n;
}

/*
 * A capture by mremap() sleeps until its message was read, and takes nothing any more.
 * What else is read is applied when the capture has been collected, as always.  Faults
 * come first, one a thread: of more than there is room for the threads look again later.
 */
static void read_for_capture(struct wclient *wc)
{
    uint32_t room;

    while ((room = CLIENT_MAX_UPCALLS - wc->nr_msgs)) {
        bool crowded = room <= ROOM_FOR_EVENTS;
        if (read_some(wc, crowded ? 1 : MIN((uint32_t)MSGS, room - ROOM_FOR_EVENTS)) <= 0)
            break;
        if (crowded && wc->msgs[wc->nr_msgs - 1].type == KUFFD_FAULT) {
            wc->nr_msgs--;
            memset(wc->c.saved->raw[wc->nr_msgs], 0, KUFFD_RAW_BYTES);
            wc->wake_wanted = true;
        }
    }
    wc->c.held = wc->nr_msgs != 0;
}

/*
 * Reads, and applies when the batch is whole: of several threads that change the
 * address space, each sends its message after its own change, so a later change's
 * may be read first (client_upcalls() sorts them).  Until then they are `held`; the
 * kernel fills and moves nothing for us meanwhile.  True when there is, or may be,
 * more to read soon.
 */
static bool read_messages(struct wclient *wc)
{
    uint64_t now = now_ns();
    uint32_t max;
    int n;

    /* A read that is short has seen both queues empty. */
    do {
        max = MIN((uint32_t)MSGS, CLIENT_MAX_UPCALLS - wc->nr_msgs);
        uint32_t first = wc->nr_msgs;
        n = read_some(wc, max);
        if (n <= 0)
            break;
        if (wc->nr_msgs > first && (wc->msgs[first].type == KUFFD_FAULT || n > 1)) {
            struct worker *w = wc->w;
            if (now - w->last_fault_ns < HOT_GAP_NS)
                w->hot_until_ns = now + HOT_SPIN_NS;
            w->last_fault_ns = now;
            w->hot = wc;
        }
        /* What does not fit is posted again; answers come between. */
    } while (n == MSGS && wc->c.nr_parked <= CLIENT_MAX_PARKED - CLIENT_MAX_UPCALLS);
    if (n < 0 && n != -EINTR) {
        static struct log_ratelimit often;
        if (log_ratelimit(&often))
            log_warning("pid %d: reading its userfaultfd failed: %s", wc->program_pid, strerror(-n));
    }
    wc->c.held = wc->nr_msgs && wc->nr_msgs < CLIENT_MAX_UPCALLS && has_events(wc) &&
                 kuffd_is_changing(wc->uffd.fd);
    if (!wc->c.held && wc->nr_msgs && has_events(wc))
        wc->c.held = !client_order(&wc->c, wc->msgs, wc->nr_msgs);
    if (!wc->c.held)
        apply_messages(wc);
    return n < 0 || n == (int)max;
}

/*
 * The first capture would keep the rest of the mappings from being adopted for a while, and what is
 * not registered is what grows meanwhile.  Of a program that changes its mappings all the
 * time adoption never ends: so not for long, and not once something was taken.
 */
#define ADOPTS_FIRST_NS 20000000u

static bool adopts_first(struct wclient *wc)
{
    if (!wc->adopt_wanted || !wc->adopt_cursor || wc->c.moved_out)
        return false;
    if (!wc->adopts_first_ns)
        wc->adopts_first_ns = now_ns();
    return now_ns() - wc->adopts_first_ns < ADOPTS_FIRST_NS;
}

/* False when the client has ended. */
static bool adopt(struct wclient *wc)
{
    wc->adopt_wanted = false;
    if (!adopt_mappings(wc)) {
        wclient_end(wc);
        return false;
    }
    wc->c.adopting = adopts_first(wc);
    return true;
}

/*
 * The agent may not get a processor for tens of milliseconds: from the very threads that fill what
 * is not registered yet, which grows by 2 MiB each of them.  Registered, it stops them.  As ever
 * nothing changes meanwhile: whoever has changed a mapping waits until that is read, which is after
 * the capture, and adoption with them.  A capture by mremap() changes mappings itself.
 */
static bool adopts_meanwhile(const struct wclient *wc)
{
    return wc->adopt_wanted && !wc->unsure && !wc->capture_remaps && !wc->nr_msgs &&
           !kuffd_is_changing(wc->uffd.fd);
}

bool client_turn(struct wclient *wc)
{
    struct worker *w = wc->w;
    uint32_t left, before;

    if (wc->gone)
        return false;
    if (migrate_is_capturing(&wc->c.mm)) {
        if (!capture_is_done(wc)) {
            if (capture_lets_read(wc))
                read_for_capture(wc);
            /* Its end is the next turn: not asked for, on the agent's core perhaps. */
            wc->retry_ns = wc->capture_remaps ? now_ns() + RETRY_NS : 0;
            if (!adopts_meanwhile(wc))
                return true;
            if (now_ns() >= wc->adopt_ns && !adopt(wc))
                return false;
            if (wc->adopt_wanted) {
                wc->retry_ns = MAX(wc->adopt_ns, 1u);
                w->next_housekeeping_ns = MIN(w->next_housekeeping_ns, wc->retry_ns);
            }
            return true;
        }
        capture_collect(wc);
        if (wc->wake_wanted)
            (void)wc->c.mm.ops->wake(wc, (struct urange){0});
        wc->wake_wanted = false;
    }
    if (wc->program_ended)
        agent_post_exit(wc);
    wc->retry_ns = 0;
    left = migrate_nr_open(&wc->c.mm);
    do {
        /* What a fault needs may wait behind events: all of them first. */
        bool was_held = wc->c.held, more = read_messages(wc);
        if (wc->c.held) {
            if (!was_held) { /* it is a matter of one wake-up */
                w->hot = wc;
                w->hot_until_ns = now_ns() + HOT_SPIN_NS;
            }
            wc->retry_ns = now_ns() + HELD_RETRY_NS;
            w->next_housekeeping_ns = MIN(w->next_housekeeping_ns, wc->retry_ns);
            return true;
        }
        uint32_t parked = client_answer(&wc->c);
        before = left;
        left = client_commit(&wc->c, COMMIT_SLICE);
        uint64_t now = now_ns();
        if (parked || left || more)
            wc->retry_ns = now + (worker_is_starved(wc, now) ? STARVED_RETRY_NS : RETRY_NS);
        else
            wc->retry_ns = 0;
    } while (left && left < before);
    if (wc->c.mm.dead) {
        wclient_end(wc);
        return false;
    }
    if (wc->unsure && !wc->agent_lost) {
        wc->unsure = !forked_make_sure(wc);
        wc->c.has_agent = !wc->unsure;
        wc->c.awaits_agent = wc->unsure;
        if (wc->unsure && !wc->retry_ns)
            wc->retry_ns = now_ns() + UNSURE_NS;
    }
    if (wc->adopt_wanted && !wc->unsure && now_ns() >= wc->adopt_ns && !adopt(wc))
        return false;
    if (wc->adopt_wanted && !wc->unsure) /* it goes on after others had their turn */
        wc->retry_ns = wc->retry_ns ? MIN(wc->retry_ns, wc->adopt_ns) : MAX(wc->adopt_ns, 1u);
    if (!w->check_wanted && !w->no_new_captures && !wc->program_ended)
        group_balance(wc->c.group);
    if (wc->retry_ns)
        w->next_housekeeping_ns = MIN(w->next_housekeeping_ns, wc->retry_ns);
    return true;
}

/* How soon the group could be at its limit. */
static uint64_t measure_interval(const struct group *g, const struct wclient *wc)
{
    uint64_t room = g->limit_bytes > g->resident_bytes ? g->limit_bytes - g->resident_bytes : 0;
    uint64_t soon = CLAMP(room * 1000 / GROWTH_BYTES_PER_US, (uint64_t)MEASURE_MIN_NS,
                          (uint64_t)MEASURE_MAX_NS);

    /* Unchanged for a while: look less often; not much less when there is little room. */
    uint64_t most = g->resident_bytes > g->limit_bytes / 2 ? MEASURE_NEAR_MAX_NS : MEASURE_MAX_NS;
    most = MIN(most, (room + OVERSHOOT_BYTES) * 1000 / GROWTH_BYTES_PER_US);
    for (uint32_t i = 0; i < wc->nr_quiet && soon < most; i++)
        soon *= 2;
    return MIN(soon, MAX(most, (uint64_t)MEASURE_MIN_NS));
}

/*
 * Not while a relative is so young that its agent has not come: it counts for nothing
 * yet, what it shares stays its relatives'.  But now and then, should there always be one.
 */
static bool share_can_be_asked(const struct wclient *wc, uint64_t now)
{
    struct client *r;

    if (now >= wc->next_share_ns + SHARE_LATEST_NS)
        return true;
    list_for_each_entry(r, &wc->c.relatives, relatives)
        if (r->leaving && now < wclient_of(r)->born_ns + FORK_GRACE_NS)
            return false;
    return now >= wc->next_share_ns;
}

int resident_of(struct wclient *wc, uint64_t now, uint64_t *ret_bytes, uint64_t *ret_mapped)
{
    uint64_t bytes, share;
    int r = kproc_memory(wc->statm_fd, &bytes, ret_mapped);

    if (r < 0)
        return r;
    if (list_empty(&wc->c.relatives)) {
        wc->shared_bytes = 0;
    } else if (!wc->agent_lost && share_can_be_asked(wc, now) &&
               kproc_anon_share(wc->agent_pid, &share) == 0) {
        uint64_t took_ns = now_ns() - now;
        wc->shared_bytes = bytes > share ? bytes - share : 0;
        wc->next_share_ns = now + MAX(SHARE_PERIOD_NS, SHARE_COST * took_ns);
    }
    *ret_bytes = bytes - MIN(wc->shared_bytes, bytes);
    return 0;
}

void relatives_changed(struct wclient *wc)
{
    struct client *r;
    uint64_t bytes, mapped, now = now_ns();

    list_for_each_entry(r, &wc->c.relatives, relatives) {
        struct wclient *rel = wclient_of(r);
        rel->next_share_ns = MIN(rel->next_share_ns, now);
        rel->next_measure_ns = 0;
        if (!wc->gone && rel->ring && resident_of(rel, now, &bytes, &mapped) == 0 && mapped)
            client_set_resident(r, bytes);
    }
}

static void measure(struct wclient *wc, uint64_t now)
{
    struct group *g = wc->c.group;
    uint64_t bytes, mapped;

    wc->next_measure_ns = now + measure_interval(g, wc);
    if (resident_of(wc, now, &bytes, &mapped) < 0 || !mapped)
        return; /* its agent was collected, or it is just ending: what was counted stands */
    uint64_t changed = bytes > wc->measured_bytes ? bytes - wc->measured_bytes
                                                  : wc->measured_bytes - bytes;
    wc->nr_quiet = changed < 256 * PAGE_SIZE ? MIN(wc->nr_quiet + 1, 16u) : 0;
    wc->measured_bytes = bytes;
    /* More than we brought: the kernel has filled what is not registered. */
    bool filled = bytes > wc->c.resident_bytes + 256 * PAGE_SIZE;
    client_measured(&wc->c, bytes);
    /* The maps are looked at anew when something was mapped or filled, and now and then. */
    if (g->resident_bytes > g->limit_bytes / 4 * 3 &&
        (filled || mapped != wc->mapped_bytes || now >= wc->next_adopt_ns)) {
        wc->adopt_wanted = true;
        wc->adopt_ns = 0;
        wc->mapped_bytes = mapped;
        wc->next_adopt_ns = now + ADOPT_PERIOD_NS;
    }
    wc->next_measure_ns = now + measure_interval(g, wc);
}

/* The whole program is stopped or traced (SIGSTOP), or frozen (a freezer of version 1 shows D). */
static bool is_paused(const struct wclient *wc)
{
    int agent = kproc_state(wc->agent_pid), program = kproc_state(wc->program_pid);

    return agent > 0 && program > 0 && strchr("TtD", agent) && strchr("TtD", program);
}

/*
 * In the kernel, after the program's cgroup was full: its agent gets memory when there is some, as
 * the program does.  Ended, it would leave what it could have moved out in that cgroup for good.  But
 * not while it is in the way of who makes room: a program that has ended, or drops memory.
 */
static bool agent_wants_memory(const struct wclient *wc)
{
    if (wc->program_ended || kuffd_has_unread(wc->uffd.fd))
        return false;
    return wc->starved_ns && wc->starved_ns + STARVED_BEFORE_NS >= wc->posted_ns &&
           kproc_state(wc->agent_pid) == 'D';
}

/*
 * While the agent is at a command no message is read.  Does somebody wait for that?  A program
 * that is stopped or frozen with its agent can be so for as long as it likes, and the time
 * counts from when somebody waits: when both are let go, the program's fault may come first.
 */
static bool agent_is_late(struct wclient *wc, uint64_t now)
{
    if (!migrate_is_capturing(&wc->c.mm) || wc->agent_killed || wc->agent_lost ||
        capture_is_done(wc) ||
        (!wc->c.nr_parked && !wc->program_ended && !kuffd_has_unread(wc->uffd.fd))) {
        wc->waited_ns = 0;
        return false;
    }
    /* It may have been posted after `now`: by the turn of another client of the group. */
    if (!wc->waited_ns)
        wc->waited_ns = MAX(now, wc->posted_ns);
    if (now <= wc->waited_ns + AGENT_TIMEOUT_NS)
        return false;
    wc->waited_ns = 0;
    return !is_paused(wc) && !agent_wants_memory(wc);
}

static void check_agent(struct wclient *wc, uint64_t now)
{
    if (agent_is_late(wc, now)) {
        log_warning("pid %d: its agent did not answer in time and is ended", wc->program_pid);
        wc->agent_killed = true;
        (void)syscall(SYS_pidfd_send_signal, wc->agent.fd, SIGKILL, NULL, 0);
    }
    if (now < wc->next_alive_ns)
        return;
    wc->next_alive_ns = now + ALIVE_CHECK_NS;
    if (wc->ring && !wc->agent_lost && !wc->exit_posted && !wc->program_ended &&
        kproc_any_thread_shares(wc->program_pid, wc->agent_pid) == 0) {
        wc->program_ended = true; /* it executed another program, which the tid word did not tell */
        agent_post_exit(wc);
    }
}

/*
 * A slice of a child without agent, as far as its group has room: nothing of it can be
 * moved out again.  Else it is served on.  False when the client has ended.
 */
static bool bring_back(struct wclient *wc, uint64_t now)
{
    struct group *g = wc->c.group;
    uint64_t room = BRING_BACK_SLICE;

    wc->c.awaits_agent = false; /* it does not come any more */
    forked_give_up_doubt(wc);
    if (!client_turn(wc))
        return false;
    if (g->limit_bytes) {
        room = MIN(group_room_bytes(g) >> PAGE_SHIFT, (uint64_t)BRING_BACK_SLICE);
        /*
         * It has touched so much of its own accord that waiting for room would only take
         * everything from its relatives, for nothing: it comes back whole, and counts no more.
         */
        if (wc->c.resident_bytes >= g->limit_bytes / 2) {
            client_set_resident(&wc->c, g->limit_bytes / 2);
            room = BRING_BACK_SLICE;
        }
    }
    if (wc->c.held || (!room && wc->retry_ns))
        return true;
    if (!room) {
        wc->retry_ns = now + NO_ROOM_NS;
        return true;
    }
    uint64_t before = wc->c.cursor.v;
    if (client_bring_back(&wc->c, (uint32_t)room)) {
        /* Nothing is stored: closing the userfaultfd unregisters, and loses nothing. */
        wclient_end(wc);
        return false;
    }
    /* The next slice, after others had their turn; later when it was told to come again. */
    wc->retry_ns = wc->c.cursor.v != before ? now : now + RETRY_NS;
    return true;
}

/* False when the client has ended. */
static bool keep_house(struct wclient *wc, uint64_t now)
{
    check_agent(wc, now);
    if ((!wc->ring || wc->agent_lost) && now >= wc->next_dead_check_ns &&
        !migrate_is_capturing(&wc->c.mm)) {
        if (mm_is_dead(wc)) {
            wclient_end(wc);
            return false;
        }
        if (wc->agent_dead_ns && now - wc->agent_dead_ns > ALIVE_CHECK_NS) {
            wc->agent_dead_ns = 0;
            log_warning("pid %d (%s): its agent has ended; what is moved out is served, nothing more "
                        "is moved", wc->program_pid, wc->comm);
        }
        wc->next_dead_check_ns = now + (wc->program_ended || wc->agent_dead_ns ? 10000000 : 100000000);
    }
    if (wc->c.leaving && now >= wc->born_ns + FORK_GRACE_NS &&
        (!wc->retry_ns || now >= wc->retry_ns) && !bring_back(wc, now))
        return false;
    if (wc->c.group->limit_bytes && wc->ring && !wc->program_ended && now >= wc->next_measure_ns) {
        measure(wc, now);
        if (!client_turn(wc))
            return false;
    }
    if (now >= wc->next_release_ns) {
        wc->next_release_ns = now + RELEASE_PERIOD_NS;
        if (client_release_quiet(&wc->c, now))
            wc->nr_refused = 0;
    }
    if (wc->retry_ns && now >= wc->retry_ns &&
        !(wc->c.leaving && now >= wc->born_ns + FORK_GRACE_NS))
        return client_turn(wc);
    return true;
}

uint64_t housekeeping(struct worker *w, uint64_t now)
{
    struct client *c, *n;
    uint64_t next = now + ALIVE_CHECK_NS;

    forked_attach_waiting(w);
    if (!list_empty(&w->waiting_agents))
        next = now + WAITING_NS;
    refused_go_on(w);
    if (!list_empty(&w->refused))
        next = now + REFUSED_NS;
    list_for_each_entry_safe(c, n, &w->domain.clients, link) {
        struct wclient *wc = wclient_of(c);
        if (!keep_house(wc, now))
            continue;
        if (wc->retry_ns)
            next = MIN(next, wc->retry_ns);
        if (c->group->limit_bytes && wc->ring && !wc->program_ended)
            next = MIN(next, wc->next_measure_ns);
        if (!wc->ring || wc->agent_lost)
            next = MIN(next, wc->next_dead_check_ns);
        if (c->leaving && wc->born_ns + FORK_GRACE_NS > now)
            next = MIN(next, wc->born_ns + FORK_GRACE_NS);
    }
    return next;
}
