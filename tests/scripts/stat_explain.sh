#!/usr/bin/env bash
# tssx-stat explain: real connections, of which each stays in the kernel, or goes back, for one of
# the reasons that it knows, and tssx-stat listeners about who would offer. In the end each reason that
# the manual page lists has been given.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/support/frame.sh"

stat=$TSSX_BUILD/tssx-stat
man=$TSSX_SOURCE/docs/man/tssx-stat.1
needs "$stat" "$TSSX_LIB" python3 jq
needs_to_read_processes
work_in tssx-explain
chmod 755 "$work"

# case.py <case> <path>: a server and a client in one process; prints "ready" when the connection is
# where it belongs, and stays until it is killed.
cat >"$work/case.py" <<'PY'
import array, ctypes, mmap, os, resource, select, signal, socket, struct, sys, threading, time

case, path = sys.argv[1], sys.argv[2]
signal.alarm(100)
libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that what is final is done
SNDBUFFORCE = 32

def stay():
    """A child, which ends with its parent."""
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    signal.pause()

def listen():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(8)
    return listener

listener = listen()
client = socket.socket(socket.AF_UNIX)

def connect():
    global server
    client.connect(path)
    server = listener.accept()[0]

def all_of(end, count):
    while count > 0:
        count -= len(end.recv(count))

def trips(count, size=20):
    for _ in range(count):
        client.send(b"x" * size)
        all_of(server, size)
        server.send(b"y" * size)
        all_of(client, size)

def move():
    connect()
    trips(40)

def pass_on(end, over=None):
    here, there = socket.socketpair()
    here.sendmsg([b"p"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [end.fileno()]))])
    return here, there

def fill_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            os.dup(2)
    except OSError:
        pass

def lag(rounds, size):
    """The server sends, the client always leaves something unread."""
    connect()
    server.send(b"z" * 100)
    for _ in range(rounds):
        server.send(b"z" * size)
        all_of(client, size)

def offer():
    """To a client that answers it at once."""
    connect()
    for _ in range(7): server.send(b"x"); all_of(client, 1)
    server.send(b"xx")  # the offer goes in front
    all_of(client, 2)

def poke(offset, value):
    """Writes into the shared memory as only a peer that means no good does. The offsets are those of core/layout.h."""
    for line in open("/proc/self/maps"):
        if "/memfd:tssx-segment" in line:
            ctypes.memmove(int(line.split("-")[0], 16) + offset, value, len(value))
            return
    sys.exit("no segment")

TO_CLIENT, TO_SERVER = 1024, 1536
HEAD, FLAGS, SENDING, RECEIVING = 0, 8, 12, 128 + 8  # of a direction
STAYS = 4

def accelerated(): move()
def moving(): offer()
def moving_back():
    aside()
    for _ in range(40): server.send(b"x")  # it is back after 32; the client, which reads once, is not
    all_of(client, 40)
def closing():
    move()
    if libc.syscall(57) == 0: stay()  # fork(2), and the library does not know of it
    client.close()
def damaged():
    move()
    poke(TO_CLIENT + HEAD, b"\xff" * 8)
def back():
    move()
    for way in (TO_CLIENT, TO_SERVER):
        poke(way + FLAGS, struct.pack("=II", STAYS, 0))
        poke(way + RECEIVING, bytes(4))
def becomes_another(trip_count):
    """A server that gets its only client from another process, and becomes another program with it."""
    if os.fork() == 0:
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        for _ in range(trip_count):
            client.send(b"x")
            all_of(client, 1)
        stay()
    server = listener.accept()[0]
    for _ in range(trip_count):
        all_of(server, 1)
        server.send(b"y")
    server.set_inheritable(True)
    os.execv(sys.executable, ["python3", "-c", "import signal; print('ready', flush=True); signal.pause()"])
