#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# 20,000 schedules: half of them the same each time, half from a seed that is
# printed (sim --seed=N --schedules=1 runs one again).
exec "${top_builddir:?}/tests/sim/sim" --seed=1 --schedules=10000 --fresh=10000 --stats
