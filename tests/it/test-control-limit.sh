#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# pagerctl limit: the limit of a group is shown, lowered and taken away while its program
# runs, and the program is held to it from then on.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
# shellcheck source=tests/it/holder.sh
. "${top_srcdir:?}/tests/it/holder.sh"
MIB=$((1 << 20))

is_below()
{
    [ "$(cell status RESIDENT)" -le "$1" ]
}
# shown ARG...: the LIMIT that the command prints
shown()
{
    ctl limit --noheadings --bytes --output=LIMIT "$@" | tr -d ' '
}
refused()
{
    local pattern=$1
    shift
    ctl limit "$@" >/dev/null 2>"$tmp/err" && fail "limit $*: no failure"
    grep -q "$pattern" "$tmp/err" || fail "limit $*: $(cat "$tmp/err")"
}

start_daemon
paged 8M true || exit 1
before=$(calm_descriptors)

start_holder paged 256M "$holder" 200
group=$(cell status GROUP)
pid=$(cell status PID)
[ "$(shown "$group")" = $((256 * MIB)) ] || fail "the limit of the group is $(shown "$group")"
[ "$(shown "$pid")" = $((256 * MIB)) ] || fail "the limit by pid is $(shown "$pid")"
[ "$(cell status OUT)" = 0 ] || fail "something is out below the limit"

echo "lowered while it sleeps"
[ "$(shown "$group" 64M)" = $((64 * MIB)) ] || fail "it is not set"
until_true 20 is_below $((64 * MIB)) || fail "resident are $(cell status RESIDENT) bytes"
order verify verified
until_true 20 is_below $((64 * MIB)) || fail "after a look resident are $(cell status RESIDENT)"
order "grow 50" grown
until_true 20 is_below $((64 * MIB)) || fail "grown, resident are $(cell status RESIDENT)"

echo "raised, and taken away"
[ "$(shown "$pid" 128M)" = $((128 * MIB)) ] || fail "it is not set by pid"
order verify verified 2
[ "$(cell status RESIDENT)" -gt $((70 * MIB)) ] || fail "it does not use what it may"
is_below $((129 * MIB)) || fail "resident are $(cell status RESIDENT) bytes of 128M"
[ "$(shown "$group" none)" = none ] || fail "it is not taken away"
order verify verified 3
[ "$(cell status RESIDENT)" -ge $((245 * MIB)) ] || fail "without a limit resident are only $(cell status RESIDENT)"
order "grow 50" grown 2
[ "$(cell status RESIDENT)" -ge $((295 * MIB)) ] || fail "without a limit it cannot grow"
[ "$(ctl limit --json "$group" | python3 -c 'import json, sys; print(json.load(sys.stdin)["limit_bytes"])')" = 0 ] ||
    fail "the JSON is wrong: $(ctl limit --json "$group")"

echo "a program that had none is held to one"
shown "$group" 32M >/dev/null
until_true 20 is_below $((32 * MIB)) || fail "resident are $(cell status RESIDENT) bytes of 32M"
order verify verified 4

echo "what is refused"
refused "below 8M" "$group" 4M
refused "below 8M" "$group" 8388607
refused "none. removes" "$group" 0
refused "not a size" "$group" 12X
refused "not a size" "$group" None
refused "no such group" no-such-group
refused "no such group" 0
refused "which group"
refused "one word too many" "$group" 64M 65M
[ "$(shown "$group")" = $((32 * MIB)) ] || fail "a refused limit was set: $(shown "$group")"

end_holder

echo "what the kernel fills above it by itself"
# MAP_POPULATE and MAP_LOCKED, as mmap(2) has them on all machines but a few
locked='import mmap, sys
try:
    m = mmap.mmap(-1, 48 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x2000 | 0x8000)
except OSError as e:
    print("may not lock:", e)
print("ready", flush=True)
sys.stdin.read()'
start_holder paged 16M python3 -c "$locked"
if grep "may not lock" "$tmp/said"; then
    exec 8>&-
    wait "$job"
else
    note() { ctl status --json | grep -q 'MiB above its limit.*locked'; }
    until_true 20 note || fail "status says: $(ctl status --json)"
    end_holder
    [ "$(counter limit_overshoot_bytes)" -ge $((32 * MIB)) ] ||
        fail "above the limit were found $(counter limit_overshoot_bytes) bytes"
fi
ctl check >/dev/null || fail "the tables do not hold"
everything_back "$before"
finish
