#!/bin/bash
# Python at both ends of a Unix socket: asyncio (streams, protocols, sendfile, TLS, child processes; with uvloop too
# where it is installed), multiprocessing (listeners and clients, managers, proxies, handles sent to other
# processes, forkserver), socketserver that forks and that has threads, XML-RPC, peers that are killed.
# See common.sh and twice.sh for the environment.

TITLE='Python'
TIME_LIMIT=280
APP_USER=nobody
PROGRAMS='python3 openssl'
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

python=$(command -v /usr/bin/python3 || command -v python3)
S=$R/python.s
LISTED="$S $R/pymp-*"
export HOME=$R TMPDIR=$R PYTHONDONTWRITEBYTECODE=1
unset PYTHONPATH PYTHONSTARTUP PYTHONASYNCIODEBUG

cat >"$T/common.py" <<'PYTHON'
import hashlib, random
SIZES = (0, 1, 2, 100, 4095, 4096, 65535, 65536, 65537, 262143, 262144, 262145, 1000000, 5000000)
KEY = b'a key of these tests'
def noise(size, seed=0):
    return random.Random(seed * 1000003 + size).randbytes(size)
def sum(data):
    return hashlib.md5(data).hexdigest()
def address(path):
    return '\0' + path[1:] if path[0] == '@' else path
PYTHON

# aserver.py SOCKET LOOP: LOOP is asyncio or uvloop
cat >"$T/aserver.py" <<'PYTHON'
import asyncio, os, signal, ssl, sys
from common import *
path, loop = sys.argv[1:3]
if loop == 'uvloop':
    import uvloop
    uvloop.install()

async def serve(reader, writer):
    try:
        while line := await reader.readline():
            what, *words = line.decode().split()
            number = int(words[0]) if words else 0
            if what == 'take':
                data = await reader.readexactly(number)
                writer.write(f'{len(data)} {sum(data)}\n'.encode())
            elif what == 'give':
                writer.write(noise(number))
            elif what == 'pieces':              # many writes, with room waited for
                for i in range(number):
                    writer.write(b'piece %d\n' % i)
                    await writer.drain()
            elif what == 'echo':                # to the end
                while data := await reader.read(70000):
                    writer.write(data)
                    await writer.drain()
                writer.write_eof()
                break
            elif what == 'file':
                with open(os.environ['NOISE'], 'rb') as file:
                    await asyncio.get_running_loop().sendfile(writer.transport, file, number % 1000, number)
            elif what == 'program':             # that has the connection as its standard output
                program = await asyncio.create_subprocess_exec('seq', str(number), stdout=writer.get_extra_info('socket').fileno())
                await program.wait()
            elif what == 'reader':              # a program's output, sent on
                program = await asyncio.create_subprocess_exec('seq', str(number), stdout=asyncio.subprocess.PIPE)
                async for text in program.stdout:
                    writer.write(text)
                await program.wait()
            elif what == 'forever':
                while True:
                    writer.write(b'tick\n' * 50)
                    await writer.drain()
                    await asyncio.sleep(0.002)
            elif what == 'abort':
                writer.transport.abort()
                return
            elif what == 'count':
                writer.write(b'%d\n' % len(connected))
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()

connected = set()
async def counted(reader, writer):
    connected.add(writer)
    try:
        await serve(reader, writer)
    finally:
        connected.discard(writer)

class Upper(asyncio.BufferedProtocol):          # into a buffer of its own
    def connection_made(self, transport):
        self.transport, self.buffer = transport, bytearray(30000)
    def get_buffer(self, hint):
        return self.buffer
    def buffer_updated(self, count):
        self.transport.write(bytes(self.buffer[:count]).upper())

async def main():
    at = address(path)
    loop = asyncio.get_running_loop()
    servers = [await asyncio.start_unix_server(counted, at), await loop.create_unix_server(Upper, at + '.upper')]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ['CERT'], os.environ['KEY'])
    servers.append(await asyncio.start_unix_server(serve, at + '.tls', ssl=context)) # uvloop ends those nobody keeps
    ended = loop.create_future()
    loop.add_signal_handler(signal.SIGTERM, ended.set_result, None)
    print('listening', flush=True)
    await ended
    os._exit(0)
asyncio.run(main())
PYTHON

