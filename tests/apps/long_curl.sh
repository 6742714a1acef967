#!/bin/bash
# curl --unix-socket against two servers in Python: one with a thread for each connection, one with asyncio over
# epoll. See common.sh and twice.sh for the environment.

TITLE='curl'
TIME_LIMIT=280
APP_USER=nobody
PROGRAMS='curl python3'
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

python=$(command -v /usr/bin/python3 || command -v python3)

cat >"$T/threads.py" <<'PYTHON'
import hashlib, http.server, os, socket, socketserver, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *arguments):
        pass
    def address_string(self):
        return 'unix'
    def date_time_string(self, timestamp=None):
        return 'today'
    def answer(self, body, status=200, **headers):
        self.send_response(status)
        self.send_header('Content-Length', str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)
    def chunk(self, data):
        self.wfile.write(b'%x\r\n%s\r\n' % (len(data), data))
    def do_GET(self):
        name, _, number = self.path[1:].partition('/')
        if name == 'file':
            with open('file', 'rb') as file:
                data = file.read()
            wanted = self.headers.get('Range')
            if wanted:
                first, last = wanted[len('bytes='):].split('-')
                first, last = int(first), int(last or len(data) - 1)
                self.answer(data[first:last + 1], 206, Content_Range='bytes %d-%d/%d' % (first, last, len(data)))
            else:
                self.answer(data[:int(number)])
        elif name == 'sent':                      # by sendfile()
            self.send_response(200)
            self.send_header('Content-Length', number)
            self.end_headers()
            self.wfile.flush()
            with open('file', 'rb') as file:
                self.connection.sendfile(file, 0, int(number))
        elif name == 'chunks' or name == 'slow':
            self.send_response(200)
            self.send_header('Transfer-Encoding', 'chunked')
            self.end_headers()
            for i in range(int(number)):
                self.chunk(b'chunk %d\n' % i)
                if name == 'slow':
                    time.sleep(0.02)
            self.chunk(b'')
        elif name == 'move':
            self.answer(b'', 302, Location='/file/%s' % number)
        elif name == 'short':                     # less than promised
            self.send_response(200)
            self.send_header('Content-Length', '1000000')
            self.end_headers()
            self.wfile.write(b'x' * int(number))
            self.close_connection = True
        elif name == 'until-closed':
            self.send_response(200)
            self.send_header('Connection', 'close')
            self.end_headers()
            with open('file', 'rb') as file:
                self.wfile.write(file.read(int(number)))
            self.close_connection = True
        elif name == 'wait':
            time.sleep(int(number))
            self.answer(b'waited\n')
        elif name == 'fork':                      # a child process while connections are open
            self.answer(os.popen('echo %s; id -u >/dev/null' % number).read().encode())
        else:
            self.answer(b'%s\n' % self.path.encode(), 200 if name == 'echo' else 404)
    do_HEAD = do_GET
    def do_POST(self):
        sum, size = hashlib.md5(), 0
        if self.headers.get('Transfer-Encoding') == 'chunked':
            while True:
                left = int(self.rfile.readline(), 16)
                data = self.rfile.read(left)
                self.rfile.readline()
                sum.update(data)
                size += left
                if left == 0:
                    break
        else:
            left = int(self.headers.get('Content-Length', 0))
            while left > 0:
                data = self.rfile.read1(min(left, 65536))
                if not data:
                    break
                sum.update(data)
                size += len(data)
                left -= len(data)
        self.answer(b'%s %d %s\n' % (self.command.encode(), size, sum.hexdigest().encode()))
    do_PUT = do_POST

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 100
    def get_request(self):
        request, _ = super().get_request()
        return request, ('unix', 0)
    def handle_error(self, request, address):
        pass

path = sys.argv[1]
if path.startswith('@'):
    path = '\0' + path[1:]
Server(path, Handler).serve_forever()
PYTHON

cat >"$T/loop.py" <<'PYTHON'
import asyncio, hashlib, signal, sys

