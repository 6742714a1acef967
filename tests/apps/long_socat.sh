#!/bin/bash
# socat over Unix sockets: relays, programs started on the socket as inetd does it, half-closed connections,
# pseudo-terminals, proxies, many clients, killed ones. See common.sh and twice.sh for the environment.

TITLE='socat'
TIME_LIMIT=280
APP_USER=nobody
PROGRAMS='socat python3 perl awk'
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

normal() { # process numbers and times of socat's own messages, and which read of a terminal brought what
  sed -E 's,^[0-9]{4}/[0-9/]* [0-9:]* socat\[[0-9]*\],socat,; s,0x[0-9a-f]*,ADDRESS,; s,child [0-9]*,child N,; s,\r,,g'
}
python=$(command -v /usr/bin/python3 || command -v python3)

# serve NAME ADDRESS [OPTION...]: a socat that listens on $R/NAME.s and forks; LISTEN has more options for the
# listening address. S is the socket, SERVER its process.
serve() {
  local name=$1 address=$2
  shift 2
  S=$R/$name.s LISTED=$R/$name.s
  start server "$T/log/server.$PASS.$name" socat -t 20 "$@" "UNIX-LISTEN:$S,fork${LISTEN:+,$LISTEN}" "$address"
  SERVER=$PID
  wait_for 5 listens "$S" || fail "$PASS: socat listens: $name" "$(cat "$T/log/server.$PASS.$name")"
}
unserve() { stop "$SERVER" || fail "$PASS: TERM ends the server: $S"; }
client() { on client socat -t 20 "$@"; }
to() { client - "UNIX-CONNECT:$S${1:+,$1}"; }

sums() { md5sum | cut -d ' ' -f 1; }
there_and_back() { # there_and_back FILE [CONNECT-OPTION]
  to "${2:-}" <"$1" >"$1.back"
  local rc=$?
  sums <"$1.back"
  rm -f "$1.back"
  return $rc
}
crowd() { # crowd COUNT FILE: that many clients at once, each with its own bytes, there and back
  local i jobs=()
  for ((i = 1; i <= $1; i++)); do
    {
      { echo "$i"; cat "$2"; } >"$T/crowd.$i"
      to <"$T/crowd.$i" >"$T/crowd.$i.back" 2>&1
      cmp "$T/crowd.$i" "$T/crowd.$i.back" && echo good
    } >"$T/crowd.$i.result" 2>&1 &
    jobs+=($!)
  done
  wait "${jobs[@]}"
  cat "$T"/crowd.*.result | sort | uniq -c
  rm -f "$T"/crowd.*
}
slowly() { # slowly COUNT [SECONDS]: lines with pauses
  local i
  for ((i = 1; i <= $1; i++)); do
    echo "line $i"
    sleep "${2:-0.02}"
  done
}

# talk NAME COUNT: a client in the background that writes lines and keeps the connection open until
# `talked` is called; meanwhile the connection can be looked at.
declare -A TALK=()
talk() {
  mkfifo "$T/$1.in"
  exec {FD}<>"$T/$1.in"
  without "$FD" start client "$T/$1.out" socat -t 1 - "UNIX-CONNECT:$S" <"$T/$1.in"
  TALK[$1]=$PID
  local i
  for ((i = 1; i <= $2; i++)); do
    echo "line $i" >&$FD
    sleep 0.01
  done
  wait_for 5 grep -qx "line $2" "$T/$1.out" || fail "$PASS: what was written comes back: $1"
}
talked() { # talked NAME LINE: one more line, and its end when it has come back
  echo "$2" >&$FD
  wait_for 5 grep -qx "$2" "$T/$1.out" || fail "$PASS: the last line comes back: $1"
  exec {FD}>&-
  check_ends "$PASS: the client ends: $1" "${TALK[$1]}" 10
  rm -f "$T/$1.in"
}

