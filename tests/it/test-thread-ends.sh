#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What lies beside a thread's stack is moved out, and a thread that ends leaves its robust
# mutexes as it would without pagerd.
set -eu
"${PAGERCTL:?}" run --limit=16M -- "${top_builddir:?}/tests/it/thread-ends"
