#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Memory that is zeros in children (MADV_WIPEONFORK) and moved out: no child sees a byte of it,
# whoever forks.  The kernel tells of that flag in smaps only, which shows nothing for a main
# thread that has ended, and needs to know of which process.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
wipes=${top_builddir:?}/tests/it/fork-wipes

start_daemon
paged 8M true || exit 1
before=$(calm_descriptors)
for how in main part ended young; do
    paged 16M "$wipes" "$how" || fail "$how: status $?"
    echo "$how: forks $(counter forks), moved out $(counter pgsteal), poisoned $(counter poisoned)"
    [ "$how" = young ] || [ "$(counter poisoned)" = 0 ] || fail "$how: pages were poisoned"
    everything_back "$before"
done
stop_daemon

echo "a child of which no record can be made"
export PAGERD_FAILPOINTS=fork-record
start_daemon
unset PAGERD_FAILPOINTS
paged 8M true || exit 1
before=$(calm_descriptors)
for how in refused moving moving moving; do
    paged 16M "$wipes" "$how" || fail "$how: status $?"
done
grep -q 'cannot be served' "$tmp/daemon.log" || fail "the log does not say it"
everything_back "$before"
finish