def left(): becomes_another(40)
def left_early(): becomes_another(2)
def busy():
    connect()
    writer = threading.Thread(target=lambda: server.sendall(b"x" * (1 << 20)), daemon=True)
    writer.start()
    while not select.select([client], [], [], 1)[0] or select.select([], [server], [], 0)[1]: pass
    for _ in range(20):
        try:
            server.send(b"x", socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
def no_queue():
    # A user without capabilities may have no more descriptors under way than he may have open.
    if os.getuid() == 0:
        os.chmod(path, 0o777)
        os.setresuid(65534, 65534, 65534)
        libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: as it was
    here, there = socket.socketpair()
    keep.extend((here, there))
    here.sendmsg([b"p"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 200))])
    connect()
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    trips(20)
def other_record():
    """As a program with a later version of the library looks from outside."""
    with open(os.path.join(os.path.dirname(path), "libtssx.so"), "wb+") as library:
        library.write(b"x")
        library.flush()
        keep.append(mmap.mmap(library.fileno(), 1))
    page = mmap.mmap(-1, 4096)
    struct.pack_into("=8sIIIII", page, 0, b"TSSXPRC1", 9, 9, 112, 0, 0)
    keep.append(page)
    connect()
def not_yet(): connect(); trips(2)
def unread():
    connect()
    for _ in range(9): server.send(b"x")
def shared():
    connect()
    child = os.fork()
    if child == 0: stay()
    try:
        trips(9)
        ready()
    finally:
        os.kill(child, signal.SIGKILL)
def forked():
    connect()
    for _ in range(8):  # the eighth call of the server's carries the offer, which stays unread
        server.send(b"x")
        if _ < 7: all_of(client, 1)
    child = os.fork()
    if child == 0: os._exit(0)
    os.waitpid(child, 0)
def offered():
    connect()
    for _ in range(8):
        server.send(b"x")
        if _ < 7: all_of(client, 1)
def unanswered():
    connect()
    buffer = ctypes.create_string_buffer(100)
    for _ in range(100):
        server.send(b"x")
        # A system call of its own, as a program of another libc would make it.
        libc.syscall(0, client.fileno(), buffer, 100)
def option(): move(); server.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
def option_before():
    connect()
    for _ in range(7): server.send(b"x"); all_of(client, 1)
    # By a system call of its own: the library learns of it when it is about to offer.
    value = ctypes.c_int(1)
    libc.syscall(54, server.fileno(), socket.SOL_SOCKET, socket.SO_PASSCRED, ctypes.byref(value), 4)
    trips(8)
def too_late(): lag(150, 100000)
def no_offer(): lag(50, 200000)
def peer_absent():
    connect()
    keep.append(pass_on(client))
    trips(20)
def no_segment():
    connect()
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    trips(20)
def no_numbers_left():
    connect()
    fill_descriptors()
    trips(20)
def no_descriptor():
    connect()
    for _ in range(7): server.send(b"x"); all_of(client, 1)
    server.send(b"xx")  # the offer goes in front
    fill_descriptors()
    all_of(client, 2)
    trips(3)
def small_segment():
    client.setsockopt(socket.SOL_SOCKET, SNDBUFFORCE, 1 << 20)
    connect()
    trips(20)
def executed():
    move()
    server.set_inheritable(True)
    os.system("true")
def passed(): move(); keep.append(pass_on(server))
def urgent(): move(); client.send(b"!", socket.MSG_OOB)
def shut_down(): move(); client.shutdown(socket.SHUT_RD)
def libc_inside(): move(); os.dup2(client.fileno(), 0)
def own_filter():
    move()
    libc.prctl(22, 2, None, 0, 0)  # PR_SET_SECCOMP, and no filter: it fails
def own_filter_before():
    libc.prctl(22, 2, None, 0, 0)
    move()
def epoll_set():
    move()
    epoll = select.epoll()
    epoll.register(server, select.EPOLLIN)
    epoll.poll(0)
    child = os.fork()
    if child == 0:
        epoll.poll(0)
        stay()
    time.sleep(0.3)
    epoll.poll(0)
    try:
        ready()
    finally:
        os.kill(child, signal.SIGKILL)
