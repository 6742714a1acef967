#!/usr/bin/env bash
# tssx-stat on real connections: what it counts is what was sent, in the table, in JSON, in metrics
# and in full; orders and filters; and the programs it looks at go on.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/support/frame.sh"

stat=$TSSX_BUILD/tssx-stat
needs "$stat" python3 jq promtool script
needs_to_read_processes
work_in tssx-live
run() { captured "$1" "$stat" "${@:2}"; } # <expected status> <arguments>
holds() { jq -e "${@:2}" "$1" "$work/out" >/dev/null || fail "not so: $1"; }

# server.py <path> <count>: answers each message with three bytes more than it has
cat >"$work/server.py" <<'PY'
import selectors, signal, socket, sys
signal.alarm(110)
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(1024)
print("ready", flush=True)
ends = [listener.accept()[0] for _ in range(int(sys.argv[2]))]
if len(ends) == 1:  # sleeps in recv(2), so that waits are this connection's own
    while data := ends[0].recv(65536): ends[0].sendall(data + b"end")
selector = selectors.DefaultSelector()
for end in ends: selector.register(end, selectors.EVENT_READ)
while selector.get_map():
    for key, _ in selector.select():
        data = key.fileobj.recv(65536)
        if data: key.fileobj.sendall(data + b"end")
        else: selector.unregister(key.fileobj)
PY
# The same for one connection, which does not mind what accept(2) returns; Python does.
cat >"$work/server.c" <<'C'
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char **argv) {
  struct sockaddr_un name = {AF_UNIX, ""};
  char data[65536];
  ssize_t size;
  int listener = socket(AF_UNIX, SOCK_STREAM, 0), end;
  if (argc < 2) return 2;
  alarm(110);
  strncpy(name.sun_path, argv[1], sizeof name.sun_path - 1);
  if (bind(listener, (struct sockaddr *)&name, sizeof name) != 0 || listen(listener, 8) != 0) return 1;
  puts("ready");
  fflush(stdout);
  end = accept(listener, NULL, NULL);
  while ((size = read(end, data, sizeof data - 3)) > 0) {
    memcpy(data + size, "end", 3);
    if (write(end, data, (size_t)size + 3) != size + 3) return 1;
  }
  return size == 0 ? 0 : 1;
}
C
compile_c "$work/server-in-c" "$work/server.c" || fail "no compiler"
# client.py <path> <count>: 40 round trips of 10 bytes on each. Then what its input says: "trip <i>
# <n> <size>" makes n round trips on connection i, "send <i> <size>" only sends,
# "take <i> <size>" only receives, "busy" goes on for ever.
cat >"$work/client.py" <<'PY'
import select, signal, socket, sys
signal.alarm(110)
ends = []
for _ in range(int(sys.argv[2])):
    end = socket.socket(socket.AF_UNIX)
    end.connect(sys.argv[1])
    ends.append(end)
def trip(end, size):
    end.sendall(b"x" * size)
    left = size + 3
    while left: left -= len(end.recv(left))
for end in ends:
    for _ in range(40): trip(end, 10)
print("ready", flush=True)
for line in sys.stdin:
    words = line.split() or [""]
    if words[0] == "trip":
        for _ in range(int(words[2])): trip(ends[int(words[1])], int(words[3]))
    if words[0] == "send": ends[int(words[1])].sendall(b"x" * int(words[2]))
    if words[0] == "take":
        left = int(words[2])
        while left: left -= len(ends[int(words[1])].recv(left))
    if words[0] == "busy":
        while not select.select([0], [], [], 0)[0]:
            for end in ends: trip(end, 100)
    print("done", flush=True)
