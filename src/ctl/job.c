/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job: pagerctl between its caller and the program.
 *
 * 1. The program starts with the signal mask, the dispositions and the
 *    descriptors that pagerctl was started with, and in the same process group.
 * 2. A signal sent to pagerctl is sent on.  One that the kernel sent to the
 *    terminal's process group (si_code > 0) is not: the program has it already.
 * 3. When the program stops, pagerctl stops by the same signal, so that a shell
 *    sees the job stop; SIGCONT goes on to the program.
 * 4. pagerctl ends as the program ended, by the same signal if by one.
 */
#define _GNU_SOURCE 1
#include "ctl/job.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

static const int sent_on[] = {
    SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH, SIGCONT, SIGTSTP,
};
/* Whose default pagerctl needs for itself, whatever it was started with. */
static const int needs_default[] = {SIGCHLD, SIGTSTP, SIGTTIN, SIGTTOU};

struct inherited {
    sigset_t mask;
    struct sigaction action[ARRAY_SIZE(needs_default)];
};

static void take_signals(struct inherited *saved, sigset_t *ret_wait)
{
    struct sigaction by_default = {.sa_handler = SIG_DFL};

    sigemptyset(ret_wait);
    sigaddset(ret_wait, SIGCHLD);
    for (size_t i = 0; i < ARRAY_SIZE(sent_on); i++)
        sigaddset(ret_wait, sent_on[i]);
    sigprocmask(SIG_BLOCK, ret_wait, &saved->mask);
    /* An ignored SIGCHLD would throw the program's status away. */
    for (size_t i = 0; i < ARRAY_SIZE(needs_default); i++)
        sigaction(needs_default[i], &by_default, &saved->action[i]);
}

static void give_signals_back(const struct inherited *saved)
{
    for (size_t i = 0; i < ARRAY_SIZE(needs_default); i++)
        sigaction(needs_default[i], &saved->action[i], NULL);
    sigprocmask(SIG_SETMASK, &saved->mask, NULL);
}

/* Forks and executes; -errno of the exec, told through a pipe that a good one closes. */
static int start(char *const argv[], const struct inherited *saved, pid_t *ret_pid)
{
    int pipe_fd[2], err = 0;
    ssize_t n;
    pid_t pid;

    if (pipe2(pipe_fd, O_CLOEXEC) < 0)
        return -errno;
    pid = fork();
    if (pid == 0) {
        give_signals_back(saved);
        execvp(argv[0], argv);
        err = errno;
        /* Without a word from here the parent takes it for a success and sees status 126. */
        n = write(pipe_fd[1], &err, sizeof(err));
        _exit(n == sizeof(err) ? 0 : CTL_RUN_CANNOT);
    }
    if (pid < 0)
        err = errno;
    close(pipe_fd[1]);
    if (pid > 0) {
        do
            n = read(pipe_fd[0], &err, sizeof(err));
        while (n < 0 && errno == EINTR);
        if (n == sizeof(err))
            (void)waitpid(pid, NULL, 0);
        else
            err = 0;
    }
    close(pipe_fd[0]);
    *ret_pid = pid;
    return -err;
}

static void stop_alike(int sig)
{
    sigset_t one, before;

    sigemptyset(&one);
    sigaddset(&one, sig);
    raise(sig);
    /* Blocked ones stop us here, until SIGCONT. */
    sigprocmask(SIG_UNBLOCK, &one, &before);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

/* Has it ended?  Follows its stops on the way. */
static bool look_after(struct job *job)
{
    siginfo_t info = {0};

    while (!waitid(P_PID, (id_t)job->pid, &info, WEXITED | WSTOPPED | WNOHANG) && info.si_pid) {
        if (info.si_code == CLD_STOPPED || info.si_code == CLD_TRAPPED) {
            stop_alike(info.si_status);
            info.si_pid = 0;
            continue;
        }
        job->signalled = info.si_code != CLD_EXITED;
        job->code = info.si_status;
        return true;
    }
    return false;
}

int job_run(char *const argv[], struct job *ret)
{
    struct job job = {0};
    struct inherited saved;
    sigset_t wait_for;
    int err;

    take_signals(&saved, &wait_for);
    err = start(argv, &saved, &job.pid);
    if (err) {
        give_signals_back(&saved);
        return err;
    }
    while (!look_after(&job)) {
        siginfo_t info;
        int sig = sigwaitinfo(&wait_for, &info);

        if (sig > 0 && sig != SIGCHLD && info.si_code <= 0)
            (void)kill(job.pid, sig);
    }
    *ret = job;
    return 0;
}

_Noreturn void job_end_alike(const struct job *job)
{
    if (job->signalled) {
        struct sigaction by_default = {.sa_handler = SIG_DFL};
        struct rlimit no_core = {0};
        sigset_t one;

        /* The program's core is the one to look at. */
        (void)setrlimit(RLIMIT_CORE, &no_core);
        sigaction(job->code, &by_default, NULL);
        raise(job->code);
        sigemptyset(&one);
        sigaddset(&one, job->code);
        sigprocmask(SIG_UNBLOCK, &one, NULL);
        exit(128 + job->code);
    }
    exit(job->code);
}