cases() {
  head -c 20000000 "$T/noise" >"$R/20m"
  head -c 300000 "$T/noise" >"$R/300k"
  head -c 3000000 "$T/noise" >"$R/3m"

  # --- a relay: the bytes go through socat and come back --------------------------------------------------------

  serve echo PIPE -b 4096 # a pipe with both ends in socat
  check_preload server "$SERVER"
  compare "echo, one line" to < <(echo hello)
  compare "echo, nothing" to </dev/null
  compare "echo, lines with pauses" to < <(slowly 40)
  compare "echo, 20 MB" there_and_back "$R/20m"
  compare "echo, 300 kB in blocks of 7 bytes" eval 'client -b 7 - "UNIX-CONNECT:$S" <"$R/300k" | sums'
  compare "echo to a slow reader" eval 'to <"$R/20m" | { sleep 1; sums; }'
  compare "echo, 20 clients with 3 MB each" crowd 20 "$R/3m"
  compare "echo, 60 clients" crowd 60 /dev/null
  compare "options of the client's socket" there_and_back "$R/3m" so-sndbuf=20000,so-rcvbuf=20000
  compare "a non-blocking client" there_and_back "$R/3m" o-nonblock
  compare "a client with a name of its own" there_and_back "$R/3m" "bind=$R/client"
  talk one 60
  check_preload client "${TALK[one]}"
  look "socat to socat" "$LISTED" 1 socat
  talk_more() { printf 'x%.0s' {1..60000} && echo; }
  talk_more >&$FD
  talked one last
  compare "lines, then a long one" sums <"$T/one.out"
  unserve

  serve cat EXEC:cat
  compare "a program, one line" to < <(echo hello)
  compare "a program, lines with pauses" to < <(slowly 40)
  compare "a program, 20 MB" there_and_back "$R/20m"
  compare "a program, 20 clients" crowd 20 "$R/300k"
  unserve
  serve pipes 'EXEC:head -n 40,pipes'
  compare "a program on pipes" to < <(slowly 40)
  unserve
  serve system 'SYSTEM:sort | md5sum'
  compare "half-closed: sort, through a pipeline" to <"$R/3m"
  compare "half-closed: nothing for sort" to </dev/null
  unserve
  serve fdin 'SYSTEM:cat <&3 >&4,fdin=3,fdout=4'
  compare "a program on descriptors 3 and 4" there_and_back "$R/3m"
  unserve

  # --- programs that get the socket itself, as inetd does it ----------------------------------------------------

  serve nofork EXEC:cat,nofork
  compare "inetd: cat, one line" to < <(echo hello)
  compare "inetd: cat, 20 MB" there_and_back "$R/20m"
  compare "inetd: cat, 20 clients" crowd 20 "$R/300k"
  unserve
  serve nolibrary 'EXEC:env -u LD_PRELOAD cat,nofork'
  compare "inetd: cat without the library, lines" to < <(slowly 40)
  compare "inetd: cat without the library, 20 MB" there_and_back "$R/20m"
  unserve
  serve filter 'EXEC:sort,nofork'
  compare "inetd: sort, half-closed" eval 'to <"$R/3m" | sums'
  unserve
  serve sh "SYSTEM:while read -r a; do echo \"got \$a\"; done; echo end,nofork"
  compare "inetd: a shell, lines with pauses" to < <(slowly 60)
  compare "inetd: a shell, many lines" eval 'seq 20000 | to | sums'
  unserve
  serve sh2 "SYSTEM:env -u LD_PRELOAD sh -c \"read a; echo first \\\$a; cat; echo last\",nofork"
  compare "inetd: a shell without the library, and its child" eval 'seq 20000 | to | sums'
  unserve
  echo "import socket, os
s = socket.socket(fileno=0)
n = 0
while True:
    b = s.recv(100000)
    if not b: break
    n += len(b)
    s.sendall(b)
s.sendall(b'%d\n' % n)
s.shutdown(socket.SHUT_WR)
os.write(2, b'end\n')" >"$R/echo.py"
  serve python "EXEC:$python $R/echo.py,nofork"
  compare "inetd: python with recv and send" there_and_back "$R/3m"
  unserve
  serve python2 "EXEC:env -u LD_PRELOAD $python $R/echo.py,nofork"
  compare "inetd: python without the library" there_and_back "$R/3m"
  unserve
  echo '$| = 1; while (<STDIN>) { print scalar reverse $_; } print "\n"; close STDOUT; exit 0' >"$R/reverse.pl"
  serve perl "EXEC:perl $R/reverse.pl,nofork"
  compare "inetd: perl with buffered input" eval 'seq 30000 | to | sums'
  unserve
  serve relay "EXEC:socat - -,nofork"
  compare "inetd: socat once more" there_and_back "$R/3m"
  unserve
  LISTEN=max-children=3 serve few EXEC:cat,nofork
  compare "inetd: at most three children" crowd 9 "$R/300k"
  unserve
  serve cat2 EXEC:cat
  compare "a client that executes a program" eval \
    'client "UNIX-CONNECT:$S" "SYSTEM:seq 5000; exec 1>&-; cat | md5sum >$R/sum" 2>/dev/null; cat "$R/sum"'
  echo 'seq 3000; read -r a; echo "$a" >&2; i=1; while [ $i -lt 3000 ]; do read -r b; i=$((i + 1)); done; echo "$b" >&2' >"$R/ask.sh"
  compare "a client that becomes a program" client "UNIX-CONNECT:$S" "EXEC:sh $R/ask.sh,nofork"
  compare "a client that becomes a program without the library" \
    client "UNIX-CONNECT:$S" "EXEC:env -u LD_PRELOAD sh $R/ask.sh,nofork"
  unserve

  # --- one direction, half-closed, end of file ------------------------------------------------------------------

  serve out "OPEN:$R/20m,rdonly" -U
  compare "20 MB from the server" eval 'client -u "UNIX-CONNECT:$S" - | sums'
  compare "20 MB from the server in blocks of 1 MB" eval 'client -u -b 1000000 "UNIX-CONNECT:$S" - | sums'
  compare "from the server to five readers" eval 'for i in 1 2 3 4 5; do client -u "UNIX-CONNECT:$S" - | sums & done; wait'
  compare "a reader that stops early" eval \
    'client -u "UNIX-CONNECT:$S" - 2>"$R/message" | head -c 1000000 | sums; grep -o "Broken pipe" "$R/message"'
  unserve
  serve in "OPEN:$R/in,creat,append" -u
  compare "20 MB to the server" client -u "$R/20m" "UNIX-CONNECT:$S"
  has_size() { [ "$(stat -c %s "$1" 2>/dev/null)" = "$2" ]; }
  compare "they are all there" eval 'wait_for 10 has_size "$R/in" 20000000; sums <"$R/in"'
  unserve
  serve both "OPEN:$R/20m,rdonly!!OPEN:$R/in,creat,trunc,wronly"
  compare "both ways at once, 20 MB out" eval 'to <"$R/20m" | sums'
  compare "both ways at once, 20 MB in" eval 'wait_for 10 has_size "$R/in" 20000000; cmp "$R/in" "$R/20m" && echo same'
  compare "the server has ended writing, the client goes on" eval '{ sleep 1; slowly 50; } | to | sums'
  compare "the server has all of it" eval 'wait_for 10 grep -q "line 50" "$R/in"; sums <"$R/in"'
  compare "ignoreeof on the connection" eval '{ sleep 2.2; slowly 50; } | to ignoreeof | sums'
  compare "ignoreeof: the server has all of it" eval 'wait_for 10 grep -q "line 50" "$R/in"; sums <"$R/in"'
  for option in shut-none shut-down shut-close shut-null; do
    # What the client still reads in its last second, and what it says, depends on the time it has.
    compare "the end by $option" eval 'printf %s\\n "$option" | client -t 1 - "UNIX-CONNECT:$S,$option" >/dev/null 2>&1; :'
    compare "the end by $option: the server has it" eval 'wait_for 10 grep -q "$option" "$R/in"; sums <"$R/in"'
  done
  unserve
  serve tail "OPEN:$R/tail,creat,append" -u
  : >"$R/growing"
  start client "$T/log/tail" socat -u "OPEN:$R/growing,ignoreeof" "UNIX-CONNECT:$S"
  for i in {1..25}; do
    echo "line $i" >>"$R/growing"
    sleep 0.15
  done
  compare "ignoreeof on a growing file" eval 'wait_for 10 grep -q "line 25" "$R/tail"; sums <"$R/tail"'
  stop "$PID" TERM
  unserve
  serve silent EXEC:cat
  compare "a time limit for silence" eval '{ echo hello; sleep 3; } | client -T 0.5 - "UNIX-CONNECT:$S"; echo "$?"'
  unserve

  # --- terminals ------------------------------------------------------------------------------------------------

  serve pty "EXEC:sh,pty,stderr,setsid,ctty,echo=0,rawer,sigint,sane,echo=0"
  commands() {
    echo 'PS1=; stty -echo -onlcr'
    sleep 0.3
    for i in 1 2 3; do
      echo "echo \$(($i * 111)); tty | cut -c 1-8; seq $((i * 1000)) | md5sum"
      sleep 0.1
    done
    echo 'exit 3'
  }
  # The prompt, and the echo of the first line, depend on when the shell starts.
  compare "a shell on a terminal" eval 'commands | to | grep -aoE "^[0-9a-f]{3}$|/dev/pts|[0-9a-f]{32}" '
  unserve
  serve link "PTY,link=$R/tty,rawer,wait-slave"
  terminal() { # lines both ways between the socket and whoever has opened the terminal
    { slowly 40; sleep 0.5; } | to >"$R/from.tty" &
    wait_for 5 test -e "$R/tty" || return 1
    $python -c "
import os, sys
f = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
b = b''
while b.count(b'\n') < 40:
    b += os.read(f, 1000)
os.write(f, b.upper())
os.read(f, 0)
import time
time.sleep(0.3)
print(b.count(b'\n'))" "$R/tty"
    wait
    sums <"$R/from.tty"
  }
  compare "a terminal that another program opens" terminal
  unserve

  # --- other kinds ----------------------------------------------------------------------------------------------

  LISTEN=unlink-early,umask=077,backlog=3 serve options EXEC:cat
  compare "options of the listener" there_and_back "$R/3m"
  unserve
  LISTED="@$R/abstract"
  S=$R/abstract
  start server "$T/log/server.$PASS.abstract" socat -t 20 "ABSTRACT-LISTEN:$S,fork" EXEC:cat
  SERVER=$PID
  wait_for 5 listens "@$S" || fail "$PASS: an abstract name"
  compare "an abstract name" eval 'client - "ABSTRACT-CONNECT:$S" <"$R/3m" | sums'
  unserve
  start server "$T/log/server.$PASS.seqpacket" socat -t 20 "UNIX-LISTEN:$R/seq.s,type=5,fork" EXEC:cat
  SERVER=$PID S=$R/seq.s LISTED=$R/seq.s
  wait_for 5 listens "$S" || fail "$PASS: a SOCK_SEQPACKET listener"
  compare "SOCK_SEQPACKET" eval 'slowly 20 | client - "UNIX-CONNECT:$S,type=5"'
  unserve
  S=$R/dgram.s LISTED=$R/dgram.s
  start server "$T/log/server.$PASS.dgram" socat -u "UNIX-RECV:$S" "OPEN:$R/dgram,creat"
  SERVER=$PID
  wait_for 5 test -S "$S"
  compare "SOCK_DGRAM" eval 'slowly 20 | client -u - "UNIX-SENDTO:$S"; wait_for 5 grep -q "line 20" "$R/dgram"; cat "$R/dgram"'
  unserve

  # A proxy is the server of one connection and the client of another.
  serve back PIPE -b 4096
  BACK=$SERVER
  LISTED="$R/back.s $R/front.s"
  S=$R/front.s
  start server "$T/log/server.$PASS.front" socat -t 20 "UNIX-LISTEN:$S,fork" "UNIX-CONNECT:$R/back.s"
  SERVER=$PID
  wait_for 5 listens "$S"
  compare "a proxy, 20 MB" there_and_back "$R/20m"
  compare "a proxy, lines with pauses" to < <(slowly 40)
  compare "a proxy, 10 clients" crowd 10 "$R/3m"
  unserve
  SERVER=$BACK
  unserve

  # --- ends nobody expected -------------------------------------------------------------------------------------

  serve kill PIPE
  talk dying 60
  look "a client that will be killed" "$LISTED" 1 socat
  children() { [ "$(descendants "$SERVER" | grep -c .)" = "$1" ]; }
  stop "${TALK[dying]}" KILL
  exec {FD}>&-
  rm -f "$T/dying.in"
  compare "a killed client: its child ends" eval 'wait_for 5 children 0; descendants "$SERVER" | grep -c .; :'
  compare "what it had" sums <"$T/dying.out"
  talk lives 60
  look "a client whose server will be killed" "$LISTED" 1 socat
  kill -KILL "$(descendants "$SERVER" | head -n 1)"
  compare "a killed server: the client ends" eval 'wait_for 5 gone "${TALK[lives]}"; alive "${TALK[lives]}" && echo alive; :'
  exec {FD}>&-
  ends "${TALK[lives]}" 1
  compare "a killed server: what the client says" echo "$STATUS $(cat "$T/lives.out" | sums)"
  rm -f "$T/lives.in"
  unserve
  compare "refused" eval 'echo x | to; echo $?'
  serve again PIPE -b 4096
  compare "a new server" there_and_back "$R/3m"
  head -c 20000000 "$R/20m" >"$R/full.in"
  start client "$T/log/stuck" socat -u "$R/20m" "UNIX-CONNECT:$S"
  sleep 0.5
  compare "a client whose bytes nobody takes back: killed" eval 'stop "$PID" KILL; wait_for 5 children 0; descendants "$SERVER" | grep -c .; :'
  unserve
}

head -c 20000000 /dev/urandom >"$T/noise"
run_twice cases
