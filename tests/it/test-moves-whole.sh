#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What is one mapping to a program moves as a whole, or not at all, also while it is being
# registered.  Registered in part it would be refused (EFAULT), or moved by half.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"

start_daemon
for how in "" dontunmap; do
    # Without quotes: no argument when there is none.
    # shellcheck disable=SC2086
    paged 24M "${top_builddir:?}/tests/it/moves-whole" 4 $how >"$tmp/out" 2>&1 ||
        fail "${how:-plain}: status $?"
    cat "$tmp/out"
    read -r moved _ refused _ half _ < <(tail -n 1 "$tmp/out")
    [ "${moved:-0}" -gt 500 ] || fail "${how:-plain}: only $moved moves"
    # What was mapped anew in the few microseconds between a look and the registration, or in the
    # milliseconds that somebody else had the processor.  From maps as they were read: 8 to 20.
    [ $((${refused:-99} + ${half:-99})) -le 2 ] ||
        fail "${how:-plain}: $refused of $moved moves were refused, $half moved by half"
done
finish
