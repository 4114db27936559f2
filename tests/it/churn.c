/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ordinary program that uses its memory in every way there is, at random,
 * and knows what each byte has to be.  Nothing of pagerd is in it: bare it has
 * to succeed, and under pagerd as well.
 *
 *   churn [--seed=N] [--threads=N] [--mib=N] [--seconds=N] [--no-forks] [--raw-clones]
 *
 * Each thread has regions of its own, side by side with the others' in the address
 * space, and the same seed gives each thread the same operations.  Beside that
 * there is memory that all of them read, and memory in whose pages each has words
 * of its own to write: what is taken out of a page while another thread writes to it
 * must not be lost.
 *
 * Exit status: 0 all was right; 1 something was not, and is described on standard
 * error; 2 wrong use; 3 (or SIGALRM, when it hangs in the kernel) it hung.
 */
#define _GNU_SOURCE
#include "churn.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <unistd.h>

#define GRACE_SECONDS 60 /* for filling, the last look, and a machine that is busy */
#define COMMON_PAGES 2048u
#define TALLY_PAGES 256u
#define TALLY_WORDS 16u /* of each thread in a page */

struct settings settings = {
    .nr_threads = 1, .bytes = 192 * MIB, .seconds = 8, .forks = true};

static struct churner churners[MAX_THREADS];
static struct region common;
static uint64_t (*tally)[PAGE / sizeof(uint64_t)];
static int64_t deadline_ns;

/* ---- what is said ---- */

void note(struct churner *c, const char *what, const struct region *r, uint32_t page, uint32_t nr)
{
    c->history[c->nr_ops++ % NR_HISTORY] = (struct history){what, r ? r->id : UINT32_MAX, page, nr};
}

static void print_history(const struct churner *c)
{
    uint64_t first = c->nr_ops > NR_HISTORY ? c->nr_ops - NR_HISTORY : 0;

    for (uint64_t i = first; i < c->nr_ops; i++) {
        const struct history *h = &c->history[i % NR_HISTORY];
        if (h->region == UINT32_MAX)
            dprintf(STDERR_FILENO, "  thread %u %llu: %s\n", c->id, (unsigned long long)i, h->what);
        else
            dprintf(STDERR_FILENO, "  thread %u %llu: %s region %u page %u nr %u\n", c->id,
                    (unsigned long long)i, h->what, h->region, h->page, h->nr);
    }
}

_Noreturn void fail(struct churner *c, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    dprintf(STDERR_FILENO, "churn: seed %llu, pid %d, thread %u, depth %u: %s\n",
            (unsigned long long)settings.seed, getpid(), c->id, c->depth, text);
    print_history(c);
    _exit(1);
}

/* Not reached when a thread hangs in a system call: the alarm behind it ends that. */
static void hangs(int sig)
{
    static const char text[] = "churn: it hangs\n";

    (void)sig;
    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    for (uint32_t i = 0; i < settings.nr_threads; i++)
        print_history(&churners[i]);
    _exit(3);
}

/* ---- memory of all threads ---- */

void common_make(struct churner *c)
{
    size_t bytes = (COMMON_PAGES + TALLY_PAGES) * (size_t)PAGE;

    common = (struct region){.id = 63, .nr_pages = COMMON_PAGES};
    common.base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    common.shadow = calloc(COMMON_PAGES, sizeof(*common.shadow));
    CHECK(c, common.base != MAP_FAILED && common.shadow);
    for (uint32_t i = 0; i < COMMON_PAGES; i++)
        page_write(c, &common, i);
    tally = (void *)page_at(&common, COMMON_PAGES);
}

void common_check(struct churner *c)
{
    uint32_t page = random_below(c, COMMON_PAGES), nr = 1 + random_below(c, 64);

    note(c, "verify common", &common, page, nr);
    for (uint32_t i = page; i < page + nr && i < COMMON_PAGES; i++)
        page_verify(c, &common, i);
    for (uint32_t i = 0; i < 16; i++)
        page_verify(c, &common, random_below(c, COMMON_PAGES));
}

