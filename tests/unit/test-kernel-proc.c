/* SPDX-License-Identifier: Apache-2.0 */
/* Processes: parents, ends, resident bytes, and who shares memory with whom. */
#define _GNU_SOURCE
#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kernel/kernel.h"

static const struct {
    const char *text;
    int ppid;
} stats[] = {
    {"12 (sh) S 7 12 12 0 -1", 7}, {"12 (a b) S 7 12 12", 7},    {"12 (a) R 99 (b) S 7 12 12", 7},
    {"12 ()) Z 0 1 1", 0},         {"12 (\n) S 1 2) S 7 12", 7}, {"", -EPROTO},
    {"12 (sh", -EPROTO},           {"12 (sh)", -EPROTO},         {"12 (sh) S", -EPROTO},
    {"12 (sh) S x", -EPROTO},
};

START_TEST(the_parent_is_found_behind_any_name)
{
    ck_assert_int_eq(kproc_parse_ppid(stats[_i].text), stats[_i].ppid);
}
END_TEST

START_TEST(threads_are_counted)
{
    ck_assert_int_eq(
        kproc_parse_threads("12 (a) 1 (b) S 7 12 12 0 -1 4194304 148 0 0 0 1 2 0 0 20 0 "
                            "3 0 6151 8552448 456 18446744073709551615"),
        3);
    ck_assert_int_eq(kproc_parse_threads("12 (sh) S 7 12 12 0 -1 4194304 148 0 0 0 1 2 0 0 20 0"),
                     -EPROTO);
    ck_assert_int_eq(kproc_parse_threads("12 (sh"), -EPROTO);
    ck_assert_int_ge(kproc_nr_threads(getpid()), 1);
}
END_TEST

/* A child that lives until the returned descriptor is closed. */
static pid_t start_child(int *ret_keep)
{
    int ends[2];
    char byte;

    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        close(ends[1]);
        (void)!read(ends[0], &byte, 1);
        _exit(0);
    }
    close(ends[0]);
    *ret_keep = ends[1];
    return child;
}

START_TEST(our_child_has_us_for_a_parent)
{
    int keep;
    pid_t child = start_child(&keep);

    ck_assert_int_eq(kproc_ppid(getpid()), getppid());
    ck_assert_int_eq(kproc_ppid(child), getpid());
    close(keep);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_int_lt(kproc_ppid(child), 0);
}
END_TEST

START_TEST(the_state_tells_who_is_stopped)
{
    int keep, status;
    pid_t child = start_child(&keep);

    ck_assert_int_eq(kproc_state(getpid()), 'R');
    ck_assert_int_eq(kill(child, SIGSTOP), 0);
    ck_assert_int_eq(waitpid(child, &status, WUNTRACED), child);
    ck_assert_int_eq(kproc_state(child), 'T');
    ck_assert_int_eq(kill(child, SIGCONT), 0);
    close(keep);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_int_lt(kproc_state(child), 0);
}
END_TEST

START_TEST(a_pidfd_tells_the_end)
{
    int keep;
    pid_t child = start_child(&keep);
    _cleanup_close_ int fd = kproc_pidfd(child);
    struct pollfd p = {.fd = fd, .events = POLLIN};

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(kproc_pidfd_ended(fd), 0);
    close(keep);
    ck_assert_int_eq(poll(&p, 1, 10000), 1);
    ck_assert_int_eq(kproc_pidfd_ended(fd), 1); /* a zombie has ended */
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_int_eq(kproc_pidfd_ended(fd), 1);
    ck_assert_int_eq(kproc_pidfd(child), -ESRCH);
}
END_TEST

START_TEST(anonymous_bytes_follow_what_is_touched)
{
    const size_t bytes = (size_t)32 << 20, slack = (size_t)4 << 20;
    _cleanup_close_ int statm = kproc_open(getpid(), "statm");
    uint64_t before, with, after;

    ck_assert_int_ge(statm, 0);
    ck_assert_int_eq(kproc_anon_bytes(statm, &before), 0);
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(p, MAP_FAILED);
    memset(p, 1, bytes);
    ck_assert_int_eq(kproc_anon_bytes(statm, &with), 0);
    munmap(p, bytes);
    ck_assert_int_eq(kproc_anon_bytes(statm, &after), 0);
    ck_assert_uint_ge(with, before + bytes - slack);
    ck_assert_uint_le(with, before + bytes + slack);
    ck_assert_uint_le(after, before + slack);
}
END_TEST

