#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The daemon's memory is locked as far as it is used, and no further; what the pool needs no
# more goes back to the system all the same; the daemon is not the first that the system
# ends when memory is short.  The programs have nothing of all that.  Where it is not
# allowed to, the daemon says so and works as well.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
# shellcheck source=tests/it/holder.sh
. "${top_srcdir:?}/tests/it/holder.sh"

# status_kb PID FIELD
status_kb()
{
    awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/status"
}
# pool PID FIELD: of the frames' mapping in smaps, in kB; or VmFlags
pool()
{
    awk -v field="$2:" '/^[0-9a-f]+-[0-9a-f]+ / { pool = /pagerd-frames/ }
        pool && $1 == field { $1 = ""; print; exit }' "/proc/$1/smaps"
}
pool_kb()
{
    pool "$1" "$2" | awk '{ print $1 + 0 }'
}
pool_is_empty()
{
    [ "$(pool_kb "$1" Rss)" = 0 ]
}
worker()
{
    cat "/proc/$daemon/task/$daemon/children" | tr -d ' '
}
oom_score()
{
    cat "/proc/$1/oom_score_adj"
}
# Is it possible for us?  Then it has to be for the daemon.
may_lower_oom_score()
{
    (echo -900 >/proc/self/oom_score_adj) 2>/dev/null
}

ours=$(oom_score self)
want=$ours
if may_lower_oom_score; then
    want=-900
else
    echo "note: no process here may lower its oom_score_adj"
fi
sanitized=$(grep -c -e __asan_version -e __tsan_func_entry "${PAGERD:?}") # whose mlockall does nothing
[ "$sanitized" = 0 ] || echo "note: a sanitizer keeps memory from being locked"

start_daemon
start_holder paged 16M "$holder" 64
program=$(cell status PID)
keeper=$daemon
worker=$(worker)

echo "scores"
for pid in "$keeper" "$worker"; do
    [ "$(oom_score "$pid")" = "$want" ] || fail "the daemon's oom_score_adj is $(oom_score "$pid")"
done
[ "$want" = "$ours" ] && ! grep -q 'oom_score_adj stays' "$tmp/daemon.log" && fail "it does not say so"
for pid in "$program" "$job"; do
    [ "$(oom_score "$pid")" = "$ours" ] || fail "the program's oom_score_adj is $(oom_score "$pid")"
    [ "$(status_kb "$pid" VmLck)" = 0 ] || fail "memory of the program is locked"
done

echo "locks"
if grep -q 'memory is not locked' "$tmp/daemon.log"; then
    echo "note: it may not lock its memory here"
elif [ "$sanitized" = 0 ]; then
    for pid in "$keeper" "$worker"; do
        [ "$(status_kb "$pid" VmLck)" -gt 0 ] || fail "memory of process $pid is not locked"
    done
    [[ " $(pool "$worker" VmFlags) " = *" lo "* ]] || fail "the pool is not locked"
    [ "$(pool_kb "$worker" Locked)" = "$(pool_kb "$worker" Rss)" ] || fail "of the pool not all is locked"
fi
# What it holds are some 50 MiB; room for as much is reserved as half of the machine has.
[ "$(pool_kb "$worker" Rss)" -ge 40000 ] || fail "the pool holds $(pool_kb "$worker" Rss) kB only"
[ "$(pool_kb "$worker" Rss)" -le 70000 ] || fail "of the pool $(pool_kb "$worker" Rss) kB are there"
if [ "$sanitized" = 0 ]; then
    [ "$(status_kb "$worker" VmRSS)" -le 160000 ] ||
        fail "the worker has $(status_kb "$worker" VmRSS) kB: something sparse was filled"
fi
order verify verified
end_holder

echo "what nobody needs goes back"
until_true 10 no_clients || fail "clients are left"
until_true 10 pool_is_empty "$worker" || fail "the pool keeps $(pool_kb "$worker" Rss) kB"
kill "$daemon"
wait "$daemon" || fail "the daemon ended with status $?"

echo "a private daemon, and its program"
said=$("${PAGERCTL:?}" run --limit=16M -- sh -c 'cat /proc/self/oom_score_adj; ulimit -l')
[ "$said" = "$(echo "$ours"; ulimit -l)" ] || fail "its program has other limits: $said"

echo "a daemon that may not"
cat >"$tmp/may-not" <<END
#!/bin/sh
exec prlimit --memlock=8388608:8388608 setpriv --bounding-set=-ipc_lock,-sys_resource \
    "$PAGERD" "\$@"
END
chmod +x "$tmp/may-not"
if [ "$(id -u)" = 0 ]; then
    pagerd=$PAGERD
    PAGERD=$tmp/may-not
    rm "$tmp/ready"
    start_daemon
    for what in 'memory is not locked.*ulimit -Hl' 'oom_score_adj stays as it is'; do
        grep -q "$what" "$tmp/daemon.log" || fail "it does not say: $what"
    done
    paged 16M "$holder" 64 >"$tmp/out" </dev/null || fail "status $?"
    [ "$(status_kb "$(worker)" VmLck)" = 0 ] || fail "its memory is locked all the same"
    stop_daemon

    echo "a worker that may lock 64 KiB"
    # Of a user of its own: the kernel has one account for all processes of a user.
    uid=$((20000 + $$ % 20000))
    cat >"$tmp/may-not" <<END
#!/bin/sh
exec prlimit --memlock=65536:65536 setpriv --bounding-set=-sys_resource "${pagerd:?}" "\$@"
END
    chmod 755 "$tmp"
    start_daemon
    setpriv --reuid=$uid --regid=$uid --clear-groups "$PAGERCTL" run --socket="$socket" --limit=16M -- \
        "${PAGERCTL%/*}/examples/fill-and-verify" 48 >"$tmp/out" || fail "status $?"
    grep -q ' 0 wrong words' "$tmp/out" || fail "it says $(cat "$tmp/out")"
    [ "$(grep -c "warning:.* RLIMIT_MEMLOCK, 64 KiB .* uid $uid .*raise it (ulimit -l" "$tmp/daemon.log")" = 1 ] ||
        fail "not once it says of its ring: $(cat "$tmp/daemon.log")"
    stop_daemon

    echo "a daemon that may lock nothing"
    cat >"$tmp/may-not" <<END
#!/bin/sh
exec prlimit --memlock=0:0 setpriv --bounding-set=-ipc_lock,-sys_resource "$pagerd" "\$@"
END
    "$PAGERD" --socket="$tmp/other" 2>"$tmp/why" && fail "it starts"
    grep -q 'RLIMIT_MEMLOCK, 0 KiB .* uid 0 .*raise it (ulimit -l' "$tmp/why" ||
        fail "of its limit it says: $(cat "$tmp/why")"
    PAGERD=$tmp/may-not "$PAGERCTL" run --limit=16M -- true 2>"$tmp/why" && fail "pagerctl runs it"
    grep -q 'RLIMIT_MEMLOCK' "$tmp/why" || fail "pagerctl says: $(cat "$tmp/why")"
    daemon=
fi
[ "$failed" = 0 ] || tail -n 30 "$tmp/daemon.log"
exit "$failed"
