# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Programs bare and paged, for tests that source this behind daemon.sh, have a function
# try_NAME for each program, and end with "run_programs NAME...".

# session_kib SESSION: anonymous resident memory of its processes
session_kib()
{
    local pid files=()
    for pid in $(ps -o pid= -s "$1"); do
        case $(cat "/proc/$pid/comm" 2>/dev/null) in
        pager*) ;;
        *) files+=("/proc/$pid/smaps_rollup") ;;
        esac
    done
    [ "${#files[@]}" = 0 ] || cat "${files[@]}" 2>/dev/null | awk '/^Anonymous:/ { n += $2 } END { print n + 0 }'
}

# same NAME LIMIT_MIB MARGIN_MIB COMMAND...: what it says, and how it ends, is as bare; pages
# were moved; and all its processes together are inside the limit, as the daemon counts, and
# with samples=yes as is seen from outside (which costs a third of a core).
samples=no
same()
{
    local name=$1 limit=$2 most=$((($2 + $3) << 10)) job peak=0 now bare_status status start middle end
    shift 3
    start=${EPOCHREALTIME/./}
    "$@" >"${tmp:?}/bare" 2>"$tmp/bare.err" </dev/null
    bare_status=$?
    middle=${EPOCHREALTIME/./}
    setsid "${PAGERCTL:?}" run --socket="${socket:?}" --limit="${limit}M" --stats="$tmp/stats.json" -- \
        "$@" >"$tmp/paged" 2>"$tmp/paged.err" </dev/null &
    job=$!
    while [ "$samples" = yes ] && kill -0 "$job" 2>/dev/null; do
        now=$(session_kib "$job")
        [ "${now:-0}" -le "$peak" ] || peak=$now
        pause 0.05
    done
    wait "$job"
    status=$?
    end=${EPOCHREALTIME/./}
    printf '%-7s limit %3d MiB: bare %6d ms, paged %7d ms; moved out %d, brought back %d, most resident %d MiB%s\n' \
        "$name" "$limit" $(((middle - start) / 1000)) $(((end - middle) / 1000)) \
        "$(counter pgsteal)" "$(counter pgmajfault)" $(($(counter resident_peak_bytes) >> 20)) \
        "$([ "$samples" = no ] || echo ", seen $((peak >> 10))")"
    [ "$status" = "$bare_status" ] || fail "$name: status $status, bare $bare_status: $(head "$tmp/paged.err")"
    cmp "$tmp/bare" "$tmp/paged" || fail "$name: the outputs differ"
    cmp "$tmp/bare.err" "$tmp/paged.err" || fail "$name: it says $(head "$tmp/paged.err")"
    [ "$(counter pgsteal)" -gt 0 ] || fail "$name: nothing was moved"
    [ "$peak" -le "$most" ] || fail "$name: $peak KiB were resident, more than $most"
    [ "$(counter resident_peak_bytes)" -le $((most << 10)) ] ||
        fail "$name: $(counter resident_peak_bytes) bytes were counted, more than $((most << 10))"
}

# is_there COMMAND
is_there()
{
    command -v "$1" >/dev/null || {
        echo "note: no $1 here, it is left out"
        return 1
    }
}

# c_source NR: so many functions for a compiler to work on
c_source()
{
    awk -v nr="$1" 'BEGIN { for (i = 0; i < nr; i++) printf "int f%d(int a,int*b){int s=%d;for(int i=0;i<a;i++){" \
        "s+=b[i]*%d;if(s&%d)s^=b[a-i-1];switch(s%%7){case 0:s+=%d;break;case 1:s-=a;break;" \
        "case 2:s*=3;break;default:s^=i;}}return s;}\n", i, i, i % 13 + 1, i % 31 + 1, i }'
}

# run_programs NAME...: with a daemon; afterwards nothing is left of them
run_programs()
{
    local name before
    start_daemon
    ctl nodes >"$tmp/nodes" || fail "nodes: no answer"
    before=$(calm_descriptors)
    for name; do
        "try_$name"
    done
    everything_back "$before"
    finish
}
