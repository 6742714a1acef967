#!/usr/bin/env bash
# The models of docs/model, checked by spin: the protocol as it is loses no wake-up, and of each
# deliberately broken variant spin finds that it does. With TSSX_TEST_LONG=1, more bytes at once.
set -euo pipefail

command -v spin >/dev/null || {
  echo "no spin here (Debian package spin)"
  exit 77
}
compiler=$(command -v cc || command -v gcc)

work=$(mktemp -d "${TMPDIR:-/tmp}/tssx-model.XXXXXX")
trap 'rm -rf "$work"' EXIT

# holds|breaks, model, definitions.
plan() {
  local few="-DCAPACITY=1 -DBYTES=2" calm="-DINTERRUPTS=0"
  cat <<END
holds wakeup -DONE_READER -DBYTES=4
holds wakeup -DTWO_READERS $few
holds wakeup -DTWO_WRITERS $few
holds wakeup -DREADER_AND_WRITER -DCAPACITY=1 -DBYTES=1 -DBYTES_BACK=2 $calm
holds wakeup -DONE_READER $few -DKILL_WRITER_SIDE
holds wakeup -DONE_READER $few -DKILL_READER_SIDE
holds kick -DBYTES=2
breaks wakeup -DONE_READER -DNO_HEAD_FENCE
breaks wakeup -DONE_READER -DNO_ARM_FENCE
breaks wakeup -DONE_READER -DNO_TAIL_FENCE
breaks wakeup -DONE_READER -DNO_LOOK_FOR_DATA
breaks wakeup -DONE_READER -DNO_LOOK_FOR_SPACE
breaks wakeup -DONE_READER -DNEVER_DRAINED
breaks wakeup -DTWO_READERS $few -DSLEEPER_TAKES_BELL
breaks wakeup -DREADER_AND_WRITER -DCAPACITY=1 -DBYTES=1 -DBYTES_BACK=2 $calm -DDRAIN_TAKES_BELL
breaks wakeup -DTWO_READERS $few -DBIT_TAKEN_BACK
breaks kick -DBYTES=2 -DNO_POKE
breaks kick -DBYTES=2 -DPOKE_WITHOUT_FENCE
breaks kick -DBYTES=2 -DCOUNTED_LATE
breaks kick -DBYTES=2 -DNO_LAST_LOOK
breaks kick -DBYTES=2 -DNO_CALL_ON_LEAVING
holds wakeup -DTWO_WRITERS $few $calm -DKILL_ONE
breaks wakeup -DTWO_WRITERS $few $calm -DKILL_ONE -DNO_RECOVERY
END
  [[ ${TSSX_TEST_LONG:-} ]] || return 0
  cat <<END
holds wakeup -DONE_READER
holds wakeup -DTWO_READERS -DCAPACITY=2 -DBYTES=3
holds wakeup -DTWO_WRITERS -DCAPACITY=2 -DBYTES=3
holds wakeup -DREADER_AND_WRITER -DCAPACITY=1 -DBYTES=1 -DBYTES_BACK=2
holds wakeup -DONE_READER -DCAPACITY=2 -DBYTES=3 -DKILL_WRITER_SIDE
holds wakeup -DONE_READER -DCAPACITY=2 -DBYTES=3 -DKILL_READER_SIDE
breaks wakeup -DTWO_READERS $few $calm -DKILL_ONE
holds wakeup -DTWO_READERS $few $calm -DKILL_ONE -DLIMITED
holds kick
END
}

# check <number> <holds|breaks> <model> <definitions>: one line into $work/<number>.result
check() {
  local number=$1 expected=$2 model=$3 found=holds
  shift 3
  # To compile a checker well takes longer than it runs, unless there are many states.
  local options=(-O0)
  [[ ! ${TSSX_TEST_LONG:-} ]] || options=(-O2 -DCOLLAPSE)
  mkdir "$work/$number"
  cd "$work/$number"
  cp "$TSSX_SOURCE/docs/model/$model.pml" model.pml
  spin "$@" -a model.pml >spin.out 2>&1 &&
    "$compiler" "${options[@]}" -w -DSAFETY -DNOFAIR -DMEMLIM=2000 -o pan pan.c &&
    ./pan -m100000 -w20 >pan.out 2>&1 || {
    cat spin.out pan.out
    echo "FAIL: $model $*: no answer"
    return
  } 2>&1
  # "holds" only of a search that saw everything.
  if ! grep -q 'errors: 0$' pan.out; then
    found=breaks
  elif grep -Eq 'max search depth|out of memory|Search not completed' pan.out; then
    found=incomplete
  fi
  printf '%s %-6s %s %s: %s' "$([[ $found == "$expected" ]] && echo ok || echo FAIL:)" "$found" \
    "$model" "${*#-D}" \
    "$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1 states/p; s/.*\(depth reached [0-9]*\).*/\1,/p' \
      pan.out | paste -sd ' ')"
  sed -n 's/^pan:1: \(.*\) (at depth \([0-9]*\))$/; \1 at step \2/p' pan.out | tr -d '\n'
  echo
}
export -f check
export work compiler

count=0
while read -r line; do
  count=$((count + 1))
  printf '%02d %s\n' "$count" "$line"
done < <(plan) >"$work/plan"
xargs -a "$work/plan" -P "$(nproc)" -L 1 bash -c 'check "$@" >"$work/$1.result" 2>&1' check
cat "$work"/*.result
echo "$count models, $(cat "$work"/*.result | grep -c '^ok') as expected"
[[ $(cat "$work"/*.result | grep -c '^ok') == "$count" ]]
