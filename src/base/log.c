/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: one line, one write(2), so that lines of the keeper, the workers
 * and the programs on the same terminal do not mix.  No locks, no allocation:
 * usable from any thread and between fork and exec.
 *
 * Nobody waits for who reads it: programs wait for the daemon.  A pipe that is full, or a terminal
 * that was stopped (Ctrl-S), loses lines, and is told how many.
 */
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

#define LINE_BYTES 1024
#define RATELIMIT_BURST 5
#define RATELIMIT_WINDOW_NS ((uint64_t)5 * 1000000000)

enum log_level log_max_level = LOG_LEVEL_WARNING;
static char log_ident[32];
static int log_fd = STDERR_FILENO;
static _Atomic unsigned nr_lost;

static const char *const names[] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARNING] = "warning",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};

void log_init(const char *ident, enum log_level level, int fd)
{
    snprintf(log_ident, sizeof(log_ident), "%s", ident);
    log_max_level = level;
    log_fd = fd;
}

int log_level_by_name(const char *name, enum log_level *ret)
{
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (!strcmp(name, names[i])) {
            *ret = (enum log_level)i;
            return 0;
        }
    return -EINVAL;
}

static bool can_be_written(void)
{
    struct pollfd p = {.fd = log_fd, .events = POLLOUT};

    return poll(&p, 1, 0) != 0; /* of an error write(2) makes what it makes */
}

void log_write(enum log_level level, const char *fmt, ...)
{
    int saved = errno;
    char line[LINE_BYTES];
    size_t len = 0;
    va_list ap;
    int n;

    if (!can_be_written()) {
        atomic_fetch_add_explicit(&nr_lost, 1, memory_order_relaxed);
        errno = saved;
        return;
    }
    unsigned lost = atomic_exchange_explicit(&nr_lost, 0, memory_order_relaxed);
    if (log_ident[0])
        len = (size_t)snprintf(line, sizeof(line), "%s[%d]: ", log_ident, (int)getpid());
    len += (size_t)snprintf(line + len, sizeof(line) - len, "%s: ", names[level]);
    if (lost)
        len += (size_t)snprintf(line + len, sizeof(line) - len, "(lines lost: %u) ", lost);

    errno = saved; /* for %m */
    va_start(ap, fmt);
    n = vsnprintf(line + len, sizeof(line) - len, fmt, ap);
    va_end(ap);
    if (n > 0)
        len += (size_t)n;
    if (len > sizeof(line) - 1) {
        len = sizeof(line) - 1;
        memcpy(line + len - 3, "...", 3);
    }

    /* A name chosen by a client must not look like a line of ours, nor move the cursor. */
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[len++] = '\n';

    /* Nobody to tell when the log itself cannot be written. */
    while (write(log_fd, line, len) < 0 && errno == EINTR)
        ;
    errno = saved;
}

bool log_ratelimit(struct log_ratelimit *rl)
{
    uint64_t now = now_ns();

    if (!rl->nr || now - rl->window_ns > RATELIMIT_WINDOW_NS) {
        rl->window_ns = now;
        rl->nr = 0;
    }
    if (rl->nr >= RATELIMIT_BURST)
        return false;
    rl->nr++;
    return true;
}
