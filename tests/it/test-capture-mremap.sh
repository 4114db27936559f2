#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What the kernel does not let go, and the two ways to take pages out.  By move: pages
# that are pinned, shared since a fork, protected or locked stay where they are, each
# counted, and what a device writes to them arrives.  By mremap (--unsafe-pins): pinned
# and shared ones are taken, and what is written to a pinned one that came back is lost;
# protected and locked ones stay.  Ordinary programs keep every byte.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
# shellcheck source=tests/it/holder.sh
. "${top_srcdir:?}/tests/it/holder.sh"
pinned=${top_builddir:?}/tests/it/pinned

# count NAME: of the running daemon
count()
{
    ctl stat --json | sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" | head -n 1
}

# reclaim_raises NAME WHY [LEAST]: all is asked for, and that counter has risen
reclaim_raises()
{
    local was least=${3:-16}
    was=$(count "$1")
    ctl reclaim "$group" >/dev/null || fail "$2: reclaim: status $?"
    echo "  $2: $1 rose by $(($(count "$1") - was))"
    [ "$(count "$1")" -ge $((was + least)) ] || fail "$2: $1 was $was and is $(count "$1")"
}

# start_pinned: everything of it is adopted, and was out and back
start_pinned()
{
    start_holder "${bare_form[@]}" "$pinned"
    group=$(ctl status --noheadings --output=COMMAND,GROUP | awk '$1 == "pinned" { print $2 }')
    reclaim_raises pgsteal_proactive "nothing holds a page"
    nr_verified=0
    look
}

# look: every byte is right
look()
{
    nr_verified=$((nr_verified + 1))
    order verify verified "$nr_verified"
}

# What neither way takes.
refused_by_both()
{
    order lock locked
    reclaim_raises capture_refused "locked"
    look
    order protect protected
    reclaim_raises capture_refused "read-only" 1024
    look
}

echo "by move"
start_daemon
paged 8M true || exit 1
before=$(calm_descriptors)
start_pinned
order pin pinned
reclaim_raises capture_busy "a device may write"
order receive arrived
order unpin unpinned
look
order fork forked
reclaim_raises capture_busy "a child has them too"
order reap reaped
look
refused_by_both
[ "$(count capture_remapped)" = 0 ] || fail "something was taken by mremap"
end_holder
everything_back "$before"
stop_daemon

echo "by mremap"
start_daemon --capture=mremap --unsafe-pins
paged 8M true || exit 1
before=$(calm_descriptors)
start_pinned
order pin pinned
reclaim_raises capture_remapped "a device may write"
order receive lost
order unpin unpinned
look
order fork forked
reclaim_raises capture_remapped "a child has them too"
order reap reaped
look
refused_by_both
end_holder
everything_back "$before"

# keeps LIMIT PROGRAM...: its bytes are right, and mremap was what took them
keeps()
{
    echo "  ${2##*/} ${*:3}"
    paged "$@" >"$tmp/out" 2>&1 || fail "status $?: $(cat "$tmp/out")"
    [ "$(counter capture_remapped)" -gt 5000 ] ||
        fail "only $(counter capture_remapped) pages were taken by mremap"
}

echo "ordinary programs"
keeps 16M "${top_builddir:?}/examples/fill-and-verify" 64
keeps 16M "${top_builddir:?}/tests/it/churn" --mib=48 --seconds=1 --no-forks
keeps 16M "${top_builddir:?}/tests/it/torture" --mib=64 --seconds=2 --no-pins --threads=1 --no-forks
everything_back "$before"

echo "agents killed"
for round in $(seq 6); do
    paged 16M "${top_builddir:?}/tests/it/churn" --mib=48 --seconds=1 --no-forks >"$tmp/out" 2>&1 &
    job=$!
    until_true 20 find_program || fail "round $round: nothing is moved out"
    pause "0.$((RANDOM % 3))$((RANDOM % 10))"
    agent=$(agent_of "$program")
    [ -z "$agent" ] || kill -9 "$agent"
    wait "$job" || fail "round $round: status $?: $(cat "$tmp/out")"
done
everything_back "$before"

echo "forks"
keeps 16M "${top_builddir:?}/tests/it/churn" --mib=48 --seconds=1
finish
