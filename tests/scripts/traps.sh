#!/usr/bin/env bash
# Each test that the table "Traps" of docs/testing.md names exists: a case of call_tests, a suite
# (Suite.*), or a script. So does the table itself.
set -euo pipefail
: "${TSSX_BUILD:?}" "${TSSX_SOURCE:?}"
export LC_ALL=C
unset LD_PRELOAD USE_TSSX

tests=$TSSX_BUILD/tests/call_tests
[[ -x $tests ]] || { echo "no $tests"; exit 1; }
# Suite.Case, without the parameters of either.
cases=$("$tests" --gtest_list_tests | sed 's/ *#.*//' |
  awk '/^[^ ]/ { suite = $1 } /^ / { sub(/\/.*/, "", $1); print suite $1 }' | sed 's|^.*/\([^.]*\.\)|\1|' |
  sort -u)

table=$(awk '/^### / { inside = ($0 == "### Traps") } inside && /^\|/' "$TSSX_SOURCE/docs/testing.md" |
  tail -n +3)
failed=0
count=0
while IFS= read -r row; do
  names=$(cut -d'|' -f3 <<<"$row" | grep -oE '`[^`]+`' | tr -d '`' || true)
  if [[ -z $names ]]; then
    echo "no test: $row"
    failed=1
  fi
  for name in $names; do
    count=$((count + 1))
    case $name in
      script.*) [[ -f $TSSX_SOURCE/tests/scripts/${name#script.}.sh ]] ;;
      *'.*') awk -v suite="${name%'*'}" 'index($0, suite) == 1 { found = 1 } END { exit !found }' <<<"$cases" ;;
      *) grep -qxF "$name" <<<"$cases" ;;
    esac || { echo "no such test: $name"; failed=1; }
  done
done <<<"$table"
if ((count == 0)); then
  echo 'docs/testing.md has no table of traps'
  failed=1
fi
exit $failed
