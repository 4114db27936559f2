/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ordinary program with threads, to run with a limit of 16 MiB: memory right above a stack,
 * which the kernel joins with it, is moved out as any other; and a robust mutex that was moved
 * out while its owner held it has lost its owner when that ends, in each way in which a thread can.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define BYTES ((size_t)64 << 20)
#define ROUNDS 200

static int go[2], ready[2];

static void touch_all(char *p, int with)
{
    for (size_t at = 0; at < BYTES; at += PAGE)
        p[at] = (char)(p[at] + with);
}

static char *map_some(void)
{
    char *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        exit(99);
    return p;
}

static long resident_kib(void)
{
    char line[256];
    long kib = -1;
    FILE *f = fopen("/proc/self/status", "re");

    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "RssAnon: %ld", &kib) == 1)
            break;
    fclose(f);
    return kib;
}

static void say_and_wait(void)
{
    char c = 0;

    if (write(ready[1], &c, 1) != 1 || read(go[0], &c, 1) != 1)
        exit(99);
}

static void *wait_only(void *ret_top)
{
    pthread_attr_t attr;
    void *low;
    size_t size;

    pthread_getattr_np(pthread_self(), &attr);
    pthread_attr_getstack(&attr, &low, &size);
    pthread_attr_destroy(&attr);
    *(char **)ret_top = (char *)low + size;
    say_and_wait();
    return NULL;
}

static int memory_beside_a_stack_is_moved_out(void)
{
    char *p = map_some(), *top, c = 0;
    pthread_t t;
    long kib = 0;

    madvise(p, BYTES, MADV_NOHUGEPAGE); /* as the kernel does with stacks */
    if (pthread_create(&t, NULL, wait_only, &top) || read(ready[0], &c, 1) != 1)
        return 99;
    for (int round = 0; round < ROUNDS; round++) {
        touch_all(p, 1);
        if ((kib = resident_kib()) < 32 << 10)
            break;
        poll(NULL, 0, 10);
    }
    printf("%ld KiB resident of memory %s a stack\n", kib, p == top ? "right above" : "not beside");
    if (write(go[1], &c, 1) != 1 || pthread_join(t, NULL))
        return 99;
    munmap(p, BYTES);
    return kib >= 32 << 10;
}

enum end { RETURNS, EXITS, CANCELLED };

static pthread_mutex_t *held[3];

static void *hold(void *how)
{
    for (int i = 0; i < 3; i++)
        if (pthread_mutex_lock(held[i]))
            exit(99);
    say_and_wait();
    if (how == (void *)EXITS)
        pthread_exit(NULL);
    while (how == (void *)CANCELLED)
        pause();
    return NULL;
}

static int is_present(const void *p)
{
    uint64_t entry = 0;
    FILE *f = fopen("/proc/self/pagemap", "re");

    if (!f || fseek(f, (long)((uintptr_t)p / PAGE * 8), SEEK_SET) || fread(&entry, 8, 1, f) != 1)
        exit(99);
    fclose(f);
    return (int)(entry >> 63);
}

static int a_robust_mutex_loses_its_owner(enum end how)
{
    char *p = map_some(), *more = map_some(), c = 0;
    pthread_mutexattr_t attr;
    pthread_t t;
    int failed = 0, present = 1;

    touch_all(p, 1);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    for (int i = 0; i < 3; i++) {
        held[i] = (pthread_mutex_t *)(void *)(p + (size_t)(i + 1) * (BYTES / 4));
        pthread_mutex_init(held[i], &attr);
    }
    if (pthread_create(&t, NULL, hold, (void *)how) || read(ready[0], &c, 1) != 1)
        return 99;
    for (int round = 0; present && round < ROUNDS; round++) {
        touch_all(more, 1);
        present = 0;
        for (int i = 0; i < 3; i++)
            present |= is_present(held[i]);
    }
    if (write(go[1], &c, 1) != 1 || (how == CANCELLED && pthread_cancel(t)) || pthread_join(t, NULL))
        return 99;
    for (int i = 0; i < 3; i++) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 3;
        int r = pthread_mutex_timedlock(held[i], &until);
        printf("end %d, mutex %d, moved out: %s; locked: %s\n", (int)how, i, present ? "no" : "yes",
               strerror(r));
        failed |= r != EOWNERDEAD;
    }
    munmap(p, BYTES);
    munmap(more, BYTES);
    return failed || present;
}

int main(void)
{
    if (pipe(go) || pipe(ready))
        return 99;
    return memory_beside_a_stack_is_moved_out() | a_robust_mutex_loses_its_owner(RETURNS) |
           a_robust_mutex_loses_its_owner(EXITS) | a_robust_mutex_loses_its_owner(CANCELLED);
}
