#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Programs that are killed while their memory is on the move, or whose agent is, or a
# child of theirs: the daemon goes on, and has neither memory nor descriptors left of
# them.  After an agent's end the program has to end well, with every byte right.
#
# KILL_ROUNDS (30): programs; KILL_SEED: to see a failure again.
# test-kills-leave-nothing-long.sh is the same with a thousand.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
churn=${top_builddir:?}/tests/it/churn
rounds=${KILL_ROUNDS:-30}
RANDOM=${KILL_SEED:-$$}
echo "KILL_SEED=${KILL_SEED:-$$}"

# child_of PID: a forked one, not the agent; nothing while there is none
child_of()
{
    local pid
    for pid in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = churn ] && echo "$pid" && return
    done
    return 1
}

# Children of a program that was killed go on for a while, as slowly as their limit makes them.
# What they and all others have inherited and never close tells when the last one has ended.
start_watch()
{
    exec 7>"$tmp/alive"
}
all_have_ended()
{
    local status=0
    exec 7>&-
    read -r -t 70 -u 6 || status=$?
    [ "$status" = 1 ] || fail "programs live on"
    start_watch
}

# The memory of the daemon's own processes, without the frames that they share, in KiB.
private_kib()
{
    local pid
    for pid in "$daemon" $(cat "/proc/$daemon/task/$daemon/children"); do
        cat "/proc/$pid/status"
    done | awk '/^RssAnon:/ { n += $2 } END { print n }'
}

# all_states JOB: what each process of the daemon, and of a job and its agents, waits for in the kernel
all_states()
{
    local todo=("$daemon" "$1") pid
    while [ ${#todo[@]} -gt 0 ]; do
        pid=${todo[0]}
        # shellcheck disable=SC2207 # numbers
        todo=("${todo[@]:1}" $(cat "/proc/$pid/task"/*/children 2>/dev/null))
        echo "$pid $(cat "/proc/$pid/comm"): $(sed -n 's/^State:[[:space:]]*//p' "/proc/$pid/status")"
        sed 's/^/    /' "/proc/$pid/stack"
    done 2>/dev/null
}

# program_of JOB: the program itself, as soon as it is there
program_of()
{
    local todo=("$1") pid
    while [ ${#todo[@]} -gt 0 ]; do
        pid=${todo[0]}
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = churn ] && echo "$pid" && return
        # shellcheck disable=SC2207 # numbers
        todo=("${todo[@]:1}" $(cat "/proc/$pid/task"/*/children 2>/dev/null))
    done
    return 1
}

# kill_early ROUND: while it starts, becomes known to the daemon, or fills its memory
kill_early()
{
    local job status
    paged 12M "$churn" --mib=24 --seconds=60 >"$tmp/out" 2>&1 &
    job=$!
    until_true 5 program_of "$job" >"$tmp/program" || fail "round $1: it did not start"
    pause "0.0$((RANDOM % 10))$((RANDOM % 10))"
    kill -9 "$(cat "$tmp/program")" && nr_killed[program]=$((${nr_killed[program]} + 1))
    wait "$job"
    status=$?
    [ "$status" = 137 ] || fail "round $1: the program was killed early: status $status"
}

# kill_one ROUND program|agent|child
kill_one()
{
    local job victim status
    paged 12M "$churn" --mib=24 --seconds="$([ "$2" = program ] && echo 60 || echo 1)" \
        --threads=$((1 + RANDOM % 2)) >"$tmp/out" 2>&1 &
    job=$!
    program=
    : >"$tmp/states"
    until_true 2 found_or_over "$job" || all_states "$job" >"$tmp/states"
    until_true 30 found_or_over "$job" ||
        fail "round $1: nothing is moved out: $(cat "$tmp/out" "$tmp/states")"
    pause "0.$((RANDOM % 3))$((RANDOM % 10))"
    victim=
    [ -n "$program" ] && case $2 in
    program) victim=$program ;;
    agent) victim=$(agent_of "$program") ;;
    child) until_true 1 child_of "$program" >"$tmp/child" && victim=$(cat "$tmp/child") ;;
    esac
    if [ -n "$victim" ] && kill -9 "$victim" 2>/dev/null; then
        nr_killed[$2]=$((${nr_killed[$2]} + 1))
    fi
    wait "$job"
    status=$?
    case $2 in
    program) [ "$status" = 137 ] || fail "round $1: the program was killed: status $status" ;;
    agent) [ "$status" = 0 ] || fail "round $1: the agent was killed: status $status: $(cat "$tmp/out")" ;;
    # It tells of a child that ended as it should not; never of a wrong byte.
    child)
        if [ "$status" != 0 ] && ! grep -qE 'ended with status 0x9$' "$tmp/out"; then
            fail "round $1: a child was killed: status $status: $(cat "$tmp/out")"
        fi
        ;;
    esac
}

# What AddressSanitizer keeps of freed memory, to see it used, would be growth; so does what its
# allocator does not give back at once.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=0:thread_local_quarantine_size_kb=0:allocator_release_to_os_interval_ms=0"
start_daemon
mkfifo "$tmp/alive"
exec 8<>"$tmp/alive" 6<"$tmp/alive" 8>&- # an open that waits for the other end would wait for ever
start_watch
declare -A nr_killed=([program]=0 [agent]=0 [child]=0)
what=(program agent child program child)
# What the first ones need for good is there before it is measured.
for round in 1 2 3 4 5; do
    kill_one "$round" "${what[round % 5]}"
done
all_have_ended
until_true 10 no_clients
before=$(calm_descriptors)
kib=$(private_kib)
for round in $(seq "$rounds"); do
    if [ $((round % 5)) = 3 ]; then
        kill_early "$round"
    else
        kill_one "$round" "${what[round % 5]}"
    fi
    if [ $((round % 50)) = 0 ]; then
        all_have_ended
        everything_back "$before"
    fi
    [ "$failed" = 0 ] || break
done
all_have_ended
everything_back "$before"
after=$(private_kib)
echo "killed: ${nr_killed[program]} programs, ${nr_killed[agent]} agents, ${nr_killed[child]} children;" \
    "the daemon's memory was $kib KiB, is $after"
# What stays, and does not grow with the rounds: 8 bytes for each frame that was used for the
# first time (the pool's array), and what lies between small blocks of the heap.  Together
# 160 KiB in 80 rounds.
[ "$after" -le $((kib + 1024)) ] || fail "the daemon's memory grew by more than 1 MiB"
[ "$failed" = 1 ] ||
    [ $((${nr_killed[program]} + ${nr_killed[agent]} + ${nr_killed[child]})) -ge $((rounds / 2)) ] ||
    fail "too few were killed"
for victim in program agent child; do
    [ "$failed" = 1 ] || [ ${nr_killed[$victim]} -ge $((rounds / 10)) ] ||
        fail "too few of them: ${nr_killed[$victim]} times $victim"
done
paged 16M "${top_builddir:?}/examples/fill-and-verify" 32 >"$tmp/out" || fail "afterwards: status $?"
finish
