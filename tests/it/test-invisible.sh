#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A program under pagerd observes what it observes without: runs every
# observation of ./invisible bare and paged, and compares output and status.
#
#   test-invisible.sh        under `pagerctl run --limit=64M`
#   test-invisible.sh fake   under shim and agent alone (fake-run)
set -u
here=$top_builddir/tests/it
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
INVISIBLE_STATIC=$here/invisible-static
export INVISIBLE_STATIC

if [ "${1-}" = fake ]; then
    run() { "$here/fake-run" "$@"; }
else
    run() { "$PAGERCTL" run --limit=64M -- "$@"; }
fi

run true 2>"$tmp/err" || { cat "$tmp/err"; echo "cannot run anything paged"; exit 1; }
if grep -q 'userfaultfd' "$tmp/err"; then
    cat "$tmp/err"
    exit 77
fi

failed=0
for name in $("$here/invisible" list); do
    # The same names for both: a program can see where its output goes.
    "$here/invisible" "$name" >"$tmp/out" 2>"$tmp/err" </dev/null
    echo "status $?" >>"$tmp/out"
    mv "$tmp/out" "$tmp/bare"
    run "$here/invisible" "$name" >"$tmp/out" 2>"$tmp/err" </dev/null
    echo "status $?" >>"$tmp/out"
    mv "$tmp/out" "$tmp/paged"
    # What an observation has to tell beside: measured times.
    grep '^note: ' "$tmp/err"
    grep -v '^note: ' "$tmp/err" >"$tmp/said"
    if cmp -s "$tmp/bare" "$tmp/paged" && [ ! -s "$tmp/said" ]; then
        echo "ok      $name"
    else
        echo "DIFFERS $name"
        diff "$tmp/bare" "$tmp/paged"
        cat "$tmp/said"
        failed=1
    fi
done
exit $failed
