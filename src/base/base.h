/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_BASE_H
#define PAGERD_BASE_H
/*
 * base: what every other room stands on, and nothing that knows about paging:
 * scope clean-up, assertions, lists, bitmaps, latency histograms, the log,
 * size parsing, fail points, mutants and the clock.
 *
 * Nothing here allocates.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- small macros ---- */

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define MIN(a, b)                                                                                  \
    __extension__({                                                                                \
        __auto_type min_a_ = (a);                                                                  \
        __auto_type min_b_ = (b);                                                                  \
        min_a_ < min_b_ ? min_a_ : min_b_;                                                         \
    })
#define MAX(a, b)                                                                                  \
    __extension__({                                                                                \
        __auto_type max_a_ = (a);                                                                  \
        __auto_type max_b_ = (b);                                                                  \
        max_a_ > max_b_ ? max_a_ : max_b_;                                                         \
    })
/* x, but not below lo nor above hi. */
#define CLAMP(x, lo, hi)                                                                           \
    __extension__({                                                                                \
        __auto_type clamp_x_ = (x);                                                                \
        __auto_type clamp_lo_ = (lo);                                                              \
        __auto_type clamp_hi_ = (hi);                                                              \
        clamp_x_ < clamp_lo_ ? clamp_lo_ : clamp_x_ > clamp_hi_ ? clamp_hi_ : clamp_x_;            \
    })

#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

