#!/usr/bin/env bash
# tssx-run: what it sets, that it becomes the program without a trace, what it refuses and why, and
# what --verify says without disturbing anybody.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/support/frame.sh"

run=$TSSX_BUILD/tssx-run
needs "$run" python3 gcc
library=$TSSX_LIB
unset TSSX_LIB # it is found by itself
export -n TSSX_BUILD TSSX_SOURCE
work_in tssx-run-test
chmod 755 "$work"
try() { captured "$@"; }
silent() { [[ ! -s $work/err ]] || fail "something on standard error"; }

# --- usage --------------------------------------------------------------------------------------

version=$(sed -n 's/^project(tssx VERSION \([0-9.]*\).*/\1/p' "$TSSX_SOURCE/CMakeLists.txt")
try 0 "$run" --version
prints "tssx-run $version"
try 0 "$run" --help
grep -q -- '--verify' "$work/out" || fail "no help"
for wrong in "" "-s" "-s /x" "-s /x --" "--no-such true" "-s /x -n true" "-s /x --ids both true" \
  "-s /x --verify=0 true" "-s /x --verify=x true"; do
  # shellcheck disable=SC2086
  try 125 "$run" $wrong
  says '^tssx-run: .*--help$'
done
try 125 "$run" -s "" true
try 125 "$run" true
says '^tssx-run: no socket is listed'

# --- what is set --------------------------------------------------------------------------------

shows='echo "$LD_PRELOAD|$USE_TSSX|${TSSX_IDS-unset}|$0|$*"'
try 0 "$run" -s /x sh -c "$shows" name -s -- --verify "a b"
prints "$library|/x|unset|name|-s -- --verify a b"
silent
try 0 "$run" -s '/my app' --socket='@b*' --ids negative -- sh -c "$shows"
prints "$library|/my\\ app @b*|negative|sh|"
try 0 env USE_TSSX=/old TSSX_IDS=kernel "$run" sh -c "$shows"
prints "$library|/old|kernel|sh|"
try 0 env USE_TSSX=/old "$run" -s /new sh -c "$shows"
prints "$library|/new|unset|sh|"
# What is preloaded already stays; nothing is preloaded twice.
printf 'int tssx_test_other;\n' | gcc -shared -fPIC -x c - -o "$work/other.so"
try 0 env LD_PRELOAD="$work/other.so" "$run" -s /x sh -c "$shows"
prints "$work/other.so:$library|/x|unset|sh|"
silent
try 0 "$run" -s /a "$run" -s /b sh -c "$shows"
prints "$library|/b|unset|sh|"
# It is loaded, by that path, and listens to what is set.
try 0 env TSSX_LOG=info "$run" -s /x cat /proc/self/maps
grep -qF "$library" "$work/out" || fail "not loaded"
says "^tssx: cat\[[0-9]+\]: libtssx .*, $library: .*USE_TSSX=/x$"

# --- finding the library ------------------------------------------------------------------------

cp "$library" "$work/copy.so"
try 0 env TSSX_LIB="$work/copy.so" "$run" -s /x sh -c 'echo "$LD_PRELOAD"'
prints "$work/copy.so"
try 125 env TSSX_LIB="$work/none.so" "$run" -s /x true
says '^tssx-run: no such library: .*/none.so$'
try 125 env TSSX_LIB=/etc/passwd "$run" -s /x true
says '^tssx-run: /etc/passwd is no shared library$'
mkdir "$work/a b"
cp "$library" "$work/a b/libtssx.so"
try 125 env TSSX_LIB="$work/a b/libtssx.so" "$run" -s /x true
says "LD_PRELOAD can't hold this path"
mkdir "$work/bin"
cp "$run" "$work/bin"
try 125 "$work/bin/tssx-run" -s /x true
says '^tssx-run: no libtssx.so beside this program'

# --- it becomes the program ---------------------------------------------------------------------

