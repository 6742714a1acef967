#!/bin/bash
# tmux: its server and its clients, which pass it their standard input and output by SCM_RIGHTS: sessions, windows,
# keys, buffers, terminals that are attached and detached, control mode, killed ones. See common.sh and twice.sh.

TITLE='tmux'
TIME_LIMIT=240
APP_USER=nobody
PROGRAMS='tmux script'
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

S=$R/tmux.sock
LISTED=$S
export HOME=$R SHELL=/bin/sh TERM=screen PS1='$ ' ENV=
unset TMUX TMUX_PANE EDITOR VISUAL

normal() { sed -E 's,pid [0-9]+,pid N,; s,\(created [^)]*\),(created then),; s,^client-[0-9]+,client-N,'; }
tm() { on client tmux -S "$S" "$@"; }
quietly() { on neither tmux -S "$S" "$@" 2>/dev/null; } # for waiting, never preloaded
answers() { quietly list-sessions >/dev/null || [ "$(quietly display-message -p x)" = x ]; }
clients() { quietly list-clients -F x | grep -c .; }
has_clients() { [ "$(clients)" = "$1" ]; }
# shows PANE TEXT [COUNT]: in that many lines; cat in a terminal shows what is typed, and once more when it has read it
shows() { [ "$(quietly capture-pane -p -J -t "$1" | grep -cF -e "$2")" -ge "${3:-1}" ]; }
sums() { md5sum | cut -d ' ' -f 1; }

start_server() {
  printf '%s\n' 'set -g exit-empty off' 'set -g default-command "exec sh"' 'set -g status off' \
    'set -g buffer-limit 50' 'set -g default-size 80x24' 'set -g update-environment ""' >conf
  start server "$T/log/server.$PASS" tmux -S "$S" -f "$R/conf" -D
  SERVER=$PID
  wait_for 10 listens "$S" && wait_for 10 answers
}

