# Sourced by the application tests of this directory.
#
#   TSSX_LIB    libtssx.so; empty or unset: everything runs on plain kernel sockets
#   TSSX_STAT   tssx-stat; empty or unset: no look at the connections from outside
#   TSSX_SIDE   both (default), server or client: which side is preloaded
#   TSSX_IDS    handed on as it is
#   TSSX_TRACE  1: print the steps
#
# The script that sources this file runs twice. The first process makes the temporary directory, starts the
# script again as a worker in a session of its own, and waits. Whatever becomes of the worker, it then ends the
# processes that are left, looks for remains and removes the directory. It only ever waits, so that Ctrl-C and
# TERM are served at once. Every process of a test has its working directory inside the temporary directory;
# that is how the ones left over are found, daemons and orphans included.
#
# Limits in seconds, here and in the tests, are what an idle machine needs at most. They only end what hangs, so
# each is multiplied by PATIENCE, for machines that are busy or slow; what a test waits for is a condition, never a
# time.
#
# A test sets these before it sources the file:
#   TITLE       its name in messages
#   TIME_LIMIT  seconds for the whole script
#   APP_USER    (optional) the user for the programs if we are root
#   PROGRAMS    (optional) words; without one of these commands the test is skipped
#   app_remains (optional) a function that removes what killed programs leave outside the temporary directory

set -u
umask 022
readonly PATIENCE=10
export LC_ALL=C.UTF-8
unset LD_PRELOAD USE_TSSX CDPATH
TSSX_LIB=${TSSX_LIB:-} TSSX_STAT=${TSSX_STAT:-} TSSX_SIDE=${TSSX_SIDE:-both}

case $TSSX_SIDE in both | server | client) ;; *)
  echo "TSSX_SIDE=$TSSX_SIDE: must be both, server or client" >&2
  exit 2 ;;
esac

# --- the user of the programs ---------------------------------------------------------------------------------

AS=()
if [ "$(id -u)" = 0 ] && [ -n "${APP_USER:-}" ] && [ "$APP_USER" != root ]; then
  if ! getent passwd "$APP_USER" >/dev/null; then
    echo "$TITLE: skipped, there is no user $APP_USER"
    exit 77
  fi
  AS=(setpriv "--reuid=$APP_USER" "--regid=$(id -g "$APP_USER")" --init-groups)
fi

# --- small tools ----------------------------------------------------------------------------------------------

note() { echo "# $*"; }
now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

wait_for() { # wait_for SECONDS COMMAND...: until it succeeds
  local end=$(($(now_ms) + $1 * PATIENCE * 1000))
  shift
  while ! "$@"; do
    [ "$(now_ms)" -lt "$end" ] || return 1
    sleep 0.05
  done
}

