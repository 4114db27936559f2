/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ordinary program whose threads do everything at once with the same memory, and
 * which knows what each byte of it has to be.  Nothing of pagerd is in it: bare it has
 * to succeed, and under pagerd, with a quarter of the memory, as well.
 *
 *   torture [--seed=N] [--threads=N] [--mib=N] [--seconds=N] [--no-forks]
 *           [--raw-clones] [--no-pins]
 *
 * Where churn's threads each have regions of their own, these work side by side in the
 * same mappings: read(2) into a page, a fork, a move of the neighbour and a madvise
 * happen together.  --raw-clones: some children by an instruction of our own, of which
 * nobody can know.  --no-pins: no O_DIRECT and no io_uring, which write to pages that they
 * have pinned.
 *
 * Exit status: 0 all was right; 1 a byte was not, and it is said which, with the last
 * operations on that page; 2 wrong use; 3 (or SIGALRM) it hung.
 */
#define _GNU_SOURCE
#include "torture.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MIN_MIB 32
#define GRACE_SECONDS 90 /* for filling, the last look, and a machine that is busy */

struct settings settings = {.nr_threads = 8, .bytes = 1024 * MIB, .seconds = 10, .pins = true,
                            .forks = true};
static struct torturer torturers[MAX_THREADS];
static pthread_barrier_t filled;
static int64_t deadline_ns;

/* ---- what is said ---- */

/* The operations on that page, and those on the whole block. */
static void print_history(const struct block *b, uint32_t page)
{
    uint32_t first = b->nr_history > NR_HISTORY ? b->nr_history - NR_HISTORY : 0;
    uint32_t now = (uint32_t)(now_ns() / 1000000);

    for (uint32_t i = first; i < b->nr_history; i++) {
        const struct operation *o = &b->history[i % NR_HISTORY];
        dprintf(STDERR_FILENO, "  %c %u ms ago, thread %u: %s, pages %u to %u\n",
                page - o->page < o->nr ? '*' : ' ', now - o->ms, o->thread, o->what, o->page,
                o->page + o->nr);
    }
}

_Noreturn void fail(struct torturer *t, const struct block *b, uint32_t page, const char *format, ...)
{
    char text[1024];
    va_list args;
    int error = errno;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    dprintf(STDERR_FILENO, "torture: seed %llu, pid %d, thread %u, depth %u, at %lld ns: %s (errno %d)\n",
            (unsigned long long)settings.seed, getpid(), t->id, t->depth, (long long)now_ns(), text,
            error);
    if (b)
        print_history(b, page);
    _exit(1);
}

/* Not reached when a thread hangs in a system call: the alarm behind it ends that. */
static void hangs(int sig)
{
    (void)sig;
    for (uint32_t i = 0; i < settings.nr_threads; i++)
        dprintf(STDERR_FILENO, "torture: it hangs: thread %u is at: %s\n", i, torturers[i].doing);
    _exit(3);
}

/* ---- operations ---- */

static void write_pages(struct torturer *t)
{
    struct block *b = block_lock(t);
    uint32_t page, nr;

    if (!b)
        return;
    nr = block_run(t, b, 32, &page);
    note(t, b, "write", page, nr);
    for (uint32_t i = page; i < page + nr; i++)
        page_write(t, b, i);
    block_unlock(b);
}

static void verify_block(struct torturer *t)
{
    struct block *b = block_lock(t);

    if (!b)
        return;
    block_verify(t, b);
    block_unlock(b);
}

static const struct {
    void (*run)(struct torturer *t);
    uint32_t weight;
} operations[] = {
    {write_pages, 40},  {verify_block, 40}, {io_pipe, 20},   {io_file_read, 20},
    {io_file_write, 8}, {uring_read, 10},   {uring_pin, 4},  {uring_fixed, 16},
    {uring_unpin, 2},   {map_discard, 10},  {map_over, 6},   {map_move, 8},
    {map_size, 6},      {map_protect, 6},   {map_lock, 6},   {shared_tally, 10},
    {shared_futex, 20}, {fork_one, 2},
};

static void operate(struct torturer *t)
{
    uint32_t sum = 0, at;

    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
        sum += operations[i].weight;
    at = below(t, sum);
    for (size_t i = 0;; i++) {
        if (at < operations[i].weight) {
            operations[i].run(t);
            t->nr_ops++;
            return;
        }
        at -= operations[i].weight;
    }
}

static void *torture(void *arg)
{
    struct torturer *t = arg;

    t->random = settings.seed * 0x9e3779b97f4a7c15u + t->id;
    io_open(t);
    uring_open(t);
    for (uint32_t i = t->id; i < nr_blocks; i += settings.nr_threads) {
        note(t, &blocks[i], "fill", 0, blocks[i].nr_pages);
        for (uint32_t k = 0; k < blocks[i].nr_pages; k++)
            page_write(t, &blocks[i], k);
    }
    pthread_barrier_wait(&filled);
    while (now_ns() < deadline_ns)
        operate(t);
    uring_unpin(t);
    fork_reap(t, true);
    t->doing = "its last look";
    shared_verify(t);
    pthread_barrier_wait(&filled);
    for (uint32_t i = t->id; i < nr_blocks; i += settings.nr_threads)
        block_verify(t, &blocks[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    struct torturer *main_one = &torturers[0];
    pthread_t thread[MAX_THREADS];
    struct torturer sum = {0};

    settings_parse("torture", MIN_MIB, argc, argv);
    settings_start_watchdog(GRACE_SECONDS, hangs);
    blocks_make(main_one);
    shared_make(main_one);
    io_make(main_one);
    deadline_ns = now_ns() + settings.seconds * 1000000000LL;
    pthread_barrier_init(&filled, NULL, settings.nr_threads);
    for (uint32_t i = 1; i < settings.nr_threads; i++) {
        torturers[i].id = i;
        CHECK(main_one, NULL, pthread_create(&thread[i], NULL, torture, &torturers[i]) == 0);
    }
    torture(main_one);
    for (uint32_t i = 1; i < settings.nr_threads; i++)
        CHECK(main_one, NULL, pthread_join(thread[i], NULL) == 0);
    for (uint32_t i = 0; i < settings.nr_threads; i++) {
        sum.nr_ops += torturers[i].nr_ops;
        sum.nr_fixed_reads += torturers[i].nr_fixed_reads;
        sum.nr_futex_waits += torturers[i].nr_futex_waits;
        sum.nr_forks += torturers[i].nr_forks;
        sum.nr_remap_refused += torturers[i].nr_remap_refused;
        sum.nr_pin_refused += torturers[i].nr_pin_refused;
    }
    printf("torture: all right after %llu operations; %llu reads into registered buffers (%llu "
           "not registered), %llu futex waits, %llu children, mremap refused %llu\n",
           (unsigned long long)sum.nr_ops, (unsigned long long)sum.nr_fixed_reads,
           (unsigned long long)sum.nr_pin_refused, (unsigned long long)sum.nr_futex_waits,
           (unsigned long long)sum.nr_forks, (unsigned long long)sum.nr_remap_refused);
    /* Some seconds are enough for everything; the children of the others make it slow. */
    if (settings.seconds >= 10 && !settings.forks) {
        CHECK(main_one, NULL, sum.nr_futex_waits > 0);
        CHECK(main_one, NULL, sum.nr_fixed_reads > 0 || !settings.pins);
    } else if (settings.seconds >= 10) {
        CHECK(main_one, NULL, sum.nr_forks > 0);
    }
    return 0;
}
