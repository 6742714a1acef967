#!/usr/bin/env bash
# Every function that this machine's libc exports is either in shim/symbols.def, interposed or
# deliberately untouched, or not about descriptors by tests/scripts/glibc_names.txt. A name that a
# newer glibc brings is in neither, and is to be judged by somebody.
set -euo pipefail
: "${TSSX_SOURCE:?}"
export LC_ALL=C
failed=0

libc=$(LD_TRACE_LOADED_OBJECTS=1 /bin/sh 2>/dev/null | awk '$1 == "libc.so.6" { print $3 }')
if [[ ! $libc ]]; then
  echo "no libc.so.6 here: this is not glibc"
  exit 77
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/tssx-symbols.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Functions, also weak and chosen at run time. Names of version GLIBC_PRIVATE are libc's own.
nm -D --defined-only "$libc" | awk '$2 ~ /^[TWi]$/ { print $3 }' | sort -u >"$work/versioned"
sed 's/@.*//' "$work/versioned" | sort -u >"$work/all"
sed '/@GLIBC_PRIVATE$/d; s/@.*//' "$work/versioned" | sort -u >"$work/exported"

printf '%s\n' '#define TSSX_SYMBOL(name, room, reason) LISTED name' \
  '#define TSSX_UNTOUCHED(name, reason) LISTED name' '#include "symbols.def"' |
  "${CXX:-g++}" -std=c++20 -E -P -x c++ -I "$TSSX_SOURCE/shim" - |
  sed -n 's/^LISTED \([A-Za-z_0-9]*\)$/\1/p' >"$work/table"
sort "$work/table" >"$work/listed"
twice=$(uniq -d "$work/listed")
if [[ $twice ]]; then
  printf 'more than once in shim/symbols.def:\n%s\n' "$twice"
  failed=1
fi

absent=$(comm -23 <(sort -u "$work/listed") "$work/all")
if [[ $absent ]]; then
  printf 'in shim/symbols.def, but not exported by %s:\n%s\n' "$libc" "$absent"
  failed=1
fi

sed 's/#.*//' "$TSSX_SOURCE/tests/scripts/glibc_names.txt" | tr -s ' \n' '\n' | sed '/^$/d' \
  >"$work/patterns"
comm -13 <(sort -u "$work/listed") "$work/exported" | grep -xvEf "$work/patterns" >"$work/unknown" || true
if [[ -s $work/unknown ]]; then
  printf '%s exports functions that nobody has judged:\n' "$libc"
  sed 's/^/  /' "$work/unknown"
  cat <<'EOF'
For each of them: if it takes, makes or closes a descriptor, makes a process, or opens or closes a
FILE, put it into shim/symbols.def, as TSSX_SYMBOL with a definition in its room and a test, or as
TSSX_UNTOUCHED with the reason. Otherwise add it to tests/scripts/glibc_names.txt.
EOF
  failed=1
fi

echo "$(wc -l <"$work/exported") functions exported, $(wc -l <"$work/table") in the table"
exit "$failed"
