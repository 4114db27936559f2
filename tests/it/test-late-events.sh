#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Messages of two threads that come in the other order than the changes they tell
# of: late-events, whose mappings are out of it while they are moved.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
late=${top_builddir:?}/tests/it/late-events
start_daemon
paged 8M true || exit 1
before=$(calm_descriptors)
for how in unmap move; do
    paged 8M "$late" 40 "$how" || fail "$how: status $?"
    [ "$(counter pgsteal)" -gt 10000 ] || fail "$how: only $(counter pgsteal) pages were moved"
    everything_back "$before"
done
finish
