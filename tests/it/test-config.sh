#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# pagerd --config and --test-config: what the file says holds in the running daemon, options
# win over it, and what is wrong is told with its place before anything is started.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
conf=$tmp/pagerd.conf

# told STATUS PATTERN ARG...: pagerd ARG... says one line that matches, or nothing
told()
{
    local want=$1 pattern=$2 got
    shift 2
    timeout 20 "${PAGERD:?}" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    [ "$got" = "$want" ] || fail "pagerd $*: status $got, not $want: $(cat "$tmp/err")"
    [ -s "$tmp/out" ] && fail "pagerd $*: prints $(cat "$tmp/out")"
    if [ -z "$pattern" ]; then
        [ -s "$tmp/err" ] && fail "pagerd $*: complains: $(cat "$tmp/err")"
    elif [ "$(wc -l <"$tmp/err")" != 1 ] || ! grep -qE "^$pattern" "$tmp/err"; then
        fail "pagerd $*: unexpected: $(cat "$tmp/err")"
    fi
}

# write TEXT: into the configuration, escapes as printf knows them
write()
{
    # shellcheck disable=SC2059 # the text has escapes
    printf "$1" >"$conf"
}

echo "configurations that are right"
write ''
told 0 '' --config="$conf" --test-config
write '\357\273\277# all of it\n[daemon]\nsocket = /run/x\nlog = debug\n[node ram]\nsize = 64M
[node file]\npath = /swap\nsize = 1G\n[reclaim]\ncapture = move\nunsafe-pins = no'
told 0 '' --config="$conf" --test-config
(cd "$tmp" && told 0 '' --test-config --config=pagerd.conf)
told 0 '' --test-config --private
[ -e /etc/pagerd ] || told 0 '' --test-config

echo "configurations that are wrong"
write '[daemon]\nlog = info\n\n[nod ram]\nsize = 64M\n'
told 2 "$conf:4:2: there is no section .nod ram.; is .node ram. meant\?" --config="$conf" --test-config
told 2 "pagerd: $conf:4:2: " --config="$conf" --socket="$tmp/s"
write '[daemon]\nsokcet = /x\n'
told 2 "$conf:2:1: .* is 'socket' meant\?" --config="$conf" --test-config
write '[node ram]\nsize = 3M\n'
told 2 "$conf:2:8: .* expected is a size from 16M to 1T" --config="$conf" --test-config
write '[node ram]\nsize = 6\0004M\n'
told 2 "$conf:2:9: there is a NUL byte" --config="$conf" --test-config
head -c 100000 /dev/zero >"$conf"
told 2 "$conf:1:1: the file is too long" --config="$conf" --test-config
write '[reclaim]\n  capture = mremap\n'
told 2 "$conf:2:13: capture by mremap .* expected is unsafe-pins = yes" --config="$conf" --test-config
told 0 '' --config="$conf" --test-config --unsafe-pins
told 0 '' --config="$conf" --test-config --capture=move
told 2 "capture by mremap" --test-config --private --capture=mremap
told 2 "--capture=copy is no way" --test-config --capture=copy
write '[node file]\npath = /swap\n'
told 2 "$conf:2:8: .* no size" --config="$conf" --test-config
told 2 "cannot read the configuration $tmp/none: No such file" --config="$tmp/none" --test-config
told 2 "the configuration $tmp is not a file" --config="$tmp" --test-config
told 2 "--config= is empty" --test-config --config=
told 2 "'more' is one word too many" --test-config more
mkfifo "$tmp/fifo"
told 2 "the configuration .* is not a file" --config="$tmp/fifo" --test-config

echo "drop-ins"
write '[node ram]\nsize = 64M\n'
mkdir "$conf.d"
printf '[node ram]\nsize = 48M\n' >"$conf.d/10-size.conf"
printf '[daemon]\nlog = debug\n' >"$conf.d/05-log.conf"
printf 'nonsense' >"$conf.d/README"
told 0 '' --config="$conf" --test-config
printf '[node ram]\nsize = all\n' >"$conf.d/99-bad.conf"
told 2 "$conf.d/99-bad.conf:2:8: 'all' is not what" --config="$conf" --test-config
rm "$conf.d/99-bad.conf"
ln -s nowhere "$conf.d/99-bad.conf"
told 2 "cannot read the configuration $conf.d/99-bad.conf: " --config="$conf" --test-config
rm "$conf.d/99-bad.conf"

echo "a daemon that is started with it"
printf '[daemon]\nsocket = %s\n' "$socket" >>"$conf"
ram_size()
{
    ctl nodes --noheadings --bytes --output=TYPE,SIZE | awk '$1 == "ram" { print $2 }'
}
# daemon_with ARG...: as start_daemon, but for its arguments
daemon_with()
{
    local word=
    rm -f "$tmp/ready"
    mkfifo "$tmp/ready"
    "${PAGERD:?}" --ready-fd=3 "$@" 3>"$tmp/ready" 2>"$tmp/daemon.log" &
    daemon=$!
    read -r -t 30 word <"$tmp/ready"
    [ "$word" = ok ] && return
    echo "no daemon: $word"
    [ "$(id -u)" = 0 ] && exit 1
    exit 77
}
daemon_with --config="$conf"
[ "$(ram_size)" = $((48 << 20)) ] || fail "node ram has $(ram_size) bytes, not those of the drop-in"
paged 16M "${top_builddir:?}/tests/it/holder" 32 >"$tmp/out" </dev/null || fail "paged: status $?"
grep -q 'debug: ' "$tmp/daemon.log" || fail "the level of the log is not the drop-in's"
kill "$daemon"
wait "$daemon" || fail "the daemon ended with status $?"
socket=$tmp/other
daemon_with --config="$conf" --ram=32M --socket="$socket" --log=info
[ "$(ram_size)" = $((32 << 20)) ] || fail "the option does not win: $(ram_size)"
grep -q 'debug: ' "$tmp/daemon.log" && fail "the option --log does not win"
finish
