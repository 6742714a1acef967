#!/bin/bash
# PHP at both ends of a Unix socket: php-fpm with its three kinds of process managers, asked by a FastCGI client that
# keeps its connections, and PHP's own streams and sockets, with select and with processes that fork. Large requests
# and answers, aborted ones, reload, killed workers, clients and servers.
# See common.sh and twice.sh for the environment.

TITLE='PHP'
TIME_LIMIT=280
APP_USER=www-data
FPM=$(ls /usr/sbin/php-fpm* 2>/dev/null | sort -V | tail -n 1)
PROGRAMS="${FPM:-php-fpm} php python3"
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

python=$(command -v /usr/bin/python3 || command -v python3)
S=$R/php.sock
LISTED=$S
unset PHPRC PHP_INI_SCAN_DIR

# --- what php-fpm runs ----------------------------------------------------------------------------------------

cat >"$T/page.php" <<'PHP'
<?php
$what = $_GET['what'] ?? 'hello';
$number = (int)($_GET['number'] ?? 0);
if ($what === 'hello') echo "hello\n";
elseif ($what === 'sum') { $body = file_get_contents('php://input'); echo $_SERVER['REQUEST_METHOD'], ' ', strlen($body), ' ', md5($body), "\n"; }
elseif ($what === 'give') echo str_repeat('0123456789abcdef', intdiv($number, 16)), substr('0123456789abcdef', 0, $number % 16);
elseif ($what === 'pieces') for ($i = 0; $i < $number; $i++) { echo "piece $i\n"; flush(); }
elseif ($what === 'headers') { header('X-Many: ' . str_repeat('h', $number)); http_response_code(418); }
elseif ($what === 'log') { for ($i = 0; $i < $number; $i++) error_log("message $i"); echo "logged\n"; }
elseif ($what === 'pid') echo getmypid(), "\n";
elseif ($what === 'finish') { echo "the answer\n"; fastcgi_finish_request(); usleep(300000); file_put_contents($_GET['file'], "and later\n"); }
elseif ($what === 'forever') { ignore_user_abort(false); while (true) { echo str_repeat("tick\n", 100); flush(); usleep(2000); } }
elseif ($what === 'program') { passthru("seq $number"); echo shell_exec('echo by a program'); }
elseif ($what === 'die') { echo 'before'; flush(); posix_kill(getmypid(), 9); }
PHP

# fcgi.py SOCKET WHAT [NUMBER]: a client that keeps its connections
cat >"$T/fcgi.py" <<'PYTHON'
import hashlib, os, random, socket, struct, sys, threading, time
path, what = sys.argv[1:3]
number = int(sys.argv[3]) if len(sys.argv) > 3 else 0
script = os.path.dirname(sys.argv[0]) + '/page.php'
SIZES = (0, 1, 100, 8191, 8192, 65535, 65536, 65537, 262144, 1000000, 5000000)

def record(kind, data):
    return struct.pack('>BBHHBB', 1, kind, 1, len(data), -len(data) % 8, 0) + data + bytes(-len(data) % 8)
def pair(name, value):
    name, value = name.encode(), value.encode()
    return b''.join(bytes([len(x)]) if len(x) < 128 else struct.pack('>I', len(x) | 1 << 31) for x in (name, value)) + name + value

class Connection:
    def __init__(self, keep=True):
        self.socket, self.keep = socket.socket(socket.AF_UNIX), keep
        self.socket.connect(path)
        self.file = self.socket.makefile('rb')
    def start(self, query, body=b'', name=script):
        out = record(1, struct.pack('>HB5x', 1, self.keep))
        out += record(4, b''.join(pair(*p) for p in {
            'SCRIPT_FILENAME': name, 'SCRIPT_NAME': name, 'QUERY_STRING': query, 'REQUEST_METHOD': 'POST' if body else 'GET',
            'CONTENT_LENGTH': str(len(body)), 'CONTENT_TYPE': 'application/octet-stream', 'PADDING': 'p' * (len(body) % 3000),
        }.items())) + record(4, b'')
        out += b''.join(record(5, body[i:i + 65535]) for i in range(0, len(body), 65535)) + record(5, b'')
        self.socket.sendall(out)
    def answer(self):
        output, errors = bytearray(), bytearray()
        while True:
            head = self.file.read(8)
            if len(head) < 8:
                return None, bytes(output), bytes(errors)
            kind, length, padding = struct.unpack('>xBxxHBx', head)
            data = self.file.read(length + padding)[:length]
            if kind == 6:
                output += data
            elif kind == 7:
                errors += data
            elif kind == 3:
                head, _, body = bytes(output).partition(b'\r\n\r\n')
                return head, body, bytes(errors)
    def ask(self, query, body=b'', name=script):
        self.start(query, body, name)
        return self.answer()

