/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_TESTS_CHURN_H
#define PAGERD_TESTS_CHURN_H
/*
 * What the files of the program churn share; churn.c says what it does.
 *
 * The tag of a page's content (pattern.h) is made of thread, region, page and generation.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pattern.h"
#include "settings.h"

#define HUGE_PAGES 512u /* of a huge page */
#define MIN_THREAD_MIB 16u /* of a thread: three huge regions and something beside */
#define MAX_REGIONS 16u
#define NR_HISTORY 48u

/* What a page has to hold. */
struct shadow {
    uint64_t tag, patch_tag;        /* bytes [patch_at, + patch_len) are those of patch_tag */
    uint16_t patch_at, patch_len;
    bool maybe_zero;                /* MADV_FREE: zeros would be right as well */
    bool unknown;                   /* fresh from malloc: anything is right */
};

enum region_kind { REGION_PLAIN, REGION_HUGE, REGION_HEAP };

struct region {
    enum region_kind kind;
    uint32_t id, nr_pages, max_pages;
    char *base;
    void *block;           /* REGION_HEAP: what malloc gave */
    struct shadow *shadow; /* max_pages of them */
    /*
     * The kernel sees it as one mapping, paged or not.  Parts that were protected,
     * locked or mapped anew may stay mappings of their own when neighbours are
     * registered and they are not: then an mremap of all of it may fail.
     */
    bool is_whole;
    uint32_t odd_page, nr_odd; /* the part under mprotect or mlock */
    int odd_prot;              /* PROT_NONE, PROT_READ; both: it is locked */
    bool odd_locked;
};

struct history {
    const char *what;
    uint32_t region, page, nr;
};

struct churner {
    uint32_t id;
    uint64_t random, next_generation, nr_ops;
    struct region region[MAX_REGIONS];
    uint32_t nr_regions;
    int pipe[2], file, direct; /* file and direct: the same file; direct: O_DIRECT, -1 where refused */
    pid_t child[2];
    uint32_t depth;       /* forks above us */
    bool no_malloc;       /* child of a raw clone: libc does not know of it */
    uint64_t tally_count; /* of own words in the tally */
    uint32_t *tally_shadow;
    uint64_t nr_remap_refused;
    struct history history[NR_HISTORY];
};

/* churn.c */
void note(struct churner *c, const char *what, const struct region *r, uint32_t page, uint32_t nr);
_Noreturn void fail(struct churner *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
#define CHECK(c, x)                                                                                \
    do {                                                                                           \
        if (!(x))                                                                                  \
            fail(c, "%s:%d: %s", __FILE__, __LINE__, #x);                                          \
    } while (0)
/* One random operation. */
void churn_once(struct churner *c);
/* Memory that all threads read, and memory in which all threads write words of their own. */
void common_make(struct churner *c);
void common_check(struct churner *c);
void tally_add(struct churner *c);

/* churn_shadow.c */
uint64_t random_next(struct churner *c);
uint32_t random_below(struct churner *c, uint32_t n);
bool random_chance(struct churner *c, uint32_t one_in);
uint64_t tag_new(struct churner *c, const struct region *r, uint32_t page);
static inline char *page_at(const struct region *r, uint32_t page)
{
    return r->base + (size_t)page * PAGE;
}
bool page_readable(const struct region *r, uint32_t page);
bool page_writable(const struct region *r, uint32_t page);
void page_write(struct churner *c, struct region *r, uint32_t page);
/* What the page holds is known exactly afterwards. */
void page_settle(struct churner *c, struct region *r, uint32_t page);
void page_verify(struct churner *c, struct region *r, uint32_t page);
void region_verify(struct churner *c, struct region *r);

/* churn_touch.c: what leaves the mappings as they are */
void touch_open(struct churner *c); /* own pipe and file */
void touch_write(struct churner *c);
void touch_verify(struct churner *c);
void touch_sequence(struct churner *c);
void touch_patch(struct churner *c);
void touch_zeros(struct churner *c);
void touch_pipe(struct churner *c);
void touch_file(struct churner *c);
void touch_vm_call(struct churner *c);

/* churn_layout.c: what changes them */
void layout_make(struct churner *c, size_t bytes);
void layout_discard(struct churner *c); /* MADV_DONTNEED, MADV_FREE */
void layout_renew(struct churner *c);   /* munmap and mmap at the same address */
void layout_remap(struct churner *c);   /* mremap */
void layout_protect(struct churner *c); /* mprotect */
void layout_lock(struct churner *c);    /* mlock */
void layout_heap(struct churner *c);    /* free, malloc, realloc */
extern pthread_mutex_t layout_mutex; /* held while an address is free that its owner wants back */

/* churn_child.c */
void child_fork(struct churner *c);
void child_exec(struct churner *c);
void child_reap(struct churner *c, bool all);
int child_tiny(void); /* the program that child_exec starts */

#endif
