#!/bin/bash
# memcached over its Unix socket: the tools of libmemcached, load by memcslap, the text and the binary protocol by a
# client in Python, clients that are killed. See common.sh and twice.sh for the environment.

TITLE='memcached'
TIME_LIMIT=240
APP_USER=nobody
PROGRAMS='memcached memccp memccat memcslap python3'
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

python=$(command -v /usr/bin/python3 || command -v python3)
S=$R/memcached.sock
LISTED=$S

cat >"$T/client.py" <<'PYTHON'
"""client.py SOCKET WHAT [NUMBER]: conversations with memcached over its protocols, which print what came back."""
import hashlib, random, selectors, socket, struct, sys, threading, time

path, what = sys.argv[1:3]
number = int(sys.argv[3]) if len(sys.argv) > 3 else 0

def connected():
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    return s

def bytes_of(key, size):
    return random.Random(key).randbytes(size)

class Text:
    def __init__(self):
        self.socket = connected()
        self.file = self.socket.makefile('rb')
    def line(self):
        return self.file.readline().rstrip(b'\r\n')
    def ask(self, command):
        self.socket.sendall(command + b'\r\n')
        return self.line()
    def set(self, key, value):
        return self.ask(b'set %s 7 0 %d\r\n%s' % (key, len(value), value))
    def values(self):
        found = {}
        while True:
            line = self.line()
            if line == b'END':
                return found
            _, key, flags, size = line.split(b' ')[:4]
            found[key] = self.file.read(int(size))
            assert self.file.read(2) == b'\r\n', line
    def get(self, *keys):
        self.socket.sendall(b'get ' + b' '.join(keys) + b'\r\n')
        return self.values()

if what == 'commands':
    c = Text()
    for command in (b'version', b'set a 1 0 5\r\nhello', b'add a 1 0 1\r\nx', b'append a 0 0 6\r\n world', b'incr a 1',
                    b'set n 0 0 1\r\n9', b'incr n 5', b'decr n 100', b'touch n 100', b'delete n', b'delete n',
                    b'verbosity 0', b'nonsense', b'set big 0 0 2000000\r\n' + b'x' * 2000000, b'flush_all'):
        print(command[:30], c.ask(command))
        if command[:7] == b'set big':
            c = Text()              # it says that the object is too large, perhaps twice
    print(c.get(b'a'))
    c.set(b'u', b'1')
    c.socket.sendall(b'gets u\r\n')
    unique = c.line().split(b' ')[4]
    print(c.line(), c.line(), c.ask(b'cas u 0 0 1 %s\r\n2' % unique), c.ask(b'cas u 0 0 1 %s\r\n3' % unique))
elif what == 'sizes':
    c = Text()
    for size in (0, 1, 100, 4095, 4096, 16384, 65535, 65536, 100000, 262143, 262144, 262145, 500000, 1000000):
        value = bytes_of(size, size)
        print(size, c.set(b'size-%d' % size, value), c.get(b'size-%d' % size) == {b'size-%d' % size: value})
elif what == 'pipeline':
    c = Text()
    def send():
        for i in range(0, number, 100):
            c.socket.sendall(b''.join(b'set p%d 0 0 %d\r\n%s\r\n' % (j, j % 900, b'v' * (j % 900)) for j in range(i, i + 100)))
        c.socket.sendall(b''.join(b'get p%d\r\n' % j for j in range(number)))
    thread = threading.Thread(target=send)
    thread.start()
    print(sum(c.line() == b'STORED' for _ in range(number)))
    print(sum(c.values() == {b'p%d' % j: b'v' * (j % 900)} for j in range(number)))
    thread.join()
elif what == 'noreply':
    c = Text()
    c.socket.sendall(b''.join(b'set q%d 0 0 3 noreply\r\nabc\r\n' % i for i in range(number)))
    print(c.ask(b'incr nothing 1'), len(c.get(*(b'q%d' % i for i in range(number)))))