def noise(size):
    return random.Random(size).randbytes(size)
def md5(data):
    return hashlib.md5(data).hexdigest()

if what == 'sizes':
    for keep in (True, False):
        c = Connection(keep)
        for size in SIZES:
            if not keep:
                c = Connection(False)
            body = noise(size)
            print(size, c.ask('what=sum', body)[1] == f'{"POST" if body else "GET"} {size} {md5(body)}\n'.encode(), end=' ')
            if not keep:
                print(c.file.read(), end=' ')
                c = Connection(False)
            given = c.ask(f'what=give&number={size}')[1]
            print(len(given), md5(given))
elif what == 'kinds':
    c = Connection()
    for query in ('', 'what=pieces&number=5000', 'what=headers&number=7000', 'what=log&number=100', 'what=program&number=5000'):
        head, body, errors = c.ask(query)
        print(query, md5(head), len(body), md5(body), errors.count(b'message'))
    print(c.ask('', name='/nowhere')[::2])
    print(c.ask('', name='/ping')[1], c.ask('', name='/status')[1][:12])
    before = time.monotonic()
    later = os.environ['HOME'] + '/later'
    print(c.ask(f'what=finish&file={later}')[1])
    while not os.path.exists(later) or not os.path.getsize(later):
        time.sleep(0.05)
    print(open(later).read())
    os.unlink(later)
