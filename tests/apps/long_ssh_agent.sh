#!/bin/bash
# ssh-agent with ssh-add and ssh-keygen: keys added, listed and removed, signatures, a lock, certificates, many
# clients, killed ones. See common.sh and twice.sh for the environment.
#
# Debian installs ssh-agent with a set-group-ID bit, for which the dynamic linker ignores LD_PRELOAD. So a copy
# without that bit is run; the installed one has a part of its own at the end.

TITLE='ssh-agent'
TIME_LIMIT=240
APP_USER=nobody
PROGRAMS='ssh-agent ssh-add ssh-keygen python3'
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

python=$(command -v /usr/bin/python3 || command -v python3)
K=$T/keys
export HOME=$R SSH_AUTH_SOCK= SSH_ASKPASS=$T/askpass SSH_ASKPASS_REQUIRE=force
unset SSH_AGENT_PID DISPLAY SSH_SK_HELPER SSH_PKCS11_HELPER

# A client that says what it likes and keeps its connection, which ssh-add never does for long.
cat >"$T/client.py" <<'PYTHON'
"""client.py SOCKET WHAT NUMBER: what is list, busy or half"""
import hashlib, socket, struct, sys, time

path, what, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
s = socket.socket(socket.AF_UNIX)
s.connect(path)
file = s.makefile('rb')

def answer():
    size = file.read(4)
    return file.read(struct.unpack('>I', size)[0]) if len(size) == 4 else b''

def strings(data):
    while data:
        size = struct.unpack('>I', data[:4])[0]
        yield data[4:4 + size]
        data = data[4 + size:]

if what == 'list':                      # many requests ahead of their answers
    s.sendall(struct.pack('>IB', 1, 11) * number)
    sums = [hashlib.md5(answer()).hexdigest() for _ in range(number)]
    print(len(set(sums)), sums[0])
elif what == 'sign':
    s.sendall(struct.pack('>IB', 1, 11))
    key = next(strings(answer()[5:]))
    for size in (1, 100, 10000, 200000):
        data = b'd' * size
        request = struct.pack('>B', 13) + b''.join(struct.pack('>I', len(x)) + x for x in (key, data)) + struct.pack('>I', 0)
        for byte in struct.pack('>I', len(request)):    # the length byte by byte
            s.sendall(bytes((byte,)))
        s.sendall(request)
        print(size, hashlib.md5(answer()).hexdigest())
elif what == 'busy':
    try:
        while True:
            s.sendall(struct.pack('>IB', 1, 11))
            if not answer():
                break
            time.sleep(0.005)
    except OSError:                     # reset or broken pipe, or an end: that depends on when the agent is killed
        pass
    print('ended')
elif what == 'half':                    # a request that never gets complete
    s.sendall(struct.pack('>IB', 1000, 13) + b'x' * number)
    print('sent', flush=True)
    time.sleep(100)
elif what == 'wrong':                   # a length that the agent must refuse: it closes the connection
    s.sendall(struct.pack('>IB', 0x7fffffff, 11))
    try:
        print(s.recv(100))
    except ConnectionResetError:
        print('reset')
PYTHON
printf '#!/bin/sh\necho secret\n' >"$T/askpass"
chmod 755 "$T/askpass"
cp "$(command -v ssh-agent)" "$T/ssh-agent"
chmod 755 "$T/ssh-agent"

