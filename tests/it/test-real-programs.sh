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

# same NAME LIMIT_MIB MARGIN_MIB COMMAND...
same()
{
    local name=$1 limit=$2 most=$((($2 + $3) << 20)) start
    shift 3
    start=${EPOCHREALTIME/./}
    "$@" >"$tmp/bare" 2>"$tmp/bare.err" </dev/null || fail "$name: bare: status $?"
    local middle=${EPOCHREALTIME/./}
    paged "${limit}M" "$@" >"$tmp/paged" 2>"$tmp/paged.err" </dev/null || fail "$name: status $?"
    local end=${EPOCHREALTIME/./}
    printf '%-7s limit %3d MiB: bare %5d ms, paged %6d ms; moved out %d, brought back %d, most resident %d MiB\n' \
        "$name" "$limit" $(((middle - start) / 1000)) $(((end - middle) / 1000)) \
        "$(counter pgsteal)" "$(counter pgmajfault)" $(($(counter resident_peak_bytes) >> 20))
    cmp "$tmp/bare" "$tmp/paged" || fail "$name: the outputs differ"
    cmp "$tmp/bare.err" "$tmp/paged.err" || fail "$name: it says $(head "$tmp/paged.err")"
    [ "$(counter pgsteal)" -gt 0 ] || fail "$name: nothing was moved"
    [ "$(counter resident_peak_bytes)" -le "$most" ] ||
        fail "$name: $(counter resident_peak_bytes) bytes were resident, more than $most"
}

# is_there COMMAND
is_there()
{
    command -v "$1" >/dev/null || {
        echo "note: no $1 here, it is left out"
        return 1
    }
}

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
    awk 'BEGIN { for (i = 0; i < 300; i++) printf "int f%d(int a,int*b){int s=%d;for(int i=0;i<a;i++){" \
        "s+=b[i]*%d;if(s&%d)s^=b[a-i-1];switch(s%%7){case 0:s+=%d;break;case 1:s-=a;break;" \
        "case 2:s*=3;break;default:s^=i;}}return s;}\n", i, i, i % 13 + 1, i % 31 + 1, i }' >"$tmp/many.c"
    same gcc 24 64 gcc -O2 -S -o - "$tmp/many.c"
}

start_daemon
ctl nodes >"$tmp/nodes" || fail "nodes: no answer"
before=$(calm_descriptors)
for name in "${@:-python xz sqlite gcc}"; do
    for one in $name; do
        "try_$one"
    done
done
everything_back "$before"
finish