elif what == 'many':                # one loop, many connections, each with requests of its own
    selector, replies = selectors.DefaultSelector(), 0
    left = {}
    for i in range(number):
        s = connected()
        s.setblocking(False)
        left[s] = [i, 50, b'']
        selector.register(s, selectors.EVENT_READ)
        s.sendall(b'set m%d 0 0 5000\r\n%s\r\nget m%d\r\n' % (i, bytes_of(i, 5000), i))
    while left:
        for key, _ in selector.select():
            s = key.fileobj
            i, rounds, data = left[s]
            data += s.recv(65536)
            whole = b'STORED\r\nVALUE m%d 0 5000\r\n%s\r\nEND\r\n' % (i, bytes_of(i, 5000))
            assert whole.startswith(data), data[:100]
            if data == whole:
                replies, rounds, data = replies + 1, rounds - 1, b''
                if rounds:
                    s.sendall(b'set m%d 0 0 5000\r\n%s\r\nget m%d\r\n' % (i, bytes_of(i, 5000), i))
                else:
                    selector.unregister(s)
                    s.close()
                    del left[s]
                    continue
            left[s] = [i, rounds, data]
    print(replies)
elif what == 'binary':
    s = connected()
    file = s.makefile('rb')
    def request(operation, key=b'', extras=b'', value=b'', opaque=0):
        return struct.pack('>BBHBBHIIQ', 0x80, operation, len(key), len(extras), 0, 0, len(extras) + len(key) + len(value),
                           opaque, 0) + extras + key + value
    def response():
        head = struct.unpack('>BBHBBHIIQ', file.read(24))
        return head[1], head[5], head[7], hashlib.md5(file.read(head[6])).hexdigest()
    for i in range(number):
        s.sendall(request(1, b'b%d' % i, struct.pack('>II', 3, 0), bytes_of(i, i * 37 % 50000), i))
        assert response()[:3] == (1, 0, i)
    sum = hashlib.md5()
    for i in range(number):
        s.sendall(request(0, b'b%d' % i, opaque=i))
        sum.update(repr(response()).encode())
    s.sendall(b''.join(request(9, b'b%d' % i, opaque=i) for i in range(50)) + request(10))    # quiet gets, then a no-op
    for _ in range(50 + 1):
        sum.update(repr(response()).encode())
    print(sum.hexdigest())
elif what == 'busy':                # until it is killed, or the server is
    c = Text()
    i = 0
    try:
        while True:
            i += 1
            assert c.set(b'busy%d' % number, b'%d' % i) == b'STORED'
            assert c.get(b'busy%d' % number) == {b'busy%d' % number: b'%d' % i}
            time.sleep(0.002)
    except (AssertionError, OSError):
        print('ended')          # by end of file, reset or broken pipe: that depends on when it is killed
elif what == 'stuck':               # asks for much and reads nothing
    c = Text()
    print(c.set(b'large', b'z' * 1000000), flush=True)
    c.socket.settimeout(2)
    try:
        for _ in range(100000):
            c.socket.sendall(b'get large\r\n' * 10)
    except socket.timeout:
        pass
    time.sleep(100)
elif what == 'connections':
    c = Text()
    c.socket.sendall(b'stats\r\n')
    while True:
        line = c.line()
        if line == b'END':
            break
        if line.startswith(b'STAT curr_connections '):
            print(int(line.split(b' ')[2]))
PYTHON

talk() { on client "$python" "$T/client.py" "$S" "$@"; }
connected() { on neither "$python" "$T/client.py" "$S" connections; } # how many there are
number_of_connections() { [ "$(connected)" = "$1" ]; }
tool() { # tool NAME OPTION...
  local name=$1
  shift
  on client "$name" --servers="$S" "$@"
}
load() { # load OPTION...: memcslap's report, without the times
  tool memcslap "$@" | sed -E 's/[0-9]+\.[0-9]+ seconds/some seconds/'
}
together() { # together COUNT COMMAND...: that many at once
  local i jobs=() count=$1
  shift
  for ((i = 1; i <= count; i++)); do
    "$@" "$i" >"together.$i" 2>&1 &
    jobs+=($!)
  done
  wait "${jobs[@]}"
  cat together.*
  rm -f together.*
}
copies() { # each with a file of its own
  head -c $(($1 * 20011)) "$T/noise" >"copy$1"
  tool memccp --set "copy$1" && tool memccat --file="back$1" "copy$1" && cmp "copy$1" "back$1" && echo same
}
starts_server() {
  start server "$T/log/server.$PASS" memcached -s "$S" -m 200 -c 500 -I 2m -t 3 "$@"
  SERVER=$PID
  wait_for 10 listens "$S"
}

