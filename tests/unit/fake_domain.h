/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_TEST_FAKE_DOMAIN_H
#define PAGERD_TEST_FAKE_DOMAIN_H
/*
 * A domain with one client over a fake target, and room for the child that it may
 * fork.  The functions below do to the program's pages what the call would do, and
 * hand in its message.
 */
#include "client/client.h"
#include "fake_disk.h"
#include "fake_target.h"

#define DOM_CLIENTS 4

struct fake_domain {
    struct domain d;
    struct group *g;
    struct client c, child;
    struct fake_target t, child_t;
    bool fork_fails, forked;
    enum fork_gets (*fork_gets)(struct client *parent, struct uaddr at, uint64_t *ret_end);
    /* What the child's kernel says while it is forked: to each copy; and once, to its nth call. */
    enum kres child_copy;
    uint32_t child_fail_at;
    void *state, *frames;
    uint32_t nr_leaves, nr_frames;
    struct fake_disk disk;
    struct blk_req orphan[DISK_MAX_REQS];
    uint32_t nr_orphans;
    uint32_t nr_wakes; /* of a client whose read has ended */
    bool holds;
    struct kuffd_msg held[64];
    uint32_t nr_held;
};

extern struct fake_domain dom;

/* The client has an agent, and one area over all of its address space. */
void dom_open(uint32_t nr_leaves, uint32_t nr_frames);
/* Likewise, with a file node of that many slots. */
void dom_open_with_file(uint32_t nr_leaves, uint32_t nr_frames, uint32_t nr_slots);
/* Ends the clients; nothing may be left over. */
void dom_close(void);
/*
 * The worker dies: all ordinary memory is lost, and a new core takes up.  `results` are
 * those of the agent's last command, which is finished.  What the disk had under way is
 * in dom.orphan, and is the caller's to end.
 */
void dom_die_and_take_up(const uint8_t results[CAPTURE_MAX_PAGES]);
/* Every invariant of the domain, or the test fails. */
void dom_check(void);

void dom_adopt(uint32_t first, uint32_t nr, bool zero);
void dom_stage(uint32_t first, uint32_t nr);
void dom_store(uint32_t first, uint32_t nr);
enum pte_tag dom_tag(const struct client *c, uint32_t n);
/* Bytes of the page where it is now; NULL: nowhere, reads as zeros. */
const void *dom_bytes(const struct client *c, uint32_t n);
/* The page n of the client, or of another, holds what page `was` held at first. */
bool dom_holds(uint32_t n, uint32_t was);
bool dom_client_holds(const struct client *c, uint32_t n, uint32_t was);
/* The client's pages 0-3 in the program, 4-7 in frames, 8-9 zeros... */
void dom_stored_and_present(void);
/* ... and 10-13 captured. */
void dom_some_of_everything(void);
/* All frames but so many are used up; and given back. */
void dom_use_up_frames(uint32_t left);
void dom_give_frames_back(void);

/* Answers what can be, at that time; messages are read at 1000 ns.  Faults that stay parked. */
uint32_t dom_answer(struct client *c, uint64_t now_ns);
/* The messages from here on make one batch, which is then applied. */
void dom_hold(void);
void dom_apply_held(void);
void dom_fault(uint32_t n, bool write);
/* With all that its read needs; the disk has nothing under way before. */
void dom_fault_to_the_end(uint32_t n, bool write, uint64_t now_ns);
/* Write-back until nothing more is called for. */
void dom_write_back(uint64_t now_ns);
void dom_remove(uint32_t first, uint32_t nr);
void dom_unmap(uint32_t first, uint32_t nr);
/* As the kernel does it: the message of the move first, that of the old place with dom_unmap(). */
void dom_remap(uint32_t from, uint32_t to, uint32_t nr);
void dom_fork(void);

#endif