PY
# start <path> <count> [variables of the server...]: sets server and client; orders go to $orders
program=(python3 "$work/server.py")
start() {
  local path=$1 count=$2
  shift 2
  rm -f "$path" "$work/client" "$work/orders"
  mkfifo "$work/client" "$work/orders"
  start_ready env LD_PRELOAD="$TSSX_LIB" USE_TSSX="$work/*" "$@" "${program[@]}" "$path" "$count"
  server=$pid
  LD_PRELOAD=$TSSX_LIB USE_TSSX="$work/*" python3 "$work/client.py" "$path" "$count" \
    <"$work/orders" >"$work/client" 2>>"$work/log" &
  client=$!
  pids+=("$client")
  exec {orders}>"$work/orders" {answers}<"$work/client"
  read -r -t 60 _ <&"$answers" || fail "no client"
}
order() {
  echo "$*" >&"$orders"
  read -r -t 60 _ <&"$answers" || fail "order $*"
}
stop() {
  exec {orders}>&- {answers}<&-
  wait "$client" || fail "the client"
  wait "$server" || fail "the server"
  pids=()
}

# --- one connection: every number ---------------------------------------------------------------

path=$work/one.sock
start "$path" 1
run 0 --json --path "$path" --interval 0
say='.connections | length == 1'
holds "$say"
cp "$work/out" "$work/before"
order trip 0 100 1000
order trip 0 7 20000
run 0 --json --path "$path" --interval 0
# since <jq path>: how much it has grown
since() {
  echo $(($(jq ".connections[0]$1" "$work/out") - $(jq ".connections[0]$1" "$work/before")))
}
[[ $(since .to_server.bytes) == 240000 ]] || fail "bytes to the server: $(since .to_server.bytes)"
[[ $(since .to_client.bytes) == 240321 ]] || fail "bytes to the client: $(since .to_client.bytes)"
[[ $(since .to_server.messages) == 107 ]] || fail "messages to the server"
[[ $(since .client.end.sent_sizes[6].messages) == 100 ]] || fail "messages below 1024 bytes"
[[ $(since .client.end.sent_sizes[11].messages) == 7 ]] || fail "messages below 32768 bytes"
[[ $(jq '.connections[0].client.end.sent_sizes[6].below' "$work/out") == 1024 ]] || fail "a bucket"
holds '.connections[0] | .state == "ring" and .server.pid == $s and .client.pid == $c and
  .descriptors == "kernel" and .to_client.waiting == 0 and .to_server.capacity == 262144 and
  .to_client.bytes_per_second == null and .server.end.reason == "none"' \
  --argjson s "$server" --argjson c "$client"
# Each answer was waited for: in the ring, after yields, or asleep.
holds '.connections[0].client.end.reading | .spun + .yielded + .slept > 20'
holds '.connections[0] | .client.end.reading.slept <= .to_client.data_sleeps'
holds '.schema == 1 and .kernel_ends == []'

id=$(jq -r '.connections[0].id' "$work/out")
run 0 show "$id"
for pattern in "^  id +$id\$" '^  state +ring$' "^  process +$server/python" "^  process +$client/python" \
  '^  reads: (at once|spun|yielded|slept) +[0-9]+ \([0-9.]+%\)$' '^  size: below 1.0K +[0-9]+  #+$' \
  '^  bells +[0-9]+$' '^  aside for a message +0 times, back 0 times$'; do
  grep -qE -- "$pattern" "$work/out" || fail "show has no $pattern"
done
run 0 show "${id##*:}" --json
holds '.id == $id' --arg id "$id"

run 0 --prometheus --path "$path"
promtool check metrics <"$work/out" >"$work/err" 2>&1 || fail "promtool"
grep -q "^tssx_connections{state=\"ring\"} 1\$" "$work/out" || fail "one in the ring"
grep -qE "^tssx_connection_messages_total\{id=\"$id\",path=\"$path\",direction=\"to_server\"\} [0-9]+\$" \
  "$work/out" || fail "the messages"
grep -q "server_pid=\"$server\".*client_pid=\"$client\"" "$work/out" || fail "who it is"

