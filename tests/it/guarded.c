/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ordinary program: fills memory above its limit, guards single pages of it,
 * takes the guards away, and expects zeros there and its bytes elsewhere.  So does a child
 * that has no agent, because the program has a seccomp filter; and where the kernel has no
 * guards, as another filter makes it look, nothing is to be lost.  It asks by madvise() and by
 * syscall() in turns, and some guards reach from a mapping of a file to a page that was moved out.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define GUARD_INSTALL 102
#define GUARD_REMOVE 103
#define PAGE 4096u
#define BYTES ((size_t)96 << 20)
#define STEP ((size_t)256 << 10)

/* What the kernel answers to madvise(MADV_GUARD_INSTALL) from now on. */
static int filter_guards(unsigned answer)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_madvise, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, GUARD_INSTALL, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, answer),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog prog = {sizeof(filter) / sizeof(filter[0]), filter};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static void fill(unsigned char *p)
{
    for (unsigned round = 0; round < 2; round++)
        for (size_t at = 0; at < BYTES; at += PAGE)
            memset(p + at, 7, PAGE);
}

static int advise(unsigned char *p, size_t len, int advice)
{
    static bool by_number;

    by_number = !by_number;
    return by_number ? (int)syscall(SYS_madvise, p, len, (long)advice) : madvise(p, len, advice);
}

static int guard_pages(unsigned char *p, const char *who)
{
    unsigned stale = 0, lost = 0;

    for (size_t at = STEP; at < BYTES; at += STEP) {
        if (advise(p + at, PAGE, GUARD_INSTALL) < 0) {
            printf("no guards in this kernel: %s\n", strerror(errno));
            return errno == EINVAL ? 77 : 1;
        }
        if (advise(p + at, PAGE, GUARD_REMOVE) < 0)
            return 1;
        stale += p[at] != 0;
        lost += p[at + PAGE] != 7 || p[at - 1] != 7;
    }
    printf("%s: %u stale, %u lost\n", who, stale, lost);
    return stale || lost;
}

/* Of files there are guards since 6.15: where not, the kernel's word is what counts. */
static int guard_files(unsigned char *p)
{
    unsigned stale = 0, guarded = 0;
    int fd = open("/proc/self/exe", O_RDONLY);

    for (size_t at = STEP; at < BYTES; at += 16 * STEP) {
        if (mmap(p + at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED)
            return 1;
        for (int i = 0; i < 2; i++) { /* by either way */
            if (advise(p + at, 2 * PAGE, GUARD_INSTALL) < 0)
                continue;
            guarded++;
            if (advise(p + at, 2 * PAGE, GUARD_REMOVE) < 0)
                return 1;
            stale += p[at + PAGE] != 0;
        }
        if (mmap(p + at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                 0) == MAP_FAILED)
            return 1;
    }
    close(fd);
    printf("files: %u guarded, %u stale\n", guarded, stale);
    return stale != 0;
}

static int guard_pages_in_child(unsigned char *p)
{
    int status = 1;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        status = guard_pages(p, "child without agent");
        fflush(stdout);
        _exit(status);
    }
    return pid < 0 || waitpid(pid, &status, 0) != pid || status;
}

static int find_no_guards(unsigned char *p)
{
    unsigned lost = 0;

    for (size_t at = STEP; at < BYTES; at += STEP) {
        if (advise(p + at, PAGE, GUARD_INSTALL) == 0 || errno != EINVAL)
            return 1;
        lost += p[at] != 7;
    }
    printf("without guards: %u lost\n", lost);
    return lost != 0;
}

int main(void)
{
    unsigned char *p =
        mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int r;

    if (p == MAP_FAILED)
        return 1;
    fill(p);
    r = guard_pages(p, "program");
    if (r)
        return r;
    fill(p);
    if (guard_files(p))
        return 1;
    fill(p);
    if (filter_guards(SECCOMP_RET_ALLOW))
        return 1;
    r = guard_pages_in_child(p);
    fill(p);
    if (filter_guards(SECCOMP_RET_ERRNO | EINVAL))
        return 1;
    return r | find_no_guards(p);
}
