/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fake_domain.h"
#include "fault/fault.h"
#include "migrate/migrate.h"

struct fake_domain dom;

static void *pages_alloc(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(p, MAP_FAILED);
    return p;
}

static struct client *fork_client(struct client *parent, int unused)
{
    ck_assert_ptr_eq(parent, &dom.c);
    ck_assert_int_eq(unused, 77);
    if (dom.fork_fails)
        return NULL;
    fake_open(&dom.child_t);
    memcpy(dom.child_t.page, dom.t.page, sizeof(dom.t.page));
    memcpy(dom.child_t.mem, dom.t.mem, FAKE_PAGES * PAGE_SIZE);
    ck_assert_int_eq(client_init(&dom.child, &dom.d, parent->group, &fake_ops, &dom.child_t), 0);
    dom.forked = true;
    if (dom.child_copy != KRES_DONE)
        fake_plan_every(&dom.child_t, FAKE_COPY, dom.child_copy);
    dom.child_t.fail_at = dom.child_fail_at;
    return &dom.child;
}

static void note_wake(struct client *c)
{
    ck_assert(c == &dom.c || c == &dom.child);
    dom.nr_wakes++;
}

static void core_open(void)
{
    ck_assert_int_eq(domain_init(&dom.d, dom.state, dom.nr_leaves, DOM_CLIENTS, dom.frames,
                                 dom.nr_frames),
                     0);
    dom.d.fork = fork_client;
    dom.d.fork_gets = dom.fork_gets;
    dom.d.wake = note_wake;
    if (dom.disk.nr_slots) {
        struct node_file file = disk_node(&dom.disk);
        ck_assert_int_eq(domain_add_file(&dom.d, &file, dom.disk.nr_slots), 0);
    }
    dom.g = group_new(&dom.d, "g", 0);
    ck_assert_ptr_nonnull(dom.g);
    group_hold(dom.g);
}

static void forget(struct client *c)
{
    munmap(c->mm.leaves, dom.nr_leaves * sizeof(uint32_t));
    free(c->mm.areas);
    free(c->mm.op);
    *c = (struct client){0};
}

void dom_die_and_take_up(const uint8_t results[CAPTURE_MAX_PAGES])
{
    struct client_saved *saved = NULL;

    forget(&dom.c);
    if (dom.forked)
        forget(&dom.child);
    dom.nr_orphans = 0;
    for (uint32_t i = 0; i < dom.disk.nr_reqs; i++)
        if (dom.disk.req[i]->write)
            dom.orphan[dom.nr_orphans++] = *dom.disk.req[i];
    dom.disk.nr_reqs = 0;
    free(dom.g);
    domain_fini(&dom.d);
    core_open();
    dom.forked = false;
    while ((saved = domain_next_saved(&dom.d, saved))) {
        bool is_child = saved != dom.d.saved;
        ck_assert_int_eq(client_recover(is_child ? &dom.child : &dom.c, &dom.d, dom.g, &fake_ops,
                                        is_child ? &dom.child_t : &dom.t, saved),
                         0);
        dom.forked |= is_child;
    }
    dom.c.has_agent = true;
    if (migrate_is_capturing(&dom.c.mm))
        client_captured(&dom.c, results);
    client_finish_batch(&dom.c, 1000);
    dom_check();
}

void dom_open(uint32_t nr_leaves, uint32_t nr_frames)
{
    dom_open_with_file(nr_leaves, nr_frames, 0);
}

void dom_open_with_file(uint32_t nr_leaves, uint32_t nr_frames, uint32_t nr_slots)
{
    memset(&dom, 0, sizeof(dom));
    dom.nr_frames = nr_frames;
    dom.nr_leaves = nr_leaves;
    dom.state = pages_alloc(domain_state_bytes(nr_leaves, DOM_CLIENTS));
    dom.frames = pages_alloc(nr_frames * PAGE_SIZE);
    if (nr_slots)
        disk_open(&dom.disk, nr_slots);
    core_open();
    fake_open(&dom.t);
    ck_assert_int_eq(client_init(&dom.c, &dom.d, dom.g, &fake_ops, &dom.t), 0);
    dom.c.has_agent = true;
    ck_assert_int_eq(mm_area_add(&dom.c.mm, FAKE_START, FAKE_END), 0);
}