elif what == 'many':                # requests on one connection
    c = Connection()
    print(sum(c.ask(f'what=give&number={i}')[1] == (b'0123456789abcdef' * (i // 16 + 1))[:i] for i in range(number)))
elif what == 'threads':             # so many connections at once, more than there are workers
    right = []
    def one(i):
        for j in range(20):
            c = Connection(False)
            right.append(c.ask('what=sum', noise(i * 1000 + j))[1].split()[2:] == [md5(noise(i * 1000 + j)).encode()] if i * 1000 + j else True)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sum(right))
elif what == 'slow':                # a body in parts, an answer that is read late
    c = Connection()
    body = noise(3000000)
    c.start('what=sum', b'')
    print(c.answer()[1])
    c.start('what=give&number=5000000')
    time.sleep(0.5)
    print(md5(c.answer()[1]))
elif what == 'abort':               # in the middle of an answer, and of a request
    c = Connection()
    c.start('what=forever')
    c.file.read(10000)
    c.socket.close(), c.file.close()
    c = Connection()
    c.socket.sendall(record(1, struct.pack('>HB5x', 1, 1)) + record(4, pair('QUERY_STRING', 'what=sum'))[:20])
    c.socket.close(), c.file.close()
    print('aborted')
elif what == 'die':                 # the worker dies
    print(Connection().ask('what=die'))
elif what == 'forever':
    c = Connection()
    c.start('what=forever')
    try:
        print(len(c.file.read(20000)), flush=True)
        while c.file.read(20000):
            pass
    except OSError:
        pass
    print('ended')
elif what == 'busy':                # until a file says that it is enough; nothing may fail, but a connection may end between requests
    answers = 0
    while not os.path.exists(os.environ['HOME'] + '/enough'):
        c = Connection(False)
        assert c.ask('what=give&number=40000')[1] == b'0123456789abcdef' * 2500
        answers += 1
        if answers == 20:
            print('twenty', flush=True)
    print('right')
PYTHON

# --- PHP's own streams and sockets ----------------------------------------------------------------------------

cat >"$T/server.php" <<'PHP'
<?php // server.php SOCKET KIND
[, $path, $kind] = $argv;
pcntl_async_signals(true);
pcntl_signal(SIGTERM, fn() => exit(0), false);
function serve($c) {
  while (($line = fgets($c)) !== false) {
    [$what, $number] = explode(' ', trim($line) . ' 0');
    if ($what === 'line') fwrite($c, strrev($number) . "\n");
    elseif ($what === 'take') { $data = $number ? stream_get_contents($c, (int)$number) : ''; fwrite($c, strlen($data) . ' ' . md5($data) . "\n"); }
    elseif ($what === 'give') fwrite($c, str_repeat('g', (int)$number) . "\n");
    elseif ($what === 'copy') { $f = fopen(getenv('NOISE'), 'r'); stream_copy_to_stream($f, $c, (int)$number); fclose($f); }
    elseif ($what === 'half') { fwrite($c, "half\n"); stream_socket_shutdown($c, STREAM_SHUT_WR); }
    elseif ($what === 'forever') while (@fwrite($c, str_repeat("tick\n", 50))) usleep(2000);
    elseif ($what === 'drop') break;
  }
  fclose($c);
}
if ($kind === 'fork') {
  $listener = stream_socket_server("unix://$path", $error, $message, STREAM_SERVER_BIND | STREAM_SERVER_LISTEN,
    stream_context_create(['socket' => ['backlog' => 100]])) or die($message);
  pcntl_signal(SIGCHLD, function () { while (pcntl_waitpid(-1, $status, WNOHANG) > 0); });
  echo "listening\n";
  while (true) {
    $c = @stream_socket_accept($listener, 60);
    if (!$c) continue;
    if (pcntl_fork() === 0) {
      pcntl_signal(SIGTERM, SIG_DFL);
      fclose($listener);
      serve($c);
      exit(0);
    }
    fclose($c);
  }
} elseif ($kind === 'select') { // streams that don't wait: echoes
  $listener = stream_socket_server("unix://$path", $error, $message, STREAM_SERVER_BIND | STREAM_SERVER_LISTEN,
    stream_context_create(['socket' => ['backlog' => 100]])) or die($message);
  echo "listening\n";
  $clients = $left = $ended = [];
  while (true) {
    $read = [$listener];
    $write = [];
    foreach ($clients as $id => $c) {
      if (!isset($ended[$id]) && strlen($left[$id]) < 200000) $read[] = $c;
      if ($left[$id] !== '') $write[] = $c;
    }
    $except = null;
    if (@stream_select($read, $write, $except, null) === false) continue;
    foreach ($read as $c) {
      if ($c === $listener) {
        $new = stream_socket_accept($listener);
        stream_set_blocking($new, false);
        $clients[(int)$new] = $new;
        $left[(int)$new] = '';
        continue;
      }
      $data = fread($c, 65536);
      if ($data === '' && feof($c)) $ended[(int)$c] = true;
      $left[(int)$c] .= $data;
    }
    foreach ($write as $c) $left[(int)$c] = substr($left[(int)$c], (int)@fwrite($c, substr($left[(int)$c], 0, 50000)));
    foreach (array_keys($ended) as $id) if ($left[$id] === '') { fclose($clients[$id]); unset($clients[$id], $left[$id], $ended[$id]); }
  }
} elseif ($kind === 'sockets') { // the extension "sockets"
  $listener = socket_create(AF_UNIX, SOCK_STREAM, 0);
  socket_bind($listener, $path) && socket_listen($listener, 100) or die;
  echo "listening\n";
  while (true) {
    $c = socket_accept($listener);
    while (($line = socket_read($c, 1000, PHP_NORMAL_READ)) !== false && $line !== '') {
      [$what, $number] = explode(' ', trim($line) . ' 0');
      if ($what === 'take') {
        $data = '';
        while (strlen($data) < $number && ($part = socket_read($c, (int)$number - strlen($data)))) $data .= $part;
        $out = strlen($data) . ' ' . md5($data) . "\n";
      } elseif ($what === 'give') $out = str_repeat('g', (int)$number) . "\n";
      elseif ($what === 'line') $out = strrev($number) . "\n";
      else $out = '';
      for ($i = 0; $i < strlen($out); ) $i += socket_write($c, substr($out, $i, 200000));
    }
    socket_close($c);
  }
}
PHP
cat >"$T/client.php" <<'PHP'
<?php // client.php SOCKET WHAT [NUMBER]
[, $path, $what] = $argv;
$number = (int)($argv[3] ?? 0);
$sizes = [0, 1, 100, 8191, 8192, 8193, 65535, 65536, 65537, 262145, 1000000, 5000000];
function connected() { global $path; return stream_socket_client("unix://$path", $error, $message, 30) ?: die("$message\n"); }
function noise($size, $seed = 0) { return substr(str_repeat(pack('N*', ...array_map(fn($i) => $i * 2654435761 + $seed & 0xffffffff, range(1, 5003))), intdiv($size, 20012) + 1), 0, $size); }
function all($c, $data) { for ($i = 0; $i < strlen($data); ) $i += fwrite($c, substr($data, $i, 300000)); }
if ($what === 'sizes') {
  $c = connected();
  foreach ($sizes as $size) {
    $data = noise($size);
    all($c, "take $size\n$data");
    echo $size, ' ', trim(fgets($c)) === "$size " . md5($data) ? 'right' : 'wrong', ' ';
    fwrite($c, "give $size\n");
    echo strlen(stream_get_line($c, 10000000, "\n")), "\n";
  }
} elseif ($what === 'lines') {
  $c = fsockopen("unix://$path");
  for ($i = 0; $i < 500; $i++) {
    fwrite($c, "line word$i\n");
    if (fgets($c) !== strrev("word$i") . "\n") die("$i\n");
  }
  echo "500 lines\n";
} elseif ($what === 'kinds') {
  $c = connected();
  fwrite($c, "copy 3000000\n");
  echo md5(stream_get_contents($c, 3000000)), "\n";
  $f = fopen(getenv('NOISE'), 'r');
  fwrite($c, "take 2000000\n");
  stream_copy_to_stream($f, $c, 2000000);
  echo fgets($c);
  stream_set_timeout($c, 0, 200000);
  var_dump(fgets($c), stream_get_meta_data($c)['timed_out']);
  stream_set_timeout($c, 60);
  fwrite($c, "line goes-on\n");
  echo fgets($c);
  stream_set_blocking($c, false);
  var_dump(fread($c, 100), feof($c));
  stream_set_blocking($c, true);
  $read = [$c]; $write = $except = null;
  var_dump(stream_select($read, $write, $except, 0, 100000));
  fwrite($c, "line selected\n");
  $read = [$c];
  var_dump(stream_select($read, $write, $except, 60), stream_socket_recvfrom($c, 3, STREAM_PEEK), fgets($c));
  var_dump(stream_socket_get_name($c, true) === $path, stream_socket_get_name($c, false));
  fwrite($c, "half\n");
  var_dump(fgets($c), fgets($c), feof($c));
  $c = connected();
  fwrite($c, "drop\n");
  var_dump(fgets($c), @fwrite($c, 'x'));
  var_dump(@stream_socket_client("unix://$path.none", $error, $message), $message);
} elseif ($what === 'echo') { // NUMBER connections at once
  $clients = $out = $in = [];
  for ($i = 0; $i < $number; $i++) {
    $c = connected();
    stream_set_blocking($c, false);
    $clients[(int)$c] = $c;
    $out[(int)$c] = noise(200000 + $i, $i);
    $in[(int)$c] = '';
  }
  $sent = array_fill_keys(array_keys($clients), 0);
  $right = 0;
  while ($clients) {
    $read = $clients;
    $write = array_filter($clients, fn($c) => $sent[(int)$c] < strlen($out[(int)$c]));
    $except = null;
    stream_select($read, $write, $except, null);
    foreach ($write as $c) {
      $sent[(int)$c] += (int)fwrite($c, substr($out[(int)$c], $sent[(int)$c], 30000));
      if ($sent[(int)$c] === strlen($out[(int)$c])) stream_socket_shutdown($c, STREAM_SHUT_WR);
    }
    foreach ($read as $c) {
      $in[(int)$c] .= fread($c, 65536);
      if (feof($c)) { $right += $in[(int)$c] === $out[(int)$c]; unset($clients[(int)$c]); fclose($c); }
    }
  }
  echo "$right\n";
} elseif ($what === 'crowd') { // processes
  for ($i = 1; $i <= $number; $i++) if (pcntl_fork() === 0) {
    $c = connected();
    for ($j = 0; $j < 30; $j++) {
      $data = noise($i * $j * 30, $i);
      all($c, 'take ' . strlen($data) . "\n$data");
      if (trim(fgets($c)) !== strlen($data) . ' ' . md5($data)) exit(3);
    }
    exit(0);
  }
  $ends = [];
  while (pcntl_wait($status) > 0) $ends[$status] = ($ends[$status] ?? 0) + 1;
  print_r($ends);
} elseif ($what === 'sockets') { // the extension "sockets"
  $c = socket_create(AF_UNIX, SOCK_STREAM, 0);
  socket_connect($c, $path) || die('connect');
  foreach ([1, 100, 65536, 1000000] as $size) {
    $data = noise($size);
    $request = "take $size\n$data";
    for ($i = 0; $i < strlen($request); ) $i += socket_send($c, substr($request, $i, 100000), min(100000, strlen($request) - $i), 0);
    echo socket_read($c, 100, PHP_NORMAL_READ);
    $message = ['iov' => ["give $size", "\n"]];
    socket_sendmsg($c, $message, 0);
    echo socket_recv($c, $given, $size + 1, MSG_WAITALL), ' ', md5($given), "\n";
  }
  $read = [$c]; $write = $except = null;
  var_dump(socket_select($read, $write, $except, 0, 100000), socket_get_option($c, SOL_SOCKET, SO_ERROR));
  var_dump(@socket_recv($c, $given, 10, MSG_DONTWAIT), socket_last_error($c) === SOCKET_EAGAIN);
  socket_set_option($c, SOL_SOCKET, SO_RCVTIMEO, ['sec' => 0, 'usec' => 200000]);
  var_dump(@socket_read($c, 10), socket_last_error($c) === SOCKET_EAGAIN);
  socket_write($c, "line end\n");
  var_dump(socket_recv($c, $given, 100, MSG_PEEK), $given, socket_read($c, 100));
  $stream = socket_export_stream($c);
  fwrite($stream, "line stream\n");
  echo fgets($stream);
} elseif ($what === 'forever') {
  $c = connected();
  fwrite($c, "forever\n");
  echo fgets($c);
  while (fgets($c) !== false);
  echo "ended\n";
}
PHP
chmod 644 "$T"/*.php "$T/fcgi.py"
export NOISE=$T/noise HOME=$R

fcgi() { on client "$python" "$T/fcgi.py" "$S" "$@"; }
talk() { on client php -n "${MODULES[@]}" "$T/client.php" "$S" "$@"; }
answers() { on neither "$python" "$T/fcgi.py" "$S" many 1 >/dev/null 2>&1; }
workers() { descendants "$SERVER"; }
start_fpm() { # start_fpm KIND
  cat >"$T/fpm.conf" <<CONF
[global]
error_log = $R/fpm.log
daemonize = no
process_control_timeout = 20
[pool]
listen = $S
pm = $1
pm.max_children = 6
pm.start_servers = 2
pm.min_spare_servers = 1
pm.max_spare_servers = 6
pm.process_idle_timeout = 100s
pm.max_requests = $2
ping.path = /ping
pm.status_path = /status
catch_workers_output = no
clear_env = no
CONF
  chmod 644 "$T/fpm.conf"
  start server "$T/log/fpm.$PASS.$1" "$FPM" -n -y "$T/fpm.conf" -d error_log=/dev/stderr -d log_errors=1
  SERVER=$PID
  check "$PASS: php-fpm starts: $1" wait_for 15 answers
}
start_server() { # start_server KIND
  start server "$T/log/server.$PASS.$1" php -n "${MODULES[@]}" "$T/server.php" "$S" "$1"
  SERVER=$PID
  check "$PASS: the server starts: $1" wait_for 10 grep -qx listening "$T/log/server.$PASS.$1"
}
stop_server() { # stop_server KIND
  stop "$SERVER" || fail "$PASS: TERM ends the server: $1"
  compare "$1: what the server said" cat "$T/log/server.$PASS.$1"
  rm -f "$S"
}
none_of() { # none_of PID...: they have all ended
  local pid
  for pid; do [ -z "$(birth "$pid")" ] || return 1; done
}

cases() {
  local kind old
  for kind in static dynamic ondemand; do
    start_fpm "$kind" 0
    check_preload server "$SERVER"
    for WHAT in sizes kinds slow; do compare "php-fpm, $kind: $WHAT" fcgi "$WHAT"; done
    compare "php-fpm, $kind: 2000 requests on a connection" fcgi many 2000
    compare "php-fpm, $kind: 20 connections at a time" fcgi threads 20
    for COUNT in 1 2 3; do compare "php-fpm, $kind: aborted, $COUNT" fcgi abort; done
    compare "php-fpm, $kind: after those" fcgi sizes
    compare "php-fpm, $kind: a worker dies" fcgi die
    check "$PASS: php-fpm, $kind: another answers" wait_for 10 answers
    start client "$T/log/forever" "$python" "$T/fcgi.py" "$S" forever
    wait_for 10 grep -q 20000 "$T/log/forever"
    check_preload client "$PID"
    look "php-fpm, $kind" "$S" 1
    kill -KILL $(workers)
    check_ends "$PASS: php-fpm, $kind: killed workers: the client ends" "$PID" 15
    compare "php-fpm, $kind: what it says" cat "$T/log/forever"
    check "$PASS: php-fpm, $kind: new workers" wait_for 10 answers
    start client "$T/log/busy" "$python" "$T/fcgi.py" "$S" busy
    wait_for 15 grep -q twenty "$T/log/busy"
    old=$(workers)
    kill -USR2 "$SERVER"
    check "$PASS: php-fpm, $kind: a reload replaces the workers" wait_for 20 none_of $old
    check "$PASS: php-fpm, $kind: it answers again" wait_for 15 answers
    "${AS[@]}" touch "$R/enough"
    check_ends "$PASS: php-fpm, $kind: the client that was served all the time ends" "$PID" 15
    compare "php-fpm, $kind: a reload under load" cat "$T/log/busy"
    rm -f "$R/enough"
    check_preload server "$SERVER"
    compare "php-fpm, $kind: after the reload" fcgi sizes
    stop "$SERVER" QUIT || fail "$PASS: QUIT ends php-fpm: $kind"
    compare_text "php-fpm, $kind: alarms" "$(grep -E 'ALERT|ERROR' "$R/fpm.log")"
    rm -f "$R/fpm.log" "$S"
  done
  start_fpm static 50
  compare "php-fpm: workers that end after 50 requests" fcgi threads 20
  stop "$SERVER"
  rm -f "$S"

  for kind in fork select sockets; do
    start_server "$kind"
    check_preload server "$SERVER"
    case $kind in
      fork) for WHAT in sizes lines kinds; do compare "PHP, $kind: $WHAT" talk "$WHAT"; done
        compare "PHP, $kind: 20 processes" talk crowd 20
        start client "$T/log/forever" php -n "${MODULES[@]}" "$T/client.php" "$S" forever
        wait_for 10 grep -q tick "$T/log/forever"
        check_preload client "$PID"
        look "PHP" "$S" 1 php
        kill -KILL $(workers)
        check_ends "$PASS: PHP: a killed child: its client ends" "$PID" 15
        compare "PHP: what it says" cat "$T/log/forever" ;;
      select) for COUNT in 1 10 60; do compare "PHP, $kind: $COUNT connections" talk echo "$COUNT"; done ;;
      sockets) for WHAT in sizes lines sockets; do compare "PHP, $kind: $WHAT" talk "$WHAT"; done ;;
    esac
    stop_server "$kind"
  done
  compare_failure "refused" fcgi sizes
}

# -n leaves out the extensions of the system, whatever they are; these are needed
MODULES=(-d memory_limit=256M)
for MODULE in pcntl posix sockets; do
  php -n -m | grep -qx "$MODULE" || MODULES+=(-d "extension=$MODULE")
done
head -c 5000000 /dev/urandom >"$T/noise"
run_twice cases