cases() {
  starts_server -I 1m || fail "$PASS: the server starts" "$(cat "$T/log/server.$PASS")"
  check_preload server "$SERVER"
  ALONE=$(connected)
  compare "ping" tool memcping
  compare "a file of 900 kB" eval 'head -c 900000 "$T/noise" >large; tool memccp --set large && tool memccat --file=back large && cmp large back'
  compare "twelve tools at once" eval 'together 12 copies | sort | uniq -c'
  compare "in the binary protocol" eval 'tool memccp --binary --set large && tool memccat --binary --file=back2 large && cmp large back2'
  compare "exist, touch, remove, exist" eval \
    'tool memcexist large; echo $?; tool memctouch --expire=1000 large; echo $?; tool memcrm large; echo $?; tool memcexist large; echo $?'
  compare "dump" eval 'tool memcdump | sort'
  compare "statistics" eval 'tool memcstat | grep -E "threads:|cmd_touch:|delete_hits:"'
  compare "flush" eval 'tool memcflush; tool memccat copy1; echo $?'
  for protocol in --non-blocking --binary --tcp-nodelay; do
    compare "load: set, $protocol" load --test=set --concurrency=8 --execute-number=300 --initial-load=10 $protocol
    compare "load: get, $protocol" load --test=get --concurrency=8 --execute-number=300 --initial-load=300 $protocol
    compare "load: mget, $protocol" load --test=mget --concurrency=2 --execute-number=5 --initial-load=500 $protocol
  done
  compare "commands" talk commands
  compare "values of many sizes" talk sizes
  compare "a pipeline" talk pipeline 20000
  compare "a pipeline that gets no reply" talk noreply 3000
  compare "100 connections" talk many 100
  compare "the binary protocol" talk binary 500
  compare "eight processes" eval 'together 8 talk sizes | sort | uniq -c'
  compare "all connections are closed" eval 'wait_for 10 number_of_connections "$ALONE"; connected'

  local i busy=()
  for i in 1 2 3 4; do
    start client "$T/log/busy.$i" "$python" "$T/client.py" "$S" busy "$i"
    busy+=("$PID")
  done
  wait_for 10 number_of_connections $((ALONE + 4))
  check_preload client "$PID"
  look "four" "$LISTED" 4
  stop "${busy[0]}" KILL
  stop "${busy[1]}" KILL
  compare "killed clients: the server notices" eval 'wait_for 10 number_of_connections "$((ALONE + 2))"; connected'
  start client "$T/log/stuck" "$python" "$T/client.py" "$S" stuck
  local stuck=$PID
  wait_for 10 grep -q STORED "$T/log/stuck"
  sleep 1
  compare "beside a client that reads nothing" talk sizes
  stop "$stuck" KILL
  compare "it is killed: the server notices" eval 'wait_for 10 number_of_connections "$((ALONE + 2))"; connected'
  stop "$SERVER" KILL
  ends "${busy[2]}" 10
  ends "${busy[3]}" 10
  compare "a killed server: its clients end" cat "$T/log/busy.3" "$T/log/busy.4"
  compare "refused" eval 'tool memcping; echo $?'
  starts_server || fail "$PASS: the server starts again" "$(cat "$T/log/server.$PASS")"
  compare "another server" talk commands
  stop "$SERVER" || fail "$PASS: TERM ends the server"
  rm -f "$S"
}

head -c 2000000 /dev/urandom >"$T/noise"
run_twice cases
