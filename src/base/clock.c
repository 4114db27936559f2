/* SPDX-License-Identifier: Apache-2.0 */
/* The monotonic clock. */
#include <time.h>

#include "base/base.h"

uint64_t now_ns(void)
{
    struct timespec ts;

    /* Fails only for an unknown clock. */
    BUG_ON(clock_gettime(CLOCK_MONOTONIC, &ts) < 0);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
