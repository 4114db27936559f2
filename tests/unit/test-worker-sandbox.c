/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker that was taken over cannot do, by a system call or through the reactor's ring,
 * which no seccomp filter sees into.
 */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "worker/reactor.c"

static struct reactor *r;

static void open_reactor(void)
{
    char why[256];

    if (worker_probe(why, sizeof(why)) < 0) {
        printf("skipped: %s\n", why);
        exit(77);
    }
    r = reactor_new();
    ck_assert_ptr_nonnull(r);
}

static int result_of(struct io_uring_sqe *sqe)
{
    struct io_uring_cqe *cqe;

    io_uring_sqe_set_data(sqe, NULL);
    ck_assert_int_eq(io_uring_submit_and_wait(&r->ring, 1), 1);
    ck_assert_int_eq(io_uring_peek_cqe(&r->ring, &cqe), 0);
    int res = cqe->res;
    io_uring_cqe_seen(&r->ring, cqe);
    return res;
}

START_TEST(the_ring_refuses_what_the_reactor_does_not_ask_of_it)
{
    struct io_uring_sqe *sqe = next_sqe(r);
    io_uring_prep_openat(sqe, AT_FDCWD, "/dev/null", O_WRONLY, 0);
    ck_assert_int_eq(result_of(sqe), -EACCES);

    sqe = next_sqe(r);
    io_uring_prep_rw(IORING_OP_SOCKET, sqe, AF_UNIX, NULL, 0, SOCK_STREAM);
    ck_assert_int_eq(result_of(sqe), -EACCES);

    sqe = next_sqe(r);
    io_uring_prep_unlinkat(sqe, AT_FDCWD, "/nonexistent", 0);
    ck_assert_int_eq(result_of(sqe), -EACCES);

    sqe = next_sqe(r);
    io_uring_prep_readv(sqe, 0, NULL, 0, 0);
    sqe->flags |= IOSQE_ASYNC;
    ck_assert_int_eq(result_of(sqe), -EACCES);
}
END_TEST

START_TEST(the_ring_can_be_given_nothing_more)
{
    int fd = 0;

    ck_assert_int_eq(ring_register(&r->ring, IORING_REGISTER_FILES, &fd, 1), -1);
    ck_assert_int_eq(errno, EACCES);
    ck_assert_int_eq(ring_register(&r->ring, IORING_REGISTER_RESTRICTIONS, NULL, 0), -1);
}
END_TEST

struct read_one {
    struct reactor_io io;
    int res;
};

static void read_done(struct reactor_io *io, int res)
{
    container_of(io, struct read_one, io)->res = res;
}

START_TEST(the_ring_does_what_the_reactor_asks_of_it)
{
    struct read_one one = {.io.done = read_done, .res = 1};
    char byte = 1;
    struct iovec iov = {&byte, 1};
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    reactor_submit_vec(r, &one.io, false, fd, &iov, 1, 0);
    while (byte)
        ck_assert_int_eq(reactor_wait(r, UINT64_MAX), 0);
    ck_assert_int_eq(one.res, 1);
    close(fd);
}
END_TEST

extern void __asan_init(void) __attribute__((weak));
extern void __tsan_init(void) __attribute__((weak));

/* Each in a process of its own, whose filter the test's end does not meet. */
static int errno_under_filter(long (*call)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (worker_sandbox() < 0)
            _exit(255);
        _exit(call() < 0 ? errno : 0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static long opens_to_read(void)
{
    return open("/proc/self/maps", O_RDONLY);
}

static long opens_to_write(void)
{
    return open("/dev/null", O_WRONLY);
}

static long truncates(void)
{
    return open("/dev/null", O_RDONLY | O_TRUNC);
}

static long makes_a_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM, 0);
}

static long forks(void)
{
    return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static long makes_a_ring(void)
{
    struct io_uring_params p = {0};
    return syscall(SYS_io_uring_setup, 1, &p);
}

static long registers(void)
{
    return syscall(SYS_io_uring_register, -1, 0, NULL, 0);
}

START_TEST(the_filter_refuses_what_the_worker_does_not_do)
{
    long (*const refused[])(void) = {opens_to_write, truncates,    makes_a_socket,
                                     forks,          makes_a_ring, registers};

    if (__asan_init || __tsan_init) /* then there is none */
        return;
    ck_assert_int_eq(errno_under_filter(opens_to_read), 0);
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
        ck_assert_int_eq(errno_under_filter(refused[i]), EPERM);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sandbox");
    TCase *ring = tcase_create("ring"), *filter = tcase_create("filter");

    tcase_add_checked_fixture(ring, open_reactor, NULL);
    tcase_add_test(ring, the_ring_refuses_what_the_reactor_does_not_ask_of_it);
    tcase_add_test(ring, the_ring_can_be_given_nothing_more);
    tcase_add_test(ring, the_ring_does_what_the_reactor_asks_of_it);
    suite_add_tcase(s, ring);
    tcase_add_test(filter, the_filter_refuses_what_the_worker_does_not_do);
    suite_add_tcase(s, filter);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
