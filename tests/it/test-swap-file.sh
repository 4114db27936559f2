#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Programs whose memory neither their limit nor `ram` has room for: the rest is in a swap
# file, and every byte is right.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"

# swapped_right NAME: what the counters say of a run that used the swap file
swapped_right()
{
    printf '%-8s moved out %d, without a store %d; written %d, read %d\n' "$1" \
        "$(counter pgsteal)" "$(counter clean_dropped)" "$(counter pswpout)" "$(counter pswpin)"
    [ "$(counter pswpout)" -gt 2048 ] || fail "$1: hardly anything was written to the swap file"
    [ "$(counter pswpin)" -gt 1024 ] || fail "$1: hardly anything was read from the swap file"
    for one in poisoned swap_read_error swap_corrupt swap_write_error; do
        [ "$(counter "$one")" = 0 ] || fail "$1: $one is $(counter "$one")"
    done
}

start_daemon --ram=16M --swap="$tmp/swap:512M"
[ -e "$tmp/swap" ] && fail "the swap file has a name"
ctl nodes --noheadings --bytes --output=TYPE,SIZE | grep -q "file *$((512 << 20))" ||
    fail "there is no file node: $(ctl nodes)"
before=$(calm_descriptors)

paged 12M "${top_builddir:?}/examples/fill-and-verify" 48 2 >"$tmp/out" || fail "fill-and-verify: $(cat "$tmp/out")"
grep -q ' 0 wrong words' "$tmp/out" || fail "fill-and-verify: $(cat "$tmp/out")"
swapped_right fill
[ "$(counter clean_dropped)" -gt 100 ] || fail "nothing was dropped without a store"

paged 12M "$top_builddir/tests/it/swapped" 48 fork >"$tmp/out" || fail "fork: status $?"
grep -qx 'pages 12288 wrong 0 lost 0' "$tmp/out" || fail "fork: $(cat "$tmp/out")"
swapped_right fork

cat >"$tmp/fill.py" <<'END'
import hashlib, random
random.seed(11)
blocks = [random.randbytes(4096) for _ in range(8192)]
random.shuffle(blocks)
digest = hashlib.sha256()
for block in blocks:
    digest.update(block)
print(len(blocks), digest.hexdigest())
END
python3 "$tmp/fill.py" >"$tmp/bare"
paged 16M python3 "$tmp/fill.py" >"$tmp/out" || fail "python3: status $?"
cmp "$tmp/bare" "$tmp/out" || fail "python3: the outputs differ"
swapped_right python3
everything_back "$before"
kill "$daemon"
wait "$daemon" || fail "the daemon ended with status $?"

# ---- a block device ----

truncate -s 96M "$tmp/disk"
if loop=$(losetup --find --show "$tmp/disk" 2>/dev/null); then
    "${PAGERD:?}" --socket="$tmp/other" --swap="$loop:128M" 2>"$tmp/why" && fail "larger than it is"
    grep -q 'has 96 MiB only' "$tmp/why" || fail "of a small device it says: $(cat "$tmp/why")"
    start_daemon --ram=16M --swap="$loop:64M"
    losetup --detach "$loop" # when its last user lets go of it
    paged 12M "$top_builddir/tests/it/swapped" 40 >"$tmp/out" || fail "block device: status $?"
    grep -qx 'pages 10240 wrong 0 lost 0' "$tmp/out" || fail "block device: $(cat "$tmp/out")"
    swapped_right device
    "$PAGERD" --socket="$tmp/other" --swap="$loop:64M" 2>"$tmp/why" && fail "taken twice"
    grep -q 'is in use' "$tmp/why" || fail "of a device in use it says: $(cat "$tmp/why")"

    # There is one device, and root has it: everybody else is served without, and told so.
    chmod 711 "$tmp"
    other=(setpriv --reuid=12321 --regid=12321 --clear-groups "$PAGERCTL")
    "${other[@]}" nodes --socket="$socket" --noheadings --bytes --output=TYPE,SIZE,NOTE >"$tmp/out" ||
        fail "another user gets no answer"
    grep -q "^file *0 the swap device $loop serves one user only, and that is uid 0: give --swap" "$tmp/out" ||
        fail "of the device another user is told: $(cat "$tmp/out")"
    grep -q "warning: uid 12321 has no node file: the swap device $loop serves one user" "$tmp/daemon.log" ||
        fail "the log says nothing of it"
    "${other[@]}" run --socket="$socket" --limit=12M -- "${PAGERCTL%/*}/examples/fill-and-verify" 20 \
        >"$tmp/out" || fail "another user is not served: status $?"
    [ "$(ctl nodes --noheadings --output=TYPE,NOTE | sed -n 's/^file *//p')" = "" ] ||
        fail "root is told of the device too: $(ctl nodes)"

    kill "$daemon"
    wait "$daemon" || fail "the daemon ended with status $?"
else
    echo "note: no loop device can be made here; block devices are left out"
fi
daemon=
[ "$failed" = 0 ] || tail -n 30 "$tmp/daemon.log"
exit "$failed"
