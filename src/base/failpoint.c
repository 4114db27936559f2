/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fail points: named places where a test asks for the error path.
 *
 *   PAGERD_FAILPOINTS=probe-move            each time
 *   PAGERD_FAILPOINTS=kuffd-copy=3,x        the third hit of the first; each x
 *
 * The environment is read once, at the first failpoint() of the process.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>

#include "base/base.h"

#define MAX_POINTS 32
#define NAME_BYTES 48

struct point {
    char name[NAME_BYTES];
    uint64_t nth; /* 0: every hit */
    uint64_t hits;
};

enum { NONE_SET = 0, ENVIRONMENT_UNREAD = 1, SOME_SET = 2 };

_Atomic int failpoints_state = ENVIRONMENT_UNREAD;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct point points[MAX_POINTS];
static unsigned nr_points;

static void add_point(const char *text, size_t len)
{
    const char *eq = memchr(text, '=', len);
    size_t name_len = eq ? (size_t)(eq - text) : len;
    struct point p = {0};

    if (!name_len)
        return;
    if (name_len >= NAME_BYTES || nr_points == MAX_POINTS) {
        log_error("fail point list too long at '%.*s'", (int)len, text);
        return;
    }
    memcpy(p.name, text, name_len);
    if (eq)
        p.nth = strtoull(eq + 1, NULL, 10);
    points[nr_points++] = p;
}

static void load(const char *spec)
{
    nr_points = 0;
    while (spec && *spec) {
        size_t len = strcspn(spec, ",");

        add_point(spec, len);
        spec += len + (spec[len] == ',');
    }
    failpoints_state = nr_points ? SOME_SET : NONE_SET;
}

void failpoint_set(const char *spec)
{
    pthread_mutex_lock(&lock);
    load(spec);
    pthread_mutex_unlock(&lock);
}

bool failpoint_hit(const char *name)
{
    bool hit = false;

    pthread_mutex_lock(&lock);
    if (failpoints_state == ENVIRONMENT_UNREAD)
        load(secure_getenv("PAGERD_FAILPOINTS"));
    for (unsigned i = 0; i < nr_points && !hit; i++) {
        struct point *p = &points[i];

        if (strcmp(p->name, name))
            continue;
        p->hits++;
        hit = !p->nth || p->hits == p->nth;
    }
    pthread_mutex_unlock(&lock);
    return hit;
}
