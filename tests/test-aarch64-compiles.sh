#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Everything compiles for aarch64 with -Werror, and the preload library links.
# It is not run: no such machine is at hand.  The libraries that the daemon needs
# are not there for aarch64 either, so their headers are taken from this machine,
# after those of the aarch64 C library.

set -u
cd "${top_srcdir:-$(dirname "$0")/..}" || exit 99

cc=${AARCH64_CC:-aarch64-linux-gnu-gcc}
if ! command -v "$cc" >/dev/null; then
    echo "skipped: no $cc (Debian package gcc-aarch64-linux-gnu)"
    exit 77
fi
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT

read -ra warnings <<<"${WARN_CFLAGS:--Wall -Wextra -Wshadow -Wmissing-prototypes \
-Wstrict-prototypes -Wpointer-arith -Wvla}"
flags=(-std=gnu17 -O1 -fPIC -Werror "${warnings[@]}" -Isrc "-I$tmp")
printf '#define PACKAGE_NAME "pagerd"\n#define PACKAGE_VERSION "0"\n' >"$tmp/config.h"
inside=(-fno-stack-protector -fvisibility=hidden)
host=(-idirafter /usr/include -idirafter "/usr/include/$(uname -m)-linux-gnu"
    '-DPAGERD_DAEMON_PATH="/x"' '-DPAGERD_PRELOAD_PATH="/x"')

failed=0
compiled=0
objects=()
for file in src/*/*.c; do
    object=$tmp/${file//\//_}.o
    case $file in
    src/agent/filter.c) extra=("${host[@]}") ;; # the daemon's
    src/agent/*) extra=("${inside[@]}" -ffreestanding) ;;
    src/preload/*) extra=("${inside[@]}") ;;
    *) extra=("${host[@]}") ;;
    esac
    case " ${PRELOAD_SOURCES:-} " in
    *" $file "*) objects+=("$object") ;;
    esac
    if "$cc" "${flags[@]}" "${extra[@]}" -c -o "$object" "$file"; then
        compiled=$((compiled + 1))
    else
        echo "$file: does not compile for aarch64"
        failed=1
    fi
done

if [ "$failed" = 0 ] && [ ${#objects[@]} -gt 0 ]; then
    "$cc" -shared -Wl,-z,now -Wl,-z,defs -o "$tmp/libpagerd-preload.so" "${objects[@]}" || failed=1
fi
# Which files make up the preload library, make check tells (PRELOAD_SOURCES).
echo "$compiled files compiled for aarch64, ${#objects[@]} of them linked"
exit "$failed"