birth() { # birth PID: when it started, nothing if it is gone or a zombie
  local s=
  { read -r -d '' s || :; } 2>/dev/null <"/proc/$1/stat" || return 1
  [ -n "$s" ] || return 1 # it ended between open and read
  s=(${s##*) })
  [ "${s[0]}" != Z ] && [ "${s[0]}" != X ] && echo "${s[19]}"
}
cpu_ticks() { # cpu_ticks PID: user and system time
  local s=
  { read -r -d '' s || :; } 2>/dev/null <"/proc/$1/stat" || return 1
  [ -n "$s" ] || return 1 # it ended between open and read
  s=(${s##*) })
  echo $((s[11] + s[12]))
}

left_over() { # the processes of this test
  local find='find /proc -maxdepth 2 -name cwd ( -path /proc/[0-9]*/cwd -lname '"$T"' -o -lname '"$T/*"' ) -printf %h\n'
  set -f
  { (cd / && $find) ; [ ${#AS[@]} -eq 0 ] || (cd / && "${AS[@]}" $find); } 2>/dev/null | sed 's,/proc/,,' | sort -un
  set +f
}
none_left() { [ -z "$(left_over)" ]; }

describe() { # describe PID: one line about a process
  printf '%s %s' "$1" "$(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | cut -c1-100)"
}

# --- results --------------------------------------------------------------------------------------------------

pass() { echo "ok $1"; echo ok >>"$T/results"; }
fail() { # fail NAME [TEXT]
  echo "not ok $1"
  [ -z "${2:-}" ] || printf '%s\n' "$2" | tail -n 25 | sed 's/^/#   /'
  echo "not ok $1" >>"$T/results"
}
verdict() { # verdict NAME STATUS [TEXT]
  if [ "$2" = 0 ]; then pass "$1"; else fail "$1" "${3:-}"; fi
}

# --- the first process ----------------------------------------------------------------------------------------

shm_files() { find /dev/shm -mindepth 1 -printf '%P\n' 2>/dev/null | sort; }

end_everything() { # end the processes of this test, politely first
  local signal pid list
  for signal in TERM INT QUIT KILL KILL; do
    list=$(left_over)
    [ -n "$list" ] || return 0
    for pid in $list; do kill "-$signal" "$pid" 2>/dev/null; done
    wait_for 3 none_left && return 0
  done
}
remove_remains() { # what a killed database server leaves behind
  local file id
  find "$T" -name postmaster.pid 2>/dev/null | while read -r file; do
    id=$(sed -n '7s/^ *[0-9]* *\([0-9]*\).*/\1/p' "$file")
    [ -z "$id" ] || ipcrm -m "$id" 2>/dev/null
  done
  ! declare -F app_remains >/dev/null || app_remains
  rm -rf "$T"
}

first_process() {
  local p worker rc lines shm_before new count stray
  for p in ${PROGRAMS:-}; do
    command -v "$p" >/dev/null || { echo "$TITLE: skipped, $p is not installed"; exit 77; }
  done
  if [ -n "$TSSX_STAT" ] && ! perl -MJSON::PP -e1 2>/dev/null; then
    echo "$TITLE: skipped, the perl module JSON::PP is not installed"
    exit 77
  fi
  for p in "$TSSX_LIB" "$TSSX_STAT"; do
    [ -z "$p" ] || [ -f "$p" ] || { echo "$TITLE: there is no $p" >&2; exit 2; }
  done
  [ -z "$TSSX_LIB" ] || TSSX_LIB=$(realpath "$TSSX_LIB")
  [ -z "$TSSX_STAT" ] || TSSX_STAT=$(realpath "$TSSX_STAT")

  T=$(mktemp -d /tmp/tssx.XXXXXX) || exit 2
  interrupted() {
    trap '' INT TERM HUP
    echo "$TITLE: interrupted, cleaning up" >&2
    kill -TERM "$worker" 2>/dev/null
    end_everything
    remove_remains
    exit "$1"
  }
  worker=
  trap 'end_everything; remove_remains' EXIT
  trap 'interrupted 130' INT
  trap 'interrupted 143' TERM
  trap 'interrupted 129' HUP
  chmod 755 "$T"
  mkdir "$T/a" "$T/log"
  : >"$T/results"
  [ ${#AS[@]} -eq 0 ] || chown "$APP_USER" "$T/a"
  # a library below a private home directory can't be read by the other user
  for p in TSSX_LIB TSSX_STAT; do
    if [ -n "${!p}" ] && [ ${#AS[@]} -ne 0 ] && ! "${AS[@]}" test -r "${!p}"; then
      cp "${!p}" "$T/${!p##*/}" && chmod 755 "$T/${!p##*/}" && printf -v "$p" %s "$T/${!p##*/}"
    fi
  done
  shm_before=$(shm_files)

  case $TSSX_LIB:$TSSX_SIDE in
    :*) note "$TITLE: nothing preloaded" ;;
    *:both) note "$TITLE: both sides preloaded${TSSX_IDS:+, IDs $TSSX_IDS}" ;;
    *) note "$TITLE: the $TSSX_SIDE preloaded, not its peer${TSSX_IDS:+, IDs $TSSX_IDS}" ;;
  esac
  cd "$T" || exit 2
  TSSX_LIB=$TSSX_LIB TSSX_STAT=$TSSX_STAT TSSX_SIDE=$TSSX_SIDE TSSX_TEST_TEMP=$T \
    setpriv --pdeathsig TERM timeout -k 5 $((${TIME_LIMIT:-90} * PATIENCE)) env --default-signal=INT,TERM,QUIT,HUP,PIPE \
    setsid bash "$SCRIPT" "$@" </dev/null &
  worker=$!
  cd /
  wait "$worker"
  rc=$?
  trap '' INT TERM HUP
  case $rc in
    0) ;;
    77) exit 77 ;;
    124 | 137) fail "ends within $((${TIME_LIMIT:-90} * PATIENCE)) seconds" ;;
    *) fail "the script runs to its end" "status $rc" ;;
  esac

  wait_for 3 none_left
  stray=$(for p in $(left_over); do describe "$p"; echo; done)
  verdict "left: no process" "${#stray}" "$stray"
  end_everything
  stray=$(find "$T" -type s)
  verdict "left: no socket" "${#stray}" "$stray"
  stray=$(find "$T" -name 'core*' -type f -size +100k)
  verdict "left: no core dump" "${#stray}" "$stray"
  nothing_new_in_shm() {
    new=$(comm -13 <(printf '%s\n' "$shm_before") <(shm_files))
    # what somebody has open belongs to somebody else: ours are gone
    new=$(printf '%s\n' "$new" | while read -r p; do
      [ -z "$p" ] || grep -qsF "/dev/shm/$p" /proc/[0-9]*/maps || echo "$p"
    done)
    [ -z "$new" ]
  }
  wait_for 2 nothing_new_in_shm
  verdict "left: nothing in /dev/shm" "${#new}" "$new"
  count=$(grep -c '^not ok' "$T/results")
  lines=$(grep -c '^ok' "$T/results")
  remove_remains
  trap - EXIT
  if [ -e "$T" ]; then
    echo "not ok left: no temporary directory"
    count=$((count + 1))
  else
    echo "ok left: no temporary directory"
    lines=$((lines + 1))
  fi
  echo "$lines passed, $count failed"
  [ "$count" = 0 ]
  exit
}

SCRIPT=$(realpath "$0")
if [ -z "${TSSX_TEST_TEMP:-}" ]; then
  first_process "$@"
fi

# --- from here on: the worker ---------------------------------------------------------------------------------

T=$TSSX_TEST_TEMP
unset TSSX_TEST_TEMP
export -n TSSX_LIB TSSX_STAT TSSX_SIDE
ulimit -c 0
[ "${TSSX_TRACE:-}" != 1 ] || set -x

LISTED='*'              # the test sets it to its socket
declare -A BIRTH=()     # of the processes from start

preloaded_side() { # is that side preloaded?
  [ -n "$TSSX_LIB" ] && { [ "$TSSX_SIDE" = both ] || [ "$TSSX_SIDE" = "$1" ]; }
}
accelerated() { preloaded_side server && preloaded_side client; }

environment_of() { # environment_of SIDE: the environment of its commands, in WORDS
  WORDS=()
  preloaded_side "$1" && WORDS=("LD_PRELOAD=$TSSX_LIB" "USE_TSSX=${TSSX_TEST_LISTED:-$LISTED}")
}

on() { # on server|client|neither COMMAND...: for at most $LIMIT (20) seconds
  local WORDS
  environment_of "$1"
  shift
  timeout -k 3 $((${LIMIT:-20} * PATIENCE)) "${AS[@]}" env "${WORDS[@]}" "$@"
}

# start SIDE LOG COMMAND...: in the background, in a session of its own; its process ID is in PID. It is sent a
# TERM when this script ends, however that ends. Not for use in a subshell.
start() {
  local WORDS log=$2
  environment_of "$1"
  shift 2
  setsid "${AS[@]}" setpriv --pdeathsig TERM env --default-signal=INT,QUIT,PIPE "${WORDS[@]}" "$@" <&0 >"$log" 2>&1 &
  PID=$!
  BIRTH[$PID]=$(birth "$PID")
}

alive() { # alive PID: of a process from start
  [ -n "${BIRTH[$1]:-}" ] && [ "$(birth "$1")" = "${BIRTH[$1]}" ]
}
gone() { ! alive "$1"; }

ends() { # ends PID SECONDS: it ends by itself; its status is in STATUS
  {
    if wait_for "$2" gone "$1"; then
      wait "$1"
      STATUS=$?
      return 0
    fi
  } 2>/dev/null # the shell's "Killed"
  STATUS=none
  return 1
}

check_ends() { # check_ends NAME PID SECONDS: it ends by itself, whatever its status
  if ends "$2" "$3"; then pass "$1"; else fail "$1" "it runs after $(($3 * PATIENCE)) seconds: $(describe "$2")"; fi
}

stop() { # stop PID [SIGNAL [SECONDS]]: succeeds if it was not necessary to kill it
  alive "$1" || { wait "$1" 2>/dev/null; return 0; }
  kill "-${2:-TERM}" "$1" 2>/dev/null
  ends "$1" "${3:-10}" && return 0
  kill -KILL -- "-$1" 2>/dev/null
  ends "$1" 3
  return 1
}

descendants() { # descendants PID
  local child
  for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do
    echo "$child"
    descendants "$child"
  done
}

# outcome OUTPUT COMMAND...: runs it in a subshell, for at most $CHECK_LIMIT (30) seconds; its status is in RC
outcome() {
  local output=$1 fd pid limit=$((${CHECK_LIMIT:-30} * PATIENCE))
  shift
  RC=
  exec {fd}< <(
    "$@" >"$output" 2>&1
    echo $?
  )
  pid=$!
  if ! read -r -t "$limit" -u "$fd" RC; then
    for pid in $(descendants "$pid") "$pid"; do kill -KILL "$pid" 2>/dev/null; done
    RC="no end after $limit seconds"
  fi
  RC=${RC:-lost}
  exec {fd}<&-
}

# check NAME COMMAND...: the command, a function perhaps, succeeds within $CHECK_LIMIT (30) seconds. It runs in a
# subshell. Its output is shown if it does not succeed.
check() {
  local name=$1 log=$T/log/${1//[^a-zA-Z0-9]/-} RC
  shift
  outcome "$log" "$@"
  verdict "$name" "$RC" "$(echo "status $RC"; tail -n 20 "$log")"
}

same() { # same NAME FILE FILE
  local difference
  if difference=$(cmp "$2" "$3" 2>&1); then pass "$1"; else fail "$1" "$difference"; fi
}

equal() { # equal NAME EXPECTED ACTUAL
  if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "expected: ${2:0:500}"$'\n'"but got:  ${3:0:500}"; fi
}

finish() { exit 0; } # the first process does the rest

# --- which library a process has ------------------------------------------------------------------------------

has_library() { "${AS[@]}" grep -qsF "$TSSX_LIB" "/proc/$1/maps"; }

check_preload() { # check_preload SIDE PID: exactly the preloaded sides have the library
  [ -n "$TSSX_LIB" ] || return 0
  if preloaded_side "$1"; then
    if wait_for 2 has_library "$2"; then pass "the $1 has the library"; else fail "the $1 has the library"; fi
  elif has_library "$2"; then fail "the $1 has no library"; else pass "the $1 has no library"; fi
}

# --- a look from outside --------------------------------------------------------------------------------------

# connections [PROGRAM [PATTERN]]: one line for each connection to a path like PATTERN, to the listed socket without:
#   ID STATE BYTES-TO-CLIENT BYTES-TO-SERVER BELLS-TO-CLIENT BELLS-TO-SERVER
# of those whose client is PROGRAM. Fails if tssx-stat does.
connections() {
  timeout -k 3 $((10 * PATIENCE)) "${AS[@]}" "$TSSX_STAT" --json --path "${2:-$LISTED}" >"$T/stat.json" || return 1
  perl -MJSON::PP -e '
    local $/;
    open my $file, "<", $ARGV[0] or die $!;
    my $stat = decode_json(<$file>);
    for my $c (@{$stat->{connections}}) {
      next if $ARGV[1] ne "" and (($c->{client} // {})->{program} // "") ne $ARGV[1];
      print join(" ", $c->{id}, $c->{state}, (map { $_ // 0 } $c->{to_client}{bytes}, $c->{to_server}{bytes},
        $c->{to_client}{bells}, $c->{to_server}{bells})), "\n";
    }' "$T/stat.json" "${1:-}"
}

count_connections() { # count_connections STATE-PATTERN [PROGRAM]
  connections "${2:-}" | grep -cE "^[^ ]+ ($1) "
}
connections_are() { [ "$(count_connections "$1" "${3:-}")" = "$2" ]; } # connections_are STATE COUNT [PROGRAM]

# busy_connections COUNT PROGRAM: while PROGRAM keeps COUNT connections busy. Preloaded on both sides they are on
# rings and every one carries bytes both ways; otherwise none is.
busy_connections() {
  local first second
  if accelerated; then
    wait_for 5 connections_are ring "$1" "$2"
    first=$(connections "$2")
    sleep 0.7
    second=$(connections "$2")
    printf '%s\n' "expected: $1 connections of $2" first: "$first" second: "$second"
    join <(sort <<<"$first") <(sort <<<"$second") | awk -v expected="$1" '
      { total++; if ($2 == "ring" && $7 == "ring" && $8 > $3 && $9 > $4) good++ }
      END { exit !(total == expected && good == expected) }'
  else
    sleep 1
    connections "" >"$T/stat.lines" || return 1
    cat "$T/stat.lines"
    ! grep -qE '^[^ ]+ (ring|mixed|handshake|offered) ' "$T/stat.lines"
  fi
}
look_from_outside() { [ -n "$TSSX_STAT" ] && [ -n "$TSSX_LIB" ]; }
