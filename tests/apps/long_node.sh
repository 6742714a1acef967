#!/bin/bash
# Node.js at both ends of a Unix socket: its modules net, http, http2, tls and cluster, connections handed to other
# processes, worker threads, peers that are killed. See common.sh and twice.sh for the environment.

TITLE='Node.js'
TIME_LIMIT=280
APP_USER=nobody
PROGRAMS='node curl openssl'
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

S=$R/node.s
LISTED="$S @$S"
export HOME=$R NODE_NO_WARNINGS=1
unset NODE_OPTIONS NODE_PATH

# server.js SOCKET KIND: prints "listening"
cat >"$T/server.js" <<'JS'
const [path, kind] = process.argv.slice(2);
const address = path.replace(/^@/, '\0');
const net = require('net'), http = require('http'), crypto = require('crypto'), fs = require('fs');
const sum = (data) => crypto.createHash('md5').update(data).digest('hex');
const noise = (size) => Buffer.alloc(size, 'The bytes of an answer are these, and these are the next. ');
const ready = () => console.log('listening');
process.on('SIGTERM', () => process.exit(0));

function answer(request, response) { // of all servers that speak HTTP
  const url = new URL(request.url, 'http://host');
  const size = Number(url.pathname.split('/')[2]);
  const what = url.pathname.split('/')[1];
  if (what === 'size') { // one write
    response.setHeader('Content-Length', size);
    response.end(noise(size));
  } else if (what === 'chunks') { // as long as there is room, in writes of 1000 bytes
    let left = size;
    const more = () => {
      while (left > 0) {
        const part = Math.min(left, 1000);
        left -= part;
        if (!response.write(noise(part)) && left > 0) return response.once('drain', more);
      }
      response.end();
    };
    more();
  } else if (what === 'file') {
    fs.createReadStream(process.env.NOISE, { end: size - 1 }).pipe(response);
  } else if (what === 'sum') {
    const hash = crypto.createHash('md5');
    let length = 0;
    request.on('data', (data) => { hash.update(data); length += data.length; });
    request.on('end', () => response.end(`${request.method} ${length} ${hash.digest('hex')}\n`));
  } else if (what === 'echo') {
    request.pipe(response);
  } else if (what === 'lines') { // with pauses
    let count = 0;
    const timer = setInterval(() => {
      response.write(`line ${++count}\n`);
      if (count >= size) { clearInterval(timer); response.end(); }
    }, 5);
    response.on('close', () => clearInterval(timer));
  } else if (what === 'reset') {
    request.socket.destroy();
  } else if (what === 'half') { // fewer bytes than were promised
    response.writeHead(200, { 'Content-Length': 1000 });
    response.write('half', () => request.socket.destroy());
  } else {
    response.statusCode = 404;
    response.end('nothing\n');
  }
}

