#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# pagerctl reclaim: memory of a program without a limit is moved out when somebody asks,
# as much as was asked for, and comes back unchanged.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
# shellcheck source=tests/it/holder.sh
. "${top_srcdir:?}/tests/it/holder.sh"
MIB=$((1 << 20))

# moved ARG...: what a reclaim says that has left
moved()
{
    ctl reclaim --noheadings --bytes --output=MOVED "$@" | tr -d ' '
}

start_daemon
paged 8M true || exit 1
before=$(calm_descriptors)

echo "a sleeping program without a limit"
start_holder "${bare_form[@]}" "$holder" 128
pid=$(cell status PID)
group=$(cell status GROUP)
[ -z "$(cell clients UNPAGEABLE)" ] || fail "nobody looked, and clients knows what is unpageable"
[ "$(cell status OUT)" = 0 ] || fail "something is out before anybody asked"
got=$(moved "$pid" 16M)
[ "$got" = $((16 * MIB)) ] || fail "of 16M $got bytes left"
[ "$(cell status OUT)" -ge $((16 * MIB)) ] || fail "of 16M $(cell status OUT) bytes are out"
got=$(moved "$group")
[ "$got" -ge $((110 * MIB)) ] || fail "of the rest $got bytes left"
[ "$(cell status RESIDENT)" -lt $((4 * MIB)) ] || fail "$(cell status RESIDENT) bytes are resident"
ctl reclaim --json "$group" >"$tmp/json" || fail "reclaim --json: status $?"
python3 - "$tmp/json" <<'END' || fail "the JSON is wrong: $(cat "$tmp/json")"
import json, sys
reply = json.load(open(sys.argv[1]))
assert reply["moved_bytes"] < 1 << 20 and reply["note"] and reply["timed_out"] is False, reply
END
ctl clients --json >"$tmp/json" || fail "clients --json: status $?"
python3 - "$tmp/json" "$pid" <<'END' || fail "clients --json: $(cat "$tmp/json")"
import json, sys
client, = [c for c in json.load(open(sys.argv[1])) if c["pid"] == int(sys.argv[2])]
assert client["out_bytes"] == client["ram_bytes"] + client["zero_bytes"] + client["file_bytes"]
assert client["ram_bytes"] >= 100 << 20, "where it is"
why = client["unpageable_bytes_by_reason"]
assert client["unpageable_bytes"] == sum(why.values())
assert why["stack"] > 0 and why["file"] > 0 and why["shared"] == why["foreign"] == 0, why
END
[ "$(cell clients RAM)" -ge $((100 * MIB)) ] || fail "clients: $(ctl clients)"
order verify verified
[ "$(cell status RESIDENT)" -ge $((120 * MIB)) ] || fail "it looked and little came back"

echo "what came back leaves again, in halves"
for _ in 1 2; do
    got=$(moved "$group" 64M)
    [ "$got" -ge $((62 * MIB)) ] || fail "of a half $got bytes left"
done
order verify verified 2
ctl check >/dev/null || fail "the tables do not hold"

echo "beyond what there is, and of others"
got=$(moved "$group" 1T)
[ "$got" -ge $((120 * MIB)) ] || fail "of 1T $got bytes left"
ctl reclaim no-such-group 2>"$tmp/err" && fail "a group that is not there is reclaimed"
grep -q "no such group" "$tmp/err" || fail "no such group: $(cat "$tmp/err")"
for bad in 12X -1 '' 8M\ ; do
    ctl reclaim "$group" "$bad" 2>"$tmp/err" && fail "'$bad' is taken for a size"
    [ "$(wc -l <"$tmp/err")" = 1 ] || fail "not one line: $(cat "$tmp/err")"
done
end_holder
everything_back "$before"

echo "asked while it runs: it ends, and no byte is wrong"
"${bare_form[@]}" "${top_builddir:?}/examples/fill-and-verify" 64 20 >"$tmp/out" 2>&1 &
job=$!
nr=0
while kill -0 "$job" 2>/dev/null; do
    pid=$(ctl status --noheadings --output=PID,COMMAND | awk '$2 == "fill-and-verify" { print $1 }')
    [ -n "$pid" ] && ctl reclaim "$pid" >/dev/null 2>&1 && nr=$((nr + 1))
done
wait "$job" || fail "status $?: $(cat "$tmp/out")"
echo "  reclaimed $nr times"
[ "$nr" -gt 0 ] || fail "it was never reclaimed"

echo "who asks and leaves does no harm"
start_holder "${bare_form[@]}" "$holder" 64
pid=$(cell status PID)
for _ in 1 2 3 4 5; do
    python3 - "$socket" "$pid" <<'END' || fail "asking and leaving"
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
s.send(json.dumps({"cmd": "reclaim", "target": sys.argv[2]}).encode())
s.close()
END
    order verify verified
done
end_holder
everything_back "$before"
finish
