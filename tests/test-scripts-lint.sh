#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Every shell script of the tree passes shellcheck.  SC2154: tests take
# variables from the environment that make check gives them.

set -u
cd "${top_srcdir:-$(dirname "$0")/..}" || exit 99

if ! command -v shellcheck >/dev/null; then
    echo "skipped: no shellcheck (Debian package shellcheck)"
    exit 77
fi
scripts=$(find tests examples bench -type f -name '*.sh')
# shellcheck disable=SC2086 # a list of names without blanks
exec shellcheck --severity=warning --exclude=SC2154 --external-sources quickstart .ci/run $scripts
