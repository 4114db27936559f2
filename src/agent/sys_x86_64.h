/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_AGENT_SYS_X86_64_H
#define PAGERD_AGENT_SYS_X86_64_H
/*
 * System calls without libc, x86-64.  Results are the kernel's own: >= 0 or
 * -errno; errno is not touched (it is the program's).
 */

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}

/*
 * clone() whose child starts in fn(arg) on a stack of its own; fn never
 * returns.  `stack_top` is 16-byte aligned.  Nothing of the caller's frame is
 * used in the child.
 */
static inline long sys_clone_call(unsigned long flags, void *stack_top, void *parent_tid,
                                  void *child_tid, void (*fn)(void *), void *arg)
{
    void **top = stack_top;
    register long r10 __asm__("r10") = (long)child_tid;
    register long r8 __asm__("r8") = 0; /* no TLS of its own, and it uses none */
    long ret;

    top[-1] = (void *)fn;
    top[-2] = arg;
    __asm__ volatile("syscall\n\t"
                     "testq %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xorl %%ebp, %%ebp\n\t"
                     "popq %%rdi\n\t"
                     "popq %%rax\n\t"
                     "callq *%%rax\n\t"
                     "ud2\n"
                     "1:"
                     : "=a"(ret)
                     : "a"(SYS_NR_clone), "D"(flags), "S"(top - 2), "d"(parent_tid), "r"(r10),
                       "r"(r8)
                     : "rcx", "r11", "memory");
    return ret;
}

/* The string instruction: as fast as anything for whole pages, and no call to memcpy. */
static inline void sys_copy(void *dst, const void *src, unsigned long n)
{
    __asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}

#endif