# aclient.py SOCKET LOOP WHAT [NUMBER]
cat >"$T/aclient.py" <<'PYTHON'
import asyncio, os, socket, ssl, sys, time
from common import *
path, loop, what = sys.argv[1:4]
number = int(sys.argv[4]) if len(sys.argv) > 4 else 0
if loop == 'uvloop':
    import uvloop
    uvloop.install()
at = address(path)

def opened(suffix='', **options):
    return asyncio.open_unix_connection(at + suffix, **options)

async def exchange(reader, writer, sizes):
    for size in sizes:
        data = noise(size, 3)
        writer.write(b'take %d\n' % size)
        writer.write(data)
        answer = (await reader.readline()).decode().split()
        writer.write(b'give %d\n' % size)
        given = await reader.readexactly(size)
        yield size, answer == [str(size), sum(data)], given == noise(size)

async def main():
    if what == 'sizes':
        reader, writer = await opened()
        async for result in exchange(reader, writer, SIZES):
            print(*result)
        writer.close()
        await writer.wait_closed()
    elif what == 'kinds':
        reader, writer = await opened(limit=1 << 22)
        for command, end in ((b'pieces 20000', b'piece 19999\n'), (b'reader 3000', b'\n3000\n')):
            writer.write(command + b'\n')
            print(command, sum(await reader.readuntil(end)))
        for size in (1, 1000, 65537, 5000000):
            writer.write(b'file %d\n' % size)
            print('file', size, sum(await reader.readexactly(size)))
        writer.write(b'program 500\n')
        print(sum(await reader.readuntil(b'\n500\n')))
        writer.write(b'pieces 3\n')
        print(await reader.readuntil(b'2\n'))
        writer.write(b'echo\n')
        data = noise(3000000)
        writer.write(data)
        print(writer.can_write_eof(), writer.transport.get_write_buffer_size() > 0)
        writer.write_eof()
        print(await reader.read() == data, reader.at_eof())
        print(writer.get_extra_info('peername') in (at, at.encode()), repr(writer.get_extra_info('sockname')))
        writer.close()
    elif what == 'upper':
        class Client(asyncio.Protocol):
            def connection_made(self, transport):
                self.got, self.done = bytearray(), asyncio.get_running_loop().create_future()
                transport.writelines([b'abc ' * 1000] * 500)
                self.transport = transport
            def data_received(self, data):
                self.got += data
                if len(self.got) >= 2000000:
                    self.transport.close()
            def connection_lost(self, error):
                self.done.set_result(error)
        transport, protocol = await asyncio.get_running_loop().create_unix_connection(Client, at + '.upper')
        print(await protocol.done, len(protocol.got), bytes(protocol.got) == b'ABC ' * 500000)
    elif what == 'slow':                        # a reader with little room, which takes its time
        reader, writer = await opened(limit=1000)
        writer.write(b'echo\n')
        sending = asyncio.create_task(send(writer, noise(2000000)))
        await asyncio.sleep(0.3)
        data = bytearray()
        while part := await reader.read(20000):
            data += part
        await sending
        print(bytes(data) == noise(2000000))
    elif what == 'many':
        async def one(i):
            reader, writer = await opened()
            results = [result async for result in exchange(reader, writer, (i, i * 100, i * 1000))]
            writer.close()
            return all(right and same for _, right, same in results)
        print(__builtins__.sum(await asyncio.gather(*(one(i) for i in range(number)))))
    elif what == 'calls':                       # the loop's calls on a plain socket
        loop = asyncio.get_running_loop()
        s = socket.socket(socket.AF_UNIX)
        s.setblocking(False)
        await loop.sock_connect(s, at)
        for size in (1, 1000, 300000):
            await loop.sock_sendall(s, b'take %d\n' % size + noise(size))
            print((await loop.sock_recv(s, 100)).decode() == f'{size} {sum(noise(size))}\n')
            buffer, count = bytearray(size), 0
            await loop.sock_sendall(s, b'give %d\n' % size)
            while count < size:
                count += await loop.sock_recv_into(s, memoryview(buffer)[count:])
            print(buffer == noise(size))
        with open(os.environ['NOISE'], 'rb') as file:
            await loop.sock_sendall(s, b'take 1000000\n')
            print(await loop.sock_sendfile(s, file, 0, 1000000), (await loop.sock_recv(s, 100)).decode())
        waiting = asyncio.create_task(loop.sock_recv(s, 100))
        try:
            await asyncio.wait_for(waiting, 0.2)
        except asyncio.TimeoutError:
            print('nothing comes')
        await loop.sock_sendall(s, b'pieces 1\n')
        print(await loop.sock_recv(s, 100))
        s.close()
    elif what == 'tls':
        context = ssl.create_default_context(cafile=os.environ['CERT'])
        reader, writer = await opened('.tls', ssl=context, server_hostname='localhost')
        async for result in exchange(reader, writer, SIZES):
            print(*result)
        writer.close()
    elif what == 'errors':
        for name in ('.none', '.tls/x'):
            try:
                await opened(name)
            except OSError as error:
                print(type(error).__name__, error.errno)
        reader, writer = await opened()
        writer.write(b'abort\n')
        try:
            print(await reader.read())
        except ConnectionError as error:
            print(type(error).__name__)
        reader, writer = await opened()
        writer.write(b'forever\n')
        await reader.readline()
        writer.transport.abort()
        await asyncio.sleep(0)
        print(writer.is_closing())
    elif what == 'forever':
        reader, writer = await opened()
        writer.write(b'forever\n')
        try:
            await reader.readline()
            print('connected', flush=True)
            while await reader.read(100000):
                pass
        except ConnectionError:
            pass
        print('ended')
    elif what == 'stuck':
        reader, writer = await opened()
        writer.write(b'pieces 10000000\n')
        writer.transport.pause_reading()
        print('connected', flush=True)
        await asyncio.sleep(100)
    elif what == 'count':
        reader, writer = await opened()
        writer.write(b'count\n')
        print((await reader.readline()).decode().strip())

