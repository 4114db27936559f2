/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_FRAME_H
#define PAGERD_FRAME_H
/*
 * frame: the 4 KiB frames of one `ram` node, or the slots of a `file` node: a buddy
 * allocator of orders 0 to 9 over pageblocks of 512 frames, a reference count a
 * frame, and their order by age.
 *
 * All of it is derived state: which frames are in use follows from the page
 * tables (frame_claim() rebuilds it).  Mechanism: Linux mm/page_alloc.c.
 *
 * A frame is free (in the buddy lists), or allocated.  An allocated frame is
 * referenced by refs > 0 entries or, with refs == 0, held by an operation that
 * is about to fill it ("cached").  While a device reads or writes it, it has holds,
 * and is not freed with its last reference but with its last hold.
 *
 * The frames that hold moved-out pages stand in one of two lists, the oldest first:
 * STORED, when an entry says that its page is there, and KEPT, when there are only
 * entries of pages that are back in their programs: a cache, to be dropped at will.
 */
#include "base/base.h"
#include "target/target.h"

#define FRAME_MAX_ORDER 9
#define PAGEBLOCK_FRAMES (1u << FRAME_MAX_ORDER)

/* Number of a frame within its node. */
struct pfn {
    uint32_t n;
};

struct frame_pool;

/* NULL when memory is short.  nr_frames is rounded down to whole pageblocks by the caller. */
struct frame_pool *frame_pool_new(uint32_t nr_frames);
void frame_pool_free(struct frame_pool *pool);

/*
 * Allocates one to max adjacent frames, the largest power of two that fits and
 * is there, each with refs == 0.  0 and *ret_first, *ret_nr; -ENOMEM: none free.
 */
int frame_alloc_run(struct frame_pool *pool, uint32_t max, struct pfn *ret_first, uint32_t *ret_nr);

/* Takes that very frame, refs == 0, for recovery.  -EBUSY: it is allocated already. */
int frame_claim(struct frame_pool *pool, struct pfn pfn);

/* A reference more; the frame must be allocated. */
void frame_get(struct frame_pool *pool, struct pfn pfn);
/* A reference less; the last one frees a frame that is not held.  Returns true when it did. */
bool frame_put(struct frame_pool *pool, struct pfn pfn);
/* Frees an allocated frame that nobody references. */
void frame_free(struct frame_pool *pool, struct pfn pfn);

/* A hold more; the frame must be allocated. */
void frame_hold(struct frame_pool *pool, struct pfn pfn);
/* A hold less; the last one frees a frame without references.  Returns true when it did. */
bool frame_unhold(struct frame_pool *pool, struct pfn pfn);

enum frame_list { FRAME_UNLISTED = 0, FRAME_STORED, FRAME_KEPT };

/* To the young end of that list (FRAME_UNLISTED: of none), from wherever it is. */
void frame_list_set(struct frame_pool *pool, struct pfn pfn, enum frame_list list);
/* To its old end. */
void frame_list_set_oldest(struct frame_pool *pool, struct pfn pfn, enum frame_list list);
enum frame_list frame_list_of(const struct frame_pool *pool, struct pfn pfn);
/* False: the list is empty. */
bool frame_list_oldest(const struct frame_pool *pool, enum frame_list list, struct pfn *ret);
uint32_t frame_list_nr(const struct frame_pool *pool, enum frame_list list);

uint32_t frame_refs(const struct frame_pool *pool, struct pfn pfn);
/* Is a device at it? */
bool frame_is_held(const struct frame_pool *pool, struct pfn pfn);
bool frame_is_allocated(const struct frame_pool *pool, struct pfn pfn);

uint32_t frame_nr_total(const struct frame_pool *pool);
uint32_t frame_nr_free(const struct frame_pool *pool);
/* Free blocks of exactly that order. */
uint32_t frame_nr_blocks(const struct frame_pool *pool, unsigned order);

/* What frame_check() counted, each on its own. */
struct frame_count {
    uint32_t total, free, allocated, referenced, cached;
};

/*
 * Walks every frame and every free list.  Returns NULL or a sentence that says
 * what is wrong; *ret is filled in either case.
 */
const char *frame_check(const struct frame_pool *pool, struct frame_count *ret);

#endif
