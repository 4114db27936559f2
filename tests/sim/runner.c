/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes, and what they leave behind when they end early. */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "runner.h"

/* A core that loops for ever fails too; a schedule takes some milliseconds. */
#define SCHEDULE_SECONDS 30

int run_init(struct run *r)
{
    r->log_fd = memfd_create("sim-log", MFD_CLOEXEC);
    return r->log_fd < 0 ? -errno : 0;
}

static void child_setup(struct run *r)
{
    const struct rlimit no_core = {0, 0};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setrlimit(RLIMIT_CORE, &no_core);
    log_init("", LOG_LEVEL_ERROR, r->log_fd);
}

int run_start(struct run *r, uint64_t first, uint64_t end, uint64_t stride)
{
    memset(&r->report, 0, sizeof(r->report));
    r->stop = false;
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        struct arena *a = arena_new();
        static struct step steps[MAX_STEPS];
        child_setup(r);
        for (uint64_t seed = first; seed < end && !*(volatile bool *)&r->stop; seed += stride) {
            if (ftruncate(r->log_fd, 0) == 0)
                lseek(r->log_fd, 0, SEEK_SET);
            alarm(SCHEDULE_SECONDS);
            uint32_t nr = schedule_steps(seed, steps);
            schedule_run(a, seed, steps, nr, false, &r->report);
        }
        _exit(0);
    }
    r->pid = pid; /* only here: the child shares *r */
    return 0;
}

/* The last line that a child logged before it ended by a signal. */
static void last_words(struct run *r, int status)
{
    struct sim_report *rep = &r->report;
    char text[1024];
    off_t size = lseek(r->log_fd, 0, SEEK_END);
    off_t from = size > (off_t)sizeof(text) - 1 ? size - (off_t)sizeof(text) + 1 : 0;
    ssize_t n = pread(r->log_fd, text, sizeof(text) - 1, from);

    rep->failed = true;
    snprintf(rep->kind, sizeof(rep->kind), "%s",
             !WIFSIGNALED(status)          ? "crash"
             : WTERMSIG(status) == SIGABRT ? "BUG"
             : WTERMSIG(status) == SIGALRM ? "hang"
                                           : "crash");
    text[n > 0 ? n : 0] = '\0';
    if (n > 0 && text[n - 1] == '\n')
        text[n - 1] = '\0';
    char *line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    snprintf(rep->what, sizeof(rep->what), "%.200s (status %#x)", line, (unsigned)status);
}

static bool ended_well(struct run *r, int status)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (!r->report.failed)
        last_words(r, status);
    return false;
}

bool run_wait(struct run *r)
{
    int status = 0;

    while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
        ;
    return ended_well(r, status);
}

bool run_wait_all(struct run *r, unsigned nr, struct sim_report *ret_failure)
{
    bool ok = true;

    for (unsigned left = nr; left; left--) {
        int status = 0;
        pid_t pid;
        while ((pid = wait(&status)) < 0 && errno == EINTR)
            ;
        for (unsigned i = 0; i < nr; i++) {
            if (r[i].pid != pid || ended_well(&r[i], status))
                continue;
            if (ok)
                *ret_failure = r[i].report;
            ok = false;
            for (unsigned k = 0; k < nr; k++)
                r[k].stop = true;
        }
    }
    return ok;
}

/* A BUG ends the process from within the core: not without the trace so far. */
static void print_before_abort(int sig)
{
    (void)sig; /* abort() ends the process when this returns */
    sim_trace_end();
}

bool run_one(struct run *r, uint64_t seed, const struct step *steps, uint32_t nr, bool tracing)
{
    memset(&r->report, 0, sizeof(r->report));
    if (ftruncate(r->log_fd, 0) == 0)
        lseek(r->log_fd, 0, SEEK_SET);
    fflush(stdout);
    pid_t pid = fork();
    BUG_ON(pid < 0);
    if (pid == 0) {
        child_setup(r);
        alarm(SCHEDULE_SECONDS);
        if (tracing)
            signal(SIGABRT, print_before_abort);
        schedule_run(arena_new(), seed, steps, nr, tracing, &r->report);
        fflush(stdout);
        _exit(0);
    }
    r->pid = pid;
    return run_wait(r);
}
