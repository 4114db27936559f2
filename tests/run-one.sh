#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs one test for make check.  A test that hangs is one that failed, and the
# tests of TIMED_TESTS, which measure time, run one after the other (make has
# run all others before them).
#
# usage: run-one.sh SECONDS TEST [ARG...]

seconds=$1
shift
for timed in ${TIMED_TESTS:-}; do
    case $1 in
    *"/$timed")
        exec flock --close .timed-tests.lock \
            timeout --verbose --kill-after=10 "$seconds" "$@"
        ;;
    esac
done
exec timeout --verbose --kill-after=10 "$seconds" "$@"
