/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_TESTS_SETTINGS_H
#define PAGERD_TESTS_SETTINGS_H
/* What churn and torture are told by their options, and the end of one that hangs. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MIB ((size_t)1 << 20)
#define MAX_THREADS 8u

struct settings {
    uint64_t seed; /* when it is not given: another one each time */
    uint32_t nr_threads;
    size_t bytes;
    int64_t seconds;
    bool forks;
    bool raw_clones; /* some children by an instruction of our own (raw_clone.h) */
    bool pins;
};
extern struct settings settings; /* the program's own are there before */

int64_t now_ns(void);
/* By --seed=N, --threads=N, --mib=N, --seconds=N, --no-forks, --raw-clones, --no-pins. */
void settings_parse(const char *program, uint64_t min_mib, int argc, char **argv);
/* settings.seconds and a grace later `hangs` is called; 5 s after it the alarm ends us. */
void settings_start_watchdog(unsigned grace_seconds, void (*hangs)(int));

#endif
