#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Switches each deliberate fault of the core on (base/mutant.c) and demands that
# the simulator finds it within so many schedules, of the kind where it shows most;
# without one the same seeds pass.

set -u
sim=${top_builddir:?}/tests/sim/sim
most=60000
[ -z "${RARE_MUTANTS:-}" ] || most=500000
failed=0

for mutant in $("$sim" --mutants); do
    case $mutant in
    held-not-held | adopted-while-changing | who-left-not-first | order-guessed | poison-forgotten | \
        eexist-not-woken) focus=moves ;;
    remap-repeated | child-served-unfinished | recovery-* | message-dropped | results-not-wiped)
        focus=crash ;;
    write-not-noted) focus=disk ;;
    read-while-taking | own-move-applied) focus=remap ;;
    child-not-made-sure | late-entered | wiped-given | doubt-answered) focus=forks ;;
    doubt-not-saved) focus=crash ;;
    fill-not-saved) focus=huge ;;
    fill-despite-events) focus=huge ;;
    *) focus=none ;;
    esac
    # These show once in thousands of schedules and more: minutes, which make check has not.
    case $mutant in
    fill-despite-events | order-guessed) rare=1 ;;
    *) rare=0 ;;
    esac
    [ $rare = "${RARE_MUTANTS:-0}" ] || continue
    out=$("$sim" --seed=1 --schedules=$most --no-shrink --focus=$focus --mutant="$mutant" 2>&1)
    status=$?
    how=$(printf '%s\n' "$out" | sed -n 's/^FAILED: seed [0-9]* step [0-9]*: //p')
    after=$(printf '%s\n' "$out" | sed -n 's/^\([0-9]*\) schedules in .*/\1/p')
    if [ $status = 1 ] && [ -n "$how" ]; then
        echo "$mutant: found after $((after + 1)) schedules: $how"
    else
        echo "$mutant: NOT found in $most schedules (exit status $status)"
        printf '%s\n' "$out" | tail -n 5
        failed=1
    fi
done

for focus in none moves crash disk huge remap forks; do
    many=2000
    if [ $focus = huge ]; then many=200; fi
    if out=$("$sim" --seed=1 --schedules=$many --focus=$focus --mutant=none 2>&1); then
        echo "none: the same seeds pass (focus=$focus)"
    else
        printf '%s\n' "$out"
        failed=1
    fi
done
exit $failed
