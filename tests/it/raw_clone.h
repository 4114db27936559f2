/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_TESTS_RAW_CLONE_H
#define PAGERD_TESTS_RAW_CLONE_H
/*
 * clone(SIGCHLD) by an instruction of the program's own, as of a runtime without libc: a
 * child of which no handler of fork() and no function of libc can know.
 */
#include <asm/unistd.h>
#include <signal.h>

/* As fork(), but -errno. */
static inline long raw_clone(void)
{
#if defined(__x86_64__)
    register long r10 __asm__("r10") = 0;
    register long r8 __asm__("r8") = 0;
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"((long)__NR_clone), "D"((long)SIGCHLD), "S"(0L), "d"(0L), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return ret;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = __NR_clone;
    register long x0 __asm__("x0") = SIGCHLD;
    register long x1 __asm__("x1") = 0;
    register long x2 __asm__("x2") = 0;
    register long x3 __asm__("x3") = 0;
    register long x4 __asm__("x4") = 0;

    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
#else
#error "this machine's system call instruction is not known: add it"
#endif
}

#endif
