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
# shellcheck source=tests/it/programs.sh
. "${top_srcdir:?}/tests/it/programs.sh"

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
    c_source 2500 >"$tmp/many.c"
    same gcc 128 64 gcc -O2 -S -o - "$tmp/many.c"
}

[ $# -gt 0 ] || set -- sqlite python sort xz gcc
# shellcheck disable=SC2034 # programs.sh looks at it
samples=yes
run_programs "$@"
