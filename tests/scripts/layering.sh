#!/usr/bin/env bash
# tools -> core, shim -> core, core -> nothing of ours. And core calls nothing that the shim
# interposes: inside libtssx.so such a call would come back into the shim, so core makes raw
# system calls instead.
set -euo pipefail
: "${TSSX_BUILD:?}" "${TSSX_SOURCE:?}"
export LC_ALL=C
failed=0

listed=$(printf '%s\n' '#define TSSX_SYMBOL(name, room, reason) LISTED name' \
  '#define TSSX_UNTOUCHED(name, reason)' '#include "symbols.def"' |
  "${CXX:-g++}" -std=c++20 -E -P -x c++ -I "$TSSX_SOURCE/shim" - |
  grep -oE 'LISTED [A-Za-z_0-9]+' | sed 's/^LISTED //' | sort -u)

core=$(find "$TSSX_BUILD" -name libtssx_core.a -print -quit)
[[ $core ]] || { echo "no libtssx_core.a in $TSSX_BUILD"; exit 1; }
# nm -A puts "archive:object:" in front of each line.
calls=$(nm -A -u "$core" | awk '{ print $NF, $1 }' | sort -u |
  join - <(echo "$listed") | awk '{ print $2, $1 }')
if [[ $calls ]]; then
  printf 'core calls what the shim interposes:\n%s\n' "$calls"
  failed=1
fi

# refuse <folder> <forbidden folders as a regular expression>
refuse() {
  local found
  found=$(cd "$TSSX_SOURCE" && grep -rnE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[\"<](\.\./)*($2)/" \
    --include='*.h' --include='*.cc' "$1" || true)
  if [[ $found ]]; then
    printf '%s must not include these:\n%s\n' "$1" "$found"
    failed=1
  fi
}
refuse core 'shim|tools|tests'
refuse shim 'tools|tests'
[[ ! -d $TSSX_SOURCE/tools ]] || refuse tools 'shim|tests'
exit "$failed"
