/* SPDX-License-Identifier: Apache-2.0 */
/* complain: the sentences of pagerctl. */
#include <stdarg.h>

#include "ctl/ctl.h"

int complain(struct complaint *why, int err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why->text, sizeof(why->text), fmt, ap);
    va_end(ap);
    return err;
}

void say(const char *fmt, ...)
{
    char line[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    /* One write: the program that runs beside us uses the same standard error. */
    dprintf(STDERR_FILENO, "pagerctl: %s\n", line);
}
