/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fork, when its event is read: the child's address space is a copy of the
 * parent's as of then.  What was moved out of the parent is absent in the child
 * too, so the child gets the same entries, and both share the frames.
 *
 * A page under a move (captured, not committed) is absent in both; its bytes
 * belong to the child as well.  It is committed first; where there is no frame
 * for it the child gets the bytes at once, and before the parent does: a page
 * that the parent took back is PRESENT there and still absent in the child.
 */
#include "client/client_priv.h"
#include "migrate/migrate.h"

/* The child cannot share this entry: it gets the bytes, or fails closed. */
static void fill_child(struct client *parent, struct client *child, struct uaddr at, pte_t pte)
{
    struct mm *mm = &child->mm;
    const void *bytes = pte_tag(pte) == PTE_FRAME
                            ? node_bytes(mm->ram, (struct pfn){pte_index(pte)})
                        : pte_tag(pte) == PTE_MIGRATING ? migrate_bytes(&parent->mm, at)
                                                        : NULL; /* on the device: not at hand */
    uint64_t done = 0;
    enum kres r = KRES_FATAL;

    if (pte_tag(pte) == PTE_ZERO)
        r = mm->ops->zero(mm->target, at, PAGE_SIZE, &done);
    else if (bytes)
        r = mm->ops->copy(mm->target, at, bytes, PAGE_SIZE, &done);
    switch (r) {
    case KRES_DONE:
    case KRES_DEAD:
        (void)pte_transition(mm, at, PTE_EV_ADOPT, (struct pte_arg){0}, NULL);
        break;
    case KRES_RETRY: /* the child runs already, and an event of its own is unread */
    case KRES_GONE:  /* or it has just moved or unmapped the page: that event will tell */
    case KRES_RACED:
    case KRES_FATAL:
        client_doom(child, at);
        break;
    }
}

void client_relate(struct client *parent, struct client *child)
{
    list_add(&child->relatives, &parent->relatives);
    child->has_strays = parent->has_strays;
}

void client_part(struct client *c)
{
    struct client *r;

    /* Let go with everything in it: it lives on, and nobody will tell when it ends. */
    if (!c->mm.dead)
        list_for_each_entry(r, &c->relatives, relatives)
            r->has_strays = true;
    list_del(&c->relatives);
}

#define UNSHARE_NS 10000000u

bool client_may_unshare(struct client *c, uint64_t now_ns)
{
    if (list_empty(&c->relatives) && !c->has_strays)
        return true;
    /* Clearly above the limit it is shared pages that are in the way: no vain capture first. */
    const struct group *g = c->group;
    bool clearly = g->limit_bytes && g->resident_bytes > g->limit_bytes + g->limit_bytes / 8;
    if (clearly || (c->nr_fruitless && !group_has_room(g, PAGE_SIZE)))
        c->unshare_until_ns = now_ns + UNSHARE_NS;
    return now_ns < c->unshare_until_ns;
}

void client_fork_tables(struct client *parent, struct client *child)
{
    struct mm *from = &parent->mm, *to = &child->mm;
    struct uaddr at = {0};

    client_relate(parent, child);
    client_doomed_inherit(parent, child);
    if (parent->note_cursor != UINT64_MAX) /* the child has entries of pages that are there, too */
        child->note_cursor = 0;
    client_commit_stored(parent);
    for (uint32_t i = 0; i < from->nr_areas; i++)
        if (mm_area_add(to, from->areas[i].start, from->areas[i].end) < 0)
            log_warning("no memory for a forked child's areas; its pages are served one by one");
    for (; pte_next_mapped(from, &at, UINT64_MAX); at.v += PAGE_SIZE) {
        pte_t pte = pte_get(from, at);

        if (pte_tag(pte) == PTE_MIGRATING) {
            if (!MUTANT(MUTANT_FORK_WITHOUT_STAGED))
                fill_child(parent, child, at, pte);
            continue;
        }
        /* What the parent keeps is for its own next capture. */
        pte_t value = pte_is_kept(pte)
                          ? pte_make(PTE_PRESENT, 0, 0, 0)
                          : pte_make(pte_tag(pte), 0, pte_node(pte), pte_index(pte));
        if (pte_transition(to, at, PTE_EV_IMPORT, (struct pte_arg){.value = value}, NULL) < 0) {
            if (pte_is_stored(pte))
                fill_child(parent, child, at, pte);
            else if (pte_tag(pte) == PTE_POISON)
                client_doom_poisoned(child, at);
            continue;
        }
        if (pte_holds_place(value) && !MUTANT(MUTANT_FORK_WITHOUT_REFERENCE) &&
            node_ref(node_of(to, value), (struct pfn){pte_index(pte)}, (struct rmap_entry){to->id, at}) < 0) {
            BUG_ON(pte_transition(to, at, PTE_EV_REMOVE, (struct pte_arg){0}, NULL) < 0);
            fill_child(parent, child, at, pte);
        }
    }
    /*
     * What is present is its parent's too, and counts there.  What it is filled with counts
     * as it comes; whoever can tell more (its agent), or must not wait longer, does.
     */
}
