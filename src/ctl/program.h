/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAGERD_CTL_PROGRAM_H
#define PAGERD_CTL_PROGRAM_H
/*
 * program: what a program's name stands for, and whether the preload library
 * can get into it.
 */
#include <limits.h>

#include "ctl/ctl.h"

/*
 * The file that execvp(3) would start.  -ENOENT: there is none (127); any
 * other error: there is one, but it cannot be executed (126).
 */
MUST_CHECK int program_find(const char *name, char ret_path[PATH_MAX], struct complaint *why);

/*
 * 0, or -ENOEXEC when the dynamic linker would not load the preload library
 * into it: static, built for another architecture, or gaining privileges.
 * Interpreters of scripts are followed.  What the kernel itself will refuse is
 * left for it to refuse.
 */
MUST_CHECK int program_check(const char *path, struct complaint *why);

#endif
