#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs fill-and-verify bare and with a quarter of the memory it needs: the same
# summary, and pages that went out and came back.

set -eu
pagerctl=${PAGERCTL:-pagerctl}
program=${top_builddir:-.}/examples/fill-and-verify
mib=64
limit=16M

if [ "$(id -u)" != 0 ] && [ ! -w /dev/userfaultfd ]; then
    echo "neither root nor allowed to open /dev/userfaultfd"
    exit 77
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

bare=$("$program" $mib)
paged=$("$pagerctl" run --limit=$limit --stats="$tmp/stats.json" -- "$program" $mib)
echo "bare:  $bare"
echo "paged: $paged"

# counter NAME: its value in the statistics
counter()
{
    sed -n "s/^ *\"$1\": \([0-9]*\).*/\1/p" "$tmp/stats.json"
}
echo "moved out: $(counter pgsteal) pages; major faults: $(counter pgmajfault);" \
    "most resident: $(counter resident_peak_bytes) bytes of $(counter limit_bytes)"

[ "$bare" = "$paged" ] || {
    echo "the answers differ"
    exit 1
}
if [ "$(counter pgsteal)" -eq 0 ] || [ "$(counter pgmajfault)" -eq 0 ]; then
    echo "no page was moved"
    exit 1
fi