# What is not read yet, of a server that is stopped.
kill -STOP "$server"
order send 0 5000
run 0 --json --path "$path"
holds '.connections[0].to_server.waiting == 5000'
kill -CONT "$server"
order take 0 5003
stop
run 0 --path "$path"
grep -q '^no accelerated connections$' "$work/out" || fail "it is gone"

# --- negative IDs, an end in the kernel ---------------------------------------------------------

program=("$work/server-in-c")
start "$path" 1 TSSX_IDS=negative
program=(python3 "$work/server.py")
run 0 --json --path "$path"
holds '.connections[0].descriptors == "negative"'
run 0 --path "$path"
grep -q ' negative ' "$work/out" || fail "no IDs in the table"
stop
start "$path" 1 USE_TSSX=/nowhere
run 0 --json --pid "$client"
holds '.connections == [] and (.kernel_ends | length == 1) and
  (.kernel_ends[0] | .role == "client" and .pid == $c and .stage == "candidate")' --argjson c "$client"
run 0 --pid "$client"
grep -q '^1 end of a connection is in the kernel (tssx-stat explain says why)$' "$work/out" ||
  fail "not told of the end in the kernel"
run 0 --summary --pid "$client"
grep -q '^kernel ends    1 candidate$' "$work/out" || fail "the summary"
stop

# --- many: orders, filters, rates ---------------------------------------------------------------

path=$work/many.sock
start "$path" 300
order trip 17 50 1000
run 0 --json --path "$path" --interval 0
holds '.connections | length == 300'
run 0 --json --path "$path" --interval 0 --sort bytes
holds '.connections[0].to_server.bytes > .connections[1].to_server.bytes + 40000'
busiest=$(jq -r '.connections[0].id' "$work/out")
run 0 --path "$path" --interval 0 --sort messages
[[ $(awk 'NR == 2 { print $1 }' "$work/out") == "${busiest##*:}" ]] || fail "the order of the table"
[[ $(wc -l <"$work/out") == 301 ]] || fail "not one line for each"
run 0 --pid "$client" --summary --interval 0
grep -q '^connections    300 (300 ring)$' "$work/out" || fail "the summary"

# Rates, while they work; and they go on working.
echo busy >&"$orders"
moved=no
for _ in $(seq 50); do
  run 0 --json --path "$path" --interval 0.3
  if jq -e '[.connections[].to_server.messages_per_second] | add > 0' "$work/out" >/dev/null; then
    moved=yes
    break
  fi
done
[[ $moved == yes ]] || fail "no rates"
run 0 --prometheus --path "$path"
promtool check metrics <"$work/out" >"$work/err" 2>&1 || fail "promtool"
[[ $(grep -c '^tssx_connection_info' "$work/out") == 300 ]] || fail "not 300 in the metrics"
before=$(jq '[.connections[].to_server.messages] | add' <("$stat" --json --path "$path" --interval 0 2>/dev/null))
for _ in $(seq 20); do "$stat" >/dev/null 2>&1; done
after=$(jq '[.connections[].to_server.messages] | add' <("$stat" --json --path "$path" --interval 0 2>/dev/null))
((after > before)) || fail "they stand still while they are looked at"
echo >&"$orders" || true

# On a terminal: units, colours, and none with NO_COLOR. In a file: neither.
tty() { script -qec "$*" /dev/null </dev/null; }
tty "stty cols 200; $stat --path '$path'" >"$work/out"
grep -q $'\e\[32mring\e\[0m' "$work/out" || fail "no colour on a terminal"
tty "stty cols 200; NO_COLOR=1 $stat --path '$path'" >"$work/out"
grep -q $'\e' "$work/out" && fail "colour in spite of NO_COLOR"
grep -qE '^[0-9]+ +ring +[0-9ms]+ ' "$work/out" || fail "no units on a terminal"
run 0 --path "$path"
grep -q $'\e' "$work/out" && fail "colour in a file"
read -r -t 60 _ <&"$answers" || fail "the client does not stop"
stop
echo "ok"
