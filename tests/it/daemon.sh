# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A daemon of a test's own, and questions to it.  Sourced by tests that then have
#
#   $tmp      a directory that goes away with the test
#   $socket   the daemon's socket
#   $daemon   its pid
#
# and end with "finish".

tmp=$(mktemp -d) || exit 99
socket=$tmp/sock
daemon=
failed=0

clean_up()
{
    local pid
    for pid in $(jobs -p); do
        kill -9 "$pid" 2>/dev/null
    done
    rm -rf "$tmp"
}
trap clean_up EXIT

fail()
{
    echo "FAIL: $*"
    failed=1
}

# pause SECONDS: there is nothing to wait for but time, as between two looks
pause()
{
    read -r -t "$1" <> <(:)
}

# until_true SECONDS COMMAND...: looks every 20 ms; status 1 when it never came true
until_true()
{
    local end=$((SECONDS + $1 + 1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        pause 0.02
    done
    return 0
}

# start_daemon OPTION...
start_daemon()
{
    local word=
    [ -p "$tmp/ready" ] || mkfifo "$tmp/ready"
    "${PAGERD:?}" --socket="$socket" --ready-fd=3 "$@" 3>"$tmp/ready" 2>"$tmp/daemon.log" &
    daemon=$!
    read -r -t 30 word <"$tmp/ready"
    if [ "$word" != ok ]; then
        echo "no daemon: $word"
        [ "$(id -u)" = 0 ] && exit 1
        exit 77
    fi
}

ctl()
{
    local command=$1
    shift
    "${PAGERCTL:?}" "$command" --socket="$socket" "$@"
}

# paged LIMIT PROGRAM...: under the limit; the counters go to $tmp/stats.json
paged()
{
    local limit=$1
    shift
    "${PAGERCTL:?}" run --socket="$socket" --limit="$limit" --stats="$tmp/stats.json" -- "$@"
}

# counter NAME: of $tmp/stats.json
counter()
{
    sed -n "s/^ *\"$1\": \([0-9]*\).*/\1/p" "$tmp/stats.json"
}

# counter_now NAME: as the daemon has it, of all groups since its start
counter_now()
{
    ctl stat --noheadings --output=NAME,VALUE | awk -v name="$1" '$1 == name { print $2 }'
}

# held: bytes that all nodes hold, but the resident one
held()
{
    ctl nodes --noheadings --bytes --output=TYPE,USED | awk '$1 != "resident" { n += $2 } END { print n + 0 }'
}
holds_nothing()
{
    [ "$(held)" = 0 ]
}

no_clients()
{
    [ "$(ctl status --noheadings --output=PID | grep -c '[0-9]')" = 0 ]
}

# descriptors: open ones of the daemon and its workers
descriptors()
{
    local pid n=0
    for pid in "$daemon" $(cat "/proc/$daemon/task/$daemon/children"); do
        n=$((n + $(find "/proc/$pid/fd" -mindepth 1 | wc -l)))
    done
    echo "$n"
}

# How many they are when nobody asks: a control connection takes a moment to be closed.
calm_descriptors()
{
    local last=-1 same=0 now
    for _ in $(seq 500); do
        now=$(descriptors)
        same=$((now == last ? same + 1 : 0))
        last=$now
        [ "$same" -ge 5 ] && break
        pause 0.02
    done
    echo "$last"
}
has_descriptors()
{
    [ "$(descriptors)" = "$1" ]
}

# everything_back DESCRIPTORS: what ended programs had is given back
everything_back()
{
    until_true 10 no_clients || fail "clients are left: $(ctl status --noheadings)"
    until_true 10 holds_nothing || fail "nodes still hold $(held) bytes"
    until_true 10 has_descriptors "$1" || fail "$(descriptors) descriptors are open, before it were $1"
    ctl check >"$tmp/check" 2>&1 || fail "after all: $(cat "$tmp/check")"
}

# agent_of PID: its agent
agent_of()
{
    local pid
    for pid in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = pagerd-agent ] && echo "$pid"
    done
}

# parent_of PID: status 1 when it has ended
parent_of()
{
    sed -n 's/^PPid:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null
}

# find_program [NAME]: the managed one of that name (churn) which pagerctl runs: its pid in
# $program once it is attached and has something out.  Its children are called the same, and
# those of a program that was killed live on for a while.
program=
# shellcheck disable=SC2120 # NAME is for some of them
find_program()
{
    local pid
    for pid in $(ctl status --noheadings --bytes --output=PID,COMMAND,STATE,OUT |
        awk -v name="${1:-churn}" '$2 == name && $3 == "managed" && $4 > 0 { print $1 }'); do
        if [ "$(cat "/proc/$(parent_of "$pid")/comm" 2>/dev/null)" = pagerctl ]; then
            # shellcheck disable=SC2034
            program=$pid
            return
        fi
    done
    return 1
}

# found_or_over JOB: a short one may end before it is found, when the machine is busy
found_or_over()
{
    find_program || ! kill -0 "$1" 2>/dev/null
}

# check_while JOB: `pagerctl check` has to hold each 100 ms as long as the job runs; $nr_checks
nr_checks=0
check_while()
{
    local now next=${EPOCHREALTIME/[.,]/} # in us

    nr_checks=0
    while kill -0 "$1" 2>/dev/null; do
        if ctl check >"$tmp/check" 2>&1; then
            nr_checks=$((nr_checks + 1))
        else
            fail "check: $(cat "$tmp/check")"
            pause 1
        fi
        now=${EPOCHREALTIME/[.,]/}
        next=$((next + 100000))
        if [ "$now" -lt "$next" ]; then
            pause "0.$(printf %06d $((next - now)))"
        else
            next=$now
        fi
    done
}

stop_daemon()
{
    kill "$daemon"
    wait "$daemon" || fail "the daemon ended with status $?"
    rm -f "$tmp/ready"
}

finish()
{
    stop_daemon
    [ "$failed" = 0 ] || {
        echo "the daemon's log:"
        tail -n 30 "$tmp/daemon.log"
    }
    exit "$failed"
}