def several_users():
    move()
    here, there = socket.socketpair()
    child = os.fork()
    if child == 0:
        while there.recv(1):
            server.send(b"c")
            there.send(b"d")
        os._exit(0)
    for _ in range(20):
        here.send(b"g"); here.recv(1)
        all_of(client, 1)
        server.send(b"p"); all_of(client, 1)
    try:
        ready()
    finally:
        os.kill(child, signal.SIGKILL)
def aside():
    move()
    read, write = os.pipe()
    server.sendmsg([b"d"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [read]))])
    all_of(client, 1)
    trips(2)
def bound(): client.bind(path + ".mine"); connect()
def unmarked(): keep.append(client.dup()); connect()
def other_version():
    client.bind(b"\0tssx/9/" + b"0" * 32)
    connect()
def plain(): connect()
def no_path():
    global listener
    listener.close()
    keep.append(socket.socketpair())

def ready():
    print("ready", flush=True)
    signal.pause()

keep = []
globals()[case]()
ready()
PY

# start <variables...> -- <arguments of case.py>: waits until it is ready
start() {
  local variables=()
  while [[ $1 != -- ]]; do
    variables+=("$1")
    shift
  done
  shift
  rm -f "$2" "$2.mine" "$work/log"
  start_ready env "${variables[@]}" python3 "$work/case.py" "$@"
  [[ $word == ready ]] || fail "$1: $word"
}
stop() {
  for pid in "${pids[@]}"; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  pids=()
}
# The reasons that were given, and those that this machine can't give.
given=()
left_out=()
leave_out() {
  left_out+=("$1")
  echo "left out: $1: $2"
}
# expect <code> <side>: what explain says of the one connection to $path
expect() {
  given+=("$1")
  grep -qE "^\.(B|BR|TP).*\b$1\b" "$man" || fail "$1 is not in the man page"
  "$stat" explain --json "$path" >"$work/out" 2>"$work/err" || fail "$1: exit status"
  jq -e --arg code "$1" --arg side "$2" '[.connections[] | select(.code == $code and .side == $side)]
    | length == 1' "$work/out" >/dev/null || fail "not $1 by $2"
  jq -e --arg code "$1" '.connections[0].accelerated == ($code == "accelerated") and
    (.connections[0].text | length) > 0' "$work/out" >/dev/null || fail "$1: accelerated or text"
}
path=$work/x.sock
listed=("LD_PRELOAD=$TSSX_LIB" "USE_TSSX=$work/*")

# try <case> <code> <side>
try() {
  start "${listed[@]}" -- "$1" "$path"
  expect "$2" "$3"
  stop
}
try accelerated accelerated ''
try moving moving ''
try moving_back moving-back ''
grep -q 'one direction is in shared memory again' "$work/out" || fail "back, but where to?"
try damaged damaged ''
try back back server
try left left server
try left_early left server
try busy busy server
try no_queue no-queue server
try not_yet not-yet server
try unread unread server
try shared shared server
try forked forked server
try offered offered client
try unanswered unanswered server
try option option server
try option_before option server
try too_late too-late server
try no_offer no-offer client
try peer_absent peer-absent server
try no_segment no-segment server
grep -q 'File too large' "$work/out" || fail "no reason for the segment that could not be made"
try no_numbers_left no-segment server
grep -q 'Too many open files' "$work/out" || fail "not out of descriptors"
try no_descriptor no-descriptor client
try executed executed server
try passed passed server
try urgent urgent client
try shut_down shut-down client
try libc_inside libc-inside client
try own_filter own-filter server
try own_filter_before own-filter client
try epoll_set epoll-set server
try several_users several-users server
try aside aside server
try bound bound client
try unmarked unmarked client
try other_version other-version client
if [[ $(id -u) == 0 ]]; then
  try small_segment small-segment client
else
  leave_out small-segment "needs SO_SNDBUFFORCE, and so root"
fi
if [[ $(uname -m) == x86_64 ]]; then
  try closing closing ''
