#!/usr/bin/env bash
# The sources are formatted as .clang-format says. Only version 14 counts: others break lines
# differently. Skipped (77) where it is not installed.
set -euo pipefail
: "${TSSX_SOURCE:?}"

formatter=
for candidate in clang-format-14 clang-format; do
  if command -v "$candidate" >/dev/null && "$candidate" --version | grep -q 'version 14\.'; then
    formatter=$candidate
    break
  fi
done
if [[ ! $formatter ]]; then
  echo "SKIP: clang-format 14 is not installed"
  exit 77
fi

cd "$TSSX_SOURCE"
folders=()
for folder in core shim tools tests; do
  [[ ! -d $folder ]] || folders+=("$folder")
done
wrong=0
while IFS= read -r -d '' file; do
  if ! "$formatter" --dry-run --Werror "$file" 2>/dev/null; then
    echo "$file"
    wrong=1
  fi
done < <(find "${folders[@]}" \( -name '*.h' -o -name '*.cc' \) -print0)
((wrong == 0)) || echo "to be formatted with: $formatter -i"
exit "$wrong"
