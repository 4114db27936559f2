#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs one test for make check.  A test that hangs is one that failed, and the
# tests of TIMED_TESTS, which measure time, run one after the other (make has
# run all others before them).
#
# Some tests run programs of other users.  Where those do not reach the build tree (below
# /root, say), the test gets copies of what they run.
#
# In a build with sanitizers (SANITIZED is not empty) a report of one of them fails the
# test, whichever process it comes from: nobody asks for the status of a daemon's worker,
# and some tests expect programs to fail.
#
# usage: run-one.sh SECONDS TEST [ARG...]

seconds=$1
shift
locked=
for timed in ${TIMED_TESTS:-}; do
    case $1 in
    *"/$timed") locked='flock --close .timed-tests.lock' ;;
    esac
done

others_reach()
{
    [ "$(id -u)" != 0 ] || # setpriv keeps root's capabilities until it executes something
        setpriv --reuid=65534 --regid=65534 --clear-groups test -r "$1" 2>/dev/null
}

unreached=
if [ -e "${PAGERD_PRELOAD:?}" ] && ! others_reach "$PAGERD_PRELOAD"; then
    unreached=yes
fi
if [ -z "$unreached${SANITIZED:-}" ]; then
    # shellcheck disable=SC2086 # words are meant
    exec $locked timeout --verbose --kill-after=10 "$seconds" "$@"
fi

own=$(mktemp -d) || exit 99
trap 'rm -rf "$own"' EXIT
chmod 755 "$own"

if [ -n "$unreached" ]; then
    mkdir "$own/.libs" "$own/examples"
    cp "${PAGERD:?}" "${PAGERCTL:?}" "$own/"
    cp "$PAGERD_PRELOAD" "$own/.libs/"
    cp "${top_builddir:?}/examples/fill-and-verify" "$own/examples/"
    PAGERD=$own/pagerd
    PAGERCTL=$own/pagerctl
    PAGERD_PRELOAD=$own/.libs/${PAGERD_PRELOAD##*/}
    export PAGERD PAGERCTL PAGERD_PRELOAD
fi

if [ -n "${SANITIZED:-}" ]; then
    mkdir "$own/reports"
    chmod 1777 "$own/reports" # workers of other users write there too
    ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}log_path=$own/reports/of
    UBSAN_OPTIONS=${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}log_path=$own/reports/of
    export ASAN_OPTIONS UBSAN_OPTIONS
fi

# shellcheck disable=SC2086 # words are meant
$locked timeout --verbose --kill-after=10 "$seconds" "$@"
status=$?
for report in "$own"/reports/*; do
    [ -e "$report" ] || continue
    echo "a sanitizer reports:"
    cat "$report"
    case $status in
    0 | 77) status=1 ;;
    esac
done
exit "$status"
