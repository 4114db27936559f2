/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_AGENT_SYS_AARCH64_H
#define PAGERD_AGENT_SYS_AARCH64_H
/* System calls without libc, aarch64; see sys_x86_64.h for what each does. */

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}

static inline long sys_clone_call(unsigned long flags, void *stack_top, void *parent_tid,
                                  void *child_tid, void (*fn)(void *), void *arg)
{
    void **top = stack_top;
    register long x8 __asm__("x8") = SYS_NR_clone;
    register long x0 __asm__("x0") = (long)flags;
    register long x1 __asm__("x1") = (long)(top - 2);
    register long x2 __asm__("x2") = (long)parent_tid;
    register long x3 __asm__("x3") = 0; /* no TLS of its own, and it uses none */
    register long x4 __asm__("x4") = (long)child_tid;

    top[-1] = (void *)fn;
    top[-2] = arg;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, xzr\n\t"
                     "mov x30, xzr\n\t"
                     "ldp x0, x1, [sp], #16\n\t"
                     "blr x1\n\t"
                     "brk #1\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
                     : "memory");
    return x0;
}

/* A loop of register pairs; the compiler is told not to make it a call to memcpy. */
static inline void sys_copy(void *dst, const void *src, unsigned long n)
{
    unsigned char *d = dst;
    const unsigned char *s = src;

    while (n >= 32) {
        __asm__ volatile("ldp x9, x10, [%1]\n\t"
                         "ldp x11, x12, [%1, #16]\n\t"
                         "stp x9, x10, [%0]\n\t"
                         "stp x11, x12, [%0, #16]"
                         :
                         : "r"(d), "r"(s)
                         : "x9", "x10", "x11", "x12", "memory");
        d += 32;
        s += 32;
        n -= 32;
    }
    for (; n; n--) {
        __asm__ volatile("ldrb w9, [%1]\n\tstrb w9, [%0]" : : "r"(d), "r"(s) : "x9", "memory");
        d++;
        s++;
    }
}

#endif