void dom_close(void)
{
    struct frame_count frames;

    dom_check();
    client_fini(&dom.c);
    fake_close(&dom.t);
    if (dom.forked) {
        client_fini(&dom.child);
        fake_close(&dom.child_t);
    }
    if (dom.disk.nr_slots)
        disk_run(&dom.disk);
    ck_assert_uint_eq(dom.g->resident_bytes, 0);
    group_release(dom.g);
    ck_assert(list_empty(&dom.d.groups) && list_empty(&dom.d.clients));
    ck_assert_ptr_null(node_check(&dom.d.ram, &frames));
    ck_assert_msg(frames.allocated == 0, "%u frames are left over", frames.allocated);
    if (dom.disk.nr_slots) {
        ck_assert_ptr_null(node_check(&dom.d.file, &frames));
        ck_assert_msg(frames.allocated == 0, "%u slots are left over", frames.allocated);
        ck_assert_uint_eq(swapin_nr_in_use(dom.d.swapin), 0);
        disk_close(&dom.disk);
    }
    domain_fini(&dom.d);
    munmap(dom.frames, dom.nr_frames * PAGE_SIZE);
}

void dom_check(void)
{
    struct domain_report report;

    domain_check(&dom.d, &report);
    ck_assert_msg(!report.wrong, "%s", report.wrong);
    ck_assert_uint_eq(report.entries[PTE_FRAME], report.frames_by_entries);
}

void dom_adopt(uint32_t first, uint32_t nr, bool zero)
{
    for (uint32_t i = first; i < first + nr; i++) {
        fake_put(&dom.t, i, zero);
        ck_assert_int_eq(
            pte_transition(&dom.c.mm, fake_addr(i), PTE_EV_ADOPT, (struct pte_arg){0}, NULL), 0);
    }
}

void dom_stage(uint32_t first, uint32_t nr)
{
    struct uaddr pages[CAPTURE_MAX_PAGES];
    uint8_t result[CAPTURE_MAX_PAGES];

    for (uint32_t i = 0; i < nr; i++)
        pages[i] = fake_addr(first + i);
    ck_assert_int_eq(migrate_capture(&dom.c.mm, pages, nr, false, MIGRATE_DEMOTION), (int)nr);
    fake_agent(&dom.t, result);
    client_captured(&dom.c, result);
}

void dom_store(uint32_t first, uint32_t nr)
{
    dom_stage(first, nr);
    ck_assert_uint_eq(client_commit(&dom.c, CAPTURE_MAX_PAGES), 0);
}

enum pte_tag dom_tag(const struct client *c, uint32_t n)
{
    return pte_tag(pte_get(&c->mm, fake_addr(n)));
}

const void *dom_bytes(const struct client *c, uint32_t n)
{
    const struct fake_target *t = c->mm.target;
    pte_t pte = pte_get(&c->mm, fake_addr(n));

    switch (pte_tag(pte)) {
    case PTE_FRAME:
        return node_bytes(&dom.d.ram, (struct pfn){pte_index(pte)});
    case PTE_MIGRATING:
        return migrate_bytes(&c->mm, fake_addr(n));
    case PTE_NONE:
    case PTE_PRESENT:
        return t->page[n] == FAKE_PRESENT ? t->mem + n * PAGE_SIZE : NULL;
    case PTE_SWAPPED:
        return dom.disk.bytes + pte_index(pte) * PAGE_SIZE;
    case PTE_ZERO:
    case PTE_POISON:
    case PTE_MERGED:
    case PTE_NR_TAGS:
        break;
    }
    return NULL;
}

bool dom_client_holds(const struct client *c, uint32_t n, uint32_t was)
{
    const void *bytes = dom_bytes(c, n);

    return bytes && fake_is_pattern(bytes, was);
}

bool dom_holds(uint32_t n, uint32_t was)
{
    return dom_client_holds(&dom.c, n, was);
}

