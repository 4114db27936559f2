#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Swap files that cannot be made, written or read, or lie: no wrong byte, nothing but the
# hit page lost, and a sentence and a counter for each.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"

# refused SWAP WORD...: pagerd does not start, and each word is in its sentence
refused()
{
    local swap=$1 status=0
    shift
    "${PAGERD:?}" --socket="$socket" --swap="$swap" 2>"$tmp/why" &
    wait "$!" || status=$?
    [ "$status" != 0 ] || fail "--swap=$swap was taken"
    for word in "$@"; do
        grep -q -- "$word" "$tmp/why" || fail "--swap=$swap: nothing of '$word' in: $(cat "$tmp/why")"
    done
}

# says WORDS: the daemon's log has such a line
says()
{
    grep -q -- "$1" "$tmp/daemon.log" || fail "the log has no '$1': $(cat "$tmp/daemon.log")"
}

# with FAILPOINTS [SIZE]: a daemon that has them, small in memory, and a swap file
with()
{
    PAGERD_FAILPOINTS=$1
    export PAGERD_FAILPOINTS
    start_daemon --ram=16M --swap="$tmp/swap:${2:-256M}"
    unset PAGERD_FAILPOINTS
    ctl nodes >/dev/null || fail "nodes: no answer" # its worker is there
    before=$(calm_descriptors)
}

# run LIMIT PAGES LOST: such a run of `swapped` loses so many pages and has no wrong one
run()
{
    paged "$1" "${top_builddir:?}/tests/it/swapped" $(($2 / 256)) >"$tmp/out" ||
        fail "$(cat "$tmp/out"), status $?"
    grep -qx "pages $2 wrong 0 lost $3" "$tmp/out" || fail "expected $3 lost pages: $(cat "$tmp/out")"
}

is_counted()
{
    [ "$(counter "$1")" -ge "$2" ] || fail "$1 is $(counter "$1"), not $2 or more"
}
is_exactly()
{
    [ "$(counter "$1")" = "$2" ] || fail "$1 is $(counter "$1"), not $2"
}

done_with()
{
    echo "$1: as it should be: $(cat "$tmp/out")"
    everything_back "$before"
    kill "$daemon"
    wait "$daemon" || fail "$1: the daemon ended with status $?"
}

# run_around MIB LOST COMMAND...: as run, with a command when all is filled and not looked at yet
run_around()
{
    local mib=$1 lost=$2 line='' job
    shift 2
    paged 12M "$top_builddir/tests/it/swapped" "$mib" wait <"$tmp/in" >"$tmp/said" &
    job=$! # pause() has processes of its own
    exec 8>"$tmp/in" 9<"$tmp/said"
    read -r -t 60 line <&9
    [ "$line" = filled ] || fail "it says '$line'"
    "$@"
    echo >&8
    read -r -t 60 line <&9
    echo "$line" >"$tmp/out"
    [ "$line" = "pages $((mib * 256)) wrong 0 lost $lost" ] || fail "$*: it says '$line'"
    exec 8>&- 9<&-
    wait "$job" || fail "$*: the program ended with status $?"
}

# ---- at the start ----

mkfifo "$tmp/in" "$tmp/said"
echo precious >"$tmp/file"
refused "$tmp/file:64M" 'does not overwrite' "$tmp/file"
[ "$(cat "$tmp/file")" = precious ] || fail "a file was overwritten"
refused "$tmp/none/swap:64M" 'cannot make the swap file' 'directory'
refused relative:64M 'absolute'
refused "$tmp/swap" 'no size'
mkdir "$tmp/small"
if mount -t tmpfs -o size=8m none "$tmp/small" 2>/dev/null; then
    refused "$tmp/small/swap:64M" 'no room for the swap file' 'make room'
    [ -z "$(ls -A "$tmp/small")" ] || fail "something is left on the full file system"
    umount "$tmp/small"
else
    echo "note: no tmpfs can be mounted here; a disk that is full at the start is left out"
fi

# ---- writes ----

for error in enospc eio; do
    with "swap-write-$error"
    run 16M 8192 0
    is_counted swap_write_error 128
    is_exactly pswpout 0
    is_exactly poisoned 0
    says 'could not be written: .*they stay in memory'
    done_with "every write is $error"
done

# After a failed write the next one waits for 0.1 s, which is as long as the program needs for
# all of it when nothing holds it up.  So this one waits until the writes have gone on.
has_written_on()
{
    [ "$(ctl nodes --noheadings --bytes --output=TYPE,USED | awk '$1 == "file" { print $2 }')" -ge \
        $((2048 * 4096)) ]
}
writes_go_on()
{
    until_true 10 has_written_on || fail "the writes do not go on: $(ctl nodes)"
}

with swap-write-eio=3
run_around 40 0 writes_go_on
is_counted pswpout 2048
is_counted swap_write_error 1
says 'could not be written: Input/output error'
done_with "one write is EIO"

with swap-short
run 12M 10240 0
is_counted pswpout 2048
is_exactly swap_write_error 0
is_exactly poisoned 0
done_with "reads and writes are short"

# ---- reads ----

with swap-read-page-eio=5
run 12M 10240 1
is_exactly swap_read_error 1
is_exactly poisoned 1
says 'pid [0-9]*: the page at 0x[0-9a-f]* is lost and poisoned: .*/swap Input/output error'
done_with "one page cannot be read"

# flip SLOT: one bit of that slot, by its worker's descriptor
flip()
{
    local pid fd
    for pid in $(cat "/proc/$daemon/task/$daemon/children"); do
        for fd in "/proc/$pid/fd/"*; do
            case $(readlink "$fd") in
            "$tmp/swap (deleted)")
                python3 - "$fd" "$1" <<'END' && return 0
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
at = int(sys.argv[2]) * 4096 + 1234
byte = os.pread(fd, 1, at)
os.pwrite(fd, bytes([byte[0] ^ 4]), at)
os.fsync(fd)
END
                ;;
            esac
        done
    done
    return 1
}

is_full()
{
    ctl status | grep -q 'all nodes are full: nothing more is moved'
}
says_that_it_is_full()
{
    until_true 10 is_full || fail "status says nothing of full nodes: $(ctl status)"
}

with none 16M
run_around 52 0 says_that_it_is_full
is_counted limit_overshoot 1
is_exactly swap_write_error 0
is_exactly poisoned 0
done_with "all nodes are full"

with none
run_around 40 1 flip 5
is_exactly swap_corrupt 1
is_exactly poisoned 1
says 'is lost and poisoned: .*/swap holds other bytes than were written there'
done_with "a bit is flipped"

daemon=
[ "$failed" = 0 ] || tail -n 30 "$tmp/daemon.log"
exit "$failed"
