#!/usr/bin/env bash
# The labelled points of core/fault_point.h are in libtssx-fault.so, and nothing of them is in
# libtssx.so: neither a label nor the function that is called there. Each label is used once.
set -euo pipefail
: "${TSSX_LIB:?}" "${TSSX_BUILD:?}" "${TSSX_SOURCE:?}"
export LC_ALL=C
failed=0

labels=$(cd "$TSSX_SOURCE" && grep -rhoE '^ *TSSX_FAULT_POINT\([a-z_]+\);$' --include='*.cc' --include='*.h' core shim |
  sed 's/.*(\(.*\)).*/\1/' | sort)
[[ $labels ]] || { echo "no labels in core and shim"; exit 1; }
repeated=$(uniq -d <<<"$labels")
if [[ $repeated ]]; then
  printf 'labels used twice:\n%s\n' "$repeated"
  failed=1
fi
# A use that the expression above does not find would not be walked by tests/fault either.
uses=$(cd "$TSSX_SOURCE" && grep -rh 'TSSX_FAULT_POINT(' --include='*.cc' core shim | wc -l)
uses=$((uses + $(cd "$TSSX_SOURCE" && grep -h 'TSSX_FAULT_POINT(' core/ring.h | wc -l)))
if ((uses != $(wc -l <<<"$labels"))); then
  echo "$uses uses of TSSX_FAULT_POINT, $(wc -l <<<"$labels") labels: one to a line, in .cc files and core/ring.h"
  failed=1
fi

strings_of() { strings -n 4 "$1" | sort -u; }
faulty=$TSSX_BUILD/libtssx-fault.so
[[ -e $faulty ]] || { echo "SKIP: built without libtssx-fault.so"; exit 77; }
# objcopy takes the debugging information out, which names lines of the sources.
clean=$(mktemp "${TMPDIR:-/tmp}/tssx-points.XXXXXX")
trap 'rm -f "$clean"' EXIT
objcopy --strip-debug "$TSSX_LIB" "$clean"
present=$(comm -12 <(strings_of "$clean") <(echo "$labels"))
if [[ $present ]] || nm "$clean" | grep -q reach_fault_point || strings_of "$clean" | grep -q TSSX_FAULT; then
  printf 'points of faults in libtssx.so: %s\n' "$present"
  failed=1
fi
objcopy --strip-debug "$faulty" "$clean"
# Suffixes of other strings share their bytes, so each is looked for by itself.
while IFS= read -r label; do
  if ! grep -qaP "$label\\x00" "$clean"; then
    echo "not in libtssx-fault.so: $label"
    failed=1
  fi
done <<<"$labels"
echo "$(wc -l <<<"$labels") labels"
exit "$failed"
