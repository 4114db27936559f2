#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A program is paused while something is taken out of it: stopped together with its agent, or
# the agent alone while nobody waits for it.  However long that is, both go on afterwards.  Only
# an agent that does not answer while its program waits is given up, and the program is served.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
# shellcheck source=tests/it/holder.sh
. "${top_srcdir:?}/tests/it/holder.sh"
MIB=$((1 << 20))
timeout=5 # of the worker (turn.c)

is_below()
{
    [ "$(cell status RESIDENT)" -le "$1" ]
}
is_stopped()
{
    [ "$(sed 's/.*) //; s/ .*//' "/proc/$1/stat")" = T ]
}
# paused LIMIT PID...: these are stopped, something is to be taken out, and longer than the timeout passes
# paused_for SECONDS LIMIT PID...: the same for so long
paused()
{
    paused_for $((timeout + 2)) "$@"
}
paused_for()
{
    local seconds=$1 limit=$2 pid
    shift 2
    kill -STOP "$@"
    for pid in "$@"; do
        until_true 5 is_stopped "$pid" || fail "pid $pid does not stop"
    done
    ctl limit "$group" "$limit" >/dev/null
    pause "$seconds"
}
# goes_on LIMIT TIMES
goes_on()
{
    [ "$(agent_of "$pid")" = "$agent" ] || fail "its agent was ended"
    until_true 20 is_below $(($1 * MIB)) || fail "nothing is taken out: $(ctl status)"
    order verify verified "$2"
    [ "$(cell status STATE)" = managed ] || fail "it is not managed any more: $(ctl status)"
}

start_daemon
paged 8M true || exit 1
before=$(calm_descriptors)
start_holder paged 256M "$holder" 100
group=$(cell status GROUP)
pid=$(cell status PID)
agent=$(agent_of "$pid")

# A capture waits for its agent, and the program does not: what it maps and fills meanwhile is
# registered, and stops it.  First of all: what is moved out stops it as well.
echo "the agent, and the program grows"
paused_for 1 50M "$agent"
echo "grow 512" >&8
pause 2
is_below $(((100 + 64) * MIB)) || fail "$(cell status RESIDENT) bytes are resident"
kill -CONT "$agent"
until_true 60 says grown || fail "it does not grow"
goes_on 50 1

echo "program and agent"
paused 40M "$pid" "$agent"
ctl check >"$tmp/check" 2>&1 && fail "a check says: $(cat "$tmp/check")"
grep -q 'stopped or frozen' "$tmp/check" || fail "a check says: $(cat "$tmp/check")"
kill -CONT "$pid" "$agent"
goes_on 40 2

echo "the agent, and nobody waits"
paused 30M "$agent"
kill -CONT "$agent"
goes_on 30 3

freezer=/sys/fs/cgroup/freezer
if mkdir "$freezer/pagerd-test-$$" 2>/dev/null; then
    echo "frozen"
    cgroup=$freezer/pagerd-test-$$
    for p in "$pid" "$agent"; do
        echo "$p" >"$cgroup/cgroup.procs"
    done
    echo FROZEN >"$cgroup/freezer.state"
    ctl limit "$group" 20M >/dev/null
    pause $((timeout + 2))
    echo THAWED >"$cgroup/freezer.state"
    goes_on 20 4
    for p in "$pid" "$agent"; do
        echo "$p" >"$freezer/cgroup.procs"
    done
    rmdir "$cgroup"
else
    echo verify >&8
fi

echo "the agent, and the program waits"
kill -STOP "$agent"
until_true 5 is_stopped "$agent" || fail "pid $agent does not stop"
ctl limit "$group" 10M >/dev/null
order verify verified 5
[ "$(cell status STATE)" = served-only ] || fail "it waited for nothing: $(ctl status)"
kill -CONT "$(parent_of "$pid")" # pagerctl stops when its program is stopped
end_holder
everything_back "$before"
finish
