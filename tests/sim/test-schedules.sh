#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# 40,000 schedules: half of them the same each time, half from a seed that is
# printed (sim --seed=N --schedules=1 runs one again).
exec "${top_builddir:?}/tests/sim/sim" --seed=1 --schedules=20000 --fresh=20000 --stats
