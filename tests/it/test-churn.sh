#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# churn, an ordinary program that checks every byte of its memory, at a quarter
# of what it needs, while `pagerctl check` is asked all the time.  Afterwards
# nothing is left in the daemon.
#
# CHURN_SECONDS: of each of the five parts (3); CHURN_SEED: to see a failure again.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
churn=${top_builddir:?}/tests/it/churn
seconds=${CHURN_SECONDS:-3}
limit_mib=48

# part NAME OPTION...
part()
{
    local name=$1 job status
    shift
    echo "$name"
    paged ${limit_mib}M "$churn" --seconds="$seconds" ${CHURN_SEED:+--seed="$CHURN_SEED"} "$@" &
    job=$!
    check_while "$job"
    wait "$job"
    status=$?
    [ "$status" = 0 ] || fail "$name: churn ended with status $status"
    echo "  $nr_checks checks held; moved out $(counter pgsteal), brought back" \
        "$(counter pgmajfault), huge pages moved out $(counter capture_huge)," \
        "most resident $(($(counter resident_peak_bytes) >> 20)) MiB, forks $(counter forks)"
    [ "$nr_checks" -gt 2 ] || fail "$name: $nr_checks checks only"
    [ "$(counter pgsteal)" -gt 10000 ] || fail "$name: only $(counter pgsteal) pages were moved"
    everything_back "$before"
}

# is_inside: the limit holds, with a margin for what is mapped and filled between two looks
# at the maps.
is_inside()
{
    local most=$(((limit_mib + 64) << 20))
    [ "$(counter resident_peak_bytes)" -le "$most" ] ||
        fail "$(counter resident_peak_bytes) bytes were resident, more than $most"
    if grep -qE '\[(always|madvise)\]' /sys/kernel/mm/transparent_hugepage/enabled; then
        [ "$(counter capture_huge)" -gt 0 ] || fail "no huge page was moved as a whole"
    fi
}

start_daemon
paged 8M true || exit 1 # so that there is a worker
before=$(calm_descriptors)

part "one thread" --no-forks
is_inside
part "three threads" --no-forks --threads=3
is_inside
part "one thread, forks"
is_inside
part "three threads, forks" --threads=3
is_inside
# Nothing can be moved out of a child of such a clone: it has what it touches.
part "three threads, clones by an instruction" --threads=3 --raw-clones
finish
