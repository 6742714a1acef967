#!/usr/bin/env bash
# libtssx.so needs libc alone, and exports the interposed symbols of shim/symbols.def, no more and
# no fewer. A definition that the table lacks would be hidden without a word, and never called.
set -euo pipefail
: "${TSSX_LIB:?}" "${TSSX_SOURCE:?}"
export LC_ALL=C
failed=0

needed=$(readelf -d "$TSSX_LIB" | sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p')
while IFS= read -r name; do
  case $name in
    libc.so.6 | ld-linux* | "") ;;
    *)
      echo "needs $name"
      failed=1
      ;;
  esac
done <<<"$needed"

# The table as the build reads it, so that its conditions and comments count as they do there.
listed=$(printf '%s\n' '#define TSSX_SYMBOL(name, room, reason) LISTED name' \
  '#define TSSX_UNTOUCHED(name, reason)' '#include "symbols.def"' |
  "${CXX:-g++}" -std=c++20 -E -P -x c++ -I "$TSSX_SOURCE/shim" - |
  grep -oE 'LISTED [A-Za-z_0-9]+' | sed 's/^LISTED //')
repeated=$(sort <<<"$listed" | uniq -d)
if [[ $repeated ]]; then
  printf 'listed twice in shim/symbols.def:\n%s\n' "$repeated"
  failed=1
fi

exported=$(nm -D --defined-only "$TSSX_LIB" | awk '{ print $NF }' | sed 's/@.*//' | sort -u)
missing=$(comm -23 <(sort -u <<<"$listed") <(echo "$exported"))
if [[ $missing ]]; then
  printf 'listed in shim/symbols.def, but not exported:\n%s\n' "$missing"
  failed=1
fi
extra=$(comm -13 <(sort -u <<<"$listed") <(echo "$exported"))
if [[ $extra ]]; then
  printf 'exported, but not listed in shim/symbols.def:\n%s\n' "$extra"
  failed=1
fi

# Functions with the name of a libc function that the shim defines and the map hides. The libc
# that this machine has is the reference for what a program could call. pthread_atfork is libc's own:
# every object that uses it gets a static copy.
libc=$(LD_TRACE_LOADED_OBJECTS=1 /bin/sh 2>/dev/null | awk '$1 == "libc.so.6" { print $3 }')
if [[ $libc ]]; then
  hidden=$(comm -12 \
    <(nm --defined-only "$TSSX_LIB" | awk '$2 == "t" { print $3 }' | sort -u) \
    <(nm -D --defined-only "$libc" | awk '{ print $NF }' | sed 's/@.*//' | sort -u))
  hidden=$(comm -23 <(echo "$hidden") <(sort -u <<<"$listed") | grep -vE '^(_init|_fini|pthread_atfork)?$' || true)
  if [[ $hidden ]]; then
    printf 'defined with the name of a libc function, but hidden:\n%s\n' "$hidden"
    failed=1
  fi
fi

echo "$(wc -l <<<"$listed") symbols listed, $(wc -l <<<"$exported") exported"
exit "$failed"
