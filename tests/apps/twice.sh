# Sourced by the long application tests, after common.sh: the same cases on the kernel's sockets and preloaded.
#
# run_twice runs a function in the pass "native", with nothing preloaded, and again in the pass "preloaded", as
# TSSX_SIDE says. The function starts the servers in the empty directory $R, runs its cases, and ends the servers.
# What a case prints, its exit status included, must be the same in both passes. $R has the same name in both, so
# that messages agree.

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
  finish
}
one_pass() {
  local started=$SECONDS
  rm -rf "$R"
  "${AS[@]}" mkdir "$R" || exit 2
  cd "$R" || exit 2
  "$1"
  cd "$T/a" || exit 2
  note "the pass $PASS took $((SECONDS - started)) seconds"
}

case_file() { echo "$T/$1/${2//[^a-zA-Z0-9]/-}"; } # case_file PASS NAME

recorded() { # recorded FILE succeeds|fails COMMAND...: its output is in the file, and its status
  local file=$1 wanted=$2 rc
  shift 2
  "$@" >"$file" 2>&1
  rc=$?
  tail -n 20 "$file"
  echo "status $rc" >>"$file"
  case $wanted in succeeds) [ $rc = 0 ] ;; fails) [ $rc != 0 ] ;; esac
}
compare() { # compare NAME: the output of both passes
  local difference
  [ "$PASS" = preloaded ] || return 0
  if difference=$(diff "$(case_file native "$1")" "$(case_file preloaded "$1")" 2>&1); then
    pass "as in the kernel: $1"
  else
    fail "as in the kernel: $1" "$difference"
  fi
}
record() { # record NAME COMMAND...: it succeeds, and its output is the same in both passes
  check "$PASS: $1" recorded "$(case_file "$PASS" "$1")" succeeds "${@:2}"
  compare "$1"
}
record_failure() { # record_failure NAME COMMAND...: it fails, in the same way in both passes
  check "$PASS: $1, must fail" recorded "$(case_file "$PASS" "$1")" fails "${@:2}"
  compare "$1"
}
record_text() { record "$1" printf '%s\n' "$2"; } # record_text NAME TEXT: the text is the same in both passes

# --- a look from outside --------------------------------------------------------------------------------------

# connections_at PATTERN: like connections, of all programs at listening sockets of such a path.
connections_at() {
  timeout -k 3 10 "${AS[@]}" "$TSSX_STAT" --json --path "$1" >"$T/stat.json" || return 1
  perl -MJSON::PP -e '
    local $/;
    for my $c (@{decode_json(<STDIN>)->{connections}}) {
      print join(" ", $c->{id}, $c->{state}, $c->{to_client}{bytes} // 0, $c->{to_server}{bytes} // 0), "\n";
    }' <"$T/stat.json"
}
# moving_at PATTERN COUNT: so many connections at least are on rings that have carried bytes both ways. A program
# may end a connection after so many requests, so they need not be the same ones for long.
moving_at() {
  local look
  for look in 1 2 3 4 5; do
    connections_at "$1" >"$T/stat.lines" || return 1
    cat "$T/stat.lines"
    ! awk -v count="$2" '$2 == "ring" && $3 > 0 && $4 > 0 { good++ } END { exit !(good >= count) }' "$T/stat.lines" ||
      return 0
    sleep 0.3
  done
  return 1
}
carried_at() { # carried_at PATTERN: a connection is on rings, and has carried bytes there
  connections_at "$1" | tee /dev/stderr | awk '$2 == "ring" && $3 + $4 > 0 { good = 1 } END { exit !good }'
}
none_at() { # none_at PATTERN: no connection is on rings, or on its way there
  local look
  for look in 1 2 3; do
    connections_at "$1" >"$T/stat.lines" || return 1
    cat "$T/stat.lines"
    ! grep -qE '^[^ ]+ (ring|mixed|handshake|offered) ' "$T/stat.lines" || return 1
    sleep 0.3
  done
}
# look PATTERN COUNT: while COUNT connections to such a path are busy. Preloaded on both sides they must be on rings,
# otherwise none may be. For connections too short to be seen twice, COUNT is "some".
look() {
  local what=${1##*/}
  [ "$PASS" = preloaded ] && look_from_outside || return 0
  if ! accelerated; then
    check "tssx-stat: nothing of ${what%\*} is on rings" none_at "$1"
  elif [ "$2" = some ]; then
    check "tssx-stat: ${what%\*} carries bytes on rings" wait_for 8 carried_at "$1"
  else
    check "tssx-stat: $2 connections of ${what%\*} carry bytes on rings" wait_for 8 moving_at "$1" "$2"
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