START_TEST(what_two_processes_share_counts_half_for_each)
{
    const size_t bytes = (size_t)32 << 20, slack = (size_t)4 << 20;
    uint64_t alone, shared;
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int keep;

    ck_assert_ptr_ne(p, MAP_FAILED);
    memset(p, 1, bytes);
    ck_assert_int_eq(kproc_anon_share(getpid(), &alone), 0);
    pid_t child = start_child(&keep);
    ck_assert_int_eq(kproc_anon_share(getpid(), &shared), 0);
    ck_assert_uint_ge(alone, bytes);
    ck_assert_uint_le(shared, alone - bytes / 2 + slack);
    ck_assert_uint_ge(shared, alone - bytes / 2 - slack);
    close(keep);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_int_lt(kproc_anon_share(child, &shared), 0);
    munmap(p, bytes);
}
END_TEST

START_TEST(a_zombie_has_no_bytes_and_nobody_is_an_error)
{
    int keep;
    pid_t child = start_child(&keep);
    _cleanup_close_ int statm = kproc_open(child, "statm");
    uint64_t bytes = 1;
    siginfo_t info;

    ck_assert_int_eq(kproc_anon_bytes(statm, &bytes), 0);
    ck_assert_uint_gt(bytes, 0);
    close(keep);
    ck_assert_int_eq(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    ck_assert_int_eq(kproc_anon_bytes(statm, &bytes), 0);
    ck_assert_uint_eq(bytes, 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_int_eq(kproc_anon_bytes(statm, &bytes), -ESRCH);
    ck_assert_int_eq(kproc_open(child, "statm"), -ENOENT);
}
END_TEST

/* ---- who shares memory ---- */

static void *tell_tid(void *arg)
{
    int *ends = arg;
    pid_t tid = gettid();
    char byte;

    (void)!write(ends[0], &tid, sizeof(tid));
    (void)!read(ends[1], &byte, 1);
    return NULL;
}

START_TEST(threads_share_and_forked_children_do_not)
{
    int tell[2], hold[2], keep;
    pthread_t thread;
    pid_t tid, child;

    ck_assert_int_eq(pipe(tell), 0);
    ck_assert_int_eq(pipe(hold), 0);
    int ends[2] = {tell[1], hold[0]};
    ck_assert_int_eq(pthread_create(&thread, NULL, tell_tid, ends), 0);
    ck_assert_int_eq(read(tell[0], &tid, sizeof(tid)), sizeof(tid));
    ck_assert_int_eq(kproc_same_mm(getpid(), tid), 1);
    ck_assert_int_eq(kproc_same_mm(getpid(), getpid()), 1);

    child = start_child(&keep);
    ck_assert_int_eq(kproc_same_mm(getpid(), child), 0);
    ck_assert_int_eq(kproc_any_thread_shares(getpid(), child), 0);
    close(keep);
    close(hold[1]);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_int_eq(kproc_same_mm(getpid(), child), -ESRCH);
}
END_TEST

START_TEST(two_zombies_do_not_share)
{
    pid_t child[2];
    siginfo_t info;

    for (int i = 0; i < 2; i++) {
        child[i] = fork();
        if (child[i] == 0)
            _exit(0);
        ck_assert_int_eq(waitid(P_PID, (id_t)child[i], &info, WEXITED | WNOWAIT), 0);
    }
    ck_assert_int_eq(kproc_same_mm(child[0], child[1]), 0);
    /* Nor does the question have an answer. */
    ck_assert_int_eq(kproc_any_thread_shares(child[0], child[1]), -ESRCH);
}
END_TEST

/*
 * An agent as pagerd has it: another process in the same memory, without libc.
 * It ends when its descriptor's other end is closed.
 */
__attribute__((no_sanitize("address", "undefined"))) static int agent_main(void *arg)
{
    char byte;

    (void)!read(*(int *)arg, &byte, 1);
    return 0;
}

static char agent_stack[65536] __attribute__((aligned(16)));
static int agent_fd;

static pid_t start_agent(int *ret_keep)
{
    int ends[2];

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    agent_fd = ends[0];
    *ret_keep = ends[1];
    /* Without CLONE_FILES it holds a copy of the writing end, so it is killed in the end. */
    pid_t pid = clone(agent_main, agent_stack + sizeof(agent_stack), CLONE_VM | SIGCHLD, &agent_fd);
    ck_assert_int_gt(pid, 0);
    return pid;
}

START_TEST(an_agent_shares_with_its_program_until_it_ends)
{
    int keep;
    siginfo_t info;
    pid_t agent = start_agent(&keep);

    ck_assert_int_eq(kproc_any_thread_shares(getpid(), agent), 1);
    ck_assert_int_eq(kproc_same_mm(agent, getpid()), 1);
    kill(agent, SIGKILL);
    ck_assert_int_eq(waitid(P_PID, (id_t)agent, &info, WEXITED | WNOWAIT), 0);
    ck_assert_int_eq(kproc_any_thread_shares(getpid(), agent), -ESRCH);
    ck_assert_int_eq(waitpid(agent, NULL, 0), agent);
    ck_assert_int_eq(kproc_any_thread_shares(getpid(), agent), -ESRCH);
    close(keep);
}
END_TEST

static int report_fd, finish_fd;

static void *outlive_the_leader(void *arg)
{
    char byte;

    (void)arg;
    (void)!read(finish_fd, &byte, 1);
    _exit(0);
}

/* A program whose main thread has called pthread_exit: its leader is a zombie. */
static void leaderless_program(void)
{
    pthread_t thread;
    int keep;
    pid_t agent = start_agent(&keep);

    if (pthread_create(&thread, NULL, outlive_the_leader, NULL))
        _exit(1);
    (void)!write(report_fd, &agent, sizeof(agent));
    pthread_exit(NULL);
}

static bool is_zombie(pid_t pid)
{
    _cleanup_close_ int fd = kproc_open(pid, "stat");
    char text[256] = "";

    ck_assert_int_ge(fd, 0);
    ck_assert_int_gt(read(fd, text, sizeof(text) - 1), 0);
    return strstr(text, ") Z ") != NULL;
}

START_TEST(a_zombie_leader_does_not_decide)
{
    int report[2], finish[2];
    siginfo_t info;
    pid_t agent;

    /* The agent outlives its parent and comes to us. */
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    ck_assert_int_eq(pipe2(report, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(finish, O_CLOEXEC), 0);
    pid_t program = fork();
    if (program == 0) {
        close(finish[1]);
        report_fd = report[1];
        finish_fd = finish[0];
        leaderless_program();
    }
    ck_assert_int_eq(read(report[0], &agent, sizeof(agent)), sizeof(agent));
    for (int i = 0; i < 10000 && !is_zombie(program); i++)
        poll(NULL, 0, 1);
    ck_assert(is_zombie(program));

    ck_assert_int_eq(kproc_same_mm(program, agent), 0);
    ck_assert_int_eq(kproc_any_thread_shares(program, agent), 1);
    close(finish[1]);
    ck_assert_int_eq(waitid(P_PID, (id_t)program, &info, WEXITED | WNOWAIT), 0);
    ck_assert_int_eq(kproc_any_thread_shares(program, agent), 0);
    ck_assert_int_eq(waitpid(program, NULL, 0), program);
    ck_assert_int_eq(kproc_any_thread_shares(program, agent), 0);
    kill(agent, SIGKILL);
    ck_assert_int_eq(waitpid(agent, NULL, 0), agent);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kernel-proc");
    TCase *tc = tcase_create("all");

    tcase_add_loop_test(tc, the_parent_is_found_behind_any_name, 0, ARRAY_SIZE(stats));
    tcase_add_test(tc, threads_are_counted);
    tcase_add_test(tc, our_child_has_us_for_a_parent);
    tcase_add_test(tc, the_state_tells_who_is_stopped);
    tcase_add_test(tc, a_pidfd_tells_the_end);
    tcase_add_test(tc, anonymous_bytes_follow_what_is_touched);
    tcase_add_test(tc, what_two_processes_share_counts_half_for_each);
    tcase_add_test(tc, a_zombie_has_no_bytes_and_nobody_is_an_error);
    tcase_add_test(tc, threads_share_and_forked_children_do_not);
    tcase_add_test(tc, two_zombies_do_not_share);
    tcase_add_test(tc, an_agent_shares_with_its_program_until_it_ends);
    tcase_add_test(tc, a_zombie_leader_does_not_decide);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
