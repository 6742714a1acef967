#!/usr/bin/env bash
# tssx-stat --watch in a terminal, tmux's: what it shows, keys, another size, and that the screen is
# what it was before, however it ends.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/support/frame.sh"
unset TMUX TMUX_PANE

stat=$TSSX_BUILD/tssx-stat
needs "$stat" tmux python3 stty
needs_to_read_processes
work_in tssx-watch
tm() { tmux -S "$work/tmux" -f /dev/null "$@"; }
at_exit() { tm kill-server 2>/dev/null || true; }
about_failure() { tm capture-pane -p -t 0 2>/dev/null | sed 's|^|screen: |' || true; }

# Connections at a00 to a29, of which a00 is the busiest. A line with a number closes that one.
cat >"$work/make.py" <<'PY'
import os, select, signal, socket, sys
directory = sys.argv[1]
pairs = {}
for i in range(30):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{directory}/a{i:02}")
    listener.listen(1)
    client = socket.socket(socket.AF_UNIX)
    client.connect(f"{directory}/a{i:02}")
    pairs[i] = (client, listener.accept()[0])
def trip(pair):
    for one, other in (pair, pair[::-1]):
        one.send(b"x" * 50)
        other.recv(50)
for pair in pairs.values():
    for _ in range(40): trip(pair)
print("ready", flush=True)
while True:
    if select.select([0], [], [], 0.002)[0]:
        line = sys.stdin.readline()
        if not line: break
        for end in pairs.pop(int(line)): end.close()
    if 0 in pairs: trip(pairs[0])
PY
mkfifo "$work/ready" "$work/orders"
LD_PRELOAD=$TSSX_LIB USE_TSSX="$work/a*" python3 "$work/make.py" "$work" \
  <"$work/orders" >"$work/ready" 2>"$work/log" &
pids=("$!")
exec {orders}>"$work/orders"
read -r -t 60 _ <"$work/ready" || fail "no connections"

# --- the terminal -------------------------------------------------------------------------------

TERM=xterm-256color tm new-session -d -x 110 -y 20 "env PS1='$ ' LC_ALL=C sh"
screen() { tm capture-pane -p -t 0; }
# until_shows <pattern>: within 20 s
until_shows() {
  for _ in $(seq 200); do
    if screen | grep -qE -- "$1"; then return 0; fi
    sleep 0.1
  done
  fail "no $1"
}
# The first line of the list.
until_first() {
  for _ in $(seq 200); do
    if [[ $(screen | sed -n 5p) =~ $1 ]]; then return 0; fi
    sleep 0.1
  done
  fail "not first: $1"
}
# flag <format> <value>: of tmux's, within 20 s
until_flag() {
  for _ in $(seq 200); do
    if [[ $(tm display-message -p -t 0 "#{$1}") == "$2" ]]; then return 0; fi
    sleep 0.1
  done
  fail "$1 is not $2"
}
# The line of keys is at the bottom: the terminal has that many lines, and the program knows.
until_last_line() {
  for _ in $(seq 100); do
    if [[ $(screen | sed -n "$1p") == "q quit"* ]]; then return 0; fi
    sleep 0.1
  done
  fail "the last line is not at the bottom"
}
type_line() { tm send-keys -t 0 -l "$1" && tm send-keys -t 0 Enter; }
keys() { tm send-keys -t 0 "$@"; }
# begin <variables and options>: starts it, with the order of paths; waits for its list
begin() {
  type_line "clear; stty -a > $work/before; echo before-''watch; $1 $stat --watch 0.2 --path '$work/a*' $2; echo status-\$?"
  until_flag alternate_on 1
  until_shows '^STATE|STATE'
}
# ended <status>: the screen, the cursor and the modes of the terminal are as they were
ended() {
  until_shows "^status-$1\$"
  until_flag alternate_on 0
  until_flag cursor_flag 1
  screen | grep -q '^before-watch' || fail "the screen from before is not back"
  screen | grep -q 'q quit' && fail "something of the screen is left"
  type_line "stty -a > $work/after; echo done-''it"
  until_shows '^done-it'
  diff "$work/before" "$work/after" || fail "the modes of the terminal are not what they were"
}

begin '' '--sort path'
until_shows '30 connections \(30 ring\) .* by path, every 0.2s'
until_flag cursor_flag 0
until_shows ' B/S '
until_shows 'msg/s [0-9.]+k? '
until_first '/a00$'
keys Down Down
until_first '/a02$'
keys Up
until_first '/a01$'
keys NPage
until_first '/a15$'  # the last page: 15 lines have room
keys PPage
until_first '/a00$'
keys s
until_shows ' by age, '
keys Left
until_shows ' by path, '
keys Right Right
until_shows ' by bytes, '

# Another size: the last line is at the bottom, nothing is wider, and columns have gone.
tm resize-window -t 0 -x 60 -y 12
until_shows '^STATE.*PATH'
until_last_line 12
[[ $(screen | sed -n 5,11p | grep -c '^ring') == 7 ]] || fail "not seven connections"
screen | awk 'length($0) > 60 { exit 1 }' || fail "a line is too long"
screen | grep -q BELLS && fail "there is no room for that"
tm resize-window -t 0 -x 110 -y 20
until_last_line 20
until_shows '^ring.*a0[0-9]$'

# One goes while it is watched.
echo 7 >&"$orders"
until_shows '29 connections '
keys q
ended 0

# The busiest is first unless another order is asked for.
begin '' ''
until_first '/a00$'
until_shows ' by rate, '
tm capture-pane -p -e -t 0 | grep -q $'\e\[32m' || fail "no colours"
keys C-c
ended 130

begin NO_COLOR=1 ''
tm capture-pane -p -e -t 0 | grep -q $'\e\[3[0-9]m' && fail "colours in spite of NO_COLOR"
watcher=$(pgrep -f -- "^$stat --watch 0.2 --path $work/a\*") || fail "which process is it?"
kill -TERM "$watcher"
ended 143

# ^Z gives the terminal back, fg takes it again.
begin '' ''
keys C-z
until_flag alternate_on 0
until_shows 'Stopped'
screen | grep -q '^before-watch' || fail "the screen from before is not back"
type_line fg
until_flag alternate_on 1
until_shows ' by rate, '
keys q
until_flag alternate_on 0

tm kill-server

# --- no terminal --------------------------------------------------------------------------------

status=0
timeout -k 10 3 "$stat" --watch 0.3 --path "$work/a0*" >"$work/out" 2>"$work/err" </dev/null || status=$?
((status == 124 || status == 143)) || fail "status $status"
(($(grep -c '^ID ' "$work/out") >= 2)) || fail "not one table after another"
if LC_ALL=C grep -q $'\e' "$work/out"; then fail "control sequences in a file"; fi
status=0
"$stat" --watch 0.1 2>"$work/err" </dev/null | head -1 >"$work/out" || status=$?
grep -q '^ID ' "$work/out" || fail "nothing in a pipe"

exec {orders}>&-
wait "${pids[0]}" || fail "the connections"
pids=()
echo "ok"
