/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps in words.  Pages in a row to which the same happens make one line.
 * Settling can go round and round: of it the beginning is printed and, when it
 * fails, the end.
 */
#include <string.h>

#include "sim.h"

#define SETTLING_LINES 200
#define TAIL_LINES 60
#define LINE_BYTES 256

/* The line that may still get longer. */
static struct {
    char before[96], after[96];
    uint32_t step, first, last;
    int depth;
    bool settling;
} held;

static uint32_t nr_settling;
static char tail[TAIL_LINES][LINE_BYTES];

static void put(bool settling, const char *line)
{
    if (settling && ++nr_settling > SETTLING_LINES)
        snprintf(tail[nr_settling % TAIL_LINES], LINE_BYTES, "%s", line);
    else
        puts(line);
}

static void put_held(void)
{
    char line[LINE_BYTES], to[16] = "";

    if (!held.before[0])
        return;
    if (held.last != held.first)
        snprintf(to, sizeof(to), "..%u", held.last);
    snprintf(line, sizeof(line), "%5u%*s%s %u%s%s", held.step, 2 + 2 * held.depth, "", held.before,
             held.first, to, held.after);
    held.before[0] = '\0';
    put(held.settling, line);
}

void sim_trace(struct sim *s, const char *fmt, ...)
{
    char line[LINE_BYTES];
    va_list ap;
    int n;

    put_held();
    n = snprintf(line, sizeof(line), "%5u%*s", s->step, 2 + 2 * s->depth, "");
    va_start(ap, fmt);
    vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap);
    va_end(ap);
    put(s->settling, line);
}

void sim_trace_page(struct sim *s, uint32_t page, const char *after, const char *fmt, ...)
{
    char before[sizeof(held.before)];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(before, sizeof(before), fmt, ap);
    va_end(ap);
    if (!strcmp(before, held.before) && !strcmp(after, held.after) && page == held.last + 1 &&
        held.depth == s->depth) {
        held.last = page;
        return;
    }
    put_held();
    snprintf(held.before, sizeof(held.before), "%s", before);
    snprintf(held.after, sizeof(held.after), "%s", after);
    held.step = s->step;
    held.depth = s->depth;
    held.settling = s->settling;
    held.first = held.last = page;
}

void sim_trace_end(void)
{
    put_held();
    if (nr_settling > SETTLING_LINES + TAIL_LINES)
        printf("      (%u lines left out)\n", nr_settling - SETTLING_LINES - TAIL_LINES);
    for (uint32_t i = 1; i <= TAIL_LINES && nr_settling > SETTLING_LINES; i++)
        if (tail[(nr_settling + i) % TAIL_LINES][0])
            puts(tail[(nr_settling + i) % TAIL_LINES]);
    nr_settling = 0;
    fflush(stdout);
}
