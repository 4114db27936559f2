#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Programs that know nothing of pagerd, with about a third of the memory that
# they use: the same output and status as bare, pages moved, inside the limit.
#
# test-real-programs.sh [NAME...]: python xz sqlite gcc

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
# shellcheck source=tests/it/programs.sh
. "${top_srcdir:?}/tests/it/programs.sh"

try_python()
{
    is_there python3 || return
    cat >"$tmp/fill.py" <<'END'
import hashlib, random
random.seed(11)
blocks = [random.randbytes(4096) for _ in range(65536)]
random.shuffle(blocks)
digest = hashlib.sha256()
for block in blocks:
    digest.update(block)
print(len(blocks), digest.hexdigest())
END
    same python 96 64 python3 "$tmp/fill.py"
}

try_xz()
{
    is_there xz || return
    # Text that is neither random nor the same all over.
    awk 'BEGIN { for (i = 0; i < 80000; i++) printf "%d %x %s\n", i * i % 10007, i * 2654435761 % 4294967296,
        i % 3 ? "the quick brown fox" : "jumps over the lazy dog" }' >"$tmp/text"
    [ "$(stat -c %s "$tmp/text")" -ge $((2 << 20)) ] || fail "xz: too small a file"
    same xz 32 24 xz -9e --keep --stdout "$tmp/text"
}

try_sqlite()
{
    is_there sqlite3 || return
    same sqlite 36 64 sqlite3 :memory: "
        CREATE TABLE t(id INTEGER PRIMARY KEY, k INT, v TEXT);
        WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 330000)
            INSERT INTO t SELECT i, i * 7919 % 1000003, hex(i * i) || printf('%0200d', i * 31) FROM c;
        CREATE INDEX x ON t(k);
        SELECT count(*), sum(length(v)), sum(k), page_count * page_size FROM t,
            pragma_page_count, pragma_page_size;
        SELECT k % 7, count(*), max(v) FROM t GROUP BY 1 ORDER BY 1;"
}

try_gcc()
{
    is_there gcc || return
    c_source 300 >"$tmp/many.c"
    same gcc 24 64 gcc -O2 -S -o - "$tmp/many.c"
}

[ $# -gt 0 ] || set -- python xz sqlite gcc
run_programs "$@"
