#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The agent has no thread-local storage and may touch no memory but its own, so
# its objects may neither call anything outside the room nor have variables.
set -u
agent=$top_builddir/.libs/libpagerd-agent.a
[ -f "$agent" ] || agent=$top_builddir/libpagerd-agent.a
failed=0

ar t "$agent" || { echo "no library at $agent"; exit 1; }
defined=$(nm --defined-only "$agent" | awk 'NF == 3 { print $3 }')
for symbol in $(nm -u "$agent" | awk '$1 == "U" { print $2 }' | sort -u); do
    echo "$defined" | grep -qx "$symbol" || { echo "undefined: $symbol"; failed=1; }
done
if nm "$agent" | grep -E ' [BbDdCVv] '; then
    echo "the agent has writable variables (above)"
    failed=1
fi
if objdump -dr "$agent" | grep -E '%fs:|tpidr_el0'; then
    echo "the agent uses thread-local storage (above)"
    failed=1
fi
# And the shim gives the program no more names than those it stands in for.
expected="_Exit _Fork _exit clone madvise prctl pthread_create syscall thrd_create wait wait3 wait4 waitid waitpid "
exported=$(nm -D --defined-only "$PAGERD_PRELOAD" | awk '{ print $3 }' | LC_ALL=C sort | tr '\n' ' ')
if [ "$exported" != "$expected" ]; then
    echo "exported: $exported, expected: $expected"
    failed=1
fi
exit $failed
