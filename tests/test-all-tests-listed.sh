#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A test file that no local.mk lists never runs, and nobody notices.  Also: a
# test script must be executable.

set -u
cd "${top_srcdir:-$(dirname "$0")/..}" || exit 99

failed=0
# shellcheck disable=SC2044 # names without blanks
for file in $(find tests -type f -name 'test-*'); do
    case $file in
    *.c) name=${file%.c} ;;
    *.sh | *.py)
        name=$file
        if [ ! -x "$file" ]; then
            echo "$file: not executable"
            failed=1
        fi
        ;;
    *) continue ;;
    esac
    dir=$(dirname "$file")
    name=$(basename "$name")
    # The name must end there: test-a is not listed by test-a-b.
    if ! grep -v '^[[:space:]]*#' "$dir/local.mk" | grep -qE "/$name([^[:alnum:].-]|\$)"; then
        echo "$file: not listed in $dir/local.mk"
        failed=1
    fi
done
[ "$failed" = 0 ] && echo "every test is listed"
exit "$failed"
