/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_TESTS_FAKE_PROGRAM_H
#define PAGERD_TESTS_FAKE_PROGRAM_H
/*
 * A test that is the fake daemon, and runs itself under the shim as the program whose
 * pages are taken (with "program" as argument).  The two speak through the program's
 * standard input and output, a word a line.
 */
#include <stdio.h>

#include "fake_daemon.h"

struct fake_program {
    struct fake_client c;
    FILE *to, *from;
    pid_t pid;
};

/*
 * The listener at a path of this test's own; ends the test with status 77 where userfaultfd is not
 * permitted.
 */
int fake_program_listen(const char *name, char path[64]);
/* Attached and ready. */
void fake_program_start(struct fake_program *p, int listener, const char *socket_path, char *self);
/* "WORD:N" to the program. */
void fake_ask(struct fake_program *p, const char *word, unsigned n);
/* The next word of the program, or the test fails. */
void fake_expect(struct fake_program *p, const char *answer);
/* "end" to the program, which then has to end well.  The agent is not waited for. */
void fake_program_end(struct fake_program *p);

#endif