try 7 "$run" -s /x sh -c 'exit 7'
{ try 143 "$run" -s /x sh -c 'kill -TERM $$'; } 2>/dev/null
[[ $(printf 'one\ntwo\n' | "$run" -s /x sh -c 'read -r line; cat') == two ]] || fail "standard input"
"$run" -s /x sh -c 'echo $$' >"$work/out" &
pids=("$!")
wait "${pids[0]}"
prints "${pids[0]}"
pids=()
# Nothing of ours is left in the process: signals, descriptors, children.
cat >"$work/state.py" <<'PYTHON'
import os
for line in open("/proc/self/status"):
    if line.startswith(("SigPnd", "SigBlk", "SigIgn", "SigCgt", "ShdPnd", "PPid", "Threads")):
        print(line, end="")
print(sorted(os.listdir("/proc/self/fd")), os.getpgrp() == int(os.environ["GROUP"]))
print(open("/proc/self/task/%d/children" % os.getpid()).read())
try:
    print(os.waitpid(-1, os.WNOHANG | 0x40000000))  # __WALL
except ChildProcessError:
    print("no child")
PYTHON
cat >"$work/state.sh" <<'BASH'
trap '' USR1 INT
export GROUP=$(ps -o pgid= -p $$)
exec python3 -c '
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGUSR2})
os.execvp(sys.argv[1], sys.argv[1:])' "$@"
BASH
state() { bash "$work/state.sh" "$@" python3 -S "$work/state.py" 7</dev/null </dev/null; }
state env LD_PRELOAD="$library" USE_TSSX=/x >"$work/plain"
for how in "" --verify; do
  # shellcheck disable=SC2086
  state "$run" -s /x $how 2>"$work/err" >"$work/out"
  diff "$work/plain" "$work/out" || fail "the program finds something else${how:+ with $how}"
done

# --- what it refuses ----------------------------------------------------------------------------

refuse() { # refuse <expression> <program>: before anything is executed
  try 125 "$run" -s /x "${@:2}"
  says "^tssx-run: $1\$"
  [[ ! -s $work/out ]] || fail "it ran: $2"
}
try 127 "$run" -s /x no-such-program-anywhere
says '^tssx-run: no-such-program-anywhere: No such file or directory$'
try 127 "$run" -s /x "$work/none"
try 126 "$run" -s /x /etc/passwd
says '^tssx-run: /etc/passwd: Permission denied$'
try 126 "$run" -s /x "$work"
says ': Is a directory$'

build() { printf '#include <unistd.h>\nint main(void) { return write(1, "ran\\n", 4) != 4; }\n' | gcc -x c - "$@"; }
build -o "$work/dynamic"
try 0 "$run" -s /x "$work/dynamic"
prints ran
for how in -static -static-pie; do
  build "$how" -o "$work/static"
  refuse "$work/static is statically linked, so nothing can be preloaded into it" "$work/static"
done
build -Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1 -o "$work/musl"
refuse "$work/musl uses musl \(/lib/ld-musl-x86_64.so.1\), the library needs glibc" "$work/musl"
build -Wl,--dynamic-linker=/system/bin/linker64 -o "$work/bionic"
refuse "$work/bionic uses another libc \(/system/bin/linker64\), the library needs glibc" "$work/bionic"
linker=$(readelf -l "$work/dynamic" | sed -n 's/.*interpreter: \(.*\)\]/\1/p')
build "-Wl,--dynamic-linker=$work/${linker##*/}" -o "$work/lost"
refuse "$work/lost needs the dynamic linker $work/.*, which is not there" "$work/lost"
# The dynamic linker is static itself, and preloads.
try 0 "$run" -s /x "$linker" "$work/dynamic"
prints ran