async def handle(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b'\r\n\r\n')
            lines = head.decode().split('\r\n')
            method, path, version = lines[0].split(' ')
            headers = {name.lower(): value for name, value in (line.split(': ', 1) for line in lines[1:] if line)}
            name, _, number = path[1:].partition('/')
            body = b''
            def start(status, *more):
                writer.write('\r\n'.join(('HTTP/1.1 ' + status, 'Server: loop', *more, '', '')).encode())
            if method in ('POST', 'PUT'):
                sum, size = hashlib.md5(), 0
                if headers.get('expect') == '100-continue':
                    start('100 Continue')
                if headers.get('transfer-encoding') == 'chunked':
                    while True:
                        left = int(await reader.readline(), 16)
                        sum.update(await reader.readexactly(left))
                        size += left
                        await reader.readline()
                        if left == 0:
                            break
                else:
                    left = int(headers.get('content-length', 0))
                    while left:
                        data = await reader.read(min(left, 65536))
                        if not data:
                            return
                        sum.update(data)
                        size += len(data)
                        left -= len(data)
                body = ('%s %d %s\n' % (method, size, sum.hexdigest())).encode()
                start('200 OK', 'Content-Length: %d' % len(body))
            elif name in ('chunks', 'slow'):
                start('200 OK', 'Transfer-Encoding: chunked')
                for i in range(int(number)):
                    data = b'chunk %d\n' % i
                    writer.write(b'%x\r\n%s\r\n' % (len(data), data))
                    if name == 'slow':
                        await asyncio.sleep(0.02)
                    await writer.drain()
                body = b'0\r\n\r\n'
            elif name == 'sent':
                start('200 OK', 'Content-Length: ' + number)
                await writer.drain()
                with open('file', 'rb') as file:
                    await asyncio.get_running_loop().sendfile(writer.transport, file, 0, int(number))
            elif name == 'move':
                start('302 Found', 'Location: /file/' + number, 'Content-Length: 0')
            elif name == 'short':
                start('200 OK', 'Content-Length: 1000000')
                writer.write(b'x' * int(number))
                return
            elif name == 'until-closed':
                start('200 OK', 'Connection: close')
                with open('file', 'rb') as file:
                    writer.write(file.read(int(number)))
                return
            elif name == 'fork':
                child = await asyncio.create_subprocess_shell('echo ' + number, stdout=asyncio.subprocess.PIPE)
                body = (await child.communicate())[0]
                start('200 OK', 'Content-Length: %d' % len(body))
            else:
                if name == 'file':
                    with open('file', 'rb') as file:
                        body = file.read()
                status, more = '200 OK' if name in ('file', 'echo', 'wait') else '404 Not Found', []
                if name == 'wait':
                    await asyncio.sleep(int(number))
                    body = b'waited\n'
                elif name != 'file':
                    body = path.encode() + b'\n'
                elif 'range' in headers:
                    first, last = headers['range'][len('bytes='):].split('-')
                    first, last = int(first), int(last or len(body) - 1)
                    status, more = '206 Partial', ['Content-Range: bytes %d-%d/%d' % (first, last, len(body))]
                    body = body[first:last + 1]
                else:
                    body = body[:int(number)]
                start(status, 'Content-Length: %d' % len(body), *more)
            if method != 'HEAD':
                writer.write(body)
            await writer.drain()
            if version == 'HTTP/1.0' or headers.get('connection') == 'close':
                return
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        pass
    finally:
        writer.close()

async def main():
    path = sys.argv[1]
    if path.startswith('@'):
        path = '\0' + path[1:]
    server = await asyncio.start_unix_server(handle, path, backlog=100)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
    try:
        async with server:
            await server.serve_forever()
    except asyncio.CancelledError:
        pass
asyncio.run(main())
PYTHON

start_server() { # start_server KIND PATH
  LISTED=$2
  start server "$T/log/server.$PASS.$1" "$python" "$T/$1.py" "$2"
  SERVER=$PID
  wait_for 10 listens "$2"
}
get() { on client curl -sS --no-progress-meter --unix-socket "$S" "$@"; }
url() { printf 'http://host/%s ' "$@"; }
sums() { md5sum | cut -d ' ' -f 1; }
sum_of() { get "$@" | sums; }
many() { # many COUNT URL: that many processes at once
  local i jobs=()
  for ((i = 1; i <= $1; i++)); do
    get "$2" | sums &
    jobs+=($!)
  done
  wait "${jobs[@]}"
}
gives() { # gives STATUS OPTION...: curl ends with that status
  local expected=$1 rc
  shift
  get "$@" >"$R/given" 2>"$R/message"
  rc=$?
  echo "$rc, $(stat -c %s "$R/given") bytes"
  [ "$rc" = "$expected" ]
}

