#!/bin/bash
# Xvfb with X clients, over Xlib and XCB: questions, windows, drawing, pictures of the screen, properties and events,
# several clients, killed ones. See common.sh and twice.sh for the environment.
#
# An X server has its sockets in /tmp/.X11-unix, with the same name in the abstract name space, and perhaps a lock
# file in /tmp. Xvfb chooses a display number that is free. What a killed one leaves is removed at the end.

TITLE='Xvfb'
TIME_LIMIT=240
APP_USER=nobody
PROGRAMS='Xvfb xdpyinfo xprop xwininfo xwd x11perf xclock xeyes xlogo xkill xauth'
had_directory=
[ ! -e /tmp/.X11-unix ] || had_directory=yes
app_remains() { # called by common.sh when everything has ended
  local display
  for display in "$T"/display.*; do
    display=${display##*.}
    # one that somebody listens on has become somebody else's
    [ "$display" = '*' ] || awk -v path="/tmp/.X11-unix/X$display" '$8 == path { found = 1 } END { exit !found }' /proc/net/unix ||
      rm -f "/tmp/.X$display-lock" "/tmp/.X11-unix/X$display"
  done
  [ -n "$had_directory" ] || rmdir --ignore-fail-on-non-empty /tmp/.X11-unix 2>/dev/null
}
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

export HOME=$R XAUTHORITY=$T/xauthority XFILESEARCHPATH=/nowhere
unset XENVIRONMENT SESSION_MANAGER

normal() { sed -E 's/0x[0-9a-f]{3,}/0xN/g'; }
x() { on client "$@"; }
sums() { md5sum | cut -d ' ' -f 1; }
screen() { x xwd -root -silent -display "$DISPLAY" | tail -c +101 | sums; } # without the first words of its head
has_window() { on neither xwininfo -root -tree 2>/dev/null | grep -q "$1"; }
has_no_window() { ! has_window "$1"; }
without_numbers() { sed -E 's/[0-9]+ (reps|trep).*/some/; s/^ *[0-9]+ .*@.*: /some /; s/\([ 0-9.]*\/sec\)//'; }

start_server() {
  LISTED='/tmp/.X11-unix/X* @/tmp/.X11-unix/X*'
  : >"$T/number"
  chmod 666 "$T/number"
  start server "$T/log/server.$PASS" bash -c 'exec Xvfb -displayfd 3 -screen 0 1024x768x24 -nolisten tcp -auth "$1" -noreset 3>"$2"' \
    Xvfb "$XAUTHORITY" "$T/number"
  SERVER=$PID
  wait_for 15 grep -q . "$T/number" || return 1
  NUMBER=$(cat "$T/number")
  : >"$T/display.$NUMBER"
  export DISPLAY=:$NUMBER
  # The number may be another one in the second run; the key must be known for it.
  "${AS[@]}" xauth -q -f "$XAUTHORITY" add "$DISPLAY" . 0123456789abcdef0123456789abcdef 2>/dev/null
  LISTED=@/tmp/.X11-unix/X$NUMBER # which Xlib and XCB try first
}
open_window() { # open_window TITLE PROGRAM OPTION...: in the background, in PID
  local title=$1
  shift
  start client "$T/log/window" "$@"
  wait_for 10 has_window "$title" || fail "$PASS: the window appears: $title" "$(cat "$T/log/window")"
}
draws() { # draws TEST...: x11perf prints which tests it ran, and rates, which differ
  x x11perf -reps "${REPS:-100}" -repeat 2 "$@" >"$T/perf" 2>&1 || { cat "$T/perf"; return 1; }
  sed -n 's/.*reps @.*sec): /ran: /p' "$T/perf"
}

cases() {
  start_server || fail "$PASS: the server starts" "$(cat "$T/log/server.$PASS")"
  check_preload server "$SERVER"
  compare "xdpyinfo" eval 'x xdpyinfo | grep -v "^name of display" | sums'
  compare "its extensions" eval 'x xdpyinfo -queryExtensions | grep -E "opcode" | wc -l'
  compare "the screen at first" screen
  compare "xwininfo" eval 'x xwininfo -root | grep -E "Width|Depth|geometry"'
  compare "40 clients one after the other" eval 'for i in {1..40}; do x xprop -root -f NUMBER 32c -set NUMBER "$i"; done; x xprop -root NUMBER'
  compare "20 clients at once" eval 'for i in {1..20}; do x xdpyinfo | grep -c visual & done | sort | uniq -c; wait'
  compare "a large property" eval 'x xprop -root -f LARGE 8s -set LARGE "$(head -c 100000 /dev/zero | tr "\0" x)"; x xprop -root LARGE | sums'
  compare "atoms" eval 'x xprop -root -f A 8s -set A "text with words"; x xprop -root -remove A; x xprop -root A'

  open_window xlogo xlogo -geometry 200x150+50+40
  local logo=$PID
  check_preload client "$logo"
  compare "a window" eval 'x xwininfo -name xlogo | grep -E "Absolute|Width|Height|Map State"'
  compare "a window: its picture" eval 'sleep 0.5; x xwd -silent -name xlogo | tail -c 90000 | sums'
  compare "the screen with it" screen
  compare "its properties" eval 'x xprop -name xlogo WM_CLASS WM_NORMAL_HINTS WM_NAME'
  open_window xeyes xeyes -geometry 150x100+300+200
  local eyes=$PID
  compare "the screen with eyes" eval 'sleep 0.5; screen'
  stop "$logo" KILL
  compare "a killed client: its window goes" eval 'wait_for 5 has_no_window xlogo; screen'
  stop "$eyes"
  compare "a client that ends: so does its window" eval 'wait_for 5 has_no_window xeyes; screen'
  open_window xclock xclock -update 1 -geometry 100x100+10+10
  look "a clock" "$LISTED" 0
  compare "a clock" eval 'sleep 2; x xprop -name xclock WM_CLASS'
  local clock=$PID

  # Each test waits for the server to have drawn everything.
  compare "x11perf: lines and rectangles" draws -dot -rect10 -rect500 -seg100 -circle100
  compare "x11perf: text and pictures" draws -ftext -putimage500 -getimage500 -copywinwin500
  compare "x11perf: shared memory" draws -shmput500
  compare "x11perf: windows" draws -create -map -unmap -move -circulate
  compare "x11perf: questions" draws -prop -gc -getimage10 -pointer
  compare "x11perf: synchronous" draws -sync -noop -dot
  compare "four at once" eval 'for i in 1 2 3 4; do x x11perf -reps 300 -repeat 1 -getimage100 2>&1 | grep -c "reps @" & done; wait'
  start client "$T/log/perf" x11perf -repeat 20 -time 2 -getimage500 -pointer
  sleep 1
  look "a client that asks for pictures" "$LISTED" 1 x11perf
  stop "$PID" KILL
  wait_for 5 has_no_window x11perf
  stop "$clock"
  compare "the screen after all that" eval 'wait_for 5 has_no_window xclock; screen'
  compare "40 pictures of it" eval 'for i in {1..40}; do screen; done | uniq -c'
  compare "a picture to a slow reader" eval 'x xwd -root -silent | { sleep 1; tail -c +101 | sums; }'

  # a client that waits for events, and one that makes them
  start client "$T/log/spy" xprop -spy -root NUMBER
  local spy=$PID
  wait_for 5 grep -q NUMBER "$T/log/spy"
  for i in {51..90}; do
    on client xprop -root -f NUMBER 32c -set NUMBER "$i"
  done
  compare "40 events" eval 'wait_for 5 grep -q "= 90" "$T/log/spy"; tail -n 40 "$T/log/spy"'
  open_window xlogo xlogo
  compare "xkill's way: a client that the server disconnects" eval \
    'x xkill -id "$(on neither xwininfo -name xlogo | sed -n "s/.*Window id: \([^ ]*\).*/\1/p")" >message 2>&1; wait_for 5 gone "$PID"; wait_for 5 has_no_window xlogo; alive "$PID" && echo alive; :'
  stop "$PID"
  compare "a wrong key" eval 'x env XAUTHORITY=/dev/null xdpyinfo 2>&1 | grep -o "unable to open display"'
  stop "$SERVER" KILL
  compare "a killed server: a client that waits ends" eval 'wait_for 5 gone "$spy"; alive "$spy" && echo alive; grep -oiE "X connection .*broken|fatal IO error" "$T/log/spy"; :'
  stop "$spy"
  start_server || fail "$PASS: the server starts again" "$(cat "$T/log/server.$PASS")"
  compare "another server" eval 'x xdpyinfo | grep -c visual'
  stop "$SERVER" || fail "$PASS: TERM ends the server"
}

xauth -q -f "$XAUTHORITY" add :0 . 0123456789abcdef0123456789abcdef 2>/dev/null
[ ${#AS[@]} -eq 0 ] || { chown "$APP_USER" "$XAUTHORITY"; chown "$APP_USER" "$T"; }
run_twice cases