patch() { # patch <copy> <offset> <octal byte>: of the dynamic program
  cp "$work/dynamic" "$1"
  # shellcheck disable=SC2059
  printf "\\$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
patch "$work/foreign" 18 363 # e_machine: EM_RISCV
refuse "$work/foreign is for riscv, the library for .*" "$work/foreign"
patch "$work/narrow" 4 1 # EI_CLASS: 32 bits
refuse "$work/narrow is for .*, the library for .*" "$work/narrow"
patch "$work/damaged" 54 1 # e_phentsize
refuse "$work/damaged is a damaged program" "$work/damaged"
try 125 env TSSX_LIB="$work/foreign" "$run" -s /x true
says 'foreign is for riscv, this machine is'

# Scripts are as good as their interpreters.
script() { # script <name> <first line>
  printf '%s\necho "ran $1"\n' "$2" >"$work/$1"
  chmod 755 "$work/$1"
}
script good "#!/bin/sh"
try 0 "$run" -s /x "$work/good" well
prints "ran well"
script plain "" # no interpreter: execvp(3) gives it to the shell
try 0 "$run" -s /x "$work/plain" well
prints "ran well"
script bad "#!$work/static -x"
refuse "$work/bad: its interpreter $work/static is statically linked.*" "$work/bad"
script worse "#!$work/bad"
refuse "$work/worse: its interpreter $work/bad: its interpreter $work/static is static.*" "$work/worse"
script lonely "#!$work/none"
refuse "$work/lonely: its interpreter $work/none: No such file or directory" "$work/lonely"
script nameless "#! "
refuse "$work/nameless names no interpreter" "$work/nameless"
script loop "#!$work/loop"
refuse "$work/loop: too many scripts one in another" "$work/loop"

# Programs that give rights, to a caller who gains by them.
if [[ $(id -u) == 0 ]] && ! findmnt -no OPTIONS -T "$work" | grep -q nosuid; then
  cp "$run" "$library" "$work/bin"
  nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  "${nobody[@]}" "$work/bin/tssx-run" -s /x "$work/dynamic" >/dev/null || fail "as another user"
  run_as_nobody() { # run_as_nobody <what gives rights>: refused
    try 125 "${nobody[@]}" "$work/bin/tssx-run" -s /x "$work/rights"
    says "^tssx-run: $work/rights has $1, where the dynamic linker ignores LD_PRELOAD\$"
  }
  cp "$work/dynamic" "$work/rights"
  chmod 4755 "$work/rights"
  run_as_nobody set-user-ID
  try 0 "$run" -s /x "$work/rights" # its owner gains nothing
  try 0 "${nobody[@]}" --no-new-privs "$work/bin/tssx-run" -s /x "$work/rights"
  chmod 2755 "$work/rights"
  run_as_nobody set-group-ID
  chmod 2745 "$work/rights" # means nothing without execute permission of the group
  try 0 "${nobody[@]}" "$work/bin/tssx-run" -s /x "$work/rights"
  chmod 755 "$work/rights"
  if command -v setcap >/dev/null && setcap cap_net_raw+ep "$work/rights" 2>/dev/null; then
    run_as_nobody "file capabilities"
    try 0 "$run" -s /x "$work/rights"
    setcap -r "$work/rights"
  fi
  chmod 711 "$work/rights" # can't be read, and so can't be judged
  try 0 "${nobody[@]}" "$work/bin/tssx-run" -s /x "$work/rights"
  prints ran
else
  echo "left out: programs that give rights (not root, or nosuid)"
fi

# --- --verify -----------------------------------------------------------------------------------

cat >"$work/talk.py" <<'PYTHON'
# talk.py SOCKET CONNECTIONS [fork]: a server, and that many clients of it that stay for a moment.
import os, signal, socket, sys
path, count, way = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(count)
pid = os.fork()
if pid == 0:
    listener.close()
    clients = []
    for _ in range(count):
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        for _ in range(30):
            client.sendall(b"x" * 100)
            client.recv(100)
        clients.append(client)
    signal.pause() if way == ["stay"] else os._exit(0)
servers = [listener.accept()[0]]
while True:
    try:
        for _ in range(30):
            servers[-1].sendall(servers[-1].recv(100))
    except OSError:
        pass
    if len(servers) == count:
        break
    servers.append(listener.accept()[0])
print("talked", flush=True)
if way == ["stay"]:
    sys.stdin.read()
    os.kill(pid, signal.SIGTERM)
os.waitpid(pid, 0)
os.unlink(path)
PYTHON
watchers() { pgrep -f -- "^$run .*$work" || true; }
await() { # await <condition>: for as long as the script may take
  until eval "$1"; do sleep 0.05; done
}

# While the program runs: its connections and those of its children, once, after the time. On a busy machine they may
# not be there by then: the next try has more.
mkfifo "$work/in"
for seconds in 1 5 25; do
  timeout 60 "$run" -s "$work/socket" --verify=$seconds python3 "$work/talk.py" "$work/socket" 3 stay \
    <"$work/in" >"$work/out" 2>"$work/err" &
  pids=("$!")
  exec 8>"$work/in"
  await '[[ $(watchers) ]]'
  watcher=$(watchers)
  # It holds standard error, the program, and nothing else of the program's.
  fds=$(find "/proc/$watcher/fd" -mindepth 1 -printf '%l\n' 2>/dev/null | sort -u |
    grep -vxE '/dev/null|pipe:.*|anon_inode:\[pidfd\]' || true)
  [[ ! $fds || $fds == "$work/err" ]] || fail "the watcher holds: $fds"
  await '[[ ! $(watchers) ]]'
  await '[[ -s $work/out ]]'
  prints talked
  exec 8>&-
  wait "${pids[0]}" || fail "the program"
  pids=()
  [[ $(wc -l <"$work/err") == 1 ]] || fail "more than one line"
  ! grep -q ': 3 connections' "$work/err" || break
done
says "^tssx-run: python3\[[0-9]+\]: 3 connections over shared memory after $seconds s: $work/socket\$"

# A program that ends before: what was seen until then.
try 0 timeout 40 "$run" -s "$work/socket" --verify=50 sh -c "python3 '$work/talk.py' '$work/socket' 1; sleep 0.3"
await '[[ ! $(watchers) ]]'
says '^tssx-run: sh\[[0-9]+\]: .* when it ended'
# Nothing to see, and why.
try 0 "$run" -s "$work/x" --verify=0.3 sleep 1
await '[[ ! $(watchers) ]]'
says '^tssx-run: sleep\[[0-9]+\]: no connection over shared memory after 0.3 s$'
# Standard streams that are closed stay closed, and nothing is confused by their numbers.
try 0 bash -c "exec '$run' -s '$work/x' --verify=0.3 sh -c 'sleep 1; ls /proc/self/fd >\"\$0\"' '$work/fds' <&- >&-"
await '[[ ! $(watchers) ]]'
says '^tssx-run: sh\[[0-9]+\]: no connection over shared memory after 0.3 s$'
grep -qx 0 "$work/fds" || fail "the descriptors: $(cat "$work/fds")"
# Who reads the output to its end does not wait for the watcher.
[[ $(timeout 40 "$run" -s "$work/x" --verify=50 echo hello 2>/dev/null) == hello ]] || fail "output"
# No program, no word about connections.
exec 9>>"$work/dynamic" # open for writing: ETXTBSY
for closed in "" "<&- >&-"; do # where the watcher's descriptors have the numbers of standard streams, too
  try 126 bash -c "exec '$run' -s '$work/x' --verify=0.3 '$work/dynamic' $closed"
  says '^tssx-run: .*: Text file busy$'
  await '[[ ! $(watchers) ]]'
  [[ $(wc -l <"$work/err") == 1 ]] || fail "more than the reason"
done
exec 9>&-
# As the process that takes in orphans it would have the watcher for a child: it does without.
try 0 python3 -c "import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
os.execv('$run', ['$run', '-s', '$work/x', '--verify', 'sh', '-c', 'read -r child </proc/\$\$/task/\$\$/children; echo \"\$child\"'])"
says '^tssx-run: --verify is not possible, see tssx-stat\(1\): '
prints ""
[[ ! $(watchers) ]] || fail "a watcher is left"
echo ok
