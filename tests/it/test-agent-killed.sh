#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Sudden ends.  The agent is killed while its program's memory is on the move: no
# byte is lost, the program goes on and is served, nothing more is moved, and status
# says so.  The program is killed: the daemon goes on, and has nothing of it left.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
churn=${top_builddir:?}/tests/it/churn
RANDOM=${KILL_SEED:-$$}
echo "KILL_SEED=${KILL_SEED:-$$}"

bare_form=(env LD_PRELOAD="${PAGERD_PRELOAD:?}" PAGERD_SOCKET="$socket")

says_so()
{
    ctl status --noheadings --output=PID,STATE,NOTE |
        grep -q "^ *$program served-only .*nothing more is moved"
}

# What was captured before is stored later.
nothing_moves()
{
    local before
    before=$(counter_now pgsteal)
    pause 0.2
    [ "$(counter_now pgsteal)" = "$before" ]
}

agent_is_killed()
{
    local job agent moved options=() said=0
    [ "$1" -ge 14 ] && options=(--threads=3)
    paged 16M "$churn" --mib=48 --seconds=1 --no-forks "${options[@]}" >"$tmp/out" 2>&1 &
    job=$!
    program=
    until_true 30 found_or_over "$job" || fail "round $1: nothing is moved out"
    pause "0.$((RANDOM % 5))$((RANDOM % 10))"
    agent=
    [ -n "$program" ] && agent=$(agent_of "$program")
    if [ -n "$agent" ] && kill -9 "$agent"; then
        until_true 5 says_so && said=1
        until_true 10 nothing_moves
        moved=$(counter_now pgsteal)
        kill -0 "$program" 2>/dev/null && [ "$said" = 0 ] &&
            fail "round $1: status does not say it: $(ctl status)"
        nr_said=$((nr_said + said))
    fi
    wait "$job" || fail "round $1: status $?: $(cat "$tmp/out")"
    [ "$said" = 0 ] || [ "$(counter_now pgsteal)" = "$moved" ] ||
        fail "round $1: $(counter_now pgsteal) pages are moved out, and were $moved without an agent"
    moved=$(counter pgsteal)
    [ "$moved" -gt 0 ] || fail "round $1: nothing was moved"
}

start_daemon
paged 8M true || exit 1
before=$(calm_descriptors)

echo "20 agents killed"
nr_said=0
for round in $(seq 20); do
    agent_is_killed "$round"
done
echo "  status said it $nr_said times"
[ "$nr_said" -ge 10 ] || fail "status said only $nr_said times that nothing more is moved"
grep -E 'during a capture' "$tmp/daemon.log" | wc -l | sed 's/^/  during a capture: /'
everything_back "$before"

echo "160 short programs, by turns under a limit and in the bare form"
for round in $(seq 80); do
    paged 8M "$churn" --tiny || fail "short program $round: status $?"
    "${bare_form[@]}" "$churn" --tiny || fail "short program $round, bare form: status $?"
done
everything_back "$before"

echo "40 programs killed"
for round in $(seq 40); do
    options=()
    [ $((round % 2)) = 0 ] && options=(--no-forks)
    paged 16M "$churn" --mib=48 --seconds=60 "${options[@]}" >"$tmp/out" 2>&1 &
    job=$!
    program=
    until_true 30 find_program || fail "killed program $round: nothing is moved out"
    pause "0.$((RANDOM % 2))$((RANDOM % 10))"
    [ -n "$program" ] && kill -9 "$program"
    wait "$job" && fail "killed program $round: it ended well"
done
everything_back "$before"
paged 16M "${top_builddir:?}/examples/fill-and-verify" 32 >"$tmp/out" || fail "afterwards: status $?"
finish
