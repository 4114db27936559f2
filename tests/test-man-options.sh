#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Programs and manual pages do not drift apart: each option that --help prints
# is described in the page, each option in the page is one that --help prints,
# likewise commands and columns; and man(1) has no complaint about a page.

set -u
man_dir=${top_srcdir:-.}/man
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0

# same WHAT FILE FILE: --help's words and the page's, one a line
same()
{
    sort -u "$2" -o "$2"
    sort -u "$3" -o "$3"
    if [ ! -s "$2" ]; then
        echo "$1: none found in --help"
        failed=1
    fi
    for word in $(comm -23 "$2" "$3"); do
        echo "$1: $word is in --help and not in the page"
        failed=1
    done
    for word in $(comm -13 "$2" "$3"); do
        echo "$1: $word is in the page and not in --help"
        failed=1
    done
}

# The options that a help text lists (lines that begin with one), short ones too.
help_options()
{
    grep -E '^ +(-[a-zA-Z], )?--[a-z]' | sed 's/   *[^ -].*//' |
        grep -oE -e '(^| )--?[a-zA-Z][a-z-]*' | tr -d ' '
}

# The options in the tags of a page's paragraphs, and all that its synopsis and text mention.
page_options()
{
    sed -e '/^\.\\"/d' -e 's/\\-/-/g' -e 's/\\c$//' "$1" |
        awk '/^\.TP/ { tag = 1; next } tag { print; tag = 0 }' |
        grep -oE -e '(^|[ "])--?[a-zA-Z][a-z-]*' | tr -d ' "'
}
page_mentions()
{
    sed -e '/^\.\\"/d' -e 's/\\-/-/g' "$1" | grep -oE -e '--[a-z][a-z-]*'
}

"$PAGERD" --help >"$tmp/pagerd" || exit 1
"$PAGERCTL" --help >"$tmp/pagerctl" || exit 1

help_options <"$tmp/pagerd" >"$tmp/help"
page_options "$man_dir/pagerd.8" >"$tmp/page"
same "pagerd.8: options" "$tmp/help" "$tmp/page"
page_mentions "$man_dir/pagerd.8" | sort -u | comm -13 "$tmp/help" - >"$tmp/unknown"

commands=$(sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' "$tmp/pagerctl")
help_options <"$tmp/pagerctl" >"$tmp/help"
: >"$tmp/help-columns"
for command in $commands; do
    "$PAGERCTL" "$command" --help >"$tmp/command" || exit 1
    help_options <"$tmp/command" >>"$tmp/help"
    sed -n "/^Columns:/,\$s/^  \([A-Z]*\) .*/$command.\1/p" "$tmp/command" >>"$tmp/help-columns"
done
page_options "$man_dir/pagerctl.8" >"$tmp/page"
same "pagerctl.8: options" "$tmp/help" "$tmp/page"
page_mentions "$man_dir/pagerctl.8" | sort -u | comm -13 "$tmp/help" - >>"$tmp/unknown"
if [ -s "$tmp/unknown" ]; then
    echo "mentioned in a page, but no option: $(tr '\n' ' ' <"$tmp/unknown")"
    failed=1
fi

awk '/^\.SH/ { columns = $2 == "COLUMNS" } /^\.SS/ { command = $2 }
    columns && /^\.B [A-Z]+$/ { print command "." $2 }' "$man_dir/pagerctl.8" >"$tmp/page-columns"
same "pagerctl.8: columns" "$tmp/help-columns" "$tmp/page-columns"

sed -n 's/^ *SET(\([a-z_]*\));$/\1/p' "${top_srcdir:-.}/src/worker/report.c" >"$tmp/counters"
awk '/^\.SH/ { counters = $2 == "COUNTERS" } counters && tag && /^\.B [a-z_]+$/ { print $2 }
    { tag = /^\.TP/ }' "$man_dir/pagerctl.8" >"$tmp/page-counters"
same "pagerctl.8: counters" "$tmp/counters" "$tmp/page-counters"

printf "%s\n" "$commands" help >"$tmp/help-commands"
awk '/^\.SH/ { commands = $2 == "COMMANDS" } commands && /^\.B [a-z]+$/ { print $2 }' \
    "$man_dir/pagerctl.8" >"$tmp/page-commands"
same "pagerctl.8: commands" "$tmp/help-commands" "$tmp/page-commands"

# Section and key of each key of the configuration; and options that the page mentions.
sed -n '/^Configuration keys/,/^$/s/^  \(\[[a-z ]*\] [a-z-]*\) = .*/\1/p' "$tmp/pagerd" |
    tr ' ' . >"$tmp/help-keys"
sed -e 's/\\-/-/g' "$man_dir/pagerd.conf.5" |
    awk '/^\.SH/ { keys = $2 == "KEYS" } /^\.SS/ { section = $2 ($3 ? "." $3 : "") }
        keys && tag && /^\.B / { print section "." $2 } { tag = /^\.TP/ }' >"$tmp/page-keys"
same "pagerd.conf.5: keys" "$tmp/help-keys" "$tmp/page-keys"
help_options <"$tmp/pagerd" | sort -u >"$tmp/help"
unknown=$(page_mentions "$man_dir/pagerd.conf.5" | sort -u | comm -13 "$tmp/help" -)
if [ -n "$unknown" ]; then
    echo "mentioned in pagerd.conf.5, but no option: $unknown"
    failed=1
fi

for page in "$man_dir"/*.[1-8]; do
    command -v man >/dev/null || break
    complaints=$(LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l "$page" \
        2>&1 >/dev/null)
    if [ -n "$complaints" ]; then
        echo "$page: $complaints"
        failed=1
    fi
done

[ "$failed" = 0 ] && echo "help and pages agree"
exit "$failed"
