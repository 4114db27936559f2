#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What `pagerctl run` cannot do it says in one sentence, with the exit status
# that timeout(1) and nice(1) use; with --optional the program runs unpaged and
# there is one warning.  No case here needs a daemon that works.

set -u
tmp=$(mktemp -d) || exit 1
chmod 755 "$tmp"
listener=
# shellcheck disable=SC2317 # called by the trap
clean_up()
{
    [ -z "$listener" ] || kill "$listener"
    rm -rf "$tmp"
}
trap clean_up EXIT
# A private daemon's directory, if there is one, has to be gone in the end.
export XDG_RUNTIME_DIR="$tmp/run"
mkdir -m 700 "$XDG_RUNTIME_DIR"

failed=0
fail()
{
    echo "FAIL: $*"
    failed=1
}

as=() # what runs pagerctl, such as a change of user

# try NAME STATUS PATTERN ARG...: `pagerctl run ARG...` prints just one line, which
# matches the pattern, and ends with that status.
try()
{
    local name=$1 want=$2 pattern=$3 got
    shift 3
    "${as[@]}" "$PAGERCTL" run "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    [ "$got" = "$want" ] || fail "$name: status $got, not $want: $(cat "$tmp/err")"
    [ "$(wc -l <"$tmp/err")" = 1 ] || fail "$name: not one line: $(cat "$tmp/err")"
    grep -qE "^pagerctl: .*($pattern)" "$tmp/err" || fail "$name: unexpected: $(cat "$tmp/err")"
}

# refused NAME PATTERN ARG...: 125, nothing has run; and with --optional it runs unpaged.
refused()
{
    local name=$1 pattern=$2
    shift 2
    try "$name" 125 "$pattern" "$@"
    [ -s "$tmp/out" ] && fail "$name: it ran all the same"
    try "$name, optional" 7 "running .* unpaged: .*($pattern)" --optional "$@"
    [ "$(cat "$tmp/out")" = unpaged ] || fail "$name, optional: said '$(cat "$tmp/out")'"
}

cat >"$tmp/seven.c" <<'END'
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    puts(getenv("PAGERD_SOCKET") || getenv("PAGERD_GROUP") ? "paged" : "unpaged");
    return 7;
}
END
seven=$tmp/seven
${CC:-cc} -o "$seven" "$tmp/seven.c" || exit 99

echo "limits"
for limit in abc '' -1 12X 96MM 0x1000000 99999999999T; do
    refused "limit '$limit'" "not a size" "--limit=$limit" -- "$seven"
done
for limit in 0 4M 8388607; do
    refused "limit $limit" "below 8M" "--limit=$limit" -- "$seven"
done
try "no limit" 125 "no limit is given" -- "$seven"
try "no program" 125 "no program is given" --limit=16M

echo "programs that are not there"
mkdir "$tmp/bin"
echo "no program" >"$tmp/bin/plain-text"
for option in --limit=16M --optional; do # 126 and 127 stay what they are
    try "no such path" 127 "there is no program" --limit=16M $option -- "$tmp/none"
    try "no such path below a file" 127 "there is no program" --limit=16M $option -- "$seven/none"
    try "no such name" 127 "no program .* in PATH" --limit=16M $option -- no-such-program-here
    try "an empty name" 127 "name is empty" --limit=16M $option -- ""
    try "not executable" 126 "cannot execute" --limit=16M $option -- "$tmp/bin/plain-text"
    try "a directory" 126 "is a directory" --limit=16M $option -- "$tmp/bin"
    PATH=$tmp/bin:$PATH try "not executable, by PATH" 126 "cannot execute" --limit=16M $option -- \
        plain-text
done

echo "programs that the library does not get into"
if ${CC:-cc} -static -o "$tmp/static" "$tmp/seven.c" 2>"$tmp/cc"; then
    refused "static" "statically linked" --limit=16M -- "$tmp/static"
    PATH=$tmp:$PATH refused "static, by PATH" "statically linked" --limit=16M -- static
    printf '#!%s\n' "$tmp/static" >"$tmp/script"
    printf '#! \t%s -x\n' "$tmp/script" >"$tmp/script-of-script"
    chmod +x "$tmp/script" "$tmp/script-of-script"
    refused "script of a static interpreter" "statically linked" --limit=16M -- "$tmp/script"
    refused "script of such a script" "statically linked" --limit=16M -- "$tmp/script-of-script"
else
    echo "note: static programs are not tried, there is no static C library"
fi

