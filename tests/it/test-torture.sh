#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# torture, a program whose threads do everything at once with the same memory, at a
# quarter of what it needs, while `pagerctl check` is asked all the time.  Zero wrong
# bytes, and nothing is left in the daemon.  The limit holds for the program and its
# children together.  Another part has a pool that is too small for it, and a swap file
# behind that; the last one children that nobody can know of, and is short.
#
# TORTURE_MIB (256), TORTURE_SECONDS (10): of each of the first three parts; TORTURE_SEED: to
# see a failure again.  test-torture-long.sh is the same with more of both.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
torture=${top_builddir:?}/tests/it/torture
mib=${TORTURE_MIB:-256}
seconds=${TORTURE_SECONDS:-10}
limit_mib=$((mib / 4))

# part NAME SECONDS OPTION...
part()
{
    local name=$1 job status seconds=$2
    shift 2
    echo "$name"
    paged ${limit_mib}M "$torture" --mib="$mib" --seconds="$seconds" \
        ${TORTURE_SEED:+--seed="$TORTURE_SEED"} "$@" &
    job=$!
    check_while "$job"
    wait "$job"
    status=$?
    [ "$status" = 0 ] || fail "$name: torture ended with status $status"
    echo "  $nr_checks checks held; moved out $(counter pgsteal), brought back" \
        "$(counter pgmajfault), huge pages moved out $(counter capture_huge)," \
        "most resident $(($(counter resident_peak_bytes) >> 20)) MiB, forks $(counter forks)"
    [ "$nr_checks" -ge $((2 * seconds)) ] || fail "$name: $nr_checks checks only"
    [ "$(counter pgsteal)" -gt 10000 ] || fail "$name: only $(counter pgsteal) pages were moved"
    everything_back "$before"
}

is_inside()
{
    local most=$(((limit_mib + 64) << 20))
    [ "$(counter resident_peak_bytes)" -le "$most" ] ||
        fail "$(counter resident_peak_bytes) bytes were resident, more than $most"
}

start_daemon
paged 8M true || exit 1 # so that there is a worker
before=$(calm_descriptors)
part "no forks" "$seconds" --no-forks
is_inside
part "forks" "$seconds"
is_inside
stop_daemon
start_daemon --ram=$((mib / 2))M --swap="$tmp/swap:$((mib * 8))M"
paged 8M true || exit 1
before=$(calm_descriptors)
part "swap file" "$seconds"
is_inside
[ "$(counter pswpin)" -gt 0 ] || fail "nothing was read from the swap file"
# Nothing can be moved out of a child of such a clone: it has what it touches.
part "clones by an instruction" $((seconds / 3 + 1)) --raw-clones
finish