void tally_add(struct churner *c)
{
    note(c, "tally", NULL, 0, 0);
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t page = random_below(c, TALLY_PAGES), k = random_below(c, TALLY_WORDS);
        volatile uint64_t *word = &tally[page][c->id * TALLY_WORDS + k];
        uint32_t *expected = &c->tally_shadow[page * TALLY_WORDS + k];

        if (*word != *expected)
            fail(c, "tally page %u at %p, own word %u: expected %u, found %llu", page,
                 (void *)tally[page], k, *expected, (unsigned long long)*word);
        *word = ++*expected;
        c->tally_count++;
    }
}

/* ---- operations ---- */

static const struct {
    void (*run)(struct churner *c);
    uint32_t weight;
    bool is_fork;
} operations[] = {
    {touch_write, 20, false},   {touch_verify, 20, false},   {touch_sequence, 12, false},
    {touch_patch, 20, false},   {touch_zeros, 4, false},     {touch_pipe, 12, false},
    {touch_file, 8, false},     {touch_vm_call, 6, false},   {common_check, 8, false},
    {tally_add, 12, false},     {layout_discard, 12, false}, {layout_renew, 8, false},
    {layout_remap, 12, false},  {layout_protect, 8, false},  {layout_lock, 6, false},
    {layout_heap, 8, false},    {child_fork, 2, true},       {child_exec, 2, true},
};

void churn_once(struct churner *c)
{
    uint32_t sum = 0, at;

    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
        sum += operations[i].weight;
    at = random_below(c, sum);
    for (size_t i = 0;; i++) {
        if (at >= operations[i].weight) {
            at -= operations[i].weight;
            continue;
        }
        if (!operations[i].is_fork || settings.forks)
            operations[i].run(c);
        return;
    }
}

static void *churn(void *arg)
{
    struct churner *c = arg;

    c->random = settings.seed * 0x9e3779b97f4a7c15u + c->id;
    touch_open(c);
    c->tally_shadow = calloc(TALLY_PAGES * TALLY_WORDS, sizeof(*c->tally_shadow));
    CHECK(c, c->tally_shadow);
    layout_make(c, settings.bytes / settings.nr_threads);
    while (now_ns() < deadline_ns)
        churn_once(c);
    child_reap(c, true);
    for (uint32_t i = 0; i < c->nr_regions; i++)
        region_verify(c, &c->region[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread[MAX_THREADS];
    uint64_t nr_ops = 0, nr_tallied = 0, nr_refused = 0;

    if (argc == 2 && !strcmp(argv[1], "--tiny"))
        return child_tiny();
    settings_parse("churn", MIN_THREAD_MIB, argc, argv);
    settings.bytes = MAX(settings.bytes, settings.nr_threads * MIN_THREAD_MIB * MIB);
    settings_start_watchdog(GRACE_SECONDS, hangs);
    deadline_ns = now_ns() + settings.seconds * 1000000000LL;
    common_make(&churners[0]);
    for (uint32_t i = 1; i < settings.nr_threads; i++) {
        churners[i].id = i;
        CHECK(&churners[i], pthread_create(&thread[i], NULL, churn, &churners[i]) == 0);
    }
    churn(&churners[0]);
    for (uint32_t i = 1; i < settings.nr_threads; i++)
        CHECK(&churners[0], pthread_join(thread[i], NULL) == 0);
    for (uint32_t i = 0; i < settings.nr_threads; i++) {
        nr_ops += churners[i].nr_ops;
        nr_tallied += churners[i].tally_count;
        nr_refused += churners[i].nr_remap_refused;
    }
    printf("churn: all right after %llu operations; %llu words tallied; mremap refused %llu\n",
           (unsigned long long)nr_ops, (unsigned long long)nr_tallied,
           (unsigned long long)nr_refused);
    return 0;
}
