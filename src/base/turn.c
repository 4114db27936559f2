/* SPDX-License-Identifier: Apache-2.0 */
/* Turns of an event loop that took too long. */
#define _GNU_SOURCE
#include <time.h>

#include "base/base.h"

#define SLOW_NS 1000000000u
#define SAMPLE_NS 50000000u /* reading the processor time costs a system call */

static uint64_t thread_cpu_ns(void)
{
    struct timespec ts;

    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts) < 0)
        return 0;
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void turn_begin(struct turn *t, uint64_t due_ns)
{
    uint64_t now = now_ns();

    t->began_ns = MIN(now, MAX(due_ns, t->ended_ns));
    if (now - t->sampled_ns >= SAMPLE_NS) {
        t->sampled_ns = now;
        t->cpu_ns = thread_cpu_ns();
    }
}

void turn_end(struct turn *t)
{
    t->ended_ns = now_ns();
    uint64_t took_ns = t->ended_ns - t->began_ns;

    if (!t->began_ns || took_ns < SLOW_NS || !log_ratelimit(&t->often))
        return;
    log_warning("a turn took %.1f s, about %.1f s of it on a processor, and nobody had an answer "
                "meanwhile: is the machine overloaded, or was it paused?",
                (double)took_ns / 1e9, (double)(thread_cpu_ns() - t->cpu_ns) / 1e9);
}
