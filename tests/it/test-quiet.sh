#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Memory that is all in the program, and stays so for 5 s without a message, far below the limit,
# is not registered any more: it costs neither fault nor event, and the kernel may make it huge.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
# shellcheck source=tests/it/holder.sh
. "$top_srcdir/tests/it/holder.sh"

# registered_mib: what of the program has a userfaultfd; the agent's stages are 6 MiB of it
registered_mib()
{
    awk '/^Size:/ { size = $2 } /^VmFlags:.* u[mw]/ { sum += size } END { print int(sum / 1024) }' \
        "/proc/$pid/smaps"
}
is_registered()
{
    [ "$(registered_mib)" -ge 50 ]
}
is_quiet()
{
    [ "$(registered_mib)" -lt 12 ]
}
limit()
{
    ctl limit "$group" "$1" >/dev/null || fail "limit $1: status $?"
}

start_daemon
start_holder paged 256M "$holder" 50
pid=$(cell status PID)
group=$(cell status GROUP)
is_quiet || fail "$(registered_mib) MiB are registered far below the limit"
for round in 1 2; do
    limit 64M
    until_true 10 is_registered || fail "round $round: above 3/4 $(registered_mib) MiB are registered"
    limit 256M
    order verify verified "$round"
    until_true 20 is_quiet || fail "round $round: $(registered_mib) MiB stay registered"
done
[ "$(counter_now pgsteal)" = 0 ] || fail "something was moved out"
order verify verified 3
end_holder
finish