if (kind === 'net') {
  // The first line says what the connection is for.
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => socket.destroy());
    socket.once('readable', function first() {
      const head = socket.read();
      if (head === null) return socket.once('readable', first);
      const end = head.indexOf(10);
      const [what, number] = head.toString('latin1', 0, end).split(' ');
      socket.unshift(head.subarray(end + 1));
      if (what === 'echo') {
        socket.pipe(socket);
      } else if (what === 'upper') {
        socket.setEncoding('utf8');
        socket.on('data', (text) => socket.write(text.toUpperCase(), 'utf8'));
        socket.on('end', () => socket.end('END'));
      } else if (what === 'sum') {
        const hash = crypto.createHash('md5');
        socket.on('data', (data) => hash.update(data));
        socket.on('end', () => socket.end(hash.digest('hex')));
      } else if (what === 'slow') { // takes little at a time
        let length = 0;
        socket.on('data', (data) => { length += data.length; socket.pause(); setTimeout(() => socket.resume(), 5); });
        socket.on('end', () => socket.end(String(length)));
      } else if (what === 'much') {
        socket.resume();
        socket.end(noise(Number(number)));
      } else if (what === 'corked') {
        socket.resume();
        socket.cork();
        for (let i = 0; i < Number(number); i++) socket.write(`piece ${i};`);
        socket.uncork();
        socket.end();
      } else if (what === 'drop') {
        socket.destroy();
      } else if (what === 'forever') {
        socket.resume();
        const timer = setInterval(() => socket.write(noise(300)), 2);
        socket.on('close', () => clearInterval(timer));
      } else if (what === 'count') {
        server.getConnections((error, count) => socket.end(String(count)));
        socket.resume();
      }
    });
  });
  server.listen(address, ready);
} else if (kind === 'http') {
  const server = http.createServer(answer);
  server.on('checkContinue', (request, response) => { response.writeContinue(); answer(request, response); });
  server.on('upgrade', (request, socket, head) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n');
    socket.write(head);
    socket.pipe(socket);
  });
  server.listen(address, ready);
} else if (kind === 'http2') {
  require('http2').createServer(answer).listen(address, ready);
} else if (kind === 'tls') {
  require('https').createServer({ key: fs.readFileSync(process.env.KEY), cert: fs.readFileSync(process.env.CERT) }, answer)
    .listen(address, ready);
} else if (kind.startsWith('cluster')) { // workers accept themselves, or are given what the first process accepts
  const cluster = require('cluster');
  cluster.schedulingPolicy = kind === 'cluster-own' ? cluster.SCHED_NONE : cluster.SCHED_RR;
  if (cluster.isPrimary) {
    let listening = 0;
    cluster.on('listening', () => { if (++listening === 3) ready(); });
    cluster.on('exit', (worker) => { if (!worker.exitedAfterDisconnect) cluster.fork(); });
    for (let i = 0; i < 3; i++) cluster.fork();
    process.on('SIGUSR2', () => { for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGKILL'); });
  } else {
    http.createServer(answer).listen(address);
  }
} else if (kind === 'hand') { // each connection goes to a child process, some after the first request on it
  if (process.env.CHILD) {
    const server = http.createServer(answer);
    process.on('message', (message, socket) => {
      if (!socket) return;
      if (message === 'say so') socket.write('handed on\n');
      server.emit('connection', socket);
      socket.resume();
    });
    process.on('disconnect', () => process.exit(0));
    process.send('ready');
  } else {
    const { fork } = require('child_process');
    const children = [0, 1].map(() => fork(__filename, process.argv.slice(2), { env: { ...process.env, CHILD: '1' } }));
    let next = 0, count = 0;
    const server = net.createServer({ pauseOnConnect: true }, (socket) => {
      const child = children[next++ % 2];
      if (next % 3) {
        child.send('take', socket);
      } else { // answers of our own in front; the client waits for each and for the child's, so nothing is unread here
        socket.on('data', function talk(data) {
          if (data.toString() === 'ask') return void socket.write('answer\n');
          socket.removeListener('data', talk);
          socket.pause();
          child.send('say so', socket);
        });
        socket.resume();
      }
    });
    for (const child of children) child.once('message', () => { if (++count === 2) server.listen(address, ready); });
    process.on('exit', () => { for (const child of children) child.kill(); });
  }
} else if (kind === 'threads') { // each worker thread has a server
  const { Worker, isMainThread, workerData, parentPort } = require('worker_threads');
  if (isMainThread) {
    let count = 0;
    for (let i = 0; i < 3; i++) new Worker(__filename, { argv: process.argv.slice(2), workerData: i })
      .on('message', () => { if (++count === 3) ready(); });
  } else {
    http.createServer(answer).listen(`${path}${workerData || ''}`, () => parentPort.postMessage('ready'));
  }
}
JS

# client.js SOCKET WHAT [NUMBER]: conversations that print what came back
cat >"$T/client.js" <<'JS'
const [path, what, argument] = process.argv.slice(2);
const address = path.replace(/^@/, '\0');
const number = Number(argument);
const net = require('net'), http = require('http'), crypto = require('crypto'), fs = require('fs');
const { once } = require('events');
const sum = (data) => crypto.createHash('md5').update(data).digest('hex');
const bytes = (size, seed = 0) => { // the same ones each time
  const cipher = crypto.createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16));
  return cipher.update(Buffer.alloc(size));
};
const SIZES = [0, 1, 2, 1000, 4096, 16383, 16384, 16385, 65535, 65536, 65537, 262143, 262144, 262145, 1048577, 5000000];

const open = (head, options = {}) => {
  const socket = net.connect({ path: address, allowHalfOpen: true, ...options });
  socket.write(head + '\n');
  return socket;
};
const all = async (stream) => { const parts = []; for await (const part of stream) parts.push(part); return Buffer.concat(parts); };
const talk = (head, data, options) => { const socket = open(head, options); socket.end(data); return all(socket); };

const agent = new http.Agent({ keepAlive: true, maxSockets: number || 1 });
const ask = (url, { body, ...options } = {}) => new Promise((resolve, reject) => {
  const request = http.request({ socketPath: address, path: url, agent, ...options }, async (response) => {
    try { resolve([response.statusCode, await all(response)]); } catch (error) { reject(error); }
  });
  request.on('error', reject);
  if (body && body.pipe) body.pipe(request); else request.end(body);
});