make_keys() {
  local i
  mkdir "$K" && [ ${#AS[@]} -eq 0 ] || chown "$APP_USER" "$K"
  for i in {1..15}; do on neither ssh-keygen -q -t ed25519 -N '' -C "key $i" -f "$K/e$i"; done
  on neither ssh-keygen -q -t rsa -b 2048 -N '' -C rsa -f "$K/rsa"
  on neither ssh-keygen -q -t ecdsa -N '' -C ecdsa -f "$K/ecdsa"
  on neither ssh-keygen -q -t ed25519 -N secret -C encrypted -f "$K/encrypted"
  echo "someone $(cat "$K/e1.pub")" >"$K/allowed"
  head -c 500000 /dev/urandom >"$K/file"
}
normal() { sed -E 's,pid [0-9]+,pid N,'; }
add() { SSH_AUTH_SOCK=$S on client ssh-add "$@"; }
keygen() { SSH_AUTH_SOCK=$S on client ssh-keygen "$@"; }
talk() { on client "$python" "$T/client.py" "$S" "$@"; }
all_keys() { add -q "$K"/e{1..15} "$K/rsa" "$K/ecdsa"; }
sign() { keygen -Y sign -q -n file -f "$K/$1.pub" <"$K/file"; } # RSA and Ed25519 give the same each time
verify() { on neither ssh-keygen -Y verify -n file -f "$K/allowed" -I someone -s "$1" <"$K/file"; }
together() { # together COUNT COMMAND...
  local i jobs=() count=$1 to=$T/together.$BASHPID
  shift
  for ((i = 1; i <= count; i++)); do
    "$@" >"$to.$i" 2>&1 &
    jobs+=($!)
  done
  wait "${jobs[@]}"
  md5sum "$to".* | cut -d ' ' -f 1 | uniq -c
  rm -f "$to".*
}
start_agent() { # start_agent PROGRAM
  S=$R/agent.s LISTED=$R/agent.s
  start server "$T/log/agent.$PASS" "$1" -D -a "$S"
  SERVER=$PID
  wait_for 5 listens "$S" || fail "$PASS: the agent starts" "$(cat "$T/log/agent.$PASS")"
}
check_agent() { # which library the agent has; only root may look, as it forbids its own user to
  local expected=0
  [ -n "$TSSX_LIB" ] && [ "$(id -u)" = 0 ] || return 0
  preloaded_side server && [ -z "${NOT_POSSIBLE:-}" ] && expected=1
  check "the agent${NOT_POSSIBLE:+ with a set-group-ID bit} has $expected libraries of ours" eval \
    '[ "$(grep -sF "$TSSX_LIB" "/proc/$SERVER/maps" | cut -c 74- | sort -u | grep -c .)" = '"$expected ]"
}
stop_agent() {
  stop "$SERVER" || fail "$PASS: TERM ends the agent"
  rm -f "$S"
}
sockets() { find "/proc/$SERVER/fd" -lname 'socket:*' 2>/dev/null | wc -l; }

cases() {
  start_agent "$T/ssh-agent"
  check_agent
  compare "no key" eval 'add -l; echo $?'
  compare "add 17 keys" all_keys
  compare "list" add -l
  compare "list the public keys" add -L
  compare "test the keys" add -T "$K"/e{1..15}.pub "$K/rsa.pub" "$K/ecdsa.pub"
  compare "sign with Ed25519" sign e1
  compare "sign with RSA" sign rsa
  compare "sign with ECDSA" eval 'sign ecdsa >/dev/null'
  compare "verify" eval 'sign e1 >sig; verify sig'
  compare "remove one key" eval 'add -d "$K/e7.pub"; add -l'
  compare "add an encrypted key" eval 'add "$K/encrypted"; add -l | wc -l'
  compare "add a key for a second" eval 'add -t 1 "$K/e7"; add -l | grep -c .; wait_for 5 eval "! add -l | grep -q \"key 7\""; add -l | wc -l'
  compare "lock and unlock" eval 'add -x; add -l; echo $?; sign e1; add -X; add -l'
  compare "sign a certificate" eval 'cp "$K/e2.pub" cert.pub; keygen -q -Us "$K/e3.pub" -I name -n user -V 20200101000000Z:20300101000000Z cert.pub;
    ssh-keygen -L -f cert-cert.pub | grep -E "Key ID|Public key|Signing CA"; rm -f cert*'
  compare "requests ahead of their answers" talk list 500
  compare "long requests" talk sign 0
  compare "a wrong length" talk wrong 0
  compare "20 clients list" together 20 add -l
  compare "12 clients sign" together 12 sign rsa
  compare "clients of all kinds at once" eval \
    'together 4 add -L >one & together 4 sign e5 >other & talk list 200; wait; cat one other; rm -f one other'

  # ssh-add waits for its last key on the standard input, so that its connection can be looked at
  mkfifo "$R/last"
  local last
  exec {last}<>"$R/last"
  export SSH_AUTH_SOCK=$S
  without "$last" start client "$T/log/add" ssh-add "$K"/e{1..15} - <"$R/last"
  export SSH_AUTH_SOCK=
  wait_for 10 grep -q 'key 15' "$T/log/add"
  check_preload client "$PID"
  look "ssh-add with 15 keys" "$LISTED" 1 ssh-add
  cat "$K/e1" >&$last
  exec {last}>&-
  compare "ssh-add with a key from its standard input" eval 'wait_for 10 gone "$PID"; grep -c added "$T/log/add"'
  stop "$PID"
  rm -f "$R/last"

  local busy=() before
  before=$(sockets)
  for i in 1 2 3; do
    start client "$T/log/busy.$i" "$python" "$T/client.py" "$S" busy 0
    busy+=("$PID")
  done
  look "three that ask again and again" "$LISTED" 3
  compare "beside them" sign e9
  stop "${busy[0]}" KILL
  start client "$T/log/half" "$python" "$T/client.py" "$S" half 500
  wait_for 5 grep -q sent "$T/log/half"
  stop "$PID" KILL
  compare "after two are killed, one in the middle of a request" all_keys
  compare "remove all" eval 'add -D; add -l; echo $?'
  stop "$SERVER" KILL
  ends "${busy[1]}" 5
  ends "${busy[2]}" 5
  compare "a killed agent: its clients end" cat "$T/log/busy.2" "$T/log/busy.3"
  compare "refused" eval 'add -l; echo $?'
  rm -f "$S"

  # The agent may be the child: its parent becomes the command.
  local WORDS
  environment_of client
  compare "an agent for one command" on server "$T/ssh-agent" -a "$S" env -u LD_PRELOAD -u USE_TSSX "${WORDS[@]}" \
    sh -c "ssh-add -q $K/e1 $K/e2; ssh-add -l; ssh-keygen -Y sign -q -n file -f $K/e2.pub <$K/file"
  wait_for 5 eval '! listens "$S"'
  rm -f "$S"
  compare "an agent in the background" eval 'on server "$T/ssh-agent" -s -a "$S" >vars; . ./vars; add -q "$K/e4"; add -l; on client ssh-agent -k'
  wait_for 5 eval '! listens "$S"'
  rm -f "$S" vars

  start_agent "$(command -v ssh-agent)"
  [ ! -g "$(command -v ssh-agent)" ] || NOT_POSSIBLE=1 check_agent
  compare "the installed agent" eval 'all_keys; add -l; sign e2; add -D'
  stop_agent
}

make_keys
run_twice cases
