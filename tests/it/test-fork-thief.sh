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

says()
{
    grep -qx "$1" "$tmp/said"
}
# Its child has moved-out pages too, and so a record.
child_is_served()
{
    [ "$(ctl status --noheadings --bytes --output=STATE,OUT | awk '$1 == "served-only" && $2 > 0' | wc -l)" = 1 ]
}

start_daemon
mkfifo "$tmp/orders"
paged 16M "$thief" victim 48 <"$tmp/orders" >"$tmp/said" 2>&1 &
job=$!
exec 8>"$tmp/orders"
until_true 30 says filled || fail "the victim does not start: $(cat "$tmp/said")"
until_true 30 find_program fork-thief || fail "nothing of the victim is moved out"
echo >&8
until_true 30 says ready || fail "the victim has no child: $(cat "$tmp/said")"
until_true 10 child_is_served || fail "the child is not served: $(ctl status)"

"$thief" thief "$socket" || fail "the thief: status $?"
grep 'looks like that of a forked child' "$tmp/daemon.log" || fail "the daemon does not say so"

exec 8>&-
wait "$job" || fail "the victim: status $?: $(cat "$tmp/said")"
[ "$(counter forks)" -ge 1 ] || fail "nothing was forked under the daemon's eyes"
finish
