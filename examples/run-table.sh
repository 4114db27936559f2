#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# sqlite3 builds a database of some 700 MiB in memory and queries it, once bare
# and once with about a third of that, and this prints what both took.
# PAGERCTL, SQLITE3, LIMIT and ROWS may be set; exit status 1 when the answers
# differ or nothing was moved.

set -eu
pagerctl=${PAGERCTL:-pagerctl}
sqlite=${SQLITE3:-sqlite3}
limit=${LIMIT:-230M}
rows=${ROWS:-815000}

for program in "$pagerctl" "$sqlite"; do
    command -v "$program" >/dev/null || {
        echo "run-table: $program is not there: install it, or name it in PAGERCTL or SQLITE3" >&2
        exit 1
    }
done
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

{
    cat <<END
CREATE TABLE item(id INTEGER PRIMARY KEY, shelf INTEGER, name TEXT, body TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $rows)
INSERT INTO item SELECT i, i * 7919 % 10007, printf('%08x', i * 2654435761 % 4294967296),
    printf('%0100d %x', i * i, i) || hex(i * 65537) || printf('%0250d', i) FROM n;
CREATE INDEX by_name ON item(name);
CREATE INDEX by_shelf ON item(shelf, name);
SELECT count(*), sum(length(body)), min(name), max(name) FROM item;
SELECT sum(a.id * 31 + b.id) FROM item a JOIN item b ON b.name = a.name WHERE a.id % 7 = 0;
END
    for round in 1 2 3 4; do
        cat <<END
UPDATE item SET body = body || shelf WHERE id % 5 = $round;
SELECT shelf, count(*), sum(id), max(name) FROM item GROUP BY shelf ORDER BY 3 DESC LIMIT 20;
SELECT id / 50000, count(DISTINCT substr(body, 60, 40)), sum(length(replace(body, '$round', '')))
    FROM item GROUP BY 1;
SELECT count(*), sum(id) FROM item WHERE body GLOB '*7*$round*' AND body NOT LIKE '%2%$round%4%8%';
SELECT id, substr(body, 90, 30) FROM item WHERE shelf IN (11, 222, 3333, 9999) ORDER BY name;
END
    done
} >"$tmp/script.sql"

# The most anonymous memory that the process in $tmp/pid was seen with, in KiB.
watch_memory()
{
    peak=0
    while kill -0 "$1" 2>/dev/null; do
        pid=$(cat "$tmp/pid" 2>/dev/null) || pid=
        # The high-water mark counts all that is resident; what is not anonymous hardly changes.
        now=$(awk '/^VmHWM|^RssFile|^RssShmem/ { kb[$1] = $2 }
            END { print kb["VmHWM:"] - kb["RssFile:"] - kb["RssShmem:"] }' \
            "/proc/${pid:-0}/status" 2>/dev/null) || now=
        [ "${now:-0}" -le "$peak" ] || peak=$now
        sleep 0.1
    done
    echo "$peak"
}

# run NAME COMMAND...: the command runs the script; leaves NAME.out, .time and .peak
run()
{
    name=$1
    shift
    rm -f "$tmp/pid"
    printf 'running sqlite3 %s ...\n' "$name" >&2
    began=$(date +%s.%N)
    "$@" sh -c "echo \$\$ >'$tmp/pid'; exec '$sqlite' :memory:" <"$tmp/script.sql" >"$tmp/$name.out" &
    job=$!
    watch_memory "$job" >"$tmp/$name.peak"
    status=0
    wait "$job" || status=$?
    echo "$began $(date +%s.%N)" | awk '{ printf "%.1f", $2 - $1 }' >"$tmp/$name.time"
    [ "$status" = 0 ] || {
        echo "run-table: sqlite3 ($name) ended with status $status" >&2
        exit 1
    }
}

run bare env
run paged "$pagerctl" run --limit="$limit" --stats="$tmp/stats.json" --

# counter NAME: its value in the statistics, 0 if it is not there
counter()
{
    sed -n "s/^ *\"$1\": \([0-9]*\).*/\1/p" "$tmp/stats.json" | awk '{ n = $1 } END { print n + 0 }'
}
# peak NODE: the most that this node held at once
peak()
{
    sed -n '/"peak_bytes_by_node"/,/}/'"s/^ *\"$1\": \([0-9]*\).*/\1/p" "$tmp/stats.json" |
        awk '{ printf "%.0f MiB", $1 / 1048576 }'
}
digest()
{
    sha256sum "$tmp/$1.out" | cut -c1-12
}
mib()
{
    awk '{ printf "%.0f MiB", $1 / 1024 }' "$tmp/$1.peak"
}

moved_out=$(counter pgsteal)
faults=$(counter pgmajfault)
if cmp -s "$tmp/bare.out" "$tmp/paged.out"; then same=yes; else same=no; fi

line='%-28s %14s %14s\n'
# shellcheck disable=SC2059 # the format is in a variable on purpose
{
    printf "$line" "sqlite3, $rows rows in memory" bare "limit $limit"
    printf "$line" "answer (sha256)" "$(digest bare)" "$(digest paged)"
    printf "$line" "time" "$(cat "$tmp/bare.time") s" "$(cat "$tmp/paged.time") s"
    printf "$line" "peak anonymous memory" "$(mib bare)" "$(mib paged)"
    printf "$line" "pages moved out" - "$moved_out"
    printf "$line" "faults that brought back" - "$faults"
    for node in ram file zero; do
        printf "$line" "most in node $node" - "$(peak $node)"
    done
    printf "$line" "same answer" "" "$same"
}
[ "$same" = yes ] && [ "$moved_out" -gt 0 ] && [ "$faults" -gt 0 ]
