/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_TESTS_INVISIBLE_H
#define PAGERD_TESTS_INVISIBLE_H
/* What a program can observe of itself; see invisible.c. */
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct observation {
    const char *name;
    int (*run)(void); /* prints what it sees; returns the exit status */
};

/* invisible_life.c */
extern const struct observation life_observations[];
int life_inner(int argc, char **argv); /* programs that observations start; -1: not one of them */

/* invisible_calls.c */
extern const struct observation call_observations[];

_Noreturn void die(const char *what);
#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            die(#x);                                                                               \
    } while (0)

/* Starts this program again, with `word` and at most one more as arguments. */
pid_t start_self(const char *word, const char *more);
_Noreturn void exec_self(const char *word, const char *more);
const char *describe_status(int status);

/* Memory with a content that check_memory() knows; more than any limit in these tests. */
#define MEMORY_BYTES ((size_t)96 << 20)
unsigned char *make_memory(size_t bytes);
bool check_memory(const unsigned char *p, size_t bytes);

/* Waits until fn(arg) says true, at most `ms`; false: it never did. */
bool until(int ms, bool (*fn)(void *arg), void *arg);

/* Pid of the agent of `program`, 0 when it has none (zombies are none). */
pid_t agent_of(pid_t program);
/* Children of `program` in state Z. */
unsigned zombies_of(pid_t program);

#endif