async def send(writer, data):
    writer.write(data)
    await writer.drain()
    writer.write_eof()
asyncio.run(main())
PYTHON

# mp.py SOCKET WHAT [NUMBER]: multiprocessing; one program is the server and starts clients of its own, or is a client
cat >"$T/mp.py" <<'PYTHON'
import multiprocessing as mp, os, queue, signal, socket, sys, threading, time
from multiprocessing import connection, reduction
from multiprocessing.managers import BaseManager, SyncManager
from common import *
path, what = sys.argv[1:3]
number = int(sys.argv[3]) if len(sys.argv) > 3 else 0
at = address(path)

class Board:
    def __init__(self):
        self.entries, self.lock = {}, threading.Lock()
    def put(self, key, value):
        with self.lock:
            self.entries[key] = value
            return len(self.entries)
    def get(self, key):
        return self.entries[key]
    def fail(self):
        raise ValueError('as asked')
    def keys(self):
        return sorted(self.entries)
class Manager(BaseManager):
    pass
the_board, the_queue = Board(), queue.Queue()
Manager.register('board', lambda: the_board)
Manager.register('queue', lambda: the_queue)
class Client(BaseManager):
    pass
Client.register('board')
Client.register('queue')

def serve(c):                                   # objects, bytes and handles
    try:
        while True:
            request = c.recv()
            if request == 'bytes':
                c.send_bytes(c.recv_bytes())
            elif request == 'into':
                buffer = bytearray(5000000)
                count = c.recv_bytes_into(buffer)
                c.send((count, sum(bytes(buffer[:count]))))
            elif request == 'handle':           # a descriptor comes by SCM_RIGHTS
                with os.fdopen(reduction.recv_handle(c), 'rb') as file:
                    c.send(sum(file.read()))
            elif request == 'connection':       # another connection, which we use then
                other = c.recv()
                other.send(('from', 'the server'))
                c.send(other.recv())
                other.close()
            elif request == 'forever':
                while True:
                    c.send('tick')
                    time.sleep(0.002)
            elif isinstance(request, tuple):
                c.send((request[0], len(request[1]), sum(repr(request[1]).encode())))
    except (EOFError, OSError):
        c.close()

def worker(board, work, results):
    while (job := work.get()) is not None:
        board[job] = job * job
        results.put(job)
def square(x):
    return x * x
def remote(path, number):                       # a client of a manager, in a process of its own
    client = Client(address(path), KEY)
    client.connect()
    board, jobs = client.board(), client.queue()
    for i in range(100):
        board.put(f'{number}-{i}', noise(i * 100, number))
        assert board.get(f'{number}-{i}') == noise(i * 100, number)
    jobs.put((number, os.getpid() != 0))