void dom_stored_and_present(void)
{
    dom_adopt(4, 4, false);
    dom_adopt(8, 2, true);
    dom_store(4, 6);
    dom_adopt(0, 4, false);
}

void dom_some_of_everything(void)
{
    dom_stored_and_present();
    dom_adopt(10, 4, false);
    dom_stage(10, 4);
}

void dom_use_up_frames(uint32_t left)
{
    struct frame_pool *pool = dom.d.ram.frames;
    struct pfn first;
    uint32_t nr;

    while (frame_nr_free(pool) > left)
        ck_assert_int_eq(frame_alloc_run(pool, frame_nr_free(pool) - left, &first, &nr), 0);
}

void dom_give_frames_back(void)
{
    for (uint32_t n = 0; n < dom.nr_frames; n++)
        if (frame_is_allocated(dom.d.ram.frames, (struct pfn){n}) &&
            !frame_refs(dom.d.ram.frames, (struct pfn){n}))
            frame_free(dom.d.ram.frames, (struct pfn){n});
}

uint32_t dom_answer(struct client *c, uint64_t now_ns)
{
    struct fake_target *t = c->mm.target;

    t->now_ns = now_ns;
    return client_answer(c);
}

static void message(struct kuffd_msg m)
{
    if (dom.holds)
        dom.held[dom.nr_held++] = m;
    else
        client_upcalls(&dom.c, &m, 1, 1000);
}

void dom_hold(void)
{
    dom.holds = true;
}

void dom_apply_held(void)
{
    ck_assert(client_order(&dom.c, dom.held, dom.nr_held));
    client_upcalls(&dom.c, dom.held, dom.nr_held, 1000);
    dom.nr_held = 0;
    dom.holds = false;
}

static struct urange range(uint32_t first, uint32_t nr)
{
    return urange(fake_addr(first).v, fake_addr(first + nr).v);
}

void dom_fault(uint32_t n, bool write)
{
    message((struct kuffd_msg){.type = KUFFD_FAULT, .addr = fake_addr(n), .write = write});
}

void dom_fault_to_the_end(uint32_t n, bool write, uint64_t now_ns)
{
    dom_fault(n, write);
    ck_assert_uint_eq(dom_answer(&dom.c, now_ns), 0);
    while (dom.c.nr_parked) {
        uint32_t wakes = dom.nr_wakes;
        while (dom.nr_wakes == wakes) { /* what is read ahead wakes nobody */
            ck_assert_uint_gt(dom.disk.nr_reqs, 0);
            disk_finish(&dom.disk, 0);
        }
        ck_assert_uint_eq(dom_answer(&dom.c, now_ns), 0);
    }
    dom_check();
}

void dom_write_back(uint64_t now_ns)
{
    do {
        domain_writeback(&dom.d, now_ns);
        disk_run(&dom.disk);
        dom_check();
        domain_writeback(&dom.d, now_ns);
    } while (dom.disk.nr_reqs);
}

void dom_remove(uint32_t first, uint32_t nr)
{
    memset(dom.t.page + first, FAKE_ABSENT, nr);
    message((struct kuffd_msg){.type = KUFFD_REMOVE, .range = range(first, nr)});
}

void dom_unmap(uint32_t first, uint32_t nr)
{
    message((struct kuffd_msg){.type = KUFFD_UNMAP, .range = range(first, nr)});
}

void dom_remap(uint32_t from, uint32_t to, uint32_t nr)
{
    memcpy(dom.t.page + to, dom.t.page + from, nr);
    memcpy(dom.t.mem + to * PAGE_SIZE, dom.t.mem + from * PAGE_SIZE, nr * PAGE_SIZE);
    memset(dom.t.page + from, FAKE_ABSENT, nr);
    message((struct kuffd_msg){.type = KUFFD_REMAP,
                               .from = fake_addr(from),
                               .to = fake_addr(to),
                               .len = nr * PAGE_SIZE});
}

void dom_fork(void)
{
    message((struct kuffd_msg){.type = KUFFD_FORK, .fd = 77});
}
