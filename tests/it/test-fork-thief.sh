#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Another process of the same user looks just like the agent of a forked child: it does not
# get the child's userfaultfd, the daemon says that it was tried, and the child's bytes are
# right.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
thief=${top_builddir:?}/tests/it/fork-thief

is_ready()
{
    grep -qx ready "$tmp/said"
}

start_daemon
mkfifo "$tmp/orders"
paged 16M "$thief" victim 48 <"$tmp/orders" >"$tmp/said" 2>&1 &
job=$!
exec 8>"$tmp/orders"
until_true 30 is_ready || fail "the victim does not start: $(cat "$tmp/said")"

"$thief" thief "$socket" || fail "the thief: status $?"
grep 'looks like that of a forked child' "$tmp/daemon.log" || fail "the daemon does not say so"

exec 8>&-
wait "$job" || fail "the victim: status $?: $(cat "$tmp/said")"
[ "$(counter forks)" -ge 1 ] || fail "nothing was forked under the daemon's eyes"
finish
