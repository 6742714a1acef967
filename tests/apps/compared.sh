# Sourced, after common.sh, by the application tests that run the same cases twice: once on the kernel's sockets
# with nothing preloaded, once preloaded as TSSX_SIDE says. What a case prints must be the same both times.
#
# A test defines the function `cases`, which starts the servers, runs its cases by `compare`, and stops the
# servers, and ends with `twice`. In it RUN is native or preloaded, D the working directory, the same path both
# times and empty at the start of each.
#
# By hand: TSSX_TEST_LISTED, if set, replaces the listed socket in USE_TSSX; TSSX_TEST_TIMES=1 tells how long each
# case took.

RUN=
D=$T/a
CASES=0
LIBRARY=$TSSX_LIB # the library, while TSSX_LIB is empty for the native run
declare -A NATIVE=() # the output of each case, and its status

# outcome OUTPUT COMMAND...: runs it in a subshell, for at most $CHECK_LIMIT (30) seconds; its status is in RC
outcome() {
  local output=$1 fd pid
  shift
  RC=
  exec {fd}< <(
    "$@" >"$output" 2>&1
    echo $?
  )
  pid=$!
  if ! read -r -t "${CHECK_LIMIT:-30}" -u "$fd" RC; then
    for pid in $(descendants "$pid") "$pid"; do kill -KILL "$pid" 2>/dev/null; done
    RC="no end after ${CHECK_LIMIT:-30} seconds"
  fi
  exec {fd}<&-
}

# compare NAME COMMAND...: natively the command must succeed; preloaded it must print the same and succeed as well.
# It runs in a subshell. The function `normal`, if the test defines one, filters what was printed.
compare() {
  local name=$1 file text since
  shift
  CASES=$((CASES + 1))
  file=$T/log/$RUN.$CASES
  since=$(now_ms)
  outcome "$file" "$@"
  [ -z "${TSSX_TEST_TIMES:-}" ] || note "$RUN: $name: $(($(now_ms) - since)) ms"
  if declare -F normal >/dev/null; then text=$(normal <"$file" | tr -d '\0'); else text=$(tr -d '\0' <"$file"); fi
  text+=$'\n'"status ${RC:-lost}"
  if [ "$RUN" = native ]; then
    NATIVE[$name]=$text
    [ "$RC" = 0 ] || fail "$name, natively" "$text"
  elif [ -z "${NATIVE[$name]:-}" ]; then
    fail "$name" "did not run natively"
  elif [ "$text" = "${NATIVE[$name]}" ]; then
    pass "$name"
  else
    fail "$name" "$(diff <(echo "${NATIVE[$name]}") <(echo "$text") | cut -c 1-300 | head -n 24)"
  fi
}

no_connection_moves() { ! connections "${1:-}" | grep -qE '^[^ ]+ (ring|mixed|handshake|offered) '; }

# moved NAME COUNT [PROGRAM]: while at least COUNT connections to $LISTED are in use: preloaded on both sides, that
# many carry bytes over rings, otherwise none does. A side that sends nothing keeps its direction in the kernel.
moved() {
  local name=$1 count=$2 program=${3:-}
  [ "$RUN" = preloaded ] && look_from_outside || return 0
  enough() {
    [ "$(connections "$program" | awk '$2 == "ring" || $3 + $4 > 0' | grep -c .)" -ge "$count" ]
  }
  if accelerated; then
    check "over rings: $name" eval 'wait_for 15 enough || { connections; false; }'
  else
    sleep 0.3
    check "not over rings: $name" no_connection_moves
  fi
}

# without FD COMMAND...: with that descriptor closed, so that a reader of the pipe sees its end when we close it
without() {
  local fd=$1
  shift
  eval '"$@"' "$fd>&-"
}

# listens PATH: somebody listens there; with @ in front for an abstract name
listens() { awk -v path="$1" '$4 == "00010000" && $8 == path { found = 1 } END { exit !found }' /proc/net/unix; }

twice() {
  local count
  for RUN in native preloaded; do
    if [ "$RUN" = native ]; then
      TSSX_LIB=
    elif [ -z "$LIBRARY" ]; then
      break
    else
      TSSX_LIB=$LIBRARY
    fi
    cd "$T/a" || exit 2
    find "$T/a" -mindepth 1 -delete
    CASES=0
    cases
    count=${count:-$CASES}
    equal "$RUN: every case ran" "$count" "$CASES"
  done
  note "${#NATIVE[@]} cases compared"
  finish
}
