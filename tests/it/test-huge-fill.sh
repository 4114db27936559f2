#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A program that asked for huge pages gets them from its first touches under a limit,
# too, and they leave as a whole.

set -u
# shellcheck source=tests/it/daemon.sh
. "${top_srcdir:?}/tests/it/daemon.sh"
grep -qE '\[(always|madvise)\]' /sys/kernel/mm/transparent_hugepage/enabled || {
    echo "this kernel makes no huge pages (transparent_hugepage/enabled)"
    exit 77
}
start_daemon
paged 8M true || exit 1
before=$(calm_descriptors)
paged 64M "${top_builddir:?}/tests/it/huge-touch" 384 || fail "status $?"
echo "huge pages filled $(counter fill_huge), moved out $(counter capture_huge)"
[ "$(counter fill_huge)" -gt 30 ] || fail "only $(counter fill_huge) huge pages were filled"
[ "$(counter capture_huge)" -gt 30 ] || fail "only $(counter capture_huge) were moved out whole"
everything_back "$before"
finish
