/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which mappings are taken over (DESIGN D2): private anonymous memory that the
 * program can write, found in its maps and registered whole.
 *
 * Left alone: executable, shared and file mappings, hugetlb, I/O, locked memory,
 * WIPEONFORK and DONTFORK (their content at a fork is not the parent's), the
 * growing stack, droppable memory, the agent's own area, and thread stacks: the
 * kernel writes a thread's tid word when the thread ends, and cannot take a
 * userfault then (a joiner would wait for ever).
 *
 * A program may have thousands of mappings: adoption goes on by slices, over the maps
 * as they were read.  What has changed since is found out when it is registered.
 *
 * The maps are cheap to read, the flags (smaps) are not: they are read only when a
 * mapping that was not looked at before is a candidate, and as far as that.
 */
#define _GNU_SOURCE
#include <string.h>
#include <time.h>

#include "worker/worker_priv.h"

#define ADOPT_SLICE_NS 1000000u /* then others have their turn */
#define ADOPT_AGAIN_NS 200000u  /* until the maps are read again when they were changing */
#define ADOPT_TRY_NS 50000u     /* the same for one mapping, over the maps as they were read */
#define ADOPT_TRIES 8
#define MAPS_AGE_NS 100000000u  /* as long as maps and flags that were read are gone by */

/*
 * The flags of mappings cost a walk over their pages, and everybody waits for it.  As long as that is
 * cheap they are read whenever something new is mapped: what is not adopted grows past the limit.
 */
#define FLAGS_CHEAP_NS 3000000u
#define FLAGS_COST 8 /* else not for more than one part in so many of the time, */
#define FLAGS_LATEST_NS 500000000u /* but at the latest after that */

/* A guard below a stack is small; a reservation (a heap's, a runtime's) is not. */
#define STACK_GUARD_MAX ((uint64_t)1 << 20)
#define STACK_TOP_MAX (4 * PAGE_SIZE)

static bool is_on(const struct kmap_vma *vma, const struct kmap_vma *below)
{
    return urange_end(below->r) == vma->r.start.v && below->kind == KMAP_ANON;
}

static bool has_guard(const struct kmap_vma *vma, size_t nr_below)
{
    return nr_below && is_on(vma, vma - 1) && vma[-1].r.len <= STACK_GUARD_MAX &&
           !(vma[-1].prot & (KMAP_PROT_WRITE | KMAP_PROT_READ | KMAP_PROT_EXEC));
}

/* The shim shows where a stack ends: what is above is another mapping, with libc's descriptor. */
static bool is_stack(const struct kmap_vma *vma, size_t nr_below)
{
    if (has_guard(vma, nr_below))
        return true;
    return nr_below && vma->r.len <= STACK_TOP_MAX && is_on(vma, vma - 1) &&
           vma[-1].prot == vma->prot && has_guard(vma - 1, nr_below - 1);
}

bool adopt_is_candidate(const struct kmap_vma *vma, size_t nr_below, uint64_t own_start,
                        uint64_t own_end)
{
    if (vma->kind != KMAP_ANON && vma->kind != KMAP_HEAP && vma->kind != KMAP_NAMED_ANON)
        return false;
    if ((vma->prot & (KMAP_PROT_WRITE | KMAP_PROT_READ | KMAP_PROT_EXEC | KMAP_SHARED)) !=
        (KMAP_PROT_READ | KMAP_PROT_WRITE))
        return false;
    if (vma->r.start.v < own_end && urange_end(vma->r) > own_start)
        return false;
    return !is_stack(vma, nr_below);
}

bool adopt_flags_allow(uint32_t flags)
{
    return flags & KMAP_VMF_KNOWN &&
           !(flags & (KMAP_VMF_LOCKED | KMAP_VMF_DONTCOPY | KMAP_VMF_WIPEONFORK |
                      KMAP_VMF_GROWSDOWN | KMAP_VMF_IO | KMAP_VMF_PFNMAP | KMAP_VMF_HUGETLB |
                      KMAP_VMF_MIXEDMAP | KMAP_VMF_SHADOWSTACK | KMAP_VMF_DROPPABLE));
}

/* Is all of the mapping in areas already?  In several, when it grew and the kernel joined it. */
static bool is_adopted(const struct wclient *wc, const struct kmap_vma *vma)
{
    uint64_t at = vma->r.start.v;
    const struct area *a;

    while (at < urange_end(vma->r) && (a = mm_area_find(&wc->c.mm, at)))
        at = a->end;
    return at >= urange_end(vma->r);
}

/* Where it is in the list, or belongs: by start, then by length. */
static uint32_t refused_place(const struct wclient *wc, struct urange r)
{
    uint32_t lo = 0, hi = wc->nr_refused;

    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        const struct urange *m = &wc->refused[mid];
        if (m->start.v < r.start.v || (m->start.v == r.start.v && m->len < r.len))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Refused before, as it stands now? */
static bool was_refused(const struct wclient *wc, const struct kmap_vma *vma)
{
    uint32_t i = refused_place(wc, vma->r);

    return i < wc->nr_refused && wc->refused[i].start.v == vma->r.start.v &&
           wc->refused[i].len == vma->r.len;
}

static void note_refused(struct wclient *wc, const struct kmap_vma *vma)
{
    uint32_t i = refused_place(wc, vma->r);

    if (was_refused(wc, vma))
        return;
    if (wc->nr_refused == wc->max_refused) {
        uint32_t max = wc->max_refused ? 2 * wc->max_refused : 64;
        struct urange *more = reallocarray(wc->refused, max, sizeof(*more));
        if (!more)
            return; /* it is looked at again */
        wc->refused = more;
        wc->max_refused = max;
    }
    memmove(wc->refused + i + 1, wc->refused + i, (wc->nr_refused - i) * sizeof(*wc->refused));
    wc->refused[i] = vma->r;
    wc->nr_refused++;
}

/* Those that are mapped no more, or otherwise, are forgotten: there are never more than mappings. */
static void forget_refused(struct wclient *wc)
{
    const struct kmap *m = &wc->maps;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < wc->nr_refused; i++) {
        const struct kmap_vma *vma = kmap_find(m, wc->refused[i].start);
        if (vma && vma->r.start.v == wc->refused[i].start.v && vma->r.len == wc->refused[i].len)
            wc->refused[kept++] = wc->refused[i];
    }
    wc->nr_refused = kept;
}

static enum area_thp thp_of(const struct worker *w, uint32_t flags)
{
    if (w->thp == THP_NEVER || flags & KMAP_VMF_NOHUGEPAGE)
        return AREA_THP_NO;
    if (flags & KMAP_VMF_HUGEPAGE)
        return AREA_THP_ADVISED;
    return w->thp == THP_ALWAYS ? AREA_THP_SEQUENTIAL : AREA_THP_NO;
}

/*
 * The parts of the mapping that no area holds yet.  Pages in them are entered only when the
 * mapping was not registered before (client_adopt says why).
 *
 * All of it, as it is now: the maps were read a while ago, and new memory is put right below the
 * last and joined with it.  Registered in part it would be refused to be moved, or be moved by half:
 * from Linux 6.17 on the kernel takes an mremap() of it for one of two mappings, moves the first,
 * and refuses the second when that is the registered one.
 */
static enum kres adopt_parts(struct wclient *wc, const struct kmap_vma *vma)
{
    bool scan = !(vma->flags & KMAP_VMF_UFFD);
    struct urange is;
    int found = kmaps_find(wc->agent_pid, vma->r.start, &is);

    if (found != 1)
        return found == 0 ? KRES_GONE : KRES_RETRY;
    uint64_t at = is.start.v, end = urange_end(is);
    while (at < end) {
        const struct area *a = mm_area_find(&wc->c.mm, at);
        if (a) {
            at = a->end;
            continue;
        }
        uint64_t stop = MIN(end, mm_area_next_start(&wc->c.mm, at));
        enum kres r = client_adopt(&wc->c, urange(at, stop), scan);
        if (r != KRES_DONE)
            return r;
        mm_area_set_thp(&wc->c.mm, at, thp_of(wc->w, vma->flags));
        at = stop;
    }
    return KRES_DONE;
}

/*
 * A mapping of ours that has grown in place is still one mapping, registered as a whole: what
 * was known of it holds for the tail, and nothing has to be read.
 */
static bool has_grown(const struct wclient *wc, struct kmap_vma *vma)
{
    const struct area *a = mm_area_find(&wc->c.mm, vma->r.start.v);

    if (!a || kuffd_is_registered(wc->uffd.fd, uaddr(a->end)) != KRES_DONE)
        return false;
    vma->flags = KMAP_VMF_KNOWN | KMAP_VMF_UFFD |
                 (a->thp == AREA_THP_NO ? KMAP_VMF_NOHUGEPAGE : 0) |
                 (a->thp == AREA_THP_ADVISED ? KMAP_VMF_HUGEPAGE : 0);
    return true;
}

/* Of this thread: on a busy machine the time that passes says nothing. */
static uint64_t cpu_ns(void)
{
    struct timespec ts;

    BUG_ON(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts) < 0);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/*
 * The flags of what was not looked at before; of everything now and then, for the report.  It
 * may take long, and everybody waits for it: so for a part of the time only.  False: not now.
 */
static bool read_flags(struct wclient *wc, uint64_t last)
{
    bool all = wc->flags_took_ns < FLAGS_CHEAP_NS;
    uint64_t start_ns = cpu_ns();

    if (now_ns() < wc->next_flags_ns) {
        wc->adopt_wanted = true;
        wc->adopt_ns = wc->next_flags_ns;
        return false;
    }
    if (kmaps_read_flags(wc->agent_pid, &wc->maps, all ? UINT64_MAX : last) < 0)
        return false;
    wc->flags_took_ns = cpu_ns() - start_ns;
    if (wc->flags_took_ns >= FLAGS_CHEAP_NS)
        wc->next_flags_ns =
            now_ns() + MIN(FLAGS_COST * wc->flags_took_ns, (uint64_t)FLAGS_LATEST_NS);
    if (all)
        unpageable_count(wc);
    return true;
}

/* Is there anything that was not looked at before?  Then its flags are known. */
static bool find_candidates(struct wclient *wc)
{
    uint64_t last = 0;
    bool grown = false;
    struct kmap *m = &wc->maps;

    if (kmaps_read(wc->agent_pid, m) < 0)
        return false; /* it is just ending, or memory is short: the next time */
    forget_refused(wc);
    for (size_t i = 0; i < m->nr; i++) {
        struct kmap_vma *vma = &m->vma[i];
        if (!adopt_is_candidate(vma, i, wc->own_start, wc->own_end))
            continue;
        if (is_adopted(wc, vma)) {
            /* A heap that grew is joined with its new part when that is registered. */
            mm_area_join(&wc->c.mm, vma->r.start.v, urange_end(vma->r));
            continue;
        }
        if (was_refused(wc, vma))
            continue;
        if (has_grown(wc, vma))
            grown = true;
        else
            last = vma->r.start.v;
    }
    return last ? read_flags(wc, last) || grown : grown;
}

/*
 * While the mappings change it is this one's turn again a moment later, over the maps as
 * they were read: reading them anew takes milliseconds, in which it grows.  If it is it
 * that changed, that is not for ever.
 */
static bool comes_again(struct wclient *wc, size_t i)
{
    if (++wc->adopt_tries > ADOPT_TRIES) {
        wc->adopt_tries = 0;
        return false;
    }
    wc->adopt_cursor = i;
    wc->adopt_wanted = true;
    wc->adopt_ns = now_ns() + ADOPT_TRY_NS;
    return true;
}

/* False: the address space has ended.  *again: not now, because the mappings are changing. */
static bool adopt_one(struct wclient *wc, const struct kmap_vma *vma, bool *again)
{
    if (!(vma->flags & KMAP_VMF_KNOWN)) { /* it changed between the two looks */
        *again = true;
        return true;
    }
    if (!adopt_flags_allow(vma->flags)) {
        note_refused(wc, vma);
        return true;
    }
    switch (adopt_parts(wc, vma)) {
    case KRES_RETRY:
        *again = true;
        return true;
    case KRES_DONE:
    case KRES_RACED:
        return true;
    case KRES_GONE:
    case KRES_FATAL: /* unmapped meanwhile, or another userfaultfd's */
        note_refused(wc, vma);
        return true;
    case KRES_DEAD:
        break;
    }
    wc->c.mm.dead = true;
    return false;
}

bool adopt_mappings(struct wclient *wc)
{
    struct kmap *m = &wc->maps;
    uint64_t start_ns = now_ns();
    size_t i = wc->adopt_cursor;
    bool again = false;

    wc->adopt_cursor = 0;
    if (wc->agent_lost || wc->program_ended)
        return true;
    if (!i || start_ns - wc->maps_read_ns > MAPS_AGE_NS) {
        i = 0;
        if (!find_candidates(wc))
            return true;
        wc->maps_read_ns = start_ns;
    }
    for (; i < m->nr; i++) {
        struct kmap_vma *vma = &m->vma[i];
        bool changing = false;
        if (!adopt_is_candidate(vma, i, wc->own_start, wc->own_end) ||
            is_adopted(wc, vma) || was_refused(wc, vma))
            continue;
        if (!adopt_one(wc, vma, &changing))
            return false;
        if (changing && vma->flags & KMAP_VMF_KNOWN && comes_again(wc, i))
            return true;
        again |= changing;
        wc->adopt_tries = 0;
        if (now_ns() - start_ns > ADOPT_SLICE_NS) {
            wc->adopt_cursor = i + 1;
            wc->adopt_wanted = true;
            wc->adopt_ns = 0;
            return true;
        }
    }
    if (again) { /* soon: what is not registered grows as fast as it likes */
        wc->adopt_wanted = true;
        wc->adopt_ns = now_ns() + ADOPT_AGAIN_NS;
    }
    return true;
}
