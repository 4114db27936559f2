#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# mlockall() fills the agent's staging area too.  When the program has let its memory go again
# it is paged as any other: the limit holds.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"

start_daemon
paged 32M "${top_builddir:?}/tests/it/locks-all" 192
status=$?
if [ "$status" = 77 ]; then
    stop_daemon
    exit 77
fi
[ "$status" = 0 ] || fail "status $status"
[ "$(counter pgsteal)" -gt 10000 ] || fail "only $(counter pgsteal) pages were moved out"
[ "$(counter resident_peak_bytes)" -le $((96 << 20)) ] ||
    fail "$(counter resident_peak_bytes) bytes were resident of 32 MiB"
finish
