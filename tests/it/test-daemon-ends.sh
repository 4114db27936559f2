#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The daemon ends while memory of a program is out: what is gone is SIGBUS, and never zeros,
# whether the program's agent lives or was killed before.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
# shellcheck source=tests/it/holder.sh
. "${top_srcdir:?}/tests/it/holder.sh"

nothing_more_is_moved()
{
    [ "$(cell status STATE)" = served-only ]
}

# daemon_ends WHAT: with an agent that lives, or is killed
daemon_ends()
{
    local pid status=0
    start_daemon
    start_holder "${bare_form[@]}" "$holder" 96
    pid=$(cell status PID)
    ctl reclaim "$pid" 64M >"$tmp/reclaimed" || fail "$1: $(cat "$tmp/reclaimed")"
    [ "$(cell status OUT)" -ge $((32 << 20)) ] || fail "$1: only $(cell status OUT) bytes are out: $(cat "$tmp/reclaimed")"
    if [ "$1" = killed ]; then
        kill -9 "$(agent_of "$pid")"
        until_true 10 nothing_more_is_moved || fail "its agent is not missed"
    fi
    stop_daemon
    echo verify >&8
    exec 8>&-
    wait "$job" || status=$?
    [ "$status" = 135 ] || fail "$1: a look at what is gone ends with status $status: $(cat "$tmp/said")"
}

daemon_ends living
daemon_ends killed
exit "$failed"
