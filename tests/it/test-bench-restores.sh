#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# bench/paging, small: it prints its ratios, and leaves zram, swap and cgroups as they
# were, at its end and when it is interrupted.  Not a measurement.

# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"

paging=("$top_srcdir/bench/paging" "--build=${top_builddir:?}" --mib=16 --random=256 --node=ram
        --placement=one-core)

state()
{
    cut -f1 /proc/swaps
    ls /sys/block
    find /sys/fs/cgroup -maxdepth 3 -name 'pagerd-bench-*' 2>/dev/null
    cat /sys/module/haltpoll/parameters/guest_halt_poll_ns 2>/dev/null
}

own_swap_is_on()
{
    [ "$(grep -c zram /proc/swaps)" -gt "$swaps_before" ]
}

if [ "$(id -u)" != 0 ]; then
    "${paging[@]}" >"$tmp/out" 2>&1
    [ $? = 77 ] && grep -q '^skipped: root is needed' "$tmp/out" || { cat "$tmp/out"; fail "without root"; }
    exit "$failed"
fi

before=$(state)
swaps_before=$(grep -c zram /proc/swaps)

"${paging[@]}" --rounds=1 >"$tmp/out" 2>&1
status=$?
if [ $status = 77 ]; then
    cat "$tmp/out"
    exit 77
fi
[ $status = 0 ] || { cat "$tmp/out"; fail "its exit status is $status"; }
for name in page-out sequential random-p50; do
    grep -Eq "^ratio one-core/ram/$name [0-9.]+ \([0-9.]+\.\.[0-9.]+\) target [<>]= [0-9.]+ (ok|missed)$" \
        "$tmp/out" || fail "no ratio of $name"
done
[ "$(state)" = "$before" ] || fail "it leaves behind: $(state)"

"${paging[@]}" --rounds=1000 >"$tmp/out" 2>&1 &
bench=$!
until_true 30 own_swap_is_on || fail "no swap of its own"
kill -INT $bench
wait $bench
status=$?
[ $status = 130 ] || { cat "$tmp/out"; fail "interrupted, its exit status is $status"; }
[ "$(state)" = "$before" ] || fail "interrupted, it leaves behind: $(state)"
exit "$failed"
