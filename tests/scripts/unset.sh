#!/usr/bin/env bash
# With the library preloaded and USE_TSSX unset, programs behave as without it: the same output,
# the same complaints, the same exit status.
set -euo pipefail
: "${TSSX_LIB:?}"
unset USE_TSSX TSSX_IDS LD_PRELOAD
export LC_ALL=C

work=$(mktemp -d "${TMPDIR:-/tmp}/tssx-unset.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The dynamic linker only warns when it cannot preload, so make sure that it can.
if ! LD_PRELOAD=$TSSX_LIB cat /proc/self/maps | grep -qF "$(basename "$TSSX_LIB")"; then
  echo "the library is not loaded at all: $TSSX_LIB"
  exit 1
fi

failed=0
count=0
# same <program> <arguments>: runs it plain and preloaded, each in an empty directory. Both have
# the same path, because paths turn up in messages and in what a compiler produces.
same() {
  if ! command -v "$1" >/dev/null; then
    echo "not installed, left out: $1"
    return
  fi
  local how status
  for how in plain preloaded; do
    rm -rf "$work/here"
    mkdir "$work/here"
    status=0
    if [[ $how == plain ]]; then
      (cd "$work/here" && exec "$@") <"$work/input" >"$work/$how.out" 2>"$work/$how.err" || status=$?
    else
      (cd "$work/here" && exec env "LD_PRELOAD=$TSSX_LIB" "$@") \
        <"$work/input" >"$work/$how.out" 2>"$work/$how.err" || status=$?
    fi
    echo "$status" >"$work/$how.status"
  done
  count=$((count + 1))
  local part
  for part in out err status; do
    if ! diff -u "$work/plain.$part" "$work/preloaded.$part" >"$work/difference"; then
      echo "differs in $part: $*"
      head -n 20 "$work/difference"
      failed=1
    fi
  done
}

seq 1 5000 >"$work/input"

same bash -c 'tr 1 x | sort | tail -n 3; echo complaint >&2; exit 3'
same bash -c 'cat <(echo one) <(echo two); exec 7>&1; echo seven >&7; (trap "echo bye" EXIT); kill -TERM $$'

same python3 -c '
import os, select, socket, subprocess, sys, threading
a, b = socket.socketpair()
a.sendall(b"x" * 100); print(len(b.recv(200)))
listener = socket.socket(socket.AF_UNIX); listener.bind("s"); listener.listen(1)
client = socket.socket(socket.AF_UNIX); client.connect("s")
server, address = listener.accept()
print(address, client.getpeername(), server.fileno() > 0)
def serve():
    while True:
        got = server.recv(1000)
        if not got: break
        server.sendall(got.upper())
    server.close()
thread = threading.Thread(target=serve); thread.start()
for _ in range(200):
    client.sendall(b"ping"); assert client.recv(10) == b"PING"
client.shutdown(socket.SHUT_WR); print(client.recv(1)); thread.join()
poller = select.epoll(); poller.register(client, select.EPOLLIN); print(poller.poll(1))
print(subprocess.run(["sh", "-c", "cat; exit 4"], input=b"hello", capture_output=True))
pid = os.fork()
if pid == 0: os._exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
sys.exit("last words")
'

same perl -e '
  use Socket;
  socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die $!;
  my $pid = fork();
  if (!$pid) { close $a; syswrite $b, "from the child\n"; exit 6; }
  close $b; print scalar <$a>; waitpid $pid, 0; print $? >> 8, "\n";
  print scalar(`echo backquotes`); my @lines = <STDIN>; print scalar(@lines), "\n"; exit 7;'

export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_AUTHOR_DATE='2026-01-01T00:00:00Z'
export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
export GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'
if command -v git >/dev/null; then
  same bash -c 'git init -q -b main . && seq 1 1000 >file && git add file && git commit -q -m one &&
    git log --stat && git -c gc.auto=0 clone -q . copy && git -C copy rev-parse HEAD && git status'
fi
same git no-such-command

if command -v gcc >/dev/null; then
  same bash -c 'printf "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 8; }\n" >hello.c
    gcc -O1 -pipe -o hello hello.c && cksum hello && ./hello'
  same bash -c 'echo "int main(void) { return x; }" >wrong.c; gcc wrong.c'
fi
same apt-get --version
same apt-cache policy bash
same ctest --version
same cmake --version
same cmake -E sha256sum no-such-file

echo "$count commands compared"
exit "$failed"
