#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A million schedules on both cores, from a seed that is printed: half of them with
# more of one kind of trouble each.  Some ten minutes.
set -eu
sim=${top_builddir:?}/tests/sim/sim

seed=${SIM_SEED:-$(($(date +%s) * 1000))}
echo "seeds from $seed"
"$sim" --seed="$seed" --schedules=502500 --stats
for focus in crash disk forks remap moves; do
    echo "focus: $focus"
    "$sim" --seed="$seed" --schedules=97500 --focus=$focus --stats
done
echo "focus: huge"
"$sim" --seed="$seed" --schedules=10000 --focus=huge --stats