const tasks = {
  async sizes() {
    for (const size of SIZES) {
      const data = bytes(size);
      console.log(size, (await talk('echo', data)).equals(data), (await talk('sum', data)).toString() === sum(data),
        (await talk(`much ${size}`, '')).length);
    }
  },
  async kinds() {
    console.log((await talk('upper', 'ein kleiner Text: äöü € 😀')).toString());
    console.log(sum(await talk('corked 20000', '')));
    console.log((await talk('slow', bytes(3000000))).toString());
    const socket = open('echo');
    let text = '';
    socket.setEncoding('utf8').on('data', (part) => { text += part; });
    for (let i = 0; i < 400; i++) { // small pieces, a conversation
      const wanted = text.length + `question ${i}`.length;
      socket.write(`question ${i}`);
      while (text.length < wanted) await once(socket, 'data');
    }
    socket.end();
    await once(socket, 'end');
    console.log(sum(text), socket.bytesRead, socket.bytesWritten, socket.remoteFamily, socket.address());
  },
  async backpressure() { // nobody reads for a while, then all
    const socket = open('echo');
    socket.pause();
    const data = bytes(1000);
    let refused = 0;
    for (let i = 0; i < 20000; i++) if (!socket.write(data)) refused++;
    socket.end();
    console.log(refused > 0, socket.writableLength > 1000000);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const hash = crypto.createHash('md5');
    for await (const part of socket) hash.update(part);
    console.log(hash.digest('hex'), socket.bytesRead);
  },
  async many() {
    const results = await Promise.all(Array.from({ length: number }, async (_, i) => {
      const data = bytes(20000 + i, i);
      return (await talk('echo', data)).equals(data);
    }));
    console.log(results.filter(Boolean).length);
  },
  async errors() {
    const failure = (socket) => new Promise((resolve) => {
      socket.on('error', (error) => resolve(error.code));
      socket.on('close', (hadError) => { if (!hadError) resolve('closed'); });
      socket.resume();
    });
    console.log(await failure(net.connect(address + '.none')));
    console.log(await failure(net.connect(__filename)));
    console.log(await failure(open('drop', { allowHalfOpen: false })));
    const idle = open('echo');
    idle.setTimeout(100);
    await once(idle, 'timeout');
    console.log('timeout');
    idle.destroy();
    const aborted = open('forever');
    await once(aborted, 'data');
    aborted.destroy();
    console.log(await failure(aborted), aborted.destroyed);
    const reset = open('forever');
    await once(reset, 'data');
    reset.end('the end of this direction');
    await once(reset, 'finish');
    await once(reset, 'data');
    console.log('goes on');
    reset.destroy();
  },
  async count() { console.log((await talk('count', '')).toString()); },
  async forever() { // until it is killed, or the server is
    const socket = open('forever');
    socket.on('data', () => { socket.write('more'); });
    socket.on('error', () => {}); // a reset or an end: that depends on when the server is killed
    socket.on('end', () => socket.end());
    await new Promise((resolve) => socket.on('close', resolve));
    console.log('ended');
  },
  async stuck() { // sends and reads nothing
    const socket = open('echo');
    socket.pause();
    socket.write(bytes(20000000));
    await new Promise((resolve) => setTimeout(resolve, 100000));
  },
  async http() {
    for (const size of SIZES) for (const kind of ['size', 'chunks', 'file']) {
      if (kind === 'file' && size === 0) continue;
      const [status, data] = await ask(`/${kind}/${size}`);
      console.log(kind, size, status, data.length, sum(data));
    }
    for (const size of SIZES) {
      const body = bytes(size);
      console.log((await ask('/sum', { method: 'PUT', body })).toString().trim() === `200,PUT ${size} ${sum(body)}`,
        (await ask('/echo', { method: 'POST', body }))[1].equals(body));
    }
    console.log((await ask('/nowhere')).toString());
    console.log(sum((await ask('/lines/50'))[1]));
    console.log((await ask('/sum', { method: 'POST', body: fs.createReadStream(process.env.NOISE) })).toString());
    for (const url of ['/reset', '/half']) console.log(await ask(url, { agent: undefined }).catch((error) => error.code));
  },
  async requests() {
    const statuses = await Promise.all(Array.from({ length: 1000 }, (_, i) => ask(`/size/${i * 7}`)));
    console.log(statuses.filter(([status, data], i) => status === 200 && data.length === i * 7).length);
    agent.destroy();
  },
  async continue() {
    const request = http.request({ socketPath: address, path: '/sum', method: 'POST', headers: { Expect: '100-continue' } });
    request.flushHeaders();
    await once(request, 'continue');
    request.end(bytes(300000));
    const [response] = await once(request, 'response');
    console.log((await all(response)).toString());
  },
  async upgrade() {
    const request = http.request({ socketPath: address, headers: { Connection: 'Upgrade', Upgrade: 'echo' } });
    request.end();
    const [, socket] = await once(request, 'upgrade');
    const data = bytes(1000000);
    socket.end(data);
    console.log((await all(socket)).equals(data));
  },
  async pipelined() { // many requests before the first answer
    const socket = net.connect(address);
    for (let i = 0; i < 500; i++) socket.write(`GET /size/${i} HTTP/1.1\r\nHost: h\r\n${i === 499 ? 'Connection: close\r\n' : ''}\r\n`);
    const text = (await all(socket)).toString();
    console.log(text.split('HTTP/1.1 200 OK').length - 1, sum(text.replace(/^(Date|Keep-Alive|Connection):.*\r\n/gm, '')));
  },
  async http2() {
    const http2 = require('http2');
    const session = http2.connect('http://host', { createConnection: () => net.connect(address) });
    const stream = async (url, body) => {
      const request = session.request({ ':path': url, ':method': body ? 'POST' : 'GET' });
      request.end(body);
      const [headers] = await once(request, 'response');
      return [headers[':status'], await all(request)];
    };
    for (const size of SIZES) console.log(size, (await stream(`/size/${size}`))[1].length, (await stream('/echo', bytes(size)))[1].equals(bytes(size)));
    const together = await Promise.all(Array.from({ length: 200 }, (_, i) => stream(`/chunks/${i * 500}`)));
    console.log(together.filter(([status, data], i) => status === 200 && data.length === i * 500).length);
    session.ping(Buffer.from('12345678'), (error, time, payload) => { console.log(error, payload.toString()); session.close(); });
    await once(session, 'close');
  },
  async tls() {
    const https = require('https');
    const options = { socketPath: address, ca: fs.readFileSync(process.env.CERT), servername: 'localhost' };
    for (const size of SIZES) {
      const request = https.request({ ...options, path: '/echo', method: 'POST' });
      request.end(bytes(size));
      const [response] = await once(request, 'response');
      console.log(size, response.socket.authorized, (await all(response)).equals(bytes(size)));
    }
  },
  async hand() { // what the first process has answered already, then what the one answers that was given the connection
    for (let i = 0; i < number; i++) {
      const socket = net.connect(address);
      if (i % 3 === 2) for (let j = 0; j <= 30; j++) {
        socket.write(j < 30 ? 'ask' : 'hand on');
        await once(socket, 'data');
      }
      let text = '';
      socket.write(`GET /size/${i * 1000} HTTP/1.1\r\nHost: h\r\n\r\n`);
      for (let j = 0; j < 20; j++) socket.write(`POST /sum HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n${j === 19 ? 'Connection: close\r\n' : ''}\r\nhello`);
      text = (await all(socket)).toString();
      console.log(i, text.split('POST 5 5d41402abc4b2a76b9719d911017c592').length - 1, text.split('\r\n\r\n')[1].split('HTTP')[0].length);
    }
  },
  async threads() {
    const { Worker, isMainThread, workerData } = require('worker_threads');
    if (isMainThread) {
      const results = await Promise.all([0, 1, 2, 3, 4, 5].map((i) => new Promise((resolve) => {
        new Worker(__filename, { argv: process.argv.slice(2), workerData: i, stdout: true }).on('exit', resolve);
      })));
      console.log(results);
    } else {
      for (let i = 0; i < 200; i++) {
        const [status, data] = await new Promise((resolve, reject) => {
          http.get({ socketPath: path + (workerData % 3 || ''), path: `/size/${i * 50}`, agent }, async (response) =>
            resolve([response.statusCode, await all(response)])).on('error', reject);
        });
        if (status !== 200 || data.length !== i * 50) process.exit(3);
      }
      process.exit(0);
    }
  },
};
tasks[what]().then(() => process.exit(0), (error) => { console.log(`failed: ${error.stack}`); process.exit(1); });
JS
chmod 644 "$T"/*.js

talk() { on client node "$T/client.js" "$S" "$@"; }
get() { on client curl -sS --max-time 60 --unix-socket "$S" "$@"; }
sums() { md5sum | cut -d ' ' -f 1; }
start_server() { # start_server KIND [SOCKET]
  LOG=$T/log/server.$PASS.$1
  start server "$LOG" env "NOISE=$T/noise" "KEY=$T/key.pem" "CERT=$T/cert.pem" node "$T/server.js" "${2:-$S}" "$1"
  SERVER=$PID
  check "$PASS: the server starts: $1" wait_for 20 grep -qx listening "$LOG"
}
stop_server() { # stop_server KIND
  stop "$SERVER" || fail "$PASS: TERM ends the server: $1"
  check "$PASS: it has nothing to say: $1" cmp <(echo listening) "$LOG"
  rm -f "$S" "$S"[12]
}
count_is() { [ "$(on neither node "$T/client.js" "$S" count)" = "$1" ]; }

cases() {
  export NOISE=$T/noise CERT=$T/cert.pem
  start_server net
  check_preload server "$SERVER"
  for WHAT in sizes kinds backpressure errors; do compare "net: $WHAT" talk "$WHAT"; done
  compare "net: 100 connections at once" talk many 100
  start client "$T/log/forever.1" node "$T/client.js" "$S" forever
  local one=$PID
  start client "$T/log/forever.2" node "$T/client.js" "$S" forever
  local two=$PID
  check "$PASS: two clients" wait_for 15 count_is 3 # and the one who asks
  check_preload client "$one"
  WAYS=2 look "net: two connections" "$S" 2 node
  stop "$one" KILL
  check "$PASS: a killed client: the server notices" wait_for 15 count_is 2
  start client "$T/log/stuck" node "$T/client.js" "$S" stuck
  local stuck=$PID
  check "$PASS: a client that reads nothing" wait_for 15 count_is 3
  sleep 0.5
  compare "net: beside a client that reads nothing" talk kinds
  stop "$stuck" KILL
  check "$PASS: it is killed: the server notices" wait_for 15 count_is 2
  stop "$SERVER" KILL
  check_ends "$PASS: a killed server: its client ends" "$two" 15
  compare "a killed server: what its client says" cat "$T/log/forever.2"
  compare_failure "refused" talk count
  rm -f "$S"

  start_server http
  compare "http" talk http
  for COUNT in 1 8 100; do compare "http: 1000 requests on $COUNT connections" talk requests "$COUNT"; done
  compare "http: Expect: 100-continue" talk continue
  compare "http: an upgraded connection" talk upgrade
  compare "http: 500 requests in one go" talk pipelined
  compare "http: curl, a file" eval 'get http://h/file/20000000 | sums'
  compare "http: curl, 200 requests on a connection" eval 'get "http://h/size/[1-200]" | sums'
  compare "http: curl, a slow reader" eval 'get --limit-rate 20M http://h/file/20000000 | sums'
  compare "http: curl sends 20 MB" get -T "$T/noise" http://h/sum
  compare "http: curl gives up" eval 'get --max-time 0.5 http://h/lines/1000000 >/dev/null 2>&1; echo $?'
  start client "$T/log/lines" curl -sSN --unix-socket "$S" -o "$R/lines" http://h/lines/1000000
  look "http: curl" "$S" 1 curl
  stop "$PID" KILL
  stop_server http

  start_server http2
  compare "http2" talk http2
  compare "http2: curl" eval 'get --http2-prior-knowledge http://h/file/20000000 | sums'
  stop_server http2
  start_server tls
  compare "tls" talk tls
  compare "tls: curl" eval 'get --cacert "$T/cert.pem" https://localhost/file/20000000 | sums'
  stop_server tls

  for KIND in cluster cluster-own; do
    start_server "$KIND"
    compare "$KIND" talk http
    for COUNT in 1 8 50; do compare "$KIND: 1000 requests on $COUNT connections" talk requests "$COUNT"; done
    start client "$T/log/lines" curl -sSN --unix-socket "$S" -o "$R/lines" http://h/lines/1000000
    wait_for 10 grep -qs "line 50" "$R/lines"
    kill -USR2 "$SERVER" # kills the workers
    check_ends "$PASS: $KIND: killed workers: the client ends" "$PID" 15
    check "$PASS: $KIND: new workers answer" wait_for 20 get -o /dev/null http://h/size/1
    compare "$KIND: new workers" talk requests 4
    stop_server "$KIND"
  done

  start_server hand
  compare "connections handed to other processes" talk hand 30
  stop_server hand
  start_server threads
  compare "threads" talk threads
  stop_server threads

  S=@$S
  start_server net
  compare "an abstract name: sizes" talk sizes
  compare "an abstract name: kinds" talk kinds
  stop_server net
  S=${S#@}
}

head -c 20000000 /dev/zero | openssl enc -aes-128-ctr -nosalt -K 0 -iv 0 >"$T/noise" 2>/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$T/key.pem" -out "$T/cert.pem" -days 2 \
  -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>"$T/log/openssl" || {
  fail "a certificate is made" "$(cat "$T/log/openssl")"
  finish
}
chmod 644 "$T/key.pem" "$T/noise"
run_twice cases
