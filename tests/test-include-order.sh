#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The rules of the source tree that a compiler does not see:
#  1. a room includes only itself and rooms before it in the order below, and a
#     room_priv.h only by its own room;
#  2. a file of more than 600 lines says near its top why ("600 lines"), and
#     none has more than 1000;
#  3. only `kernel` and `agent` speak to userfaultfd and PAGEMAP_SCAN;
#  4. tests wait for events: no sleep.
#
# usage: test-include-order.sh [ROOT]

set -u
here=$(cd "$(dirname "$0")" && pwd)
awk_strip=$here/strip-c.awk
cd "${1:-$here/..}" || exit 99

order="base target kernel proto pgtable frame rmap node migrate fault reclaim client worker agent keeper preload ctl"
# These run inside the program or beside it, so they see less than their place allows.
agent_may="kernel/uapi.h target/target.h proto/proto.h agent/*"
preload_may="$agent_may preload/*"
ctl_may="base/* proto/* ctl/*"

failed=0
complain()
{
    printf '%s\n' "$*"
    failed=1
}

position()
{
    i=0
    for room in $order; do
        i=$((i + 1))
        if [ "$room" = "$1" ]; then
            echo "$i"
            return
        fi
    done
}

# may FILE PATTERN...: is FILE one of the patterns?
may()
{
    file=$1
    shift
    for pattern in "$@"; do
        # shellcheck disable=SC2254 # a pattern is meant
        case $file in
        $pattern) return 0 ;;
        esac
    done
    return 1
}

check_include()
{
    where=$1
    room=$2
    header=$3
    case $header in
    config.h) return ;;
    ../* | */../* | /*)
        complain "$where: \"$header\": write it as room/file.h"
        return
        ;;
    */*) ;;
    *)
        [ -f "src/$room/$header" ] ||
            complain "$where: \"$header\": no such file in src/$room; write it as room/file.h"
        return
        ;;
    esac
    other=${header%%/*}
    theirs=$(position "$other")
    if [ -z "$theirs" ]; then
        complain "$where: \"$header\": $other is not a room"
        return
    fi
    if [ "$theirs" -gt "$(position "$room")" ]; then
        complain "$where: $room may not include $header: $other comes after it"
        return
    fi
    case $header in
    *_priv.h)
        [ "$other" = "$room" ] || complain "$where: $header is private to src/$other"
        ;;
    esac
    case $room in
    agent) allowed=$agent_may ;;
    preload) allowed=$preload_may ;;
    ctl) allowed=$ctl_may ;;
    *) return ;;
    esac
    set -f # the list holds patterns, not file names
    # shellcheck disable=SC2086
    may "$header" $allowed || complain "$where: $room may include only: $allowed"
    set +f
}

# 1. include order
for dir in src/*/; do
    room=$(basename "$dir")
    if [ -z "$(position "$room")" ]; then
        complain "$dir: not in the order of rooms; give it a place in $0 and in docs/architecture.md"
    fi
done
includes=$(find src -name '*.[ch]' -exec \
    grep -Hn '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' {} + |
    sed 's/^\([^:]*:[0-9]*\):[^"]*"\([^"]*\)".*/\1 \2/')
while read -r where header; do
    [ -n "$where" ] || continue
    room=${where#src/}
    room=${room%%/*}
    [ -n "$(position "$room")" ] && check_include "$where" "$room" "$header"
done <<END
$includes
END

# 2. size
# shellcheck disable=SC2044 # names without blanks
for file in $(find src include tests examples bench -type f \
    \( -name '*.[ch]' -o -name '*.sh' -o -name '*.py' \) 2>/dev/null); do
    lines=$(wc -l <"$file")
    if [ "$lines" -gt 1000 ]; then
        complain "$file: $lines lines; 1000 is the most"
    elif [ "$lines" -gt 600 ] && ! head -n 40 "$file" | grep -q '600 lines'; then
        complain "$file: $lines lines; above 600 lines its opening comment says why"
    fi
done

# stripped FILE...: FILE:LINE:CODE without comments and literals
stripped()
{
    for file in "$@"; do
        awk -f "$awk_strip" "$file" | awk -v file="$file" '{ print file ":" NR ":" $0 }'
    done
}

# 3. who speaks to the kernel's paging interfaces
words='UFFDIO_|PAGEMAP_SCAN|SYS_userfaultfd|__NR_userfaultfd'
hits=$(find src -name '*.[ch]' ! -path 'src/kernel/*' ! -path 'src/agent/*' \
    -exec grep -lE "$words" {} + | while read -r file; do stripped "$file"; done |
    grep -E "$words")
[ -z "$hits" ] || complain "$hits
(above) only src/kernel and src/agent use userfaultfd and PAGEMAP_SCAN"

# 4. no sleeping in tests
words='(^|[^[:alnum:]_])(sleep|usleep|nanosleep|clock_nanosleep|thrd_sleep)[[:space:]]*\('
hits=$(find tests -name '*.[ch]' -exec grep -lE "$words" {} + |
    while read -r file; do stripped "$file"; done | grep -E "$words")
[ -z "$hits" ] || complain "$hits
(above) a test waits for the event, it does not sleep"

[ "$failed" = 0 ] && echo "rooms, sizes and words are in order"
exit "$failed"
