/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_CTL_JOB_H
#define PAGERD_CTL_JOB_H
/*
 * job: a program started, waited for and stood in for: whoever signals,
 * suspends or waits for pagerctl means the program.
 */
#include <sys/types.h>

#include "ctl/ctl.h"

struct job {
    pid_t pid;
    bool signalled;
    int code; /* exit status, or the signal it died by */
};

/*
 * Starts argv as execvp(3) does, in this process's environment, and waits for
 * its end.  -errno of the exec when it could not be started.
 */
MUST_CHECK int job_run(char *const argv[], struct job *ret);

/* Ends this process as the program ended. */
_Noreturn void job_end_alike(const struct job *job);

#endif
