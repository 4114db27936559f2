#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Programs of a size that people run, under a third of the memory that they use: the
# same output and status as bare, pages moved, and all of them together inside the
# limit (sampled from outside, beside what the daemon counts).
#
# test-accept-programs.sh [NAME...]: sqlite python sort xz gcc

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"

# session_kib SESSION: anonymous resident memory of its processes
session_kib()
{
    local pid files=()
    for pid in $(ps -o pid= -s "$1"); do
        case $(cat "/proc/$pid/comm" 2>/dev/null) in
        pager*) ;;
        *) files+=("/proc/$pid/smaps_rollup") ;;
        esac
    done
    [ "${#files[@]}" = 0 ] || cat "${files[@]}" 2>/dev/null | awk '/^Anonymous:/ { n += $2 } END { print n + 0 }'
}

# same NAME LIMIT_MIB MARGIN_MIB COMMAND...
same()
{
    local name=$1 limit=$2 most=$((($2 + $3) << 10)) job peak=0 now bare_status start middle end
    shift 3
    start=${EPOCHREALTIME/./}
    "$@" >"$tmp/bare" 2>/dev/null </dev/null
    bare_status=$?
    middle=${EPOCHREALTIME/./}
    setsid "${PAGERCTL:?}" run --socket="$socket" --limit="${limit}M" --stats="$tmp/stats.json" -- \
        "$@" >"$tmp/paged" 2>"$tmp/paged.err" </dev/null &
    job=$!
    while kill -0 "$job" 2>/dev/null; do
        now=$(session_kib "$job")
        [ "${now:-0}" -le "$peak" ] || peak=$now
        pause 0.05
    done
    wait "$job"
    status=$?
    end=${EPOCHREALTIME/./}
    printf '%-7s limit %3d MiB: bare %6d ms, paged %7d ms; moved out %d, brought back %d, most resident %d MiB (counted: %d)\n' \
        "$name" "$limit" $(((middle - start) / 1000)) $(((end - middle) / 1000)) \
        "$(counter pgsteal)" "$(counter pgmajfault)" $((peak >> 10)) $(($(counter resident_peak_bytes) >> 20))
    [ "$status" = "$bare_status" ] || fail "$name: status $status, bare $bare_status: $(head "$tmp/paged.err")"
    cmp "$tmp/bare" "$tmp/paged" || fail "$name: the outputs differ"
    [ "$(counter pgsteal)" -gt 0 ] || fail "$name: nothing was moved"
    [ "$peak" -le "$most" ] || fail "$name: $peak KiB were resident, more than $most"
    [ "$(counter resident_peak_bytes)" -le $((most << 10)) ] ||
        fail "$name: $(counter resident_peak_bytes) bytes were counted, more than $((most << 10))"
}

# is_there COMMAND
is_there()
{
    command -v "$1" >/dev/null || {
        echo "note: no $1 here, it is left out"
        return 1
    }
}

# Two indexed tables, of which one is sorted into an index, and a check of every page.
try_sqlite()
{
    is_there sqlite3 || return
    same sqlite 256 64 sqlite3 :memory: "
        PRAGMA temp_store = 2;
        CREATE TABLE t(id INTEGER PRIMARY KEY, k INT, v TEXT);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500000)
            INSERT INTO t SELECT i, i * 7919 % 1000003, printf('%x-%0135d', i * i, i * 31) FROM n;
        CREATE INDEX x ON t(k, v);
        SELECT count(*), sum(length(v)), sum(k) FROM t;
        SELECT k % 89, count(*), min(v) FROM t GROUP BY 1 ORDER BY 1 LIMIT 9;
        PRAGMA integrity_check;"
}

# Small objects all over the heap, visited in random order.
try_python()
{
    is_there python3 || return
    cat >"$tmp/shuffle.py" <<'PYTHON'
import hashlib, random
random.seed(2026)
table = {i * 2654435761 % 2**32: "%032x" % random.getrandbits(128) for i in range(900000)}
keys, digest = sorted(table), hashlib.sha256()
for _ in range(3):
    random.shuffle(keys)
    for key in keys[:300000]:
        digest.update(table[key].encode())
print(len(table), digest.hexdigest())
PYTHON
    same python 64 64 python3 "$tmp/shuffle.py"
}

# A pipeline of several programs, one limit for all of them.
try_sort()
{
    same sort 110 64 sh -c "seq 1 3000000 | sort -R --random-source=/dev/zero -S 400M |
        sort -n -S 400M --parallel=1 | cksum"
}

try_xz()
{
    is_there xz || return
    same xz 32 24 xz -9e --keep --stdout "${PAGERD:?}"
}

try_gcc()
{
    is_there gcc || return
    awk 'BEGIN { for (i = 0; i < 2500; i++) printf "int f%d(int a,int*b){int s=%d;for(int i=0;i<a;i++){" \
        "s+=b[i]*%d;if(s&%d)s^=b[a-i-1];switch(s%%7){case 0:s+=%d;break;case 1:s-=a;break;" \
        "case 2:s*=3;break;default:s^=i;}}return s;}\n", i, i, i % 13 + 1, i % 31 + 1, i }' >"$tmp/many.c"
    same gcc 128 64 gcc -O2 -S -o - "$tmp/many.c"
}

start_daemon
ctl nodes >"$tmp/nodes" || fail "nodes: no answer"
before=$(calm_descriptors)
[ $# -gt 0 ] || set -- sqlite python sort xz gcc
for name; do
    "try_$name"
done
everything_back "$before"
finish