# patched NAME OFFSET BYTE: the program with one byte of its ELF header changed
patched()
{
    cp "$seven" "$tmp/$1"
    # shellcheck disable=SC2059 # the byte is an escape
    printf "$3" | dd of="$tmp/$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}
patched class32 4 '\001'
patched other-machine 18 '\010'
try "32-bit" 125 "not a 64-bit program" --limit=16M -- "$tmp/class32"
try "another machine" 125 "another machine" --limit=16M -- "$tmp/other-machine"

as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
if [ "$(id -u)" = 0 ] && "${as_nobody[@]}" "$PAGERCTL" --version >/dev/null 2>&1; then
    cp "$seven" "$tmp/setuid" && chown 65534 "$tmp/setuid" && chmod u+s "$tmp/setuid"
    refused "setuid" "is setuid" --limit=16M -- "$tmp/setuid"
    cp "$seven" "$tmp/setgid" && chgrp 65534 "$tmp/setgid" && chmod g+s "$tmp/setgid"
    refused "setgid" "is setgid" --limit=16M -- "$tmp/setgid"
    as=("${as_nobody[@]}")
    if cp "$seven" "$tmp/capable" && setcap cap_net_raw=ep "$tmp/capable" 2>/dev/null; then
        refused "file capabilities" "file capabilities" --limit=16M -- "$tmp/capable"
    fi
    cp "$seven" "$tmp/unreadable" && chmod 711 "$tmp/unreadable"
    refused "unreadable" "not readable" --limit=16M -- "$tmp/unreadable"
    as=()
else
    echo "note: setuid, setgid and capabilities are not tried, that takes root"
fi

echo "statistics"
for file in "$tmp/none/stats" "$tmp" "" "$seven/stats"; do
    try "--stats='$file'" 125 "statistics|--stats= is empty" --limit=16M "--stats=$file" -- "$seven"
done

echo "sockets"
absent=$tmp/absent
refused "nobody at --socket" "no pagerd answers at $absent" --limit=16M --socket="$absent" -- "$seven"
as=(env PAGERD_SOCKET="$absent")
refused "nobody at PAGERD_SOCKET" "no pagerd answers at $absent" --limit=16M -- "$seven"
as=()
try "an empty socket" 125 "--socket= is empty" --limit=16M --socket= -- "$seven"
long=/$(printf '%0200d' 0)
refused "a socket path that is too long" "longer than" --limit=16M --socket="$long" -- "$seven"
touch "$tmp/file"
refused "a file as socket" "no pagerd answers" --limit=16M --socket="$tmp/file" -- "$seven"

# listen PATH TYPE ARG...: a listener that is no pagerd, started by ARG...
listen()
{
    local path=$1 type=$2
    shift 2
    : >"$tmp/listening" # the last one's word is not this one's
    "$@" python3 -c '
import signal, socket, sys
s = socket.socket(socket.AF_UNIX, getattr(socket, sys.argv[2]))
s.bind(sys.argv[1])
s.listen()
print("ready", flush=True)
signal.pause()' "$path" "$type" >"$tmp/listening" &
    listener=$!
    for _ in $(seq 200); do
        [ -s "$tmp/listening" ] && return
        kill -0 "$listener" 2>/dev/null || break
        read -r -t 0.05 <> <(:)
    done
    fail "no listener at $path"
}
hush()
{
    kill "$listener"
    wait "$listener" 2>/dev/null
    listener=
}

listen "$tmp/stream" SOCK_STREAM env
refused "a socket of something else" "is not pagerd" --limit=16M --socket="$tmp/stream" -- "$seven"
hush
refused "a socket whose daemon has died" "no pagerd answers" --limit=16M --socket="$tmp/stream" -- "$seven"

if [ "$(id -u)" = 0 ] && "${as_nobody[@]}" python3 -c '' 2>/dev/null; then
    mkdir -m 777 "$tmp/open"
    listen "$tmp/open/theirs" SOCK_SEQPACKET "${as_nobody[@]}"
    refused "a socket of another user" "belongs to another user .uid 65534" --limit=16M \
        --socket="$tmp/open/theirs" -- "$seven"
    hush
fi
if [ "$(id -u)" = 0 ] && "${as_nobody[@]}" "$PAGERCTL" --version >/dev/null 2>&1; then
    listen "$tmp/ours" SOCK_SEQPACKET env
    chmod 600 "$tmp/ours"
    as=("${as_nobody[@]}")
    refused "a socket closed to us" "belongs to another user" --limit=16M --socket="$tmp/ours" -- "$seven"
    as=()
    hush
fi

echo "kernels and privileges"
for point in probe-uffd probe-move probe-wp-async probe-pagemap-scan probe-event-fork; do
    as=(env "PAGERD_FAILPOINTS=$point")
    refused "$point" "." --limit=16M -- "$seven"
done
as=(env PAGERD="$tmp/none")
refused "a daemon that is not there" "PAGERD=" --limit=16M -- "$seven"
as=(env PAGERD=/bin/false)
refused "a daemon that ends at once" "ended before it was ready" --limit=16M -- "$seven"
as=(env PAGERD_PRELOAD="$tmp/none")
refused "a library that is not there" "PAGERD_PRELOAD=" --limit=16M -- "$seven"
as=()

echo "other commands"
for command in status clients stat nodes check "limit 1" "reclaim 1"; do
    # shellcheck disable=SC2086 # words are meant
    "$PAGERCTL" ${command% 1} --socket="$absent" ${command#"${command% 1}"} >"$tmp/out" 2>"$tmp/err"
    got=$?
    if [ "$got" != 2 ] || [ "$(wc -l <"$tmp/err")" != 1 ] || ! grep -q "no pagerd answers" "$tmp/err"; then
        fail "$command without a daemon: status $got: $(cat "$tmp/err")"
    fi
    # shellcheck disable=SC2086
    "$PAGERCTL" ${command% 1} --output=PID,NONSENSE >"$tmp/out" 2>"$tmp/err" && fail "$command of nonsense"
done
"$PAGERCTL" frobnicate >"$tmp/out" 2>"$tmp/err" && fail "an unknown command"
grep -q "there is no command 'frobnicate'" "$tmp/err" || fail "unknown command: $(cat "$tmp/err")"

echo "the daemon's own options"
# daemon_refuses PATTERN ARG...
daemon_refuses()
{
    local pattern=$1
    shift
    "$PAGERD" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null && fail "pagerd $*: no failure"
    grep -qE "^pagerd: .*($pattern)" "$tmp/err" || fail "pagerd $*: $(cat "$tmp/err")"
}
daemon_refuses "not a size" --ram=12X
daemon_refuses "not a size" --ram=1M
daemon_refuses "is no level" --log=loud
daemon_refuses "not an open descriptor" --ready-fd=77
daemon_refuses "one word too many" now
daemon_refuses "lists the options" --bogus

left=$(ls -A "$XDG_RUNTIME_DIR")
[ -z "$left" ] || fail "left in the runtime directory: $left"
[ "$failed" = 0 ] && echo "all of it is told"
exit "$failed"
