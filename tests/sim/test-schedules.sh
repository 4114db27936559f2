#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Some 40,000 schedules: half of them the same each time, half from a seed that is
# printed (sim --seed=N --schedules=1 --focus=FOCUS runs one again).
set -eu
sim=${top_builddir:?}/tests/sim/sim

"$sim" --seed=1 --schedules=18000 --fresh=14000 --stats
for focus in crash disk forks remap; do
    echo "focus: $focus"
    "$sim" --seed=1 --schedules=1000 --fresh=1000 --focus=$focus
done
echo "focus: huge"
"$sim" --seed=1 --schedules=100 --fresh=100 --focus=huge
