/* SPDX-License-Identifier: Apache-2.0 */
/* A domain: the nodes that its clients share, the room in them, and the sums over all. */
#include "client/client_priv.h"
#include "fault/fault.h"
#include "migrate/migrate.h"

uint64_t domain_state_bytes(uint32_t nr_leaves, uint32_t nr_clients)
{
    return pgtable_bytes(nr_leaves) + nr_clients * sizeof(struct client_saved);
}

int domain_init(struct domain *d, void *state, uint32_t nr_leaves, uint32_t nr_clients,
                void *frames, uint32_t nr_frames)
{
    *d = (struct domain){0};
    list_init(&d->groups);
    list_init(&d->clients);
    d->pt = pgtable_open(state, nr_leaves);
    if (!d->pt)
        return -ENOMEM;
    int r = node_ram_init(&d->ram, NODE_RAM, frames, nr_frames);
    if (r < 0)
        pgtable_close(d->pt);
    d->saved = (void *)((char *)state + pgtable_bytes(nr_leaves));
    d->nr_saved = nr_clients;
    return r;
}

static void wake_client(void *arg, struct mm *mm)
{
    struct domain *d = arg;

    if (d->wake)
        d->wake(container_of(mm, struct client, mm));
}

int domain_add_file(struct domain *d, const struct node_file *file, uint32_t nr_slots)
{
    BUG_ON(!list_empty(&d->clients));
    int r = node_file_init(&d->file, NODE_FILE, file, nr_slots);
    if (r < 0)
        return r;
    d->writeback = writeback_new(&d->ram, &d->file, &d->ids);
    d->swapin = d->writeback ? swapin_new(&d->file, &d->ids, wake_client, d) : NULL;
    if (d->swapin)
        return 0;
    writeback_free(d->writeback);
    d->writeback = NULL;
    node_fini(&d->file);
    return -ENOMEM;
}

void domain_orphans_ended(struct domain *d)
{
    if (domain_has_file(d))
        node_orphans_ended(&d->file);
}

void domain_fini(struct domain *d)
{
    if (domain_has_file(d)) {
        swapin_free(d->swapin);
        writeback_free(d->writeback);
        node_fini(&d->file);
    }
    node_fini(&d->ram);
    pgtable_close(d->pt);
}

static bool node_rests(struct node *node)
{
    if (frame_nr_free(node->frames) != frame_nr_total(node->frames))
        return false;
    rmap_reset(node->rmap);
    return true;
}

bool domain_rest(struct domain *d)
{
    if (!list_empty(&d->clients))
        return false;
    if (domain_has_file(d))
        (void)node_rests(&d->file);
    return node_rests(&d->ram);
}

/* ---- room ---- */

enum domain_room domain_room(const struct domain *d, uint64_t now_ns)
{
    /* What is only kept goes when a frame is needed. */
    uint32_t nr = frame_nr_free(d->ram.frames) + frame_list_nr(d->ram.frames, FRAME_KEPT);

    /* Not more than write-back makes by itself. */
    if (nr >= MIN(CAPTURE_MAX_PAGES, node_high_mark(&d->ram)))
        return DOMAIN_ROOM;
    if (domain_has_file(d) && writeback_can_go_on(d->writeback, now_ns))
        return DOMAIN_WAIT;
    /* A capture that fits in part brings the rest back, and every fault would wait for that. */
    return DOMAIN_FULL;
}

void domain_writeback(struct domain *d, uint64_t now_ns)
{
    if (domain_has_file(d))
        writeback_run(d->writeback, now_ns);
}

/* ---- the sums ---- */

/* The reverse map finds this very entry (up to the first few of a shared frame). */
static bool is_in_rmap(const struct client *c, struct uaddr at, pte_t pte)
{
    struct rmap_entry ref[8];
    uint32_t nr = rmap_walk(node_of(&c->mm, pte)->rmap, (struct pfn){pte_index(pte)}, ref,
                            ARRAY_SIZE(ref));

    for (uint32_t i = 0; i < MIN(nr, (uint32_t)ARRAY_SIZE(ref)); i++)
        if (ref[i].mm == c->mm.id && ref[i].addr.v == at.v)
            return true;
    return nr > ARRAY_SIZE(ref);
}

static void check_client(struct client *c, struct domain_report *ret)
{
    const char *wrong = pgtable_check(&c->mm);
    struct uaddr at = {0};
    uint64_t by_tag[PTE_NR_TAGS];

    if (!wrong)
        wrong = migrate_check(&c->mm);
    if (mm_by_id(c->mm.ids, c->mm.id) != &c->mm)
        wrong = "the number of an address space leads to another one";
    mm_count_entries(&c->mm, by_tag);
    for (unsigned tag = 0; tag < PTE_NR_TAGS; tag++)
        ret->entries[tag] += by_tag[tag];
    for (; pte_next_mapped(&c->mm, &at, UINT64_MAX); at.v += PAGE_SIZE) {
        pte_t pte = pte_get(&c->mm, at);
        if (!pte_holds_place(pte))
            continue;
        ret->frames_by_entries += pte_tag(pte) == PTE_FRAME;
        ret->slots_by_entries += pte_tag(pte) == PTE_SWAPPED;
        ret->kept += pte_is_kept(pte);
        if (!is_in_rmap(c, at, pte))
            wrong = "an entry names a frame whose reverse map does not name the entry";
    }
    if (!ret->wrong)
        ret->wrong = wrong;
}

static bool adds_up(const struct frame_count *c)
{
    return c->allocated == c->referenced + c->cached && c->total == c->allocated + c->free;
}

/* Each client is in one group's list, its own's. */
static bool groups_have_all(const struct domain *d)
{
    uint32_t nr = 0, nr_in_groups = 0;
    struct client *c;
    struct group *g;

    list_for_each_entry(c, &d->clients, link)
        nr++;
    list_for_each_entry(g, &d->groups, link) {
        uint32_t nr_own = 0;
        list_for_each_entry(c, &g->clients, in_group) {
            if (c->group != g)
                return false;
            nr_own++;
        }
        if (nr_own != g->nr_clients)
            return false;
        nr_in_groups += nr_own;
    }
    return nr == nr_in_groups;
}

void domain_check(struct domain *d, struct domain_report *ret)
{
    struct client *c;

    *ret = (struct domain_report){0};
    ret->wrong = node_check(&d->ram, &ret->frames);
    if (!ret->wrong && domain_has_file(d))
        ret->wrong = node_check(&d->file, &ret->slots);
    list_for_each_entry(c, &d->clients, link)
        check_client(c, ret);
    if (!ret->wrong && !groups_have_all(d))
        ret->wrong = "the lists of the groups' clients are not those of all clients";
    if (!ret->wrong && !(adds_up(&ret->frames) && adds_up(&ret->slots)))
        ret->wrong = "frames referenced, cached and free do not add up to all frames";
}