else
  leave_out closing "the number of fork(2) is that of another machine"
fi

# --- programs that can't, or are not told to ----------------------------------------------------

start -- plain "$path"
expect not-preloaded client
stop
start "LD_PRELOAD=$TSSX_LIB" -- plain "$path"
expect no-use-tssx client
stop
start "LD_PRELOAD=$TSSX_LIB" "USE_TSSX=/nowhere/*" -- plain "$path"
expect not-listed client
stop
start -- other_record "$path"
expect other-version client
jq -e '.connections[0].text | test("the server has another version")' "$work/out" >/dev/null || fail "only one side"
stop

# Two programs: a server as above and another client, or the other way round.
cat >"$work/client.c" <<'C'
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char **argv) {
  struct sockaddr_un name = {AF_UNIX, ""};
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (argc != 2) return 2;
  strncpy(name.sun_path, argv[1], sizeof name.sun_path - 1);
  if (connect(fd, (struct sockaddr *)&name, sizeof name) != 0) return 1;
  puts("ready");
  fflush(stdout);
  pause();
}
C
cat >"$work/server.py" <<'PY'
import os, signal, socket, sys
signal.alarm(100)
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listener.listen(8)
print("ready", flush=True)
ends = []
while True:
    ends.append(listener.accept()[0])
PY
# two <variables of the server...> -- <client's command...>
two() {
  local variables=()
  while [[ $1 != -- ]]; do
    variables+=("$1")
    shift
  done
  shift
  rm -f "$path" "$work/log"
  start_ready env "${variables[@]}" python3 "$work/server.py" "$path"
  start_ready "$@"
}
compile_c "$work/client" "$work/client.c" || fail "no client could be compiled"
two -- env "${listed[@]}" "$work/client" "$path"
expect not-preloaded server
stop
two "LD_PRELOAD=$TSSX_LIB" "USE_TSSX=@other" -- env "${listed[@]}" "$work/client" "$path"
expect not-listed server
stop
two "${listed[@]}" -- env "${listed[@]}" "$work/client" "$path"
expect not-yet server
"$stat" explain "$path" >"$work/out" 2>"$work/err"
grep -q "would offer$" "$work/out" || fail "the listener"
"$stat" explain "${pids[1]}" >"$work/out" 2>"$work/err" || fail "by process ID"
grep -q "client ${pids[1]}/client" "$work/out" || fail "by process ID"
grep -q listening "$work/out" && fail "the client does not listen"
stop
if compile_c "$work/static" "$work/client.c" -static 2>/dev/null; then
  two "${listed[@]}" -- env "${listed[@]}" "$work/static" "$path"
  expect static client
  stop
else
  leave_out static "static programs can't be linked here"
fi
# Of another libc: without LD_PRELOAD, which would keep it from starting.
if command -v musl-gcc >/dev/null; then
  musl-gcc -o "$work/musl" "$work/client.c"
  two "${listed[@]}" -- env USE_TSSX="$work/*" "$work/musl" "$path"
  expect other-libc client
  stop
else
  leave_out other-libc "no musl-gcc"
fi
# Of 32 bits, and without any libc, which would have to be there for it.
cat >"$work/narrow.c" <<'C'
static long call(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
  return result;
}
__asm__(".globl _start\n_start: push %esp\n call run");
void run(char **start) {
  struct {
    unsigned short family;
    char path[108];
  } name;
  const char *path = start[2];
  long fd = call(359, 1, 1, 0);  /* socket */
  int i = 0;
  name.family = 1;
  for (; path[i] != 0; ++i) name.path[i] = path[i];
  name.path[i] = 0;
  if (call(362, fd, (long)&name, (long)sizeof name) != 0) call(1, 1, 0, 0);  /* connect, exit */
  call(4, 1, (long)"ready\n", 6);                                            /* write */
  for (;;) call(29, 0, 0, 0);                                                /* pause */
}
C
if compile_c "$work/narrow" "$work/narrow.c" -m32 -O1 -static -nostdlib -ffreestanding -fno-pie -no-pie \
  -fno-stack-protector 2>/dev/null && { "$work/narrow" /nowhere || (($? == 1)); }; then
  two "${listed[@]}" -- env "${listed[@]}" "$work/narrow" "$path"
  expect other-architecture client
  stop
