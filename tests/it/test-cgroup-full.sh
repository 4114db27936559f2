#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The program's memory cgroup is full when a page of it is to come back (UFFDIO_COPY
# charges it, ENOMEM): what happens is what the kernel's own rules say.  Either the
# program waits, and status and the log say for what, and when there is room again it
# goes on with every byte right; or the kernel kills it, and the daemon goes on.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
# shellcheck source=tests/it/holder.sh
. "${top_srcdir:?}/tests/it/holder.sh"
limit=$((64 << 20))
cgroup=
ballast=/dev/shm/pagerd-ballast-$$

if [ -e /sys/fs/cgroup/memory/memory.limit_in_bytes ]; then
    parent=/sys/fs/cgroup/memory
    limit_file=memory.limit_in_bytes
else
    parent=/sys/fs/cgroup
    limit_file=memory.max
    grep -qw memory "$parent/cgroup.subtree_control" 2>/dev/null || {
        echo "skipped: no memory cgroup can be made here"
        exit 77
    }
fi
if [ ! -w "$parent" ]; then
    echo "skipped: needs a memory cgroup of its own (root)"
    exit 77
fi

remove_cgroup()
{
    rm -f "$ballast"
    rmdir "$cgroup"
}
remove_all()
{
    clean_up
    rm -f "$ballast"
    [ -z "$cgroup" ] || [ ! -d "$cgroup" ] || until_true 10 rmdir "$cgroup" 2>/dev/null
}
trap remove_all EXIT

# inside COMMAND...: in the cgroup
inside()
{
    (
        echo "$BASHPID" >"$cgroup/cgroup.procs"
        exec "$@"
    )
}

start_program()
{
    cgroup=$parent/pagerd-test-$$
    mkdir "$cgroup" && echo "$limit" >"$cgroup/$limit_file" || exit 1
    # Whatever swap the machine has is none of ours.
    if [ -e "$cgroup/memory.swappiness" ]; then
        echo 0 >"$cgroup/memory.swappiness"
    elif [ -e "$cgroup/memory.swap.max" ]; then
        echo 0 >"$cgroup/memory.swap.max"
    fi
    start_holder inside "${PAGERCTL:?}" run --socket="$socket" --limit=32M \
        --stats="$tmp/stats.json" -- "$holder" 96
}

# From here on nothing is free in the cgroup, until end_ballast.
start_ballast()
{
    mkfifo "$tmp/ballast"
    "${top_builddir:?}/tests/it/cgroup-ballast" "$cgroup" "$ballast" <"$tmp/ballast" &
    exec 4>"$tmp/ballast"
}
end_ballast()
{
    exec 4>&-
    rm -f "$ballast" "$tmp/ballast"
}

# Told before the cgroup is full, for then it may be killed at once.
verify_often()
{
    printf '%s\n' verify{,,,,}{,,,} >&8
}

says_so()
{
    ctl status --noheadings --output=COMMAND,NOTE |
        grep -q "^ *holder  *waits for memory: its cgroup is full"
}
is_in_log()
{
    grep "its cgroup is full (memory.max" "$tmp/daemon.log"
}

start_daemon
paged 8M true || exit 1
before=$(calm_descriptors)

if [ -e "$parent/memory.oom_control" ]; then
    start_program
    echo 1 >"$cgroup/memory.oom_control"
    verify_often
    start_ballast
    until_true 20 says_so || fail "status does not say that the cgroup is full: $(ctl status)"
    ctl status --noheadings
    says verified 20 && fail "the program did not wait"
    ctl check >"$tmp/check" 2>&1 || fail "while it waits: $(cat "$tmp/check")"
    is_in_log || fail "the log does not say it"
    end_ballast
    until_true 60 says verified 20 || fail "the program does not go on"
    end_holder
    [ "$(counter fill_no_memory)" -gt 0 ] || fail "nothing was counted"
    grep "agent" "$tmp/daemon.log" && fail "its agent was ended"
    until_true 10 remove_cgroup
    everything_back "$before"
fi

start_program
is_killed()
{
    ! kill -0 "$job" 2>/dev/null
}
verify_often
start_ballast
until_true 20 is_killed || fail "nothing was killed"
wait "$job"
status=$?
exec 8>&-
end_ballast
[ "$status" = 137 ] || fail "the program was to be killed: status $status: $(cat "$tmp/said")"
until_true 10 remove_cgroup
everything_back "$before"
paged 16M "${top_builddir:?}/examples/fill-and-verify" 32 >"$tmp/out" || fail "afterwards: status $?"
finish
