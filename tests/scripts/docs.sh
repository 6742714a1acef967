#!/usr/bin/env bash
# What the documentation says exists, and what exists is documented: options of the tools in their manual
# pages, variables in docs/configuration.md and tssx(7), and one version everywhere.
set -euo pipefail
: "${TSSX_BUILD:?}" "${TSSX_SOURCE:?}"
export LC_ALL=C
cd "$TSSX_SOURCE"
failed=0
wrong() {
  echo "$*"
  failed=1
}
work=$(mktemp -d "${TMPDIR:-/tmp}/tssx-docs.XXXXXX")
trap 'rm -rf "$work"' EXIT

version=$(sed -n 's/^project(tssx VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
[[ $version ]] || wrong "no version in CMakeLists.txt"

# --- options ------------------------------------------------------------------------------------

# The text of a manual page, without its markup.
text_of() { sed -E '/^\.\\"/d; s/\\f[A-Z]|\\c$//g; s/\\-/-/g; s/"//g' "$1"; }
# Options and subcommands as CLI11 prints them: "  -p,--pid PID ...   text". All have -h for --help.
options_in() { sed -nE 's/^ +((-[A-Za-z],)?--?[A-Za-z][A-Za-z-]*).*/\1/p' "$1" | tr ',' '\n' | grep -vx -- -h; }
subcommands_in() { sed -n '/^Subcommands:/,/^$/s/^  \([a-z][a-z-]*\)\( .*\)\{0,1\}$/\1/p' "$1"; }

count=0
for folder in tools/tssx-*; do
  tool=${folder#tools/}
  page=docs/man/$tool.1
  if [[ ! -x $TSSX_BUILD/$tool || ! -f $page ]]; then
    wrong "no $tool, or no $page"
    continue
  fi
  "$TSSX_BUILD/$tool" --help >"$work/help" </dev/null
  subcommands=$(subcommands_in "$work/help")
  for subcommand in $subcommands; do
    "$TSSX_BUILD/$tool" "$subcommand" --help >>"$work/help" </dev/null
  done
  options_in "$work/help" | sort -u >"$work/options"
  text_of "$page" >"$work/text"
  for word in $(cat "$work/options") $subcommands; do
    count=$((count + 1))
    grep -qE -- "(^|[^A-Za-z-])$word([^A-Za-z-]|\$)" "$work/text" || wrong "$page does not have $word of --help"
  done
  # And nothing that the program does not know.
  sed -n '/^\.SH OPTIONS/,/^\.SH [^O]/p' "$page" | text_of /dev/stdin | grep -oE -- '(^|[^A-Za-z-])--[a-z][a-z-]*' |
    grep -oE -- '--[a-z-]+' | sort -u >"$work/documented"
  for option in $(comm -13 "$work/options" "$work/documented"); do
    wrong "$page has $option, which --help does not"
  done
  [[ $("$TSSX_BUILD/$tool" --version </dev/null) == "$tool $version" ]] || wrong "$tool --version does not say $version"
done
((count > 0)) || wrong "no option found at all"

for page in docs/man/*; do
  grep -qF "\"TSSX $version\"" "$page" || wrong "$page is not of version $version"
done

# --- variables ----------------------------------------------------------------------------------

# Not ours, and used as everybody does.
standard='^(PATH|TMPDIR|TERM|NO_COLOR|LINES|COLUMNS|HOME)$'
# core/fault_point.h has those of libtssx-fault.so, which is the tests' alone.
grep -rhoE --include='*.cc' --include='*.h' --exclude='fault_point.*' '(getenv|variable)\("[A-Z_]+"\)' core shim tools |
  sed 's/.*"\(.*\)".*/\1/' | sort -u | grep -vE "$standard" >"$work/code"
# Rows of tables that begin with one, and headings.
sed -nE 's/^(\| `|## )([A-Z]+(_[A-Z]+)+)(`.*|)$/\2/p' docs/configuration.md | grep -E 'TSSX|^LD_' | sort -u >"$work/documented"
for name in $(comm -23 "$work/code" "$work/documented"); do
  wrong "docs/configuration.md does not have $name, which the code reads"
done
for name in $(comm -13 "$work/code" "$work/documented"); do
  wrong "docs/configuration.md has $name, which the code does not read"
done
# The library's own.
grep -rhoE --include='*.cc' 'getenv\("[A-Z_]+"\)' shim | sed 's/.*"\(.*\)".*/\1/' | sort -u >"$work/library"
[[ -s $work/library ]] || wrong "no variable found at all"
text_of docs/man/tssx.7 >"$work/text"
for name in $(cat "$work/library"); do
  grep -qE "^\.B $name\$" "$work/text" || wrong "docs/man/tssx.7 does not have $name"
  # scripts/test runs without any of them.
  grep -qE "^unset .*\b$name\b" scripts/test || wrong "scripts/test does not unset $name"
done

echo "$count options and subcommands, $(wc -l <"$work/code") variables"
exit "$failed"
