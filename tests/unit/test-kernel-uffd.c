/* SPDX-License-Identifier: Apache-2.0 */
/*
 * userfaultfd as this kernel really answers: each result that the pager acts
 * on is produced here once.  A second thread is the program; this one pages.
 * More than 600 lines: all of them need the same setting up.
 */
#define _GNU_SOURCE
#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/kernel.h"

#define NR_PAGES 16
#define BYTES (NR_PAGES * PAGE_SIZE)

static struct kernel_features features;
static int uffd = -1;
static char *mem; /* NR_PAGES, registered */
static char bytes[BYTES];

static int open_uffd(void)
{
    int device = features.syscall_errno ? kuffd_open_device() : -1;
    int fd = kuffd_new(device);

    ck_assert_int_ge(fd, 0);
    fd_close(device);
    return fd;
}

static uint64_t main_features(void)
{
    return KUFFD_MAIN_FEATURES & ~(features.event_fork ? 0 : KUFFD_EVENT_FORK);
}

static char *map_pages(int prot)
{
    char *p = mmap(NULL, BYTES, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(p, MAP_FAILED);
    return p;
}

static struct uaddr at(size_t page)
{
    return uaddr((uintptr_t)mem + page * PAGE_SIZE);
}

static struct urange pages(size_t first, size_t nr)
{
    return (struct urange){at(first), nr * PAGE_SIZE};
}

static void set_up(void)
{
    uffd = open_uffd();
    ck_assert_int_eq(kuffd_api(uffd, main_features()), 0);
    mem = map_pages(PROT_READ | PROT_WRITE);
    ck_assert_int_eq(kuffd_register(uffd, pages(0, NR_PAGES), true), KRES_DONE);
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (char)(i / PAGE_SIZE + 'a');
}

static void tear_down(void)
{
    uffd = fd_close(uffd);
}

/* Waits for a message and reads it alone. */
static struct kuffd_msg next_message(void)
{
    struct pollfd p = {.fd = uffd, .events = POLLIN};
    struct kuffd_msg m;

    ck_assert_int_eq(poll(&p, 1, 10000), 1);
    ck_assert_int_eq(kuffd_read(uffd, &m, 1), 1);
    return m;
}

static enum kres copy(size_t page, size_t nr, uint64_t *ret_done)
{
    return kuffd_copy(uffd, at(page), bytes + page * PAGE_SIZE, nr * PAGE_SIZE, ret_done);
}

/* ---- the program's side ---- */

static pthread_t program;

static void start(void *(*f)(void *), void *arg)
{
    ck_assert_int_eq(pthread_create(&program, NULL, f, arg), 0);
}

static void *end(void)
{
    void *r;

    ck_assert_int_eq(pthread_join(program, &r), 0);
    return r;
}

static void *load(void *p)
{
    return (void *)(uintptr_t)*(volatile unsigned char *)p;
}

static void *store(void *p)
{
    *(volatile char *)p = 'S';
    return NULL;
}

static void *drop_page(void *p)
{
    madvise(p, PAGE_SIZE, MADV_DONTNEED);
    return NULL;
}

static void *unmap_page(void *p)
{
    munmap(p, PAGE_SIZE);
    return NULL;
}

static void *grow_elsewhere(void *p)
{
    return mremap(p, PAGE_SIZE, 4 * PAGE_SIZE, MREMAP_MAYMOVE);
}

static void *fork_child(void *p)
{
    (void)p;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return (void *)(intptr_t)pid;
}

/* ---- faults ---- */

START_TEST(what_is_registered_is_told_without_a_change)
{
    uint64_t done;

    ck_assert_int_eq(kuffd_is_registered(uffd, at(0)), KRES_DONE);
    ck_assert_int_eq(copy(0, 1, &done), KRES_DONE);
    ck_assert_int_eq(kuffd_is_registered(uffd, at(0)), KRES_DONE); /* present or not */
    ck_assert_int_eq(kuffd_is_registered(uffd, at(NR_PAGES - 1)), KRES_DONE);
    ck_assert_int_eq(kuffd_unregister(uffd, pages(0, NR_PAGES)), KRES_DONE);
    ck_assert_int_eq(kuffd_is_registered(uffd, at(0)), KRES_GONE);
    ck_assert_int_eq(kuffd_wake_all(uffd), KRES_DONE);
}
END_TEST

START_TEST(only_a_userfaultfd_is_taken_for_one)
{
    _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    ck_assert(kuffd_is_userfaultfd(uffd));
    ck_assert(!kuffd_is_userfaultfd(null));
    ck_assert(!kuffd_is_userfaultfd(-1));
    ck_assert(!kuffd_is_userfaultfd(123456));
}
END_TEST

START_TEST(features_are_fixed_once)
{
    ck_assert_int_eq(kuffd_api(uffd, main_features()), -EINVAL);
}
END_TEST

START_TEST(nothing_to_read_is_no_error)
{
    struct kuffd_msg m[4];

    ck_assert_int_eq(kuffd_read(uffd, m, 4), 0);
    ck_assert_int_eq(kuffd_read(-1, m, 4), -EBADF);
}
END_TEST

START_TEST(a_load_waits_until_its_page_is_copied)
{
    uint64_t done = 0;

    start(load, mem + 3 * PAGE_SIZE + 77);
    struct kuffd_msg m = next_message();
    ck_assert_int_eq(m.type, KUFFD_FAULT);
    ck_assert_uint_eq(m.addr.v, at(3).v);
    ck_assert(!m.write);
    ck_assert_int_eq(copy(3, 1, &done), KRES_DONE);
    ck_assert_uint_eq(done, PAGE_SIZE);
    ck_assert_int_eq((int)(intptr_t)end(), 'a' + 3);
}
END_TEST

START_TEST(a_store_says_that_it_is_one)
{
    uint64_t done;

    start(store, mem);
    ck_assert(next_message().write);
    ck_assert_int_eq(kuffd_zero(uffd, at(0), PAGE_SIZE, &done), KRES_DONE);
    end();
    ck_assert_int_eq(mem[0], 'S');
    ck_assert_int_eq(mem[1], 0);
}
END_TEST

START_TEST(a_window_is_filled_by_one_call_and_answers_what_waits_in_it)
{
    uint64_t done;

    start(load, mem + 2 * PAGE_SIZE);
    next_message();
    ck_assert_int_eq(copy(0, NR_PAGES, &done), KRES_DONE);
    ck_assert_uint_eq(done, BYTES);
    end();
    ck_assert_mem_eq(mem, bytes, BYTES);
}
END_TEST

START_TEST(a_fault_that_was_read_and_lost_is_posted_again_by_wake)
{
    uint64_t done;
    struct kuffd_msg m;

    start(load, mem);
    next_message();
    ck_assert_int_eq(kuffd_read(uffd, &m, 1), 0);
    ck_assert_int_eq(kuffd_wake(uffd, pages(0, NR_PAGES)), KRES_DONE);
    ck_assert_uint_eq(next_message().addr.v, at(0).v);
    ck_assert_int_eq(copy(0, 1, &done), KRES_DONE);
    end();
}
END_TEST

/* ---- what a fill can meet ---- */

START_TEST(a_present_page_stops_a_fill_exactly_there)
{
    uint64_t done;

    ck_assert_int_eq(kuffd_zero(uffd, at(5), PAGE_SIZE, &done), KRES_DONE);
    ck_assert_int_eq(copy(0, NR_PAGES, &done), KRES_RACED);
    ck_assert_uint_eq(done, 5 * PAGE_SIZE);
    ck_assert_mem_eq(mem, bytes, 5 * PAGE_SIZE);
    ck_assert_int_eq(mem[5 * PAGE_SIZE], 0);
    ck_assert_int_eq(copy(5, 3, &done), KRES_RACED);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(copy(6, NR_PAGES - 6, &done), KRES_DONE);

    ck_assert_int_eq(kuffd_zero(uffd, at(0), BYTES, &done), KRES_RACED);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(kuffd_poison(uffd, at(0), BYTES, &done), KRES_RACED);
    ck_assert_uint_eq(done, 0);
}
END_TEST

START_TEST(a_fill_outside_of_what_is_registered_is_gone)
{
    char *other = map_pages(PROT_READ | PROT_WRITE);
    uint64_t done = 1;

    ck_assert_int_eq(
        kuffd_copy(uffd, uaddr((uintptr_t)other), bytes, PAGE_SIZE, &done), KRES_GONE);
    ck_assert_uint_eq(done, 0);
    /* Nothing at all is mapped there. */
    munmap(other, BYTES);
    ck_assert_int_eq(
        kuffd_zero(uffd, uaddr((uintptr_t)other), PAGE_SIZE, &done), KRES_GONE);
}
END_TEST

START_TEST(a_fill_across_the_end_of_a_mapping_is_gone_as_a_whole)
{
    uint64_t done = 1;

    start(unmap_page, mem + 8 * PAGE_SIZE);
    ck_assert_int_eq(next_message().type, KUFFD_UNMAP);
    end();
    ck_assert_int_eq(copy(6, 4, &done), KRES_GONE);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(copy(6, 2, &done), KRES_DONE);
}
END_TEST

START_TEST(an_unreadable_source_is_fatal)
{
    char *none = map_pages(PROT_NONE);
    uint64_t done;

    ck_assert_int_eq(kuffd_copy(uffd, at(0), none, PAGE_SIZE, &done), KRES_FATAL);
    ck_assert_uint_eq(done, 0);
}
END_TEST

START_TEST(an_unread_event_makes_every_fill_wait)
{
    struct pollfd p = {.fd = uffd, .events = POLLIN};
    uint64_t done = 1;

    ck_assert_int_eq(copy(0, 4, &done), KRES_DONE);
    start(drop_page, mem + PAGE_SIZE);
    ck_assert_int_eq(poll(&p, 1, 10000), 1);
    ck_assert_int_eq(copy(8, 4, &done), KRES_RETRY);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(kuffd_zero(uffd, at(8), PAGE_SIZE, &done), KRES_RETRY);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(kuffd_poison(uffd, at(8), PAGE_SIZE, &done), KRES_RETRY);
    ck_assert_uint_eq(done, 0);

    struct kuffd_msg m = next_message();
    ck_assert_int_eq(m.type, KUFFD_REMOVE);
    ck_assert_uint_eq(m.range.start.v, at(1).v);
    ck_assert_uint_eq(m.range.len, PAGE_SIZE);
    end();
    ck_assert_int_eq(copy(8, 4, &done), KRES_DONE);
    ck_assert_int_eq(copy(1, 1, &done), KRES_DONE);
}
END_TEST

START_TEST(fail_points_stand_for_a_shortage)
{
    uint64_t done = 1;

    failpoint_set("kuffd-copy=1,kuffd-zero,kuffd-poison,kuffd-register");
    ck_assert_int_eq(copy(0, 1, &done), KRES_RETRY);
    ck_assert_int_eq(errno, ENOMEM);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(copy(0, 1, &done), KRES_DONE);
    ck_assert_int_eq(kuffd_zero(uffd, at(1), PAGE_SIZE, &done), KRES_RETRY);
    ck_assert_int_eq(kuffd_poison(uffd, at(1), PAGE_SIZE, &done), KRES_RETRY);
    ck_assert_int_eq(kuffd_register(uffd, pages(0, 1), false), KRES_RETRY);
}
END_TEST

static sigjmp_buf after_sigbus;

static void on_sigbus(int sig)
{
    (void)sig;
    siglongjmp(after_sigbus, 1);
}

START_TEST(a_poisoned_page_is_a_sigbus_not_a_zero)
{
    struct sigaction sa = {.sa_handler = on_sigbus};
    volatile bool died = true;
    uint64_t done;

    ck_assert_int_eq(kuffd_poison(uffd, at(4), 2 * PAGE_SIZE, &done), KRES_DONE);
    ck_assert_uint_eq(done, 2 * PAGE_SIZE);
    ck_assert_int_eq(sigaction(SIGBUS, &sa, NULL), 0);
    if (!sigsetjmp(after_sigbus, 1)) {
        load(mem + 5 * PAGE_SIZE);
        died = false;
    }
    ck_assert(died);
}
END_TEST

/* ---- events ---- */

START_TEST(a_moved_mapping_is_told_with_both_places)
{
    uint64_t done;

    ck_assert_int_eq(copy(7, 1, &done), KRES_DONE);
    start(grow_elsewhere, mem + 7 * PAGE_SIZE);
    struct kuffd_msg m = next_message();
    ck_assert_int_eq(m.type, KUFFD_REMAP);
    ck_assert_uint_eq(m.from.v, at(7).v);
    while (next_message().type != KUFFD_UNMAP)
        ;
    void *to = end();
    ck_assert_ptr_ne(to, MAP_FAILED);
    ck_assert_uint_eq(m.to.v, (uintptr_t)to);
    ck_assert_int_eq(*(char *)to, 'a' + 7);
}
END_TEST

START_TEST(a_forked_child_comes_with_its_own_userfaultfd)
{
    int status;

    if (!features.event_fork) {
        printf("skipped: fork events need CAP_SYS_PTRACE\n");
        return;
    }
    start(fork_child, NULL);
    struct kuffd_msg m = next_message();
    ck_assert_int_eq(m.type, KUFFD_FORK);
    ck_assert(kuffd_is_userfaultfd(m.fd));
    ck_assert_int_eq(fcntl(m.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert_int_eq(fcntl(m.fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    fd_close(m.fd);
    pid_t child = (pid_t)(intptr_t)end();
    ck_assert_int_eq(waitpid(child, &status, 0), child);
}
END_TEST

/* ---- registering ---- */

START_TEST(what_cannot_be_registered_is_gone)
{
    char *hole = map_pages(PROT_READ);
    _cleanup_close_ int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    void *text = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, file, 0);
    _cleanup_close_ int other = open_uffd();

    ck_assert_ptr_ne(text, MAP_FAILED);
    munmap(hole, BYTES);
    ck_assert_int_eq(
        kuffd_register(uffd, urange((uintptr_t)hole, (uintptr_t)hole + BYTES), false), KRES_GONE);
    ck_assert_int_eq(
        kuffd_unregister(uffd, urange((uintptr_t)hole, (uintptr_t)hole + BYTES)), KRES_GONE);
    /* A file's shared mapping that can never be written. */
    ck_assert_int_eq(
        kuffd_register(uffd, urange((uintptr_t)text, (uintptr_t)text + PAGE_SIZE), false),
        KRES_GONE);
    /* Somebody else's. */
    ck_assert_int_eq(kuffd_api(other, 0), 0);
    ck_assert_int_eq(kuffd_register(other, pages(0, NR_PAGES), false), KRES_GONE);
}
END_TEST

START_TEST(registering_again_does_no_harm)
{
    uint64_t done;

    ck_assert_int_eq(copy(0, 1, &done), KRES_DONE);
    ck_assert_int_eq(kuffd_register(uffd, pages(0, NR_PAGES), true), KRES_DONE);
    ck_assert_int_eq(mem[0], 'a');
}
END_TEST

START_TEST(a_page_that_can_never_be_written_is_told_from_all_others)
{
    char *hole = map_pages(PROT_READ), *anon = map_pages(PROT_READ | PROT_WRITE);
    _cleanup_close_ int fd = memfd_create("id", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    ck_assert_int_eq(ftruncate(fd, PAGE_SIZE), 0);
    void *writable = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
    void *readonly = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    ck_assert(writable != MAP_FAILED && readonly != MAP_FAILED);
    munmap(hole, BYTES);
    ck_assert(kuffd_finds_readonly(uffd, uaddr((uintptr_t)readonly)));
    ck_assert(!kuffd_finds_readonly(uffd, uaddr((uintptr_t)writable)));
    ck_assert(!kuffd_finds_readonly(uffd, uaddr((uintptr_t)hole)));
    ck_assert(!kuffd_finds_readonly(uffd, uaddr((uintptr_t)anon)));
    ck_assert(!kuffd_finds_readonly(uffd, uaddr((uintptr_t)mem)));
    munmap(readonly, PAGE_SIZE);
    munmap(writable, PAGE_SIZE);
    munmap(anon, BYTES);
}
END_TEST

START_TEST(what_another_userfaultfd_has_is_told_and_nothing_is_changed)
{
    struct urange r = pages(0, NR_PAGES);
    _cleanup_close_ int other = open_uffd();

    ck_assert_int_eq(kuffd_api(other, 0), 0);
    ck_assert(kuffd_finds_anothers(other, r));
    ck_assert_int_eq(kuffd_unregister(uffd, r), KRES_DONE);
    ck_assert(!kuffd_finds_anothers(other, r));
    ck_assert_int_eq(kuffd_register(uffd, r, true), KRES_DONE); /* the question left nothing behind */
}
END_TEST

START_TEST(after_unregistering_the_kernel_answers_with_zeros)
{
    uint64_t done;

    ck_assert_int_eq(copy(0, 1, &done), KRES_DONE);
    start(load, mem + PAGE_SIZE);
    next_message();
    ck_assert_int_eq(kuffd_unregister(uffd, pages(0, NR_PAGES)), KRES_DONE);
    ck_assert_int_eq((int)(intptr_t)end(), 0);
    ck_assert_int_eq(mem[0], 'a');
    ck_assert_int_eq(mem[9 * PAGE_SIZE], 0);
}
END_TEST

START_TEST(a_range_that_is_not_made_of_pages_is_a_bug)
{
    uint64_t done;

    log_init("t", LOG_LEVEL_ERROR, -1);
    (void)!kuffd_zero(uffd, uaddr(at(0).v + 1), PAGE_SIZE, &done);
}
END_TEST

/* ---- the end of the address space ---- */

static void send_fd(int sock, int fd)
{
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = &mem, .iov_len = sizeof(mem)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof(control)};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);

    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(h), &fd, sizeof(fd));
    if (sendmsg(sock, &m, 0) < 0)
        _exit(1);
}

static int receive_fd(int sock)
{
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = &mem, .iov_len = sizeof(mem)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof(control)};
    int fd = -1;

    ck_assert_int_eq(recvmsg(sock, &m, 0), sizeof(mem));
    ck_assert_ptr_nonnull(CMSG_FIRSTHDR(&m));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
    return fd;
}

START_TEST(every_call_tells_that_the_address_space_has_ended)
{
    int ends[2], status;
    uint64_t done = 1;
    char byte;

    /* Without mappings of ours in the child a fork raises no event. */
    tear_down();
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        int fd = open_uffd();
        mem = map_pages(PROT_READ | PROT_WRITE);
        send_fd(ends[1], fd);
        close(fd);
        (void)!read(ends[1], &byte, 1);
        _exit(0);
    }
    close(ends[1]);
    uffd = receive_fd(ends[0]);
    ck_assert_int_eq(kuffd_api(uffd, main_features()), 0);
    ck_assert_int_eq(kuffd_register(uffd, pages(0, NR_PAGES), true), KRES_DONE);
    ck_assert_int_eq(copy(0, 1, &done), KRES_DONE);
    close(ends[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);

    ck_assert_int_eq(copy(1, 1, &done), KRES_DEAD);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(kuffd_zero(uffd, at(1), PAGE_SIZE, &done), KRES_DEAD);
    ck_assert_int_eq(kuffd_poison(uffd, at(1), PAGE_SIZE, &done), KRES_DEAD);
    /* These say ENOMEM, as they do when memory is short. */
    ck_assert_int_eq(kuffd_register(uffd, pages(0, NR_PAGES), true), KRES_DEAD);
    ck_assert_int_eq(kuffd_unregister(uffd, pages(0, NR_PAGES)), KRES_DEAD);
    /* Nobody waits any more. */
    ck_assert_int_eq(kuffd_wake(uffd, pages(0, NR_PAGES)), KRES_DONE);
}
END_TEST

int main(void)
{
    char why[512];

    kernel_probe(&features);
    if (kernel_features_complaint(&features, why, sizeof(why))) {
        printf("skipped: %s\n", why);
        return 77;
    }
    Suite *s = suite_create("kernel-uffd");
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test_raise_signal(tc, a_range_that_is_not_made_of_pages_is_a_bug, SIGABRT);
    tcase_add_test(tc, what_is_registered_is_told_without_a_change);
    tcase_add_test(tc, only_a_userfaultfd_is_taken_for_one);
    tcase_add_test(tc, features_are_fixed_once);
    tcase_add_test(tc, nothing_to_read_is_no_error);
    tcase_add_test(tc, a_load_waits_until_its_page_is_copied);
    tcase_add_test(tc, a_store_says_that_it_is_one);
    tcase_add_test(tc, a_window_is_filled_by_one_call_and_answers_what_waits_in_it);
    tcase_add_test(tc, a_fault_that_was_read_and_lost_is_posted_again_by_wake);
    tcase_add_test(tc, a_present_page_stops_a_fill_exactly_there);
    tcase_add_test(tc, a_fill_outside_of_what_is_registered_is_gone);
    tcase_add_test(tc, a_fill_across_the_end_of_a_mapping_is_gone_as_a_whole);
    tcase_add_test(tc, an_unreadable_source_is_fatal);
    tcase_add_test(tc, an_unread_event_makes_every_fill_wait);
    tcase_add_test(tc, fail_points_stand_for_a_shortage);
    tcase_add_test(tc, a_poisoned_page_is_a_sigbus_not_a_zero);
    tcase_add_test(tc, a_moved_mapping_is_told_with_both_places);
    tcase_add_test(tc, a_forked_child_comes_with_its_own_userfaultfd);
    tcase_add_test(tc, what_cannot_be_registered_is_gone);
    tcase_add_test(tc, registering_again_does_no_harm);
    tcase_add_test(tc, a_page_that_can_never_be_written_is_told_from_all_others);
    tcase_add_test(tc, what_another_userfaultfd_has_is_told_and_nothing_is_changed);
    tcase_add_test(tc, after_unregistering_the_kernel_answers_with_zeros);
    tcase_add_test(tc, every_call_tells_that_the_address_space_has_ended);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
