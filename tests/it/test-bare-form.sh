#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The bare form: LD_PRELOAD and PAGERD_SOCKET, and nothing of pagerctl.  The
# program is in a group of its own without a limit: it is managed, counted, and
# left as it is.  So are a program of a group that does not exist, and one after exec.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
start_daemon
ctl nodes >"$tmp/nodes" || fail "nodes: no answer"
before=$(calm_descriptors)

mkfifo "$tmp/go"
cat >"$tmp/program.py" <<'END'
import hashlib, os, random, sys
random.seed(5)
blocks = [random.randbytes(4096) for _ in range(8192)]
print("filled", flush=True)
if len(sys.argv) > 2:
    del blocks
    os.execv(sys.executable, [sys.executable, sys.argv[0], sys.argv[1]])
with open(sys.argv[1], encoding="ascii") as go:
    go.read()
digest = hashlib.sha256()
for block in blocks:
    digest.update(block)
print(digest.hexdigest(), flush=True)
sys.exit(9)
END
python=$(python3 -c 'import sys; print(sys.executable)') || exit 77

# field COLUMN PID
field()
{
    ctl status --noheadings --bytes --output="PID,$1" | awk -v pid="$2" '$1 == pid { print $2 }'
}
is_filled()
{
    [ "$(grep -c filled "$tmp/out")" = "$1" ]
}

# attached NAME LINES VARIABLE... -- ARG...: the program with these variables; LINES "filled" lines
attached()
{
    local name=$1 lines=$2 variables=() program status
    shift 2
    while [ "$1" != -- ]; do
        variables+=("$1")
        shift
    done
    shift
    : >"$tmp/out"
    env LD_PRELOAD="${PAGERD_PRELOAD:?}" PAGERD_SOCKET="$socket" "${variables[@]}" \
        "$python" "$tmp/program.py" "$tmp/go" "$@" >"$tmp/out" 2>"$tmp/err" &
    program=$!
    until_true 30 is_filled "$lines" || fail "$name: it does not get so far: $(cat "$tmp/err")"
    [ "$(field STATE "$program")" = managed ] || fail "$name: not managed: $(ctl status)"
    [ "$(field LIMIT "$program")" = 0 ] || fail "$name: a limit of $(field LIMIT "$program")"
    [ "$(field RESIDENT "$program")" -ge $((32 << 20)) ] ||
        fail "$name: $(field RESIDENT "$program") bytes are counted as resident"
    [ "$(field OUT "$program")" = 0 ] || fail "$name: $(field OUT "$program") bytes are out"
    [ "$(ctl status --noheadings --output=PID | wc -l)" = 1 ] || fail "$name: $(ctl status)"
    ctl check >"$tmp/check" 2>&1 || fail "$name: check: $(cat "$tmp/check")"
    : >"$tmp/go"
    wait "$program"
    status=$?
    [ "$status" = 9 ] || fail "$name: status $status"
    [ "$(tail -n 1 "$tmp/out")" = "$answer" ] || fail "$name: another answer"
    [ -s "$tmp/err" ] && fail "$name: it says $(cat "$tmp/err")"
    everything_back "$before"
}

"$python" "$tmp/program.py" "$tmp/go" >"$tmp/out" &
: >"$tmp/go"
wait $!
answer=$(tail -n 1 "$tmp/out")
[ ${#answer} = 64 ] || fail "bare: no answer: $answer"

attached "bare form" 1 --
attached "a group that is not there" 1 PAGERD_GROUP=none --
attached "after exec" 2 -- exec

env LD_PRELOAD="${PAGERD_PRELOAD:?}" PAGERD_SOCKET="$tmp/absent" true 2>"$tmp/err" ||
    fail "nobody at the socket: status $?"
[ "$(wc -l <"$tmp/err")" = 1 ] || fail "nobody at the socket: $(cat "$tmp/err")"
finish
