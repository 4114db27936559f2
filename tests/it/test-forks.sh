#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Pages that were moved out, then guarded and unguarded, read as zeros.
set -eu
"${PAGERCTL:?}" run --limit=24M --stats=guarded-stats.json -- "${top_builddir:?}/tests/it/guarded"
grep -q '"pgsteal": *[1-9]' guarded-stats.json
rm -f guarded-stats.json