else
  leave_out other-architecture "programs of 32 bits can't be made, or don't run here"
fi
if [[ $(id -u) == 0 ]]; then
  cp "$work/client" "$work/setuid"
  chown 65534 "$work/setuid"
  chmod 4755 "$work/setuid"
  chmod 755 "$work"
  two "${listed[@]}" -- env "${listed[@]}" "$work/setuid" "$path" 2>/dev/null || true
  if [[ $(awk '/^Uid:/ { print $3 }' "/proc/${pids[1]}/status") == 65534 ]]; then
    expect setuid client
  else
    leave_out setuid "set-user-ID programs don't work here"
  fi
  stop

  # Somebody else can't know, and is told so.
  install -m 755 "$stat" "$work/stat-for-all"
  start "${listed[@]}" -- accelerated "$path"
  if setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$work/stat-for-all" 2>/dev/null; then
    setpriv --reuid=65534 --regid=65534 --clear-groups "$work/stat-for-all" explain --json "$path" \
      >"$work/out" 2>"$work/err" || fail "as nobody"
    jq -e '.connections[0].code == "hidden" and .hidden_processes > 0' "$work/out" >/dev/null ||
      fail "not hidden from nobody"
    given+=(hidden)
  else
    leave_out hidden "another user can't reach the program"
  fi
  stop
else
  leave_out setuid "needs root"
  leave_out hidden "needs root"
fi

# --- by process, and nothing --------------------------------------------------------------------

start "${listed[@]}" -- no_path "$path"
"$stat" explain --json "$pid" >"$work/out" 2>"$work/err" || fail "a socketpair"
jq -e '.connections | length == 1 and .[0].code == "no-path"' "$work/out" >/dev/null || fail "no-path"
given+=(no-path)
stop
for nothing in "$work/nothing" 2147483647; do
  status=0
  "$stat" explain "$nothing" >"$work/out" 2>"$work/err" || status=$?
  [[ $status == 3 && ! -s $work/out ]] || fail "$nothing is explained"
done

# --- listeners ----------------------------------------------------------------------------------

start "${listed[@]}" -- plain "$path"
"$stat" listeners --path "$path" >"$work/out" 2>"$work/err" || fail "listeners"
grep -qE "^yes +- +$pid/python[^ ]* +[^ ]+ +$path\$" "$work/out" || fail "it would offer"
"$stat" listeners --json --pid "$pid" >"$work/out" 2>"$work/err" || fail "listeners"
jq -e --argjson pid "$pid" '.listeners | length == 1 and .[0].offers and .[0].pid == $pid' \
  "$work/out" >/dev/null || fail "it would offer"
stop
start "LD_PRELOAD=$TSSX_LIB" "USE_TSSX=/nowhere" -- plain "$path"
"$stat" listeners --path "$path" >"$work/out" 2>"$work/err" || fail "listeners"
grep -qE "^no +not-listed " "$work/out" || fail "it is not listed"
stop

# --- all of them --------------------------------------------------------------------------------

# What follows each .TP of the section: .B one, or .BR one ", " another
sed -n '/^\.SH REASONS/,/^\.SH [^R]/p' "$man" | sed -n '/^\.TP/{n;s/^\.BR\{0,1\} //;s/\\f[A-Z]//g;s/[",]/ /g;p}' |
  tr -s ' ' '\n' | sed '/^$/d' | sort -u >"$work/listed"
printf '%s\n' "${given[@]}" "${left_out[@]}" | sort -u >"$work/given"
diff "$work/listed" "$work/given" || fail "the manual page lists others than were given here"
echo "ok: $(printf '%s\n' "${given[@]}" | sort -u | wc -l) reasons"
