#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A million schedules on both cores, from a seed that is printed: a fifth of them with
# more crashes of the worker.  Some five minutes.
set -eu
sim=${top_builddir:?}/tests/sim/sim

seed=${SIM_SEED:-$(($(date +%s) * 1000))}
echo "seeds from $seed"
"$sim" --seed="$seed" --schedules=800000 --stats
"$sim" --seed="$seed" --schedules=200000 --focus=crash --stats
