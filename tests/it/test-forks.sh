#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Programs that fork (./forks says how), all of whose processes check every byte and
# write, under a limit that holds for all of them together; `pagerctl check` is asked
# meanwhile, and afterwards nothing is left in the daemon.
#
# FORKS_SECONDS: of each part (1).

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
forks=${top_builddir:?}/tests/it/forks
seconds=${FORKS_SECONDS:-1}
limit_mib=48

# part HOW MIB: sets $managed to the most clients that were managed at once
part()
{
    local job status now
    managed=0
    paged ${limit_mib}M "$forks" "$1" "$2" "$seconds" >"$tmp/out" 2>&1 &
    job=$!
    while kill -0 "$job" 2>/dev/null; do
        now=$(ctl status --noheadings --output=STATE | grep -c managed)
        managed=$((now > managed ? now : managed))
        ctl check >"$tmp/check" 2>&1 || fail "$1: check: $(cat "$tmp/check")"
        pause 0.05
    done
    wait "$job"
    status=$?
    [ "$status" = 0 ] || fail "$1: status $status: $(cat "$tmp/out")"
    echo "$1: most managed at once $managed, forks $(counter forks), moved out $(counter pgsteal)," \
        "brought back $(counter pgmajfault), unshared $(counter unshared)," \
        "most resident $(($(counter resident_peak_bytes) >> 20)) MiB"
    cat "$tmp/out"
    [ "$(counter poisoned)" = 0 ] || fail "$1: $(counter poisoned) pages were poisoned"
    [ "$(counter pgsteal)" -gt 1000 ] || fail "$1: only $(counter pgsteal) pages were moved"
    everything_back "$before"
}

# is_inside: the limit holds for parent and children together
is_inside()
{
    [ "$(counter resident_peak_bytes)" -le $(((limit_mib + 64) << 20)) ] ||
        fail "$(counter resident_peak_bytes) bytes were resident"
}

# has_agents NR: so many processes were managed at once, children too
has_agents()
{
    [ "$managed" -ge "$1" ] || fail "only $managed processes were managed at once"
}

start_daemon
paged 8M true || exit 1
before=$(calm_descriptors)

part live 96
is_inside
has_agents 5
part prefork 192
is_inside
has_agents 5
part daemon 96
is_inside
has_agents 2
part thread 96
is_inside
has_agents 2
part bare 96
is_inside
has_agents 2
part orphan 96
is_inside
has_agents 1
part unshare 96
is_inside
[ "$(counter unshared)" -gt 0 ] || fail "unshare: no page that a fork left shared was taken"

# No handler of fork() runs in these children, but libc's function is the shim's.
part syscall 96
is_inside
has_agents 2
part clone 96
is_inside
has_agents 2
part _Fork 96
is_inside
has_agents 2

# Nobody knows of this child: served without agent, and not above the limit for it.
part raw 56
is_inside

part kill 64

echo "fork, exec and wait, bare:  $("$forks" exec)"
echo "fork, exec and wait, paged: $(paged ${limit_mib}M "$forks" exec 2>&1)"
echo "fork, _exit and wait, bare:  $("$forks" exit)"
echo "fork, _exit and wait, paged: $(paged ${limit_mib}M "$forks" exit 2>&1)"
everything_back "$before"
kill "$daemon"
wait "$daemon" || fail "the daemon ended with status $?"

# Twelve children share what nearly fills both nodes: each has its entries, and its references.
start_daemon --ram=16M --swap="$tmp/swap:32M"
paged 8M "$forks" crowd 40 >"$tmp/out" 2>&1 || fail "crowd: status $?: $(cat "$tmp/out")"
[ "$(counter poisoned)" = 0 ] || fail "crowd: $(counter poisoned) pages were poisoned"
[ "$(counter pswpout)" -gt 2048 ] || fail "crowd: hardly anything was written to the swap file"
grep -q 'could not be kept' "$tmp/daemon.log" && fail "crowd: $(cat "$tmp/daemon.log")"
until_true 10 holds_nothing || fail "crowd: something is left in the nodes"
finish
