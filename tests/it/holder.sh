# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A program that holds memory, does nothing by itself, and verifies its bytes when told.
# Sourced after daemon.sh.

# shellcheck disable=SC2034 # for the test
holder=${top_builddir:?}/tests/it/holder
# shellcheck disable=SC2034
bare_form=(env LD_PRELOAD="${PAGERD_PRELOAD:?}" PAGERD_SOCKET="${socket:?}")

# start_holder COMMAND...: it runs; $job is to be waited for
start_holder()
{
    rm -f "$tmp/orders"
    mkfifo "$tmp/orders"
    : >"$tmp/said" # what the last one has said
    "$@" <"$tmp/orders" >"$tmp/said" 2>"$tmp/complaints" &
    # shellcheck disable=SC2034 # for the test
    job=$!
    exec 8>"$tmp/orders"
    until_true 20 says ready && return
    fail "it does not start: $(cat "$tmp/complaints")"
    finish
}

# says WORD [TIMES]
says()
{
    [ "$(grep -c "^$1\$" "$tmp/said")" -ge "${2:-1}" ]
}

# order LINE WORD [TIMES]: and the answer is waited for
order()
{
    echo "$1" >&8
    until_true 60 says "$2" "${3:-1}" ||
        fail "$1: not $2: $(tail -n 1 "$tmp/said") $(cat "$tmp/complaints")"
}

end_holder()
{
    exec 8>&-
    wait "$job" || fail "it ended with status $?: $(cat "$tmp/said" "$tmp/complaints")"
}

# cell COMMAND COLUMN: of holder's row of status or clients
cell()
{
    ctl "$1" --noheadings --bytes --output=COMMAND,"$2" | awk '$1 == "holder" { print $2 }'
}
