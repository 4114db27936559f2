/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "uffd_program.h"

struct kernel_features features;
int uffd = -1;
char *mem;
char bytes[BYTES];

int open_uffd(void)
{
    int device = features.syscall_errno ? kuffd_open_device() : -1;
    int fd = kuffd_new(device);

    ck_assert_int_ge(fd, 0);
    fd_close(device);
    return fd;
}

uint64_t main_features(void)
{
    return KUFFD_MAIN_FEATURES & ~(features.event_fork ? 0 : KUFFD_EVENT_FORK);
}

char *map_pages(int prot)
{
    char *p = mmap(NULL, BYTES, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(p, MAP_FAILED);
    return p;
}

struct uaddr at(size_t page)
{
    return uaddr((uintptr_t)mem + page * PAGE_SIZE);
}

struct urange pages(size_t first, size_t nr)
{
    return (struct urange){at(first), nr * PAGE_SIZE};
}

void set_up(void)
{
    uffd = open_uffd();
    ck_assert_int_eq(kuffd_api(uffd, main_features()), 0);
    mem = map_pages(PROT_READ | PROT_WRITE);
    ck_assert_int_eq(kuffd_register(uffd, pages(0, NR_PAGES), true), KRES_DONE);
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (char)(i / PAGE_SIZE + 'a');
}

void tear_down(void)
{
    uffd = fd_close(uffd);
}

struct kuffd_msg next_message(void)
{
    struct pollfd p = {.fd = uffd, .events = POLLIN};
    struct kuffd_msg m;

    ck_assert_int_eq(poll(&p, 1, 10000), 1);
    ck_assert_int_eq(kuffd_read(uffd, &m, 1), 1);
    return m;
}

enum kres copy(size_t page, size_t nr, uint64_t *ret_done)
{
    return kuffd_copy(uffd, at(page), bytes + page * PAGE_SIZE, nr * PAGE_SIZE, ret_done);
}

/* ---- the program's side ---- */

static pthread_t program;

void start(void *(*f)(void *), void *arg)
{
    ck_assert_int_eq(pthread_create(&program, NULL, f, arg), 0);
}

void *end(void)
{
    void *r;

    ck_assert_int_eq(pthread_join(program, &r), 0);
    return r;
}

void *load(void *p)
{
    return (void *)(uintptr_t)*(volatile unsigned char *)p;
}

void *store(void *p)
{
    *(volatile char *)p = 'S';
    return NULL;
}

void *drop_page(void *p)
{
    madvise(p, PAGE_SIZE, MADV_DONTNEED);
    return NULL;
}

void *unmap_page(void *p)
{
    munmap(p, PAGE_SIZE);
    return NULL;
}

void *grow_elsewhere(void *p)
{
    return mremap(p, PAGE_SIZE, 4 * PAGE_SIZE, MREMAP_MAYMOVE);
}

void *fork_child(void *p)
{
    (void)p;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return (void *)(intptr_t)pid;
}

/* ---- another process ---- */

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

void other_start(struct other_process *o)
{
    int ends[2];
    char byte;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    o->pid = fork();
    if (o->pid == 0) {
        close(ends[0]);
        int fd = open_uffd();
        mem = map_pages(PROT_READ | PROT_WRITE);
        send_fd(ends[1], fd);
        close(fd);
        (void)!read(ends[1], &byte, 1);
        _exit(0);
    }
    close(ends[1]);
    o->uffd = receive_fd(ends[0]);
    o->sock = ends[0];
}

void other_end(struct other_process *o)
{
    int status;

    close(o->sock);
    ck_assert_int_eq(waitpid(o->pid, &status, 0), o->pid);
    ck_assert_int_eq(status, 0);
}

int run_uffd_tests(const char *name, void (*add_tests)(TCase *tc))
{
    char why[512];

    kernel_probe(&features);
    if (kernel_features_complaint(&features, why, sizeof(why))) {
        printf("skipped: %s\n", why);
        return 77;
    }
    Suite *s = suite_create(name);
    TCase *tc = tcase_create("all");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    add_tests(tc);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
