/* SPDX-License-Identifier: Apache-2.0 */
/* The end of BUG_ON(): say which invariant broke, then stop. */
#include "base/base.h"

void base_bug(const char *file, int line, const char *cond)
{
    log_error("BUG at %s:%d: %s", file, line, cond);
    abort();
}
