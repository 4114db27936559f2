/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "settings.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static uint64_t parse(const char *program, const char *text, uint64_t min, uint64_t max)
{
    char *end;

    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno || end == text || *end || n < min || n > max) {
        fprintf(stderr, "%s: '%s' is no number from %llu to %llu\n", program, text,
                (unsigned long long)min, (unsigned long long)max);
        exit(2);
    }
    return n;
}

void settings_parse(const char *program, uint64_t min_mib, int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'}, {"threads", required_argument, NULL, 't'},
        {"mib", required_argument, NULL, 'm'},  {"seconds", required_argument, NULL, 'd'},
        {"no-forks", no_argument, NULL, 'n'},   {"raw-clones", no_argument, NULL, 'r'},
        {"no-pins", no_argument, NULL, 'p'},    {0},
    };

    settings.seed = (uint64_t)now_ns() % 1000000007;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 's':
            settings.seed = parse(program, optarg, 0, UINT64_MAX);
            break;
        case 't':
            settings.nr_threads = (uint32_t)parse(program, optarg, 1, MAX_THREADS);
            break;
        case 'm':
            settings.bytes = (size_t)parse(program, optarg, min_mib, 4096) * MIB;
            break;
        case 'd':
            settings.seconds = (int64_t)parse(program, optarg, 1, 36000);
            break;
        case 'n':
            settings.forks = false;
            break;
        case 'r':
            settings.raw_clones = true;
            break;
        case 'p':
            settings.pins = false;
            break;
        default:
            exit(2);
        }
    }
    printf("%s: seed %llu\n", program, (unsigned long long)settings.seed);
    fflush(stdout);
}

void settings_start_watchdog(unsigned grace_seconds, void (*hangs)(int))
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec when = {.it_value.tv_sec = settings.seconds + grace_seconds};
    timer_t timer;

    signal(SIGUSR1, hangs);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0)
        timer_settime(timer, 0, &when, NULL);
    alarm((unsigned)settings.seconds + grace_seconds + 5);
}
