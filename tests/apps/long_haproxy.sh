#!/bin/bash
# HAProxy with Unix sockets at both ends: HTTP/1 and HTTP/2 from curl to nginx, TCP mode from redis-benchmark to
# redis-server, the PROXY protocol, an abstract socket, the administration socket by socat, health checks, killed
# peers, and a reload that hands the listening sockets on. First with epoll and two threads, then with poll and one.
# See common.sh for the environment, twice.sh for the two passes. TSSX_SIDE=server preloads HAProxy, TSSX_SIDE=client
# everything around it.

TITLE='HAProxy'
TIME_LIMIT=280
APP_USER=www-data
PROGRAMS='haproxy nginx curl h2load socat redis-server redis-cli redis-benchmark'
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

# HAProxy binds to PATH.PID.tmp and renames it: that is the name by which it knows its own listening socket.
LISTED="$R/*.sock $R/*.sock.*.tmp @tssx-test-${T##*.}"
F=$T/a/files
ABSTRACT=tssx-test-${T##*.}

SIZES=(0 1 100 4096 16384 65537 262145 1048577 20000000)
make_files() {
  local n
  mkdir "$F" || exit 2
  head -c 20000000 /dev/urandom >"$T/noise"
  for n in "${SIZES[@]}"; do head -c "$n" "$T/noise" >"$F/$n"; done
  cat >"$T/up.conf" <<CONF
daemon off; worker_processes 1; pid $R/up.pid; error_log $R/up.log notice;
events { worker_connections 400; use epoll; }
http {
  access_log off; client_max_body_size 100m; keepalive_requests 1000000; server_tokens off;
  client_body_temp_path $R/body; proxy_temp_path $R/proxy; fastcgi_temp_path $R/fastcgi; uwsgi_temp_path $R/uwsgi;
  scgi_temp_path $R/scgi;
  server {
    listen unix:$R/up.sock;
    root $F;
    location /slow/ { alias $F/; limit_rate 300k; }
    location /stored/ { alias $R/stored/; dav_methods PUT DELETE; create_full_put_path on; }
    location /text/ { return 200 "\$request_method \$request_uri \$http_x_case \$server_protocol\n"; }
    location /dropped { return 444; }
  }
  server {
    listen unix:$R/up-proxied.sock proxy_protocol;
    location / { return 200 "by the PROXY protocol: \$proxy_protocol_addr\n"; }
  }
}
CONF
  chmod 644 "$T/up.conf"
}
configure() { # configure GLOBAL-LINE...
  printf '%s\n' global "$@" >"$T/haproxy.cfg"
  cat >>"$T/haproxy.cfg" <<CONF
  maxconn 300
  hard-stop-after 15s
  stats socket unix@$R/admin.sock mode 666 level admin expose-fd listeners
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
  option splice-auto
  http-reuse always
  retries 1
frontend web
  bind unix@$R/web.sock
  use_backend dumped if { path_beg /abstract }
  use_backend proxied if { path_beg /proxied }
  default_backend up
frontend two
  bind unix@$R/two.sock proto h2
  default_backend up
backend up
  server one unix@$R/up.sock check inter 200ms rise 1 fall 1
backend proxied
  server one unix@$R/up-proxied.sock send-proxy-v2
backend dumped
  server one abns@$ABSTRACT
frontend again
  bind abns@$ABSTRACT
  http-request set-path %[path,regsub(^/abstract,)]
  default_backend up
listen store
  mode tcp
  bind unix@$R/store.sock
  server one unix@$R/redis.sock
listen echo
  mode tcp
  option splice-request
  option splice-response
  bind unix@$R/echo-front.sock
  server one unix@$R/echo.sock
CONF
  chmod 644 "$T/haproxy.cfg"
}

get() { on client curl -sS --max-time 20 --unix-socket "$R/web.sock" "$@"; }
two() { on client curl -sS --max-time 20 --unix-socket "$R/two.sock" --http2-prior-knowledge "$@"; }
cli() { on client redis-cli -s "$R/store.sock" "$@"; }
admin() { printf '%s\n' "$1" | on client socat -t 10 - "UNIX-CONNECT:$R/admin.sock"; }
quietly() { on neither curl -s -o /dev/null -w '%{http_code}' --max-time 5 --unix-socket "$R/web.sock" "$@"; }
answers() { [ "$(quietly "http://x$1")" = "$2" ]; } # answers PATH CODE
up_answers() { [ "$(on neither curl -s -o /dev/null -w '%{http_code}' --unix-socket "$R/up.sock" http://x/1)" = 200 ]; }
store_answers() { [ "$(on neither redis-cli -s "$1" ping 2>/dev/null)" = PONG ]; }
server_is() { # server_is STATE: of the backend with the health check
  printf 'show stat\n' | on neither socat -t 5 - "UNIX-CONNECT:$R/admin.sock" | grep -q "^up,one,.*,$1,"
}

start_up() {
  start client "$T/log/up.$PASS.$((RUN = ${RUN:-0} + 1))" nginx -c "$T/up.conf" -e "$R/up.log"
  UPSTREAM=$PID
  wait_for 10 up_answers
}
start_around() {
  start_up
  verdict "$PASS: nginx starts" $? "$(cat "$R/up.log")"
  start client "$T/log/redis.$PASS" redis-server --port 0 --unixsocket "$R/redis.sock" --dir "$R" --save '' --appendonly no
  REDIS=$PID
  check "$PASS: redis starts" wait_for 10 store_answers "$R/redis.sock"
  start client "$T/log/echo.$PASS" socat "UNIX-LISTEN:$R/echo.sock,fork" EXEC:cat
  ECHO=$PID
  wait_for 5 test -S "$R/echo.sock"
}
start_haproxy() { # start_haproxy OPTION...
  start server "$T/log/haproxy.$PASS.$((RUN = ${RUN:-0} + 1))" haproxy -db -f "$T/haproxy.cfg" "$@"
  HAPROXY=$PID
  HAPROXY_LOG=$T/log/haproxy.$PASS.$RUN
}

fetch_all() { # fetch_all get|two PREFIX: every size, with its checksum and status
  local n code
  for n in "${SIZES[@]}"; do
    code=$("$1" -o "$R/fetched" -w '%{http_code} %{size_download} %{http_version}' "http://x$2$n") || return 1
    cmp "$R/fetched" "$F/$n" || return 1
    echo "$n: $code $(md5sum <"$R/fetched")"
  done
}
put_all() { # put_all get|two
  local n
  for n in "${SIZES[@]}"; do
    "$1" -w '%{http_code}\n' -T "$F/$n" "http://x/stored/x/$n" || return 1
    cmp "$F/$n" "$R/stored/x/$n" || return 1
    "$1" -w '%{http_code}\n' -X DELETE "http://x/stored/x/$n" || return 1
  done
}
many_on_one() { get 'http://x/text/[1-300]' -H 'X-Case: many'; }
in_parallel() {
  get -Z --no-progress-meter --parallel-max 20 -o "$R/parallel.#1" 'http://x/1048577?[1-40]' || return 1
  md5sum "$R"/parallel.* | cut -d ' ' -f 1 | uniq -c
  rm -f "$R"/parallel.*
}
multiplexed() { # many streams at once on each of a few HTTP/2 connections
  on client h2load -n 400 -c 4 -m 20 -p h2c --base-uri "unix:$R/two.sock" "http://x/$1" |
    grep -E '^(requests|status codes):' && echo "$1"
}
headers_of() { get -D - "$@" | grep -vi '^Date:'; }
slow_reader() { "$1" --limit-rate 6M http://x/20000000 | md5sum; }
aborted() { "$1" --max-time 0.4 "http://x$2" 2>&1 >/dev/null | sed 's/after.*//'; return "${PIPESTATUS[0]}"; }
echo_back() { # echo_back SIZE: there and back, and the end of each direction
  head -c "$1" "$T/noise" | on client socat -t 15 - "UNIX-CONNECT:$R/echo-front.sock" >"$T/echoed"
  echo "$1 bytes sent, $(stat -c %s "$T/echoed") came back, status ${PIPESTATUS[1]}"
  cmp "$T/echoed" <(head -c "$1" "$T/noise")
}
values() {
  local n
  for n in 1 16384 65537 1048577 10485760; do
    head -c "$n" "$T/noise" >"$T/in"
    cli -x set "value:$n" <"$T/in" || return 1
    cli --raw get "value:$n" | head -c "$n" | cmp - "$T/in" || return 1
  done
  cli dbsize
}
pipe_in() {
  awk 'BEGIN { for (i = 1; i <= 30000; i++) { k = "key:" i; v = "value " i * 7
    printf "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", length(k), k, length(v), v } }' | cli --pipe
  cli get key:29999
}
bench() { # bench OPTION...: redis-benchmark, nothing fails; prints no rates
  local log=$T/log/bench.$PASS rc
  LIMIT=25 on client redis-benchmark -s "$R/store.sock" -q "$@" >"$log" 2>&1
  rc=$?
  tr '\r' '\n' <"$log" | sed -n 's/^\([A-Z_0-9]*\).*: [0-9.]* requests per second.*/\1/p' | uniq
  [ $rc = 0 ] && ! grep -iE 'error|failed|closed' "$log"
}
sessions() { # the interactive form of the administration socket: many commands on one connection
  { echo prompt; for ((i = 0; i < 40; i++)); do echo 'show servers state'; echo 'show info'; done; echo quit; } |
    on client socat -t 10 - "UNIX-CONNECT:$R/admin.sock" >"$T/sessions"
  grep -cE '^(Name: HAProxy|> *Name: HAProxy)' "$T/sessions"
  grep -c ' up 1 one ' "$T/sessions"
}
states() { admin 'show stat' | grep -E '^(up|store|web),' | cut -d , -f 1,2,18; }

start_bench() { # start_bench CONNECTIONS: without an end, BENCH
  start client "$T/log/load.$PASS" redis-benchmark -s "$R/store.sock" -q -n 1000000000 -c "$1" -t set,get -r 1000
  BENCH=$PID
}
start_fetchers() { # start_fetchers URL COUNT: curls that fetch it again and again, FETCHERS
  local i
  FETCHERS=()
  for ((i = 0; i < $2; i++)); do
    start client "$T/log/fetcher.$PASS.$i" curl -sS --unix-socket "$R/web.sock" -o /dev/null -w '%{http_code}\n' "$1"
    FETCHERS+=("$PID")
  done
}
fetchers_were_right() { # fetchers_were_right NAME COUNT: each has ended with so many answers, all of them 200
  local pid
  for pid in "${FETCHERS[@]}"; do check_ends "$PASS: $1: curl ends" "$pid" 30; done
  compare_text "$1" "$(sort "$T/log/fetcher.$PASS."* | uniq -c)"
  rm -f "$T/log/fetcher.$PASS."*
}
stop_fetchers() {
  local pid
  for pid in "${FETCHERS[@]}"; do stop "$pid"; done
  rm -f "$T/log/fetcher.$PASS."*
}

# with POLLER: what both pollers are tried with
traffic() {
  compare "GET, $1" fetch_all get /
  compare "GET by an abstract socket, $1" fetch_all get /abstract/
  compare "GET with HTTP/2, $1" fetch_all two /
  compare "PUT, $1" put_all get
  compare "PUT with HTTP/2, $1" put_all two
  compare "300 requests on one connection, $1" many_on_one
  compare "40 downloads in parallel, $1" in_parallel
  for n in 100 65537 262145; do compare "h2load, $n bytes, $1" multiplexed "$n"; done
  compare "a slow reader, $1" slow_reader get
  compare "a slow reader with HTTP/2, $1" slow_reader two
  compare "values there and back, $1" values
  compare "30000 commands in one stream, $1" pipe_in
  compare "redis-benchmark, $1" bench -t ping,set,get,lrange_100 -n 4000 -c 30
  compare "redis-benchmark -P 16, $1" bench -t set,get -n 30000 -P 16 -c 10
  compare "redis-benchmark with values of 300 kB, $1" bench -t set,get -n 200 -c 4 -d 300000
  compare "redis-benchmark with a connection for each request, $1" bench -t set -n 1000 -c 8 -k 0
  for n in 0 1 65536 20000000; do compare "$n bytes through cat, $1" echo_back "$n"; done

  start_bench 12
  WAYS=2 look "redis-benchmark to HAProxy, $1" "$R/store.sock*" 12
  WAYS=2 look "HAProxy to redis, $1" "$R/redis.sock" 12
  check "$PASS: redis-benchmark keeps running, $1" alive "$BENCH"
  stop "$BENCH" KILL
  start_fetchers 'http://x/4096?[1-1000000]' 4
  check_preload client "${FETCHERS[0]}"
  WAYS=2 look "curl to HAProxy, $1" "$R/web.sock*" 4
  WAYS=2 look "HAProxy to nginx, $1" "$R/up.sock" 1
  stop_fetchers
  start_fetchers 'http://x/abstract/65537?[1-1000000]' 2
  # HAProxy is at both ends of this one
  if preloaded_side server; then
    TSSX_SIDE=both WAYS=2 look "HAProxy to itself, $1" "@$ABSTRACT" 1
  else
    look "HAProxy to itself, $1" "@$ABSTRACT" 1
  fi
  stop_fetchers
}

one_run() {
  local old
  start_around
  configure '  nbthread 2'
  start_haproxy
  check "$PASS: HAProxy starts" wait_for 10 answers /1 200
  alive "$HAPROXY" || { fail "$PASS: HAProxy runs" "$(cat "$HAPROXY_LOG")"; return; }
  check_preload server "$HAPROXY"
  check_preload client "$UPSTREAM"
  check_preload client "$REDIS"
  traffic epoll
  compare "the PROXY protocol" get http://x/proxied
  compare "headers" headers_of http://x/text/a?b=c -H 'X-Case: headers'
  compare "404" headers_of -o /dev/null http://x/nowhere
  compare "the backend drops the connection" headers_of http://x/dropped

  # the administration socket
  compare "80 commands on one administration connection" sessions
  compare "states" states
  compare "disable server" admin 'disable server up/one'
  compare "503 while it is disabled" headers_of http://x/1
  compare "enable server" admin 'enable server up/one'
  check "$PASS: it is up again" wait_for 5 server_is UP
  compare "a wrong command" admin 'no such command'

  # peers that go away
  for WAY in get two; do compare_failure "$WAY gives up" aborted "$WAY" /slow/20000000; done
  start client "$T/log/victim.$PASS" curl -sS --max-time 20 --unix-socket "$R/web.sock" -o /dev/null http://x/slow/20000000
  sleep 1
  kill -KILL $(cat "/proc/$UPSTREAM/task/$UPSTREAM/children")
  check_ends "$PASS: nginx's worker is killed: curl ends" "$PID" 10
  compare_text "curl says" "$(sed 's/[0-9]\{4,\}/N/g' "$T/log/victim.$PASS")"
  stop "$UPSTREAM"
  check "$PASS: the health check notices that nginx is gone" wait_for 10 server_is DOWN
  compare "503 without nginx" headers_of http://x/1
  start_up
  check "$PASS: the health check notices that nginx is back" wait_for 10 server_is UP
  compare "after nginx's restart" fetch_all get /
  # redis-benchmark itself may go on forever when its connections are lost, so others are watched
  start_bench 12
  start client "$T/log/victim.$PASS" redis-cli -s "$R/store.sock" blpop nothing 60
  VICTIM=$PID
  sleep 1
  stop "$REDIS" KILL
  check_ends "$PASS: redis is killed: redis-cli ends" "$VICTIM" 10
  compare_text "redis-cli says" "$(cat "$T/log/victim.$PASS")"
  stop "$BENCH" KILL
  rm -f "$R/redis.sock"
  start client "$T/log/redis.$PASS" redis-server --port 0 --unixsocket "$R/redis.sock" --dir "$R" --save '' --appendonly no
  REDIS=$PID
  check "$PASS: redis is back" wait_for 10 store_answers "$R/store.sock"
  compare "after redis' restart" values

  # a reload: the new process takes the listening sockets from the old one, over its administration socket
  start_fetchers 'http://x/65537?[1-4000]' 3
  sleep 0.3
  old=$HAPROXY
  start_haproxy -x "$R/admin.sock" -sf "$old"
  check_ends "$PASS: reload: the old process ends" "$old" 20
  check "$PASS: reload: the new process runs" alive "$HAPROXY"
  fetchers_were_right "reload: all answers are right"
  compare "after the reload" fetch_all get /
  compare "after the reload, HTTP/2" fetch_all two /
  compare_text "the new process says" "$(grep -E 'ALERT|WARN' "$HAPROXY_LOG" | sed -E 's/\([0-9]+\)//')"

  # HAProxy is killed
  start_bench 12
  start client "$T/log/victim.$PASS" curl -sS --max-time 20 --unix-socket "$R/web.sock" -o /dev/null http://x/slow/20000000
  VICTIM=$PID
  start client "$T/log/waits.$PASS" redis-cli -s "$R/store.sock" blpop nothing 60
  WAITS=$PID
  sleep 1
  stop "$HAPROXY" KILL
  check_ends "$PASS: HAProxy is killed: curl ends" "$VICTIM" 10
  compare_text "curl says then" "$(sed 's/[0-9]\{4,\}/N/g' "$T/log/victim.$PASS")"
  check_ends "$PASS: HAProxy is killed: redis-cli ends" "$WAITS" 10
  compare_text "redis-cli says then" "$(cat "$T/log/waits.$PASS")"
  stop "$BENCH" KILL
  only_asker() { [ "$(on neither redis-cli -s "$R/redis.sock" client list | grep -c .)" = 1 ]; }
  check "$PASS: redis notices that HAProxy is gone" wait_for 10 only_asker
  compare_failure "refused without HAProxy" get http://x/1
  rm -f "$R"/{web,two,store,echo-front,admin}.sock*

  # the other poller
  configure '  noepoll' '  nbthread 1'
  start_haproxy
  check "$PASS: HAProxy starts, poll" wait_for 10 answers /1 200
  traffic poll
  stop "$HAPROXY" USR1
  verdict "$PASS: USR1 ends HAProxy" $? "$(cat "$HAPROXY_LOG")"
  stop "$UPSTREAM"
  stop "$REDIS"
  stop "$ECHO"
  compare_text "what is left of sockets" "$(find "$R" -name '*sock*' -printf '%f\n' | sed 's/[0-9]\+/N/' | sort)"
  rm -f "$R"/*.sock*
}

make_files
run_twice one_run