requests() { # requests KIND
  local kind=$1 n
  S=$R/$kind.s
  start_server "$kind" "$S" || fail "$PASS: the server starts: $kind" "$(cat "$T/log/server.$PASS.$kind")"
  check_preload server "$SERVER"
  compare "$kind: one request" get http://host/echo/hello
  compare "$kind: the head" get -D - -o /dev/null http://host/echo/hello
  compare "$kind: HEAD" get -I http://host/file/1000
  compare "$kind: not found" get -w '%{http_code}\n' http://host/nothing
  compare "$kind: HTTP 1.0" get -0 http://host/echo/old
  for n in 0 1 65536 1000000 20000000; do compare "$kind: $n bytes" sum_of "http://host/file/$n"; done
  compare "$kind: 20 MB by sendfile" sum_of http://host/sent/20000000
  compare "$kind: 20 MB until the end of the connection" sum_of http://host/until-closed/20000000
  compare "$kind: chunks" sum_of http://host/chunks/20000
  compare "$kind: a range" sum_of -r 1000000-2000000 http://host/file
  compare "$kind: ranges on one connection" sum_of -r 5-10 http://host/file --next -sS --no-progress-meter --unix-socket "$S" -r 100000-900000 \
    http://host/file
  compare "$kind: going on where it stopped" eval \
    'head -c 3000000 file >part; get -C - -o part http://host/file/20000000; sums <part; rm -f part'
  compare "$kind: a redirection" sum_of -L http://host/move/50000
  compare "$kind: 300 requests on one connection" get -w '%{num_connects}\n' 'http://host/echo/[1-300]'
  compare "$kind: 60 files on one connection" sum_of 'http://host/file/[1-300000:5000]'
  compare "$kind: 40 requests at once by one curl" eval 'get -Z --parallel-immediate --parallel-max 40 "http://host/file/[1000000-1000039]" | wc -c'
  compare "$kind: 16 processes" many 16 http://host/file/3000000
  compare "$kind: slow chunks" sum_of http://host/slow/60
  compare "$kind: a limited rate" sum_of --limit-rate 4M http://host/file/6000000
  compare "$kind: a slow reader" eval 'get http://host/file/20000000 | { sleep 1; sums; }'
  compare "$kind: POST" get -d 'a=1&b=2' http://host/
  compare "$kind: POST, 20 MB" get --data-binary @file http://host/
  compare "$kind: POST, a form" eval 'get -F name=value -F file=@file http://host/ | cut -d " " -f 1,2'
  compare "$kind: PUT, 20 MB" get -T file http://host/
  compare "$kind: PUT, from a pipe, in chunks" eval 'head -c 5000000 file | get -T - http://host/'
  compare "$kind: PUT, a slow pipe" eval 'for i in {1..30}; do echo $i; sleep 0.02; done | get -T . http://host/'
  compare "$kind: 50 POSTs on one connection" get --data-binary @part2 $(url {1..50})
  compare "$kind: POST, then GET, on one connection" get --data-binary @file http://host/ --next -sS --no-progress-meter --unix-socket "$S" \
    http://host/echo/then
  compare "$kind: 16 POSTs at once" eval 'get -Z --parallel-immediate --parallel-max 16 --data-binary @part2 $(url {1..16}) | sort | uniq -c'
  compare "$kind: a child process while the connection is open" get $(url echo/{1..12} fork/13 echo/{14..30} fork/31 file/100)
  compare "$kind: less than promised" gives 18 http://host/short/500000
  compare "$kind: a time limit" gives 28 -m 1 http://host/wait/3
  compare "$kind: a time limit in the middle" eval 'gives 28 -m 1 $(url echo/{1..20}) http://host/wait/3 >/dev/null; sort -u given | wc -l'
  compare "$kind: a reader that goes away" eval 'get http://host/file/20000000 2>message | head -c 100000 | sums; wc -l <message'
  compare "$kind: the server is well" get http://host/echo/well

  start client "$T/log/slow" curl -sS --no-progress-meter --unix-socket "$S" http://host/slow/500
  check_preload client "$PID"
  look "$kind: one" "$LISTED" 1 curl
  stop "$PID" KILL
  start client "$T/log/slow" curl -sS --no-progress-meter -Z --parallel-immediate --unix-socket "$S" http://host/slow/{301..310}
  look "$kind: ten" "$LISTED" 10 curl
  compare "$kind: ten slow requests by one curl" eval 'wait_for 25 gone "$PID"; sort "$T/log/slow" | sums'
  start client "$T/log/slow" curl -sSN --unix-socket "$S" http://host/slow/3000
  wait_for 10 grep -q 'chunk 30' "$T/log/slow"
  look "$kind: one whose server is killed" "$LISTED" 1 curl
  stop "$SERVER" KILL
  ends "$PID" 10
  compare "$kind: the server is killed under a request" echo "$STATUS $(tail -n 1 "$T/log/slow" | tr -dc a-z)"
  compare "$kind: refused" gives 7 http://host/echo/x
  rm -f "$S"
  start_server "$kind" "$S"
  compare "$kind: another server" get http://host/echo/{1..20}
  stop "$SERVER" || fail "$PASS: TERM ends the server: $kind"
}

cases() {
  head -c 20000000 "$T/noise" >file
  head -c 100000 "$T/noise" >part2
  requests threads
  requests loop
  LISTED="@$R/abstract"
  start_server threads "@$R/abstract"
  compare "an abstract name" eval 'on client curl -sS --no-progress-meter --abstract-unix-socket "$R/abstract" http://host/file/20000000 | sums'
  stop "$SERVER"
  rm -f "$R"/*.s
}

head -c 20000000 /dev/urandom >"$T/noise"
run_twice cases