if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    mp.current_process().authkey = KEY          # for the connections that are sent
    if what == 'listener':
        with connection.Listener(at, 'AF_UNIX', backlog=128, authkey=KEY) as listener:
            print('listening', flush=True)
            while True:
                try:
                    c = listener.accept()
                except (mp.AuthenticationError, EOFError, OSError) as error:
                    print(type(error).__name__, flush=True)
                    continue
                threading.Thread(target=serve, args=(c,), daemon=True).start()
    elif what == 'objects':
        with connection.Client(at, authkey=KEY) as c:
            for size in SIZES:
                c.send(('list', list(range(size // 50))))
                print(c.recv())
                c.send('bytes')
                c.send_bytes(noise(size))
                print(c.recv_bytes() == noise(size))
                c.send('into')
                c.send_bytes(noise(size))
                print(c.recv())
            for i in range(1000):
                c.send((i, 'question'))
                assert c.poll(60) and c.recv()[0] == i
            print(c.poll(), c.poll(0.1))
    elif what == 'handles':
        with connection.Client(at, authkey=KEY) as c:
            for i in range(20):
                c.send((i, 'before'))
                c.recv()
            for i in range(5):
                with open(os.environ['NOISE'], 'rb') as file:
                    c.send('handle')
                    reduction.send_handle(c, file.fileno(), 0)
                    print(c.recv())
                c.send((i, 'after'))
                print(c.recv())
            ours, theirs = mp.Pipe()
            c.send('connection')
            c.send(theirs)                      # by a listener of its own, in TMPDIR
            theirs.close()
            print(ours.recv())
            ours.send('to the server')
            print(c.recv())
    elif what == 'wait':                        # for several connections at once
        clients = [connection.Client(at, authkey=KEY) for _ in range(number)]
        answers = 0
        for i, c in enumerate(clients):
            for j in range(50):
                c.send((i, 'x' * j))
        left = {c: 50 for c in clients}
        while left:
            for c in connection.wait(list(left), 60):
                c.recv()
                answers += 1
                left[c] -= 1
                if not left[c]:
                    del left[c]
                    c.close()
        print(answers)
    elif what == 'wrong':
        try:
            connection.Client(at, authkey=b'wrong')
        except mp.AuthenticationError as error:
            print(error)
    elif what == 'forever':
        c = connection.Client(at, authkey=KEY)
        c.send('forever')
        try:
            print(c.recv(), flush=True)
            while c.recv():
                pass
        except (EOFError, OSError):
            print('ended')
    elif what == 'manager':                     # one that is started by itself, others connect to it
        manager = Manager(at, KEY)
        server = manager.get_server()
        print('listening', flush=True)
        server.serve_forever()
    elif what == 'remote':
        remote(path, 1000)
        processes = [mp.get_context(method).Process(target=remote, args=(path, i))
                     for i, method in enumerate(['fork', 'spawn', 'forkserver'] * number)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        client = Client(at, KEY)
        client.connect()
        board, jobs = client.board(), client.queue()
        print([process.exitcode for process in processes], len(board.keys()), jobs.qsize())
        print(sorted(jobs.get() for _ in range(jobs.qsize())))
        try:
            board.fail()
        except ValueError as error:
            print(error)
        threads = [threading.Thread(target=lambda i=i: [board.put(f't{i}-{j}', j) for j in range(100)]) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(len(board.keys()))
    elif what == 'shared':                      # a manager's proxies in other processes; a pool
        for method in ('fork', 'spawn', 'forkserver'):
            context = mp.get_context(method)
            with context.Manager() as manager:
                board, work, results = manager.dict(), manager.Queue(), manager.Queue()
                processes = [context.Process(target=worker, args=(board, work, results)) for _ in range(4)]
                for process in processes:
                    process.start()
                for i in range(200):
                    work.put(i)
                for _ in processes:
                    work.put(None)
                print(method, __builtins__.sum(results.get() for _ in range(200)), end=' ')
                for process in processes:
                    process.join()
                print(__builtins__.sum(board.values()), [process.exitcode for process in processes])
                things = manager.list(range(100)), manager.Value('i', 3), manager.Lock(), manager.Namespace(x=1)
                with things[2]:
                    things[0].append(things[1].value + things[3].x)
                print(len(things[0]), things[0][-1])
                with manager.Pool(3) as pool:   # a pool inside the manager
                    print(__builtins__.sum(pool.map(square, range(100))))
            with context.Pool(3) as pool:
                print(__builtins__.sum(pool.imap_unordered(square, range(300))))
PYTHON

# ss.py SOCKET WHAT: socketserver and XML-RPC
cat >"$T/ss.py" <<'PYTHON'
import http.client, os, signal, socket, socketserver, sys, threading, xmlrpc.client, xmlrpc.server
from common import *
path, what = sys.argv[1:3]
at = address(path)
class Lines(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            if line.startswith(b'take '):
                data = self.rfile.read(int(line.split()[1]))
                self.wfile.write(f'{len(data)} {sum(data)}\n'.encode())
            else:
                self.wfile.write(line[::-1].strip() + b'\n')
class Buffered(Lines):
    wbufsize = 50000
    def handle(self):
        for line in self.rfile:
            for i in range(1000):
                self.wfile.write(b'%d ' % i + line)
            self.wfile.flush()
class Handler(xmlrpc.server.SimpleXMLRPCRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = False
    def address_string(self):
        return 'somebody'
class Calls(socketserver.ThreadingMixIn, socketserver.UnixStreamServer, xmlrpc.server.SimpleXMLRPCDispatcher):
    daemon_threads, allow_reuse_address, logRequests, _send_traceback_header = True, True, False, False
    def __init__(self, at):
        xmlrpc.server.SimpleXMLRPCDispatcher.__init__(self, allow_none=True)
        socketserver.UnixStreamServer.__init__(self, at, Handler)
class Transport(xmlrpc.client.Transport):
    def make_connection(self, host):
        if not self._connection or self._connection[0] != host:
            c = http.client.HTTPConnection('host')
            c.sock = socket.socket(socket.AF_UNIX)
            c.sock.connect(at)
            self._connection = host, c
        return self._connection[1]
def run(server):
    server.request_queue_size = 128
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print('listening', flush=True)
    server.serve_forever()
if what == 'fork':
    class Forking(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
        pass
    run(Forking(at, Lines))
elif what == 'threads':
    run(socketserver.ThreadingUnixStreamServer(at, Lines))
elif what == 'buffered':
    run(socketserver.ThreadingUnixStreamServer(at, Buffered))
elif what == 'xmlrpc':
    server = Calls(at)
    server.register_function(lambda a, b: a + b, 'add')
    server.register_function(lambda data: data, 'same')
    server.register_introspection_functions()
    run(server)
elif what == 'talk':
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(at)
        file = s.makefile('rwb')
        for i in range(300):
            file.write(b'line %d\n' % i)
            file.flush()
            assert file.readline() == (b'line %d' % i)[::-1] + b'\n'
        for size in SIZES:
            file.write(b'take %d\n' % size + noise(size))
            file.flush()
            print(file.readline().decode().strip() == f'{size} {sum(noise(size))}')
        s.settimeout(0.2)
        try:
            s.recv(1)
        except TimeoutError as error:
            print(error)
        s.settimeout(None)
        s.shutdown(socket.SHUT_WR)
        print(file.read())
elif what == 'crowd':
    def one(i, results):
        with socket.socket(socket.AF_UNIX) as s, s.makefile('rwb') as file:
            s.connect(at)
            for j in range(30):
                file.write(b'take %d\n' % (i * j * 50) + noise(i * j * 50))
                file.flush()
                results.append(file.readline().decode().strip() == f'{i * j * 50} {sum(noise(i * j * 50))}')
    results = []
    threads = [threading.Thread(target=one, args=(i, results)) for i in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(__builtins__.sum(results))
elif what == 'read':
    with socket.socket(socket.AF_UNIX) as s, s.makefile('rwb', 0) as file:
        s.connect(at)
        for i in range(10):
            file.write(b'request %d\n' % i)
        s.shutdown(socket.SHUT_WR)
        data = bytearray()
        while part := s.recv(3000):
            data += part
        print(len(data), sum(data))
elif what == 'calls':
    proxy = xmlrpc.client.ServerProxy('http://host', transport=Transport(), allow_none=True)
    print(proxy.system.listMethods())
    for i in range(200):
        assert proxy.add(i, i) == 2 * i
    for size in SIZES[:-1]:
        print(size, proxy.same(xmlrpc.client.Binary(noise(size))).data == noise(size))
    try:
        proxy.add('a', 1)
    except xmlrpc.client.Fault as fault:
        print(fault.faultCode, fault.faultString)
PYTHON
chmod 644 "$T"/*.py

export NOISE=$T/noise CERT=$T/cert.pem KEY=$T/key.pem
run() { on client "$python" "$T/$1.py" "$S" "${@:2}"; } # run PROGRAM WHAT...
start_server() { # start_server PROGRAM WHAT
  NAME=${2:-$1}
  LOG=$T/log/server.$PASS.$1.$NAME
  start server "$LOG" "$python" "$T/$1.py" "$S" "${@:2}"
  SERVER=$PID
  check "$PASS: the server starts: $NAME" wait_for 15 grep -qx listening "$LOG"
}
stop_server() {
  stop "$SERVER" || fail "$PASS: TERM ends the server: $NAME"
  compare "what the server said: $NAME" cat "$LOG"
  rm -f "$S" "$S".upper "$S".tls
}
count_is() { [ "$(on neither "$python" "$T/aclient.py" "$S" asyncio count)" = "$1" ]; }

cases() {
  local loop loops=(asyncio) one two
  ! "$python" -c 'import uvloop' 2>/dev/null || loops+=(uvloop)
  for loop in "${loops[@]}"; do
    start_server aserver "$loop"
    check_preload server "$SERVER"
    for WHAT in sizes kinds upper slow calls tls errors; do
      case "$loop $WHAT" in 'uvloop kinds' | 'uvloop calls') continue ;; esac # it has no sendfile
      compare "$loop: $WHAT" run aclient "$loop" "$WHAT"
    done
    compare "$loop: 100 connections" run aclient "$loop" many 100
    start client "$T/log/forever.1" "$python" "$T/aclient.py" "$S" "$loop" forever
    one=$PID
    start client "$T/log/forever.2" "$python" "$T/aclient.py" "$S" "$loop" forever
    two=$PID
    check "$PASS: $loop: two clients" wait_for 15 count_is 3 # and the one who asks
    check_preload client "$one"
    look "$loop: two clients" "$S" 2
    stop "$one" KILL
    check "$PASS: $loop: a killed client: the server notices" wait_for 15 count_is 2
    start client "$T/log/stuck" "$python" "$T/aclient.py" "$S" "$loop" stuck
    one=$PID
    check "$PASS: $loop: a client that reads nothing" wait_for 15 grep -q connected "$T/log/stuck"
    sleep 0.5
    compare "$loop: beside a client that reads nothing" run aclient "$loop" sizes
    stop "$one" KILL
    check "$PASS: $loop: it is killed: the server notices" wait_for 15 count_is 2
    stop "$SERVER" KILL
    check_ends "$PASS: $loop: a killed server: its client ends" "$two" 15
    compare "$loop: a killed server: what its client says" cat "$T/log/forever.2"
    rm -f "$S" "$S".upper "$S".tls
  done
  compare_failure "refused" run aclient asyncio sizes

  start_server mp listener
  for WHAT in objects handles wrong; do compare "multiprocessing: $WHAT" run mp "$WHAT"; done
  compare "multiprocessing: 50 connections" run mp wait 50
  start client "$T/log/forever" "$python" "$T/mp.py" "$S" forever
  one=$PID
  wait_for 10 grep -q tick "$T/log/forever"
  look "multiprocessing: a client" "$S" 1
  stop "$one" KILL
  start client "$T/log/forever" "$python" "$T/mp.py" "$S" forever
  wait_for 10 grep -q tick "$T/log/forever"
  sleep 0.3
  compare "what the listener said" cat "$LOG"
  stop "$SERVER" KILL
  check_ends "$PASS: multiprocessing: a killed server: its client ends" "$PID" 15
  compare "multiprocessing: a killed server: what its client says" cat "$T/log/forever"
  rm -f "$S"
  start_server mp manager
  compare "a manager that others connect to" run mp remote 3
  stop_server
  compare "managers, proxies and pools" run mp shared

  for KIND in fork threads; do
    start_server ss "$KIND"
    compare "socketserver, $KIND: a conversation" run ss talk
    compare "socketserver, $KIND: 30 connections" run ss crowd
    stop_server
  done
  start_server ss buffered
  compare "socketserver, buffered" run ss read
  stop_server
  start_server ss xmlrpc
  compare "XML-RPC" run ss calls
  stop_server
}

head -c 20000000 /dev/zero | openssl enc -aes-128-ctr -nosalt -K 0 -iv 0 >"$T/noise" 2>/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$T/key.pem" -out "$T/cert.pem" -days 2 \
  -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>"$T/log/openssl" || {
  fail "a certificate is made" "$(cat "$T/log/openssl")"
  finish
}
chmod 644 "$T/key.pem" "$T/noise"
run_twice cases
