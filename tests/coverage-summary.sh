#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Lines run, by file of SRC, in a build tree (the current directory) that was
# configured with --enable-coverage and has run its tests.
#
# usage: coverage-summary.sh SRC

set -eu
src=$1
find . -path '*libpagerd_core_la*' -prune -o -name '*.gcda' -print | sort | while read -r data; do
    gcov --no-output --object-file "$data" "$data" 2>/dev/null || :
done | awk -v src="$src/" '
    /^File / { file = $2; gsub("\047", "", file) }
    /^Lines executed:/ && index(file, src) && file ~ /\.c$/ {
        split($2, part, ":")
        if (part[2] + 0 > best[file]) { best[file] = part[2] + 0 }
        lines[file] = $4
    }
    END {
        for (file in lines) {
            printf "%6.1f%% of %5d  %s\n", best[file], lines[file], substr(file, index(file, src) + length(src))
            run += best[file] * lines[file] / 100
            all += lines[file]
        }
        if (all) printf "%6.1f%% of %5d  all\n", 100 * run / all, all
    }' | sort -k4
