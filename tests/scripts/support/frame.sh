# What the scripts here share that start programs and look at them. To be sourced first, by a script under
# `set -euo pipefail`; gives it the locale C, and none of the variables that the library and the tools read.
#
#   needs WORD...             skips the script unless each is a command or a file
#   needs_to_read_processes   skips it where Yama forbids to read one's own processes
#   work_in NAME              sets work: a directory of its own, which goes with the script
#   pids                      an array of children, which go with the script
#   at_exit                   a function for anything else that has to go; the script may define its own
#   captured STATUS COMMAND   runs it, to $work/out and $work/err; it has to end with that status
#   shows RE, says RE         something like that is in $work/out, or in $work/err
#   prints TEXT               $work/out is that
#   start_ready COMMAND       in the background; returns when it has printed a line, which is then in word
#   compile_c PROGRAM SOURCE  with any further options of the compiler's
#   fail TEXT                 ends the script, with what was printed; about_failure may add to it
#
# No test by itself: ctest runs the files one folder above.

: "${TSSX_BUILD:?}" "${TSSX_LIB:?}" "${TSSX_SOURCE:?}"
export LC_ALL=C
unset LD_PRELOAD USE_TSSX TSSX_IDS TSSX_SECCOMP TSSX_SPIN TSSX_LOG NO_COLOR

work=
pids=()
at_exit() { :; }
about_failure() { :; }

end_of_script() {
  at_exit
  local pid
  for pid in "${pids[@]}"; do
    # One that is stopped ends by this, too.
    kill -KILL "$pid" 2>/dev/null || continue
    wait "$pid" 2>/dev/null || true
  done
  [[ ! $work ]] || rm -rf "$work"
}
trap end_of_script EXIT

skip() {
  echo "$*"
  exit 77
}
needs() {
  local word
  for word in "$@"; do
    command -v "$word" >/dev/null || [[ -f $word ]] || skip "missing: $word"
  done
}
# A user may then read only the processes that the reader has started.
needs_to_read_processes() {
  [[ $(id -u) == 0 || $(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0) == 0 ]] ||
    skip "yama restricts process_vm_readv: run as root"
}
work_in() { work=$(mktemp -d "${TMPDIR:-/tmp}/$1.XXXXXX"); }

fail() {
  echo "failed: $*"
  about_failure
  local file
  for file in "$work"/out "$work"/err "$work"/log; do
    [[ ! -s $file ]] || sed "s|^|${file##*/}: |" "$file" | cut -c 1-300 | head -60 || true
  done
  exit 1
}
captured() {
  local expected=$1 status=0
  shift
  timeout -k 5 100 "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
  [[ $status == "$expected" ]] || fail "exit status $status instead of $expected: $*"
}
shows() { grep -qE -- "$1" "$work/out" || fail "not shown: $1"; }
says() { grep -qE -- "$1" "$work/err" || fail "not said: $1"; }
prints() { [[ $(cat "$work/out") == "$1" ]] || fail "instead of $1"; }

# Sets pid, and adds it to pids. Its standard error is added to $work/log.
start_ready() {
  rm -f "$work/first-line"
  mkfifo "$work/first-line"
  "$@" >"$work/first-line" 2>>"$work/log" </dev/null &
  pid=$!
  pids+=("$pid")
  read -r -t 60 word <"$work/first-line" || fail "it did not get ready: $*"
}

compile_c() { "$(command -v gcc || command -v g++)" -x c -o "$1" "${@:3}" "$2"; }
