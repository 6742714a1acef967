#!/bin/bash
# scripts/demo, ended in the middle, leaves neither processes nor files.
#   TSSX_SOURCE  the source directory
set -u
source=${TSSX_SOURCE:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
unset LD_PRELOAD USE_TSSX TSSX_LIB

[[ -f $source/build/release/libtssx.so && -x $source/build/release/tssx-stat ]] ||
  { echo "skipped: no build/release"; exit 77; }
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null ||
  { echo "skipped: PostgreSQL is not installed"; exit 77; }

directory=$(mktemp -d /tmp/tssx-int.XXXXXX) || exit 1
chmod 755 "$directory" # the server runs as another user if we are root
demo=
failures=0

# every process of the demo below its temporary directory works in there
processes() {
  {
    find /proc -maxdepth 2 -path '/proc/[0-9]*/cwd' -lname "$directory/*" -printf '%h\n'
    # without CAP_SYS_PTRACE root does not see the directories of others
    ((EUID)) || setpriv --reuid=postgres "--regid=$(id -g postgres)" --init-groups \
      find /proc -maxdepth 2 -path '/proc/[0-9]*/cwd' -lname "$directory/*" -printf '%h\n'
  } 2>/dev/null | sed 's,/proc/,,' | sort -un
}
clean_up() {
  local pid
  trap '' INT TERM
  [[ -z $demo ]] || kill -TERM -- "-$demo" 2>/dev/null
  [[ -z $demo ]] || wait "$demo" 2>/dev/null
  for pid in $(processes); do kill -KILL "$pid" 2>/dev/null; done
  rm -rf "$directory"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

says() { grep -q "$1" "$directory.log"; }
sockets() { (($(find "$directory" -name '.s.PGSQL.5432' -type s 2>/dev/null | wc -l) == $1)); }
started() { sockets 2 && says "$1"; }
preparing() { [[ -n $(find "$directory" -maxdepth 3 -name data 2>/dev/null) ]]; }

ended() { # ended NAME SIGNAL TARGET STATUS SECONDS CONDITION...: TARGET is group, as Ctrl-C has it, or process
  local name=$1 signal=$2 target=$3 expected=$4 limit=$5 i status left
  shift 5
  env --default-signal=INT,TERM TMPDIR="$directory" setsid "$source/scripts/demo" --seconds 1 --rounds 30 \
    >"$directory.log" 2>&1 </dev/null &
  demo=$!
  for ((i = 0; i < limit * 10; i++)); do
    "$@" && break
    kill -0 "$demo" 2>/dev/null || break
    sleep 0.1
  done
  if ! kill -0 "$demo" 2>/dev/null || ! "$@"; then
    echo "not ok $name: it did not get that far"
    tail -n 20 "$directory.log"
    failures=$((failures + 1))
  fi
  sleep 0.3
  if [[ $target = group ]]; then kill "-$signal" -- "-$demo"; else kill "-$signal" "$demo"; fi
  wait "$demo"
  status=$?
  demo=
  left="$(for i in $(processes); do echo "process $i: $(tr '\0' ' ' <"/proc/$i/cmdline")"; done)$(find "$directory" -mindepth 1)"
  if [[ $status = "$expected" && -z $left ]]; then
    echo "ok $name"
  else
    echo "not ok $name: status $status, expected $expected; left:"
    echo "$left"
    tail -n 20 "$directory.log"
    failures=$((failures + 1))
  fi
}

trap 'clean_up; rm -f "$directory.log"' EXIT
# the first one looks after the build as well
ended "Ctrl-C while the cluster is made" INT group 130 80 preparing
ended "Ctrl-C while it measures" INT group 130 60 started 'transactions a second'
ended "TERM while it measures" TERM process 143 60 started 'transactions a second'
ended "TERM while tssx-stat is shown" TERM process 143 60 started 'What tssx-stat sees'
((failures == 0))