attach() { # attach NAME COMMAND...: tmux in a terminal of its own, whose keyboard is the descriptor KEYS
  local name=$1
  shift
  mkfifo "$T/$name.keys"
  exec {KEYS}<>"$T/$name.keys"
  printf -v COMMAND '%q ' "$@"
  without "$KEYS" start client "$T/$name.screen" script -qefc "stty rows 24 columns 80; $COMMAND" /dev/null <"$T/$name.keys"
  ATTACHED=$PID
}
detached() { # the terminal's program has ended
  exec {KEYS}>&-
  rm -f "$T"/*.keys
}

cases() {
  start_server || fail "$PASS: the server starts" "$(cat "$T/log/server.$PASS")"
  check_preload server "$SERVER"
  compare "no session" eval 'tm list-sessions; echo $?'
  compare "new session" tm new-session -d -s one 'cat'
  compare "list" tm list-sessions
  compare "keys" eval 'tm send-keys -t one hello Enter "a b" Enter; wait_for 5 shows one "a b" 2; tm capture-pane -p -t one'
  compare "100 commands in one call" eval 'set --; for i in {1..100}; do set -- "$@" display-message -p "number $i" \;; done; tm "$@" | sums'
  compare "60 calls" eval 'for i in {1..60}; do tm display-message -p "call $i, #{session_name}"; done'
  compare "20 clients at once" eval 'for i in {1..20}; do tm display-message -p "client $i" & done | sort; wait'
  compare "an error" eval 'tm select-window -t nowhere; echo $?'
  compare "a shell" eval 'tm new-session -d -s two -x 100 -y 30 && tm send-keys -t two "seq 1 500 | tail -n 12; echo done-\$((6 * 7))" Enter;
    wait_for 10 shows two done-42; tm capture-pane -p -t two | grep -E "^[0-9]+$|^done-"'
  compare "windows and panes" eval 'tm new-window -d -t two -n extra cat \; split-window -d -t two:extra cat \; split-window -d -h -t two:extra cat;
    tm list-panes -s -t two -F "#{window_index}.#{pane_index} #{pane_width}x#{pane_height}"; tm list-windows -t two -F "#{window_name} #{window_panes}" | tail -n 1'
  compare "environment and options" eval 'tm set-environment -g NAME value; tm show-environment -g NAME; tm show-options -gv buffer-limit'
  compare "run-shell" tm run-shell 'seq 1 1000 | md5sum'
  compare "if-shell" tm if-shell 'true' 'display-message -p yes' 'display-message -p no'
  compare "wait-for" eval '{ sleep 0.5; tm wait-for -S ready; } & tm wait-for ready; wait; echo woken'
  compare "commands from a file" eval 'printf "display-message -p %s\n" {1..40} | tm source-file -'
  compare "a pane into a pipe" eval 'tm pipe-pane -t one "cat >$R/piped"; tm send-keys -t one piped Enter; wait_for 5 grep -q piped "$R/piped"; tm pipe-pane -t one; tr -d "\r" <piped | sort -u'

  # buffers travel through the socket in pieces
  for n in 1 16383 16384 100000 5000000; do
    head -c "$n" "$T/noise" >file
    compare "a buffer of $n bytes from a file" eval 'tm load-buffer -b name file; tm save-buffer -b name - | sums'
    compare "a buffer of $n bytes from a pipe" eval 'head -c '"$n"' "$T/noise" | tm load-buffer -; tm save-buffer saved; sums <saved; tm show-buffer | sums'
  done
  compare "eight large buffers at once" eval 'for i in {1..8}; do { tm load-buffer -b "b$i" file; tm save-buffer -b "b$i" - | sums; } & done; wait'
  compare "a large buffer to a slow reader" eval 'tm save-buffer - | { sleep 1; sums; }'
  compare "a large buffer to a reader that goes away" eval 'tm save-buffer - 2>message | head -c 100000 | sums'
  compare "a buffer pasted" eval 'printf "pasted text\n" | tm load-buffer -; tm paste-buffer -t one; wait_for 5 shows one "pasted text" 2; tm capture-pane -p -t one | tail -n 3'

  mkfifo slow
  local slow
  exec {slow}<>slow
  without "$slow" start client "$T/log/slow" tmux -S "$S" load-buffer -b slow - <slow
  for i in {1..60}; do
    echo "line $i" >&$slow
    sleep 0.02
  done
  check_preload client "$PID"
  look "a buffer that grows slowly" "$LISTED" 1
  for i in {61..100}; do echo "line $i" >&$slow; done
  exec {slow}>&-
  check_ends "$PASS: load-buffer ends" "$PID" 5
  compare "a buffer that grew slowly" tm show-buffer -b slow
  rm -f slow

  # --- terminals ------------------------------------------------------------------------------------------------

  attach first tmux -S "$S" attach-session -t one
  wait_for 10 has_clients 1
  printf 'typed words\r' >&$KEYS
  compare "attached: what is typed arrives" eval 'wait_for 5 shows one "typed words" 2; tm capture-pane -p -t one | tail -n 2'
  compare "attached: the terminal shows it" eval 'wait_for 5 grep -q "typed words" "$T/first.screen"; grep -c "typed words" "$T/first.screen" >/dev/null'
  compare "attached: list" eval 'tm list-clients -F "#{client_session} #{client_width}x#{client_height} #{client_utf8}"'
  # Each change of the size is a message of the client's. A client that made the session does not move: the server
  # has forked since.
  compare "attached: sizes that change" eval 'pid=$(quietly list-clients -F "#{client_pid}"); for i in {1..40}; do kill -WINCH "$pid"; sleep 0.02; done;
    tm list-clients -F "#{client_width}x#{client_height}"'
  look "an attached terminal" "$LISTED" 1
  compare "attached: 200 refreshes" eval 'for i in {1..200}; do set -- "$@" refresh-client -t "$(quietly list-clients -F "#{client_name}")" \;; done; tm "$@"; clients'
  compare "attached: switched to another session" eval 'tm switch-client -t two; tm list-clients -F "#{client_session}"'
  printf '\002d' >&$KEYS
  compare "detached by a key" eval 'wait_for 5 gone "$ATTACHED"; grep -ao "detached (from session two)" "$T/first.screen"; clients || :'
  detached
  attach second tmux -S "$S" new-session -s three cat
  wait_for 10 has_clients 1
  printf 'second\r' >&$KEYS
  compare "a new session in a terminal" eval 'wait_for 5 shows three second 2; tm capture-pane -p -t three'
  compare "detached by a command" eval 'tm detach-client -s three; wait_for 5 gone "$ATTACHED"; grep -ao "detached (from session three)" "$T/second.screen"'
  detached
  attach third tmux -S "$S" attach-session -t three
  wait_for 10 has_clients 1
  compare "the session ends" eval 'tm kill-session -t three; wait_for 5 gone "$ATTACHED"; grep -ao "\[exited\]" "$T/third.screen"'
  detached
  attach fourth tmux -S "$S" attach-session -t one
  wait_for 10 has_clients 1
  stop "$ATTACHED" KILL
  compare "a killed terminal: the server notices" eval 'wait_for 5 has_clients 0; tm list-sessions -F "#{session_name} #{session_attached}"'
  detached
  attach fifth tmux -S "$S" attach-session -t one
  wait_for 10 has_clients 1
  kill -KILL "$(quietly list-clients -F '#{client_pid}')"
  compare "a killed client: the server notices" eval 'wait_for 5 has_clients 0; tm list-sessions -F "#{session_name} #{session_attached}"'
  stop "$ATTACHED"
  detached

  # --- control mode ---------------------------------------------------------------------------------------------

  compare "control mode" eval '{ for i in {1..100}; do echo "display-message -p \"control $i\""; done; echo detach-client; } |
    tm -C attach-session -t one | grep -a ^control | sums'
  compare "control mode, with output of a pane" eval '{ sleep 0.3; echo "send-keys -t two \"seq 1 2000; echo e\"nd Enter"; sleep 1; echo detach-client; } |
    tm -C attach-session -t two | grep -aoE "%(exit|begin|output)" | sort -u'

  # --- the end --------------------------------------------------------------------------------------------------

  attach sixth tmux -S "$S" attach-session -t one
  wait_for 10 has_clients 1
  start client "$T/log/waits" tmux -S "$S" wait-for never
  local waits=$PID
  sleep 0.3
  compare "kill-server" eval 'tm kill-server; echo $?'
  compare "kill-server: the terminal says so" eval 'wait_for 5 gone "$ATTACHED"; grep -ao "server exited" "$T/sixth.screen"'
  compare "kill-server: another client ends" eval 'wait_for 5 gone "$waits"; alive "$waits" && echo it lives; :'
  check_ends "$PASS: kill-server: the server ends" "$SERVER" 5
  detached
  compare "no server" eval 'tm list-sessions; echo $?'
  start_server || fail "$PASS: the server starts again"
  attach seventh tmux -S "$S" new-session -s last cat
  wait_for 10 has_clients 1
  stop "$SERVER" KILL
  compare "a killed server: the terminal says so" eval 'wait_for 5 gone "$ATTACHED"; grep -ao "lost server\|server exited[a-z ]*" "$T/seventh.screen"'
  detached
  rm -f "$S"

  # A client may start the server itself, as its child; that one has the library if the client has it.
  local WORDS
  environment_of server
  on neither env "${WORDS[@]}" tmux -S "$S" -f "$R/conf" start-server
  wait_for 5 listens "$S"
  compare "a server in the background" eval 'tm new-session -d -s bg cat; tm send-keys -t bg text Enter; wait_for 5 shows bg text 2; tm capture-pane -p -t bg; tm kill-server'
  wait_for 5 eval '! listens "$S"'
  rm -f "$S" file saved piped conf message
}

head -c 5000000 /dev/urandom | base64 -w 100 >"$T/noise"
run_twice cases