/* A broken invariant ends the process, in every build: the memory behind it is somebody's. */
#define BUG_ON(cond)                                                                               \
    do {                                                                                           \
        if (__builtin_expect(!!(cond), 0))                                                         \
            base_bug(__FILE__, __LINE__, #cond);                                                   \
    } while (0)
_Noreturn void base_bug(const char *file, int line, const char *cond);

/* ---- scope clean-up ---- */

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _cleanup_free_ _cleanup_(base_cleanup_free)
#define _cleanup_close_ _cleanup_(base_cleanup_close)

static inline void base_cleanup_free(void *p)
{
    free(*(void **)p);
}

/* Closes fd unless it is negative; errno is kept.  Returns -1, for `fd = fd_close(fd)`. */
static inline int fd_close(int fd)
{
    if (fd >= 0) {
        int saved = errno;

        (void)close(fd);
        errno = saved;
    }
    return -1;
}

static inline void base_cleanup_close(int *fd)
{
    fd_close(*fd);
}

/* The value, leaving "nothing" behind for the clean-up. */
#define TAKE_FD(fd)                                                                                \
    __extension__({                                                                                \
        int *take_fd_ = &(fd);                                                                     \
        int taken_ = *take_fd_;                                                                    \
        *take_fd_ = -1;                                                                            \
        taken_;                                                                                    \
    })
#define TAKE_PTR(ptr)                                                                              \
    __extension__({                                                                                \
        __typeof__(ptr) *take_ptr_ = &(ptr);                                                       \
        __typeof__(ptr) taken_ = *take_ptr_;                                                       \
        *take_ptr_ = NULL;                                                                         \
        taken_;                                                                                    \
    })

/* ---- intrusive, circular, doubly linked list (as in the kernel's list.h) ---- */

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *head)
{
    head->next = head->prev = head;
}
static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}
static inline void list_insert_between(struct list *e, struct list *prev, struct list *next)
{
    e->prev = prev;
    e->next = next;
    prev->next = e;
    next->prev = e;
}
/* The new entry first, as in the kernel. */
static inline void list_add(struct list *e, struct list *head)
{
    list_insert_between(e, head, head->next);
}
static inline void list_add_tail(struct list *e, struct list *head)
{
    list_insert_between(e, head->prev, head);
}
/* Takes e out and leaves it as an empty list, so that list_empty(e) says "on no list". */
static inline void list_del(struct list *e)
{
    e->prev->next = e->next;
    e->next->prev = e->prev;
    list_init(e);
}
/* Moves everything on `from` to the tail of `head`, in order; `from` is empty afterwards. */
static inline void list_splice_tail(struct list *from, struct list *head)
{
    if (list_empty(from))
        return;
    from->next->prev = head->prev;
    head->prev->next = from->next;
    from->prev->next = head;
    head->prev = from->prev;
    list_init(from);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
/* Only for a list that is not empty. */
#define list_first_entry(head, type, member) list_entry((head)->next, type, member)
#define list_last_entry(head, type, member) list_entry((head)->prev, type, member)
#define list_for_each_entry(pos, head, member)                                                     \
    for (pos = list_entry((head)->next, __typeof__(*pos), member); &pos->member != (head);         \
         pos = list_entry(pos->member.next, __typeof__(*pos), member))
/* `pos` may be deleted in the body; `n` may not. */
#define list_for_each_entry_safe(pos, n, head, member)                                             \
    for (pos = list_entry((head)->next, __typeof__(*pos), member),                                 \
        n = list_entry(pos->member.next, __typeof__(*pos), member);                                \
         &pos->member != (head);                                                                   \
         pos = n, n = list_entry(n->member.next, __typeof__(*n), member))

/* ---- bitmaps: arrays of 64-bit words, bit i in word i / 64 ---- */

#define BITMAP_WORDS(nr_bits) (((nr_bits) + 63) / 64)

static inline void bitmap_set(uint64_t *map, size_t bit)
{
    map[bit / 64] |= (uint64_t)1 << (bit % 64);
}
static inline void bitmap_clear(uint64_t *map, size_t bit)
{
    map[bit / 64] &= ~((uint64_t)1 << (bit % 64));
}
static inline bool bitmap_test(const uint64_t *map, size_t bit)
{
    return map[bit / 64] >> (bit % 64) & 1;
}
/* First set (zero) bit in [from, nr_bits), or nr_bits. */
size_t bitmap_find_next_set(const uint64_t *map, size_t nr_bits, size_t from);
size_t bitmap_find_next_zero(const uint64_t *map, size_t nr_bits, size_t from);
/* Set bits among the first nr_bits. */
size_t bitmap_count(const uint64_t *map, size_t nr_bits);

/* ---- log-linear latency histogram ---- */

/*
 * 16 equal buckets a power of two, so a quantile is at most 1/16 too high;
 * what is longer than 2^40 ns (18 minutes) counts in the last bucket.  All
 * zeros is an empty histogram.  One writer; no allocation.
 */
#define HIST_SUB_BITS 4
#define HIST_SUB (1u << HIST_SUB_BITS)
#define HIST_TOP_BITS 40
#define HIST_BUCKETS (HIST_SUB * (HIST_TOP_BITS - HIST_SUB_BITS + 1))

struct hist {
    uint64_t count;
    uint64_t max_ns;
    uint64_t bucket[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t ns);
void hist_merge(struct hist *into, const struct hist *from);
static inline uint64_t hist_count(const struct hist *h)
{
    return h->count;
}
static inline uint64_t hist_max(const struct hist *h)
{
    return h->max_ns;
}
/*
 * The least upper bound, by buckets, of the q-quantile (0 <= q <= 1), never
 * above hist_max(); 0 when empty.
 */
uint64_t hist_quantile(const struct hist *h, double q);

/* ---- log ---- */

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

extern enum log_level log_max_level;

/*
 * `ident` is copied; fd is borrowed (before the call: no ident, WARNING,
 * standard error).  Each line leaves in one write(2) and holds no control
 * characters, since names in it may come from clients.  errno is kept.
 */
void log_init(const char *ident, enum log_level level, int fd);
void log_write(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "error", "warning", "info" or "debug"; else -EINVAL. */
MUST_CHECK int log_level_by_name(const char *name, enum log_level *ret);

#define log_at(level, ...)                                                                         \
    do {                                                                                           \
        if ((level) <= log_max_level)                                                              \
            log_write(level, __VA_ARGS__);                                                         \
    } while (0)
#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* `if (log_ratelimit(&rl)) log_warning(...)`: at most 5 lines in 5 seconds; all zeros to start. */
struct log_ratelimit {
    uint64_t window_ns;
    uint32_t nr;
};
bool log_ratelimit(struct log_ratelimit *rl);

/* ---- turns of an event loop ---- */

/*
 * From waking, or from when it was to wake (`due_ns`; UINT64_MAX: whenever), to going to sleep;
 * nobody is answered meanwhile.  turn_end() logs a warning after more than a second, with the
 * processor time (too much by 50 ms at most).  All zeros to start.
 */
struct turn {
    uint64_t began_ns, ended_ns;
    uint64_t sampled_ns, cpu_ns;
    struct log_ratelimit often;
};
void turn_begin(struct turn *t, uint64_t due_ns);
void turn_end(struct turn *t);

/* ---- sizes ---- */

/*
 * "4096", "96M": bytes, or a decimal number with one of K M G T (also in lower
 * case; 1024 each).  -EINVAL: no size; -ERANGE: does not fit 64 bits.
 */
MUST_CHECK int parse_size(const char *text, uint64_t *ret_bytes);

/* ---- fail points ---- */

/*
 * True when the environment's PAGERD_FAILPOINTS ("name,name=3": always; the
 * third hit only) names it.  One load and a branch when none is set.
 */
extern _Atomic int failpoints_state; /* 0: none is set; else ask failpoint_hit() */
bool failpoint_hit(const char *name);
static inline bool failpoint(const char *name)
{
    return __builtin_expect(failpoints_state != 0, 0) && failpoint_hit(name);
}
/* Replaces the whole list, as the environment would; NULL: none.  For tests. */
void failpoint_set(const char *spec);

/* ---- mutants: deliberate faults that the simulator must catch ---- */

enum mutant {
    MUTANT_NONE,
    MUTANT_COMMIT_BEFORE_COPY,
    MUTANT_SWITCH_BEFORE_WRITE,
    MUTANT_SUM_NOT_COMPARED,
    MUTANT_DISCARD_BEFORE_COMMIT,
    MUTANT_EAGAIN_DROPPED,
    MUTANT_EEXIST_NOT_WOKEN,
    MUTANT_FRAME_FREED_TWICE,
    MUTANT_HELD_NOT_HELD,
    MUTANT_RECOVERY_WAKES_NOBODY,
    MUTANT_REMOVE_SPARES_MIGRATING,
    MUTANT_FORK_WITHOUT_STAGED,
    MUTANT_FORK_WITHOUT_REFERENCE,
    MUTANT_FILLED_BEFORE_FILL,
    MUTANT_GONE_NOT_WOKEN,
    MUTANT_ZERO_TEST_SHORT,
    MUTANT_KEPT_NOT_COMPARED,
    MUTANT_RESULTS_NOT_WIPED,
    MUTANT_MISCOUNT_BELIEVED,
    MUTANT_MESSAGE_DROPPED,
    MUTANT_DOOMED_FORGOTTEN,
    MUTANT_POISON_FORGOTTEN,
    MUTANT_REMAP_REPEATED,
    MUTANT_CHILD_SERVED_UNFINISHED,
    MUTANT_ADOPTED_WHILE_CHANGING,
    MUTANT_ABORTED_AS_PRESENT,
    MUTANT_WHO_LEFT_NOT_FIRST,
    MUTANT_ORDER_GUESSED,
    MUTANT_ENDED_UNREAD,
    MUTANT_VANISHED_WOKEN,
    MUTANT_LATE_ENTERED,
    MUTANT_WRITE_NOT_NOTED,
    MUTANT_FILL_NOT_SAVED,
    MUTANT_FILL_DESPITE_EVENTS,
    MUTANT_READ_WHILE_TAKING,
    MUTANT_OWN_MOVE_APPLIED,
    MUTANT_CHILD_NOT_MADE_SURE,
    MUTANT_WIPED_GIVEN,
    MUTANT_DOUBT_ANSWERED,
    MUTANT_DOUBT_NOT_SAVED,
    NR_MUTANTS
};

#ifdef PAGERD_MUTANTS
extern enum mutant mutant_active;
#define MUTANT(x) (mutant_active == (x))
#else
#define MUTANT(x) (false)
#endif
/* Places between two stores, where the simulator may end a worker. */
#ifdef PAGERD_MUTANTS
extern void (*crash_point)(void);
#define CRASH_POINT() (crash_point ? crash_point() : (void)0)
#else
#define CRASH_POINT() ((void)0)
#endif
/* "commit-before-copy" and so on, "none" among them; NULL past the last. */
const char *mutant_name(enum mutant m);
MUST_CHECK int mutant_by_name(const char *name, enum mutant *ret); /* 0 or -EINVAL */

/* ---- clock ---- */

/* CLOCK_MONOTONIC. */
uint64_t now_ns(void);

#endif
