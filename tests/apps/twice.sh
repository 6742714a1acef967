# Sourced, after common.sh, by the long application tests: the same cases on the kernel's sockets and preloaded.
#
# run_twice runs a function in the pass "native", with nothing preloaded, and again in the pass "preloaded", as
# TSSX_SIDE says. The function starts the servers in the empty directory $R, its working directory, runs its cases
# by `compare`, and ends the servers. What a case prints, its exit status included, must be the same in both passes.
# $R has the same name in both, so that messages agree.
#
# By hand: TSSX_TEST_LISTED, if set, replaces the listed socket in USE_TSSX; TSSX_TEST_TIMES=1 tells how long each
# case took.

R=$T/a/run
PASS=native

run_twice() { # run_twice FUNCTION: does not return
  local library=$TSSX_LIB
  mkdir "$T/native" "$T/preloaded"
  PASS=native TSSX_LIB=
  one_pass "$1"
  [ -n "$library" ] || finish
  PASS=preloaded TSSX_LIB=$library
  one_pass "$1"
  equal "the same cases ran in both passes" "$(ls "$T/native")" "$(ls "$T/preloaded")"
  finish
}
one_pass() {
  local started=$SECONDS
  rm -rf "$R"
  "${AS[@]}" mkdir "$R" || exit 2
  cd "$R" || exit 2
  "$1"
  cd "$T/a" || exit 2
  note "the pass $PASS took $((SECONDS - started)) seconds, $(ls "$T/$PASS" | wc -l) cases"
}

# --- cases ----------------------------------------------------------------------------------------------------

normal() { cat; } # a test may define it again: it filters what its cases print

compare() { compared succeeds "$@"; } # compare NAME COMMAND...: it succeeds natively; preloaded it does the same
compare_failure() { compared fails "$@"; } # compare_failure NAME COMMAND...: it fails natively; preloaded in the same way
compare_text() { compare "$1" printf '%s\n' "$2"; } # compare_text NAME TEXT: the text is the same in both passes
compared() { # compared succeeds|fails NAME COMMAND...: the command, a function perhaps, runs in a subshell
  local wanted=$1 name=$2 file=$T/$PASS/${2//[^a-zA-Z0-9]/-} since difference RC
  shift 2
  [ ! -e "$file" ] || fail "$PASS: no two cases are called $name"
  since=$(now_ms)
  outcome "$T/log/case" "$@"
  [ -z "${TSSX_TEST_TIMES:-}" ] || note "$PASS: $name: $(($(now_ms) - since)) ms"
  normal <"$T/log/case" >"$file"
  printf '\nstatus %s\n' "$RC" >>"$file"
  if [ "$PASS" = native ]; then
    case $wanted:$RC in
      succeeds:0) ;;
      fails:0 | *:*[!0-9]* | succeeds:*) fail "$name: natively it $wanted" "$(cut -c 1-300 "$file")" ;;
    esac
  elif difference=$(diff -a "$T/native/${file##*/}" "$file" 2>&1); then
    pass "$name"
  else
    fail "$name" "$(cut -c 1-300 <<<"$difference" | head -n 24)"
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

# --- a look from outside --------------------------------------------------------------------------------------

# on_rings COUNT PATTERN [PROGRAM]: so many connections at least are on rings, and have carried bytes there: one way,
# or both if WAYS is 2. A program may end a connection after so many requests, so they need not be the same ones for long.
on_rings() {
  connections "${3:-}" "$2" >"$T/stat.lines" || return 1
  cat "$T/stat.lines"
  awk -v count="$1" -v ways="${WAYS:-1}" '
    $2 ~ (ways > 1 ? "^ring$" : "^(ring|mixed|handshake)$") && ($3 > 0) + ($4 > 0) >= ways { good++ }
    END { exit !(good >= count) }' "$T/stat.lines"
}
none_on_rings() { # none_on_rings PATTERN [PROGRAM]: no connection is on rings, or on its way there
  local look
  for look in 1 2 3; do
    connections "${2:-}" "$1" >"$T/stat.lines" || return 1
    cat "$T/stat.lines"
    ! grep -qE '^[^ ]+ (ring|mixed|handshake|offered) ' "$T/stat.lines" || return 1
    sleep 0.3
  done
}
# look NAME PATTERN COUNT [PROGRAM]: while at least COUNT connections to such a path, of clients called PROGRAM, are in
# use. Preloaded on both sides they must be on rings, otherwise none may be. A side that sends nothing keeps its
# direction in the kernel; WAYS=2 asks for bytes both ways.
look() {
  [ "$PASS" = preloaded ] && look_from_outside || return 0
  if accelerated; then
    check "over rings: $1" wait_for 15 on_rings "$3" "$2" "${4:-}"
  else
    check "not over rings: $1" none_on_rings "$2" "${4:-}"
  fi
}

# uses_ids PID...: a process of these, or a child, has given negative IDs to connections: their sockets are hidden
# from number 768 up. To be asked while the processes have accepted connections.
uses_ids() {
  local pid
  for pid; do
    for pid in "$pid" $(descendants "$pid"); do
      "${AS[@]}" find "/proc/$pid/fd" -lname 'socket:*' -printf '%f\n' | awk '$1 >= 768 && $1 < 1024 { found = 1 } END { exit !found }' &&
        return 0
    done
  done
  return 1
}

check_ids() { # check_ids NAME MODE PID...: the processes give IDs if MODE is negative, and none if it is kernel
  case $PASS:$2 in
    preloaded:negative) check "$1 uses negative IDs" wait_for 5 uses_ids "${@:3}" ;;
    preloaded:kernel) if uses_ids "${@:3}"; then fail "$1 uses no negative IDs"; else pass "$1 uses no negative IDs"; fi ;;
  esac
}
