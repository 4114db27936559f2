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
for how in main ended young; do
    paged 16M "$wipes" "$how" || fail "$how: status $?"
    echo "$how: forks $(counter forks), moved out $(counter pgsteal), poisoned $(counter poisoned)"
    [ "$how" = young ] || [ "$(counter poisoned)" = 0 ] || fail "$how: pages were poisoned"
    everything_back "$before"
done
finish
