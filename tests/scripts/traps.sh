#!/usr/bin/env bash
# Each test that the table "Traps" of docs/testing.md names exists: a case of call_tests, a suite
# (Suite.*), or a script. So does the table itself, and each test that docs/security.md names.
set -euo pipefail
: "${TSSX_BUILD:?}" "${TSSX_SOURCE:?}"
set -f
export LC_ALL=C
unset LD_PRELOAD USE_TSSX

tests=$TSSX_BUILD/tests/call_tests
[[ -x $tests ]] || { echo "no $tests"; exit 1; }
# Suite.Case, without the parameters of either.
cases=$(for each in "$tests" "${tests%/*}/core_tests" "${tests%/*}/tool_tests"; do
    [[ ! -x $each ]] || "$each" --gtest_list_tests
  done | sed 's/ *#.*//' |
  awk '/^[^ ]/ { suite = $1 } /^ / { sub(/\/.*/, "", $1); print suite $1 }' | sed 's|^.*/\([^.]*\.\)|\1|' |
  sort -u)

table=$(awk '/^### / { inside = ($0 == "### Traps") } inside && /^\|/' "$TSSX_SOURCE/docs/testing.md" |
  tail -n +3)
is_test() {
  case $1 in
    script.*) [[ -f $TSSX_SOURCE/tests/scripts/${1#script.}.sh ]] ;;
    *'.*') awk -v suite="${1%'*'}" 'index($0, suite) == 1 { found = 1 } END { exit !found }' <<<"$cases" ;;
    *) grep -qxF "$1" <<<"$cases" ;;
  esac
}
failed=0
count=0
secured=0
while IFS= read -r row; do
  names=$(cut -d'|' -f3 <<<"$row" | grep -oE '`[^`]+`' | tr -d '`' || true)
  if [[ -z $names ]]; then
    echo "no test: $row"
    failed=1
  fi
  for name in $names; do
    count=$((count + 1))
    is_test "$name" || { echo "no such test: $name"; failed=1; }
  done
done <<<"$table"
# docs/security.md names tests in its sentences; the other backquoted words with a dot in them are
# files.
for name in $(grep -oE '`(script\.[a-z_]+|[A-Z][A-Za-z]+\.[A-Z*][A-Za-z]*)`' "$TSSX_SOURCE/docs/security.md" | tr -d '`'); do
  secured=$((secured + 1))
  is_test "$name" || { echo "docs/security.md: no such test: $name"; failed=1; }
done
if ((count == 0 || secured == 0)); then
  echo 'docs/testing.md has no table of traps, or docs/security.md names no test'
  failed=1
fi
exit $failed
