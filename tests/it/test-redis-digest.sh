#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A redis server with a third of the memory that it uses: filled, digested, saved by a
# forked child, loaded from what was saved, digested again.  Four equal digests, the
# bare run's among them; the limit holds for server and child together.
#
# test-redis-digest.sh [LIMIT_MIB]   (96; the data is some 300 MiB)

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
limit_mib=${1:-96}

for command in redis-server redis-cli redis-benchmark; do
    command -v "$command" >/dev/null || {
        echo "skipped: no $command (Debian packages redis-server, redis-tools)"
        exit 77
    }
done

cli()
{
    redis-cli -s "$tmp/redis" "$@"
}
answers()
{
    [ "$(cli ping 2>/dev/null)" = PONG ]
}
is_saved()
{
    cli info persistence | grep -q '^rdb_bgsave_in_progress:0'
}

# session NAME COMMAND...: $digests
session()
{
    local name=$1 job
    shift
    "$@" redis-server --port 0 --unixsocket "$tmp/redis" --dir "$tmp" --dbfilename "$name.rdb" \
        --save '' --appendonly no --enable-debug-command local >"$tmp/$name.log" 2>&1 &
    job=$!
    until_true 30 answers || {
        fail "$name: no server: $(tail "$tmp/$name.log")"
        return
    }
    cli debug populate 450000 key 512 >/dev/null
    redis-benchmark -s "$tmp/redis" -t lpush,sadd,hset -n 50000 -r 1 -d 64 -q >/dev/null
    digests=$(cli debug digest)
    cli bgsave >/dev/null
    until_true 240 is_saved || fail "$name: saving does not end"
    cli info persistence | grep -q '^rdb_last_bgsave_status:ok' || fail "$name: saving failed"
    cli debug reload >/dev/null
    digests="$digests $(cli debug digest)"
    cli shutdown nosave >/dev/null 2>&1
    wait "$job" || fail "$name: the server ended with status $?"
    echo "$name: $digests"
}

start_daemon
ctl nodes >"$tmp/nodes" || fail "nodes: no answer"
before=$(calm_descriptors)
session bare env
bare=$digests
session paged "${PAGERCTL:?}" run --socket="$socket" --limit="${limit_mib}M" --stats="$tmp/stats.json" --
echo "moved out $(counter pgsteal), most resident $(($(counter resident_peak_bytes) >> 20)) MiB"
[ "${bare% *}" = "${bare#* }" ] || fail "the bare server's digests differ"
[ "$bare" = "$digests" ] || fail "the digests differ"
[ "$(counter pgsteal)" -gt 0 ] || fail "nothing was moved"
[ "$(counter resident_peak_bytes)" -le $(((limit_mib + 64) << 20)) ] ||
    fail "$(counter resident_peak_bytes) bytes were resident, more than $limit_mib MiB and 64"
everything_back "$before"
finish
