#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# An agent that is stopped for a while, and goes on: no message may be read while a
# command is with it (the second rule of a capture; test-capture-rules shows why).
# Until then the program waits, and afterwards no byte of it is wrong.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"

# stopping NAME PROGRAM...: its agent is stopped and let go on, until it has ended
stopping()
{
    local name=$1 job agent nr=0
    shift
    paged 8M "$@" >"$tmp/out" 2>&1 &
    job=$!
    until_true 20 find_program "$(basename "$1")" || fail "$name: nothing is moved out"
    agent=$(agent_of "$program")
    while kill -STOP "$agent" 2>/dev/null; do
        pause 0.02
        kill -CONT "$agent" 2>/dev/null
        nr=$((nr + 1))
        pause 0.01
    done
    wait "$job" || fail "$name: status $?: $(cat "$tmp/out")"
    echo "$name: stopped $nr times; moved out $(counter pgsteal)"
    [ "$nr" -ge 20 ] || fail "$name: stopped $nr times only"
    everything_back "$before"
}

start_daemon
paged 8M true || exit 1
before=$(calm_descriptors)
stopping unmap "${top_builddir:?}/tests/it/late-events" 60 unmap
stopping churn "${top_builddir:?}/tests/it/churn" --mib=24 --seconds=5 --no-forks --threads=1
finish
