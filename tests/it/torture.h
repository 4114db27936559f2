/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_TESTS_TORTURE_H
#define PAGERD_TESTS_TORTURE_H
/*
 * What the files of the program torture share; torture.c says what it does.
 *
 * A block is a run of pages with a lock.  Whoever has the lock may do anything with
 * the block's memory and mapping, and knows what each byte of it has to be; whoever
 * has it not leaves it alone.  Blocks lie side by side in few mappings, so what is
 * done to one changes the mapping that its neighbours are in.
 */
#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pattern.h"
#include "settings.h"

#define BLOCK_PAGES 128u
#define BLOCK_MAX_PAGES 192u /* one that may grow */
#define HUGE_PAGES 512u
#define NR_HISTORY 32u
#define FILE_PAGES 4096u /* of the file that is read: page i has tag_of_file(i) */
#define FILE_TAG (15ull << 60)
#define MAX_PIN_PAGES 64u

static inline uint64_t tag_of_file(uint32_t page)
{
    return FILE_TAG | (page + 1);
}

struct page_state {
    uint64_t tag;
    bool maybe_zero; /* MADV_FREE: zeros would be right as well */
};

struct operation {
    const char *what;
    uint32_t page, nr, thread, ms;
};

struct block {
    pthread_mutex_t lock;
    uint32_t id, nr_pages, max_pages;
    uint32_t nr_pins; /* buffers of an io_uring are in it: its pages must not be dropped */
    bool huge;
    /*
     * The kernel sees it in one mapping.  A part that was mapped anew may stay a mapping of
     * its own, while its neighbour is registered and it is not.
     */
    bool is_whole;
    char *base;
    struct page_state *page; /* max_pages of them */
    struct operation history[NR_HISTORY];
    uint32_t nr_history;
};

/* Pages that a ring of ours keeps pinned, while their block is anybody's. */
struct pin {
    struct block *block;
    uint32_t page, nr;
    uintptr_t at; /* where it was registered: so it is named, wherever the block is by now */
};

struct torturer {
    uint32_t id, depth; /* depth: forks above us */
    uint64_t random, nr_versions, nr_ops;
    const char *doing; /* for the report of a hang */
    int pipe[2], scratch, scratch_direct;
    struct io_uring ring;
    bool has_ring;
    struct pin pin;
    pid_t child;
    bool child_is_to_be_killed;
    uint64_t nr_fixed_reads, nr_futex_waits, nr_remap_refused, nr_forks, nr_pin_refused;
    uint32_t *tally; /* own words in the shared pages, as they have to be */
};

extern struct block *blocks;
extern uint32_t nr_blocks;
extern int pattern_file, pattern_direct; /* the same file; direct: O_DIRECT, or as it is */
extern _Atomic uint32_t nr_children;

/* torture.c */
_Noreturn void fail(struct torturer *t, const struct block *b, uint32_t page, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
#define CHECK(t, b, x)                                                                             \
    do {                                                                                           \
        if (!(x))                                                                                  \
            fail(t, b, 0, "%s:%d: %s", __FILE__, __LINE__, #x);                                    \
    } while (0)

static inline uint32_t below(struct torturer *t, uint32_t n)
{
    return random_u32_below(&t->random, n);
}
static inline bool chance(struct torturer *t, uint32_t one_in)
{
    return below(t, one_in) == 0;
}

/* torture_block.c */
void blocks_make(struct torturer *t);
struct block *block_lock(struct torturer *t); /* any one; NULL: all that were tried are locked */
void block_unlock(struct block *b);
void note(struct torturer *t, struct block *b, const char *what, uint32_t page, uint32_t nr);
static inline char *page_at(const struct block *b, uint32_t page)
{
    return b->base + (size_t)page * PAGE;
}
/* A run of at most `max` pages of it. */
uint32_t block_run(struct torturer *t, const struct block *b, uint32_t max, uint32_t *ret_page);
uint64_t tag_new(struct torturer *t, const struct block *b, uint32_t page);
void page_write(struct torturer *t, struct block *b, uint32_t page);
void page_verify(struct torturer *t, struct block *b, uint32_t page);
/* `found` is a copy of the page that somebody else has made. */
void copy_verify(struct torturer *t, struct block *b, uint32_t page, const void *found);
void block_verify(struct torturer *t, struct block *b);
void blocks_verify(struct torturer *t); /* all that nobody has locked */

/* torture_io.c: by system calls */
void io_make(struct torturer *t);       /* the file that is read */
void io_open(struct torturer *t);       /* own pipe, file and ring */
void io_pipe(struct torturer *t);
void io_file_read(struct torturer *t);  /* read, readv, O_DIRECT */
void io_file_write(struct torturer *t); /* write, O_DIRECT */

/* torture_uring.c */
void uring_open(struct torturer *t);
void uring_read(struct torturer *t);  /* some reads in flight together */
void uring_pin(struct torturer *t);   /* a buffer is registered, and stays so for a while */
void uring_fixed(struct torturer *t); /* reads into it, or writes from it */
void uring_unpin(struct torturer *t);

/* torture_map.c */
void map_discard(struct torturer *t); /* MADV_DONTNEED, MADV_FREE */
void map_over(struct torturer *t);    /* munmap and mmap over */
void map_move(struct torturer *t);    /* mremap to another place */
void map_size(struct torturer *t);    /* mremap: shrink, grow */
void map_protect(struct torturer *t); /* mprotect, and back */
void map_lock(struct torturer *t);    /* mlock, and back */

/* torture_shared.c: pages in which all threads write at once */
void shared_make(struct torturer *t);
void shared_tally(struct torturer *t);
void shared_futex(struct torturer *t);
void shared_verify(struct torturer *t); /* own words */

/* torture_fork.c */
void fork_one(struct torturer *t);
void fork_reap(struct torturer *t, bool wait);

#endif
