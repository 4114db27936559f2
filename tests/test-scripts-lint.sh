#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Every shell script of the tree passes shellcheck.

set -u
cd "${top_srcdir:-$(dirname "$0")/..}" || exit 99

if ! command -v shellcheck >/dev/null; then
    echo "skipped: no shellcheck (Debian package shellcheck)"
    exit 77
fi
scripts=$(find tests examples bench -type f -name '*.sh')
# shellcheck disable=SC2086 # a list of names without blanks
exec shellcheck --severity=warning --external-sources quickstart .ci/run $scripts
