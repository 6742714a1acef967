#!/bin/bash
# nginx in front of servers on Unix sockets: another nginx (HTTP), fcgiwrap and php-fpm (FastCGI). wrk and curl come
# in over TCP, curl also over a Unix socket. Downloads, uploads, aborted and killed peers, reload, restart.
# See common.sh for the environment, twice.sh for the two passes. TSSX_SIDE=server preloads the nginx in front,
# TSSX_SIDE=client everything around it.

TITLE='nginx'
TIME_LIMIT=280
APP_USER=www-data
PHP=$(ls /usr/sbin/php-fpm* 2>/dev/null | sort -V | tail -n 1)
PROGRAMS="nginx fcgiwrap ${PHP:-php-fpm} wrk curl"
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

F=$T/a/files
FRONT=$R/front.sock UP=$R/up.sock CGI=$R/cgi.sock FPM=$R/fpm.sock
LISTED="$FRONT $UP $CGI $FPM"
IDS=${TSSX_IDS:-auto} # for both nginx; the others count from 0
export TSSX_IDS=kernel

# --- files that are served ------------------------------------------------------------------------------------

SIZES=(0 1 100 4095 4096 65535 65536 65537 262143 262144 262145 1048577 20000000)
make_files() {
  local n
  mkdir "$F" || exit 2
  head -c 20000000 /dev/urandom >"$T/noise"
  for n in "${SIZES[@]}"; do head -c "$n" "$T/noise" >"$F/$n"; done
  cat >"$F/echo.cgi" <<'CGI'
#!/bin/bash
body=$(md5sum)
printf 'Content-Type: text/plain\r\n\r\n'
echo "$REQUEST_METHOD $QUERY_STRING ${CONTENT_LENGTH:-none} ${body%% *}"
[ "${QUERY_STRING:-0}" -gt 0 ] 2>/dev/null && head -c "$QUERY_STRING" "${SCRIPT_FILENAME%/*}/20000000"
exit 0
CGI
  cat >"$F/echo.php" <<'PHP'
<?php
$body = file_get_contents('php://input');
echo $_SERVER['REQUEST_METHOD'], ' ', $_SERVER['QUERY_STRING'], ' ', strlen($body), ' ', md5($body), "\n";
if ($_SERVER['QUERY_STRING'] > 0) echo substr(file_get_contents(__DIR__ . '/20000000'), 0, (int)$_SERVER['QUERY_STRING']);
PHP
  cat >"$F/slow.php" <<'PHP'
<?php
for ($i = 0; $i < 600; $i++) { echo str_repeat('s', 999), "\n"; flush(); usleep(100000); }
PHP
  chmod 755 "$F/echo.cgi"
  # wrk compares every answer with the file it asked for
  cat >"$T/compare.lua" <<'LUA'
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init(args)
  local file = io.open(args[1], "rb")
  expected = file:read("*a")
  right, wrong = 0, 0
end
function response(status, headers, body)
  if status == 200 and body == expected then right = right + 1 else wrong = wrong + 1 end
end
function done(summary, latency, requests)
  local right, wrong = 0, 0
  for _, thread in ipairs(threads) do right, wrong = right + thread:get("right"), wrong + thread:get("wrong") end
  local e = summary.errors
  io.write(string.format("right %d wrong %d errors %d\n", right, wrong, e.connect + e.read + e.write + e.timeout))
end
LUA
}

# --- the servers ----------------------------------------------------------------------------------------------

common_part() { # common_part NAME
  local kind
  echo "daemon off; worker_processes 2; pid $R/$1.pid; error_log $R/$1.log notice;"
  echo "events { worker_connections 400; use epoll; }"
  echo "http { access_log off; client_max_body_size 100m; keepalive_requests 1000000; server_tokens off;"
  for kind in client_body proxy fastcgi uwsgi scgi; do echo "${kind}_temp_path $R/$1.$kind;"; done
}
configure() {
  {
    common_part up
    cat <<CONF
  server {
    listen unix:$UP;
    root $F;
    sendfile on;
    location /no-sendfile/ { alias $F/; sendfile off; }
    location /slow/ { alias $F/; limit_rate 300k; }
    location /stored/ { alias $R/stored/; dav_methods PUT DELETE; create_full_put_path on; }
    location /text/ { return 200 "\$request_method \$request_uri \$http_x_case \$server_protocol\n"; }
    location /teapot { return 418 "short and stout\n"; }
    location /dropped { return 444; }
  }
}
CONF
  } >"$T/up.conf"
  {
    common_part front
    cat <<CONF
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  upstream up { server unix:$UP; keepalive 16; keepalive_requests 1000000; }
  upstream fpm { server unix:$FPM; keepalive 4; }
  include /etc/nginx/fastcgi_params;
  fastcgi_param SCRIPT_FILENAME $F\$fastcgi_script_name;
  server {
    listen 127.0.0.1:$PORT;
    listen unix:$FRONT;
    location / { proxy_pass http://up; }
    location /single/ { proxy_set_header Connection close; proxy_pass http://unix:$UP:/; }
    location /unbuffered/ { proxy_buffering off; proxy_request_buffering off; proxy_pass http://up/; }
    location ~ [.]cgi\$ { fastcgi_pass unix:$CGI; }
    location ~ [.]php\$ { fastcgi_pass fpm; fastcgi_keep_conn on; fastcgi_buffering off; }
  }
}
CONF
  } >"$T/front.conf"
  cat >"$T/fpm.conf" <<CONF
[global]
error_log = $R/fpm.log
daemonize = no
[pool]
listen = $FPM
pm = static
pm.max_children = 6
request_terminate_timeout = 100
CONF
  chmod 644 "$T"/*.conf "$T/compare.lua"
}

nginx_on() { # nginx_on SIDE NAME: its process ID is in PID
  start "$1" "$T/log/$2.$PASS.$((RUN = ${RUN:-0} + 1))" env "TSSX_IDS=$IDS" nginx -c "$T/$2.conf" -e "$R/$2.log"
}
get() { on client curl -sS --max-time 20 "$@"; }
url() { echo "http://127.0.0.1:$PORT$1"; }
quietly() { on neither curl -s -o /dev/null -w '%{http_code}' --max-time 5 "$@"; } # for waiting
answers() { [ "$(quietly "$1")" = "$2" ]; } # answers URL CODE
up_answers() { [ "$(quietly --unix-socket "$UP" http://x/1)" = 200 ]; }
free_port() {
  while PORT=$((20000 + RANDOM % 12000)); do
    (: <"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null || return 0
  done
}

start_up() {
  nginx_on client up
  UPSTREAM=$PID
  wait_for 10 up_answers
}
start_servers() {
  local try
  start_up
  verdict "$PASS: the upstream nginx starts" $? "$(cat "$T/log/up.$PASS."* "$R/up.log")"
  start client "$T/log/cgi.$PASS" fcgiwrap -c 3 -s "unix:$CGI"
  FCGIWRAP=$PID
  start client "$T/log/fpm.$PASS" "$PHP" -n -y "$T/fpm.conf" -d error_log=/dev/stderr
  PHP_FPM=$PID
  for try in 1 2 3; do # the port may have been taken meanwhile
    nginx_on server front
    FRONTEND=$PID
    wait_for 10 answers "$(url /1)" 200 && break
    stop "$FRONTEND"
    free_port
    configure
  done
  answers "$(url /1)" 200
  verdict "$PASS: the nginx in front starts" $? "$(cat "$R/front.log")"
  check "$PASS: fcgiwrap answers" wait_for 10 answers "$(url /echo.cgi)" 200
  check "$PASS: php-fpm answers" wait_for 10 answers "$(url /echo.php)" 200
  check_preload server "$FRONTEND"
  check_preload client "$UPSTREAM"
  check_preload client "$FCGIWRAP"
  check_preload client "$PHP_FPM"
}

# --- what is done with them -----------------------------------------------------------------------------------

fetch_all() { # fetch_all PREFIX CURL-OPTION...: every size, with its checksum and status
  local n code prefix=$1
  shift
  for n in "${SIZES[@]}"; do
    code=$(get -o "$R/fetched" -w '%{http_code} %{size_download}' "$@" "$(url "$prefix$n")") || return 1
    cmp "$R/fetched" "$F/$n" || return 1
    echo "$n: $code $(md5sum <"$R/fetched")"
  done
}
store_all() { # store_all PREFIX CURL-OPTION...: every size is put, compared on the disk, deleted
  local n prefix=$1
  shift
  for n in "${SIZES[@]}"; do
    get -w '%{http_code}\n' -T "$([ "${CHUNKED:-}" ] && echo - || echo "$F/$n")" "$@" \
      "$(url "$prefix/stored/x/$n")" <"$F/$n" || return 1
    cmp "$F/$n" "$R/stored/x/$n" || return 1
    get -w '%{http_code}\n' -X DELETE "$(url "$prefix/stored/x/$n")" || return 1
    [ ! -e "$R/stored/x/$n" ] || return 1
  done
}
script_all() { # script_all NAME SIZE...: answers of these sizes, and the same as bodies
  local n name=$1
  shift
  for n in "$@"; do
    get -o "$R/fetched" -w '%{http_code} %{size_download}\n' "$(url "/$name?$n")" || return 1
    cmp <(tail -n +2 "$R/fetched") <(head -c "$n" "$T/noise") || return 1
    head -n 1 "$R/fetched"
    get -X POST --data-binary "@$F/$n" "$(url "/$name")" || return 1
  done
}
many_on_one() { get "$(url '/text/[1-300]')" -H 'X-Case: many'; }
in_parallel() {
  get -Z --no-progress-meter --parallel-max 20 -o "$R/parallel.#1" "$(url '/1048577?[1-40]')" || return 1
  md5sum "$T"/parallel.* | cut -d ' ' -f 1 | uniq -c
  rm -f "$T"/parallel.*
}
headers_of() { get -D - -o /dev/null "$@" | grep -vi '^Date:'; }
part() { get -r 65000-66000 "$(url /262145)" | md5sum; }
slow_reader() { get --limit-rate 6M "$(url "$1/20000000")" | md5sum; }
body_of() { get -w '%{http_code}\n' "$(url "$1")"; }
aborted() { get --max-time 0.4 "$(url "$1")" 2>&1 >/dev/null | sed 's/after.*//'; return "${PIPESTATUS[0]}"; } # 28

# load NAME PATH FILE CONNECTIONS SECONDS: wrk; every answer is right
load() {
  local log=$T/log/wrk.$PASS.${1//[^a-z0-9]/-}
  LIMIT=$(($5 + 15)) on client wrk -t 2 -c "$4" -d "$5" --timeout 10 -s "$T/compare.lua" "$(url "$2")" -- "$3" >"$log" 2>&1
  cat "$log"
  grep -qE '^right [1-9][0-9]* wrong 0 errors 0$' "$log"
}
start_load() { # start_load PATH FILE CONNECTIONS SECONDS: in the background, LOAD
  start client "$T/log/load.$PASS" wrk -t 2 -c "$3" -d "$4" --timeout 10 -s "$T/compare.lua" "$(url "$1")" -- "$2"
  LOAD=$PID
}
load_was_right() { # load_was_right NAME
  ends "$LOAD" 25
  check "$PASS: $1" grep -E '^right [1-9][0-9]* wrong 0 errors 0$' "$T/log/load.$PASS"
}

children() { cat "/proc/$1/task/$1/children"; }
none_of() { # none_of PID...: they have all ended
  local pid
  for pid; do [ -z "$(birth "$pid")" ] || return 1; done
}
reload() { # reload PID: its workers are replaced
  local old
  old=$(children "$1")
  kill -HUP "$1"
  wait_for 15 none_of $old
}

one_run() {
  free_port
  configure
  start_servers
  alive "$FRONTEND" && alive "$UPSTREAM" || return

  for WAY in / /single/ /unbuffered/ /no-sendfile/; do compare "GET $WAY" fetch_all "$WAY"; done
  compare "GET over a Unix socket" fetch_all / --unix-socket "$FRONT"
  compare "PUT" store_all ""
  compare "PUT, unbuffered" store_all /unbuffered
  CHUNKED=1 compare "PUT over a Unix socket, chunked" store_all /unbuffered --unix-socket "$FRONT"
  compare "300 requests on one connection" many_on_one
  compare "40 downloads in parallel" in_parallel
  compare "HEAD" headers_of -I "$(url /65536)"
  compare "headers" headers_of -H 'X-Case: headers' "$(url /text/a?b=c)"
  compare "a part of a file" part
  compare "404" body_of /nowhere
  compare "418" body_of /teapot
  compare "the upstream drops the connection" body_of /dropped
  compare "a slow reader" slow_reader ""
  compare "a slow reader, unbuffered" slow_reader /unbuffered
  compare "fcgiwrap" script_all echo.cgi 0 1 65536 262145 1048577
  compare "php-fpm" script_all echo.php 0 1 65536 262145 1048577

  start_load /4096 "$F/4096" 32 4
  check_preload client "$LOAD"
  WAYS=2 look "the upstream" "$UP" 2
  if preloaded_side client; then check_ids "the upstream" "$IDS" "$UPSTREAM"; fi
  load_was_right "wrk, 32 connections"
  check "$PASS: wrk, a connection upstream for each request" load single /single/4096 "$F/4096" 16 2
  check "$PASS: wrk, 1 MB" load large /1048577 "$F/1048577" 8 2
  get "$(url /echo.php?262145)" >"$T/php.expected"
  start_load "/echo.php?262145" "$T/php.expected" 4 3
  look "php-fpm" "$FPM" 1
  load_was_right "wrk, php-fpm"
  get "$(url /echo.cgi?4096)" >"$T/cgi.expected"
  check "$PASS: wrk, fcgiwrap" load cgi "/echo.cgi?4096" "$T/cgi.expected" 3 2
  start client "$T/log/front.$PASS" curl -sS --unix-socket "$FRONT" --limit-rate 5M -o "$R/slowly" http://x/20000000
  look "curl to the front" "$FRONT" 1
  if preloaded_side server; then check_ids "the front" "$IDS" "$FRONTEND"; fi
  check_ends "$PASS: a download over the front's Unix socket ends" "$PID" 15
  same "$PASS: it is complete" "$F/20000000" "$R/slowly"

  # peers that go away
  for WAY in /slow/20000000 /unbuffered/slow/20000000 /slow.php; do compare_failure "curl gives up $WAY" aborted "$WAY"; done
  start_load /1048577 "$F/1048577" 16 30
  sleep 1
  stop "$LOAD" KILL
  compare "after a killed wrk" fetch_all /
  start client "$T/log/victim.$PASS" curl -sS --max-time 20 -o /dev/null "$(url /unbuffered/slow/20000000)"
  sleep 1
  kill -KILL $(children "$UPSTREAM")
  check_ends "$PASS: the upstream's workers are killed: curl ends" "$PID" 10
  compare_text "it says" "$(cat "$T/log/victim.$PASS" | sed 's/[0-9]\{4,\}/N/g')"
  check "$PASS: the upstream recovers" wait_for 10 answers "$(url /1)" 200
  compare "after killed upstream workers" fetch_all /
  start client "$T/log/victim.$PASS" curl -sS --max-time 20 -o /dev/null "$(url /unbuffered/slow/20000000)"
  sleep 1
  kill -KILL $(children "$FRONTEND")
  check_ends "$PASS: the front's workers are killed: curl ends" "$PID" 10
  check "$PASS: the front recovers" wait_for 10 answers "$(url /1)" 200
  compare "after killed front workers" fetch_all /

  # reload and restart
  start_load /65536 "$F/65536" 8 4
  sleep 1
  check "$PASS: reload of the front under load" reload "$FRONTEND"
  ends "$LOAD" 25
  check "$PASS: no answer was wrong" grep -E '^right [1-9][0-9]* wrong 0 ' "$T/log/load.$PASS"
  check "$PASS: reload of the upstream" reload "$UPSTREAM"
  compare "after both reloads" fetch_all /
  stop "$UPSTREAM" QUIT
  verdict "$PASS: QUIT ends the upstream" $?
  compare "502 without the upstream" body_of /1
  start_up
  verdict "$PASS: the upstream starts again" $?
  compare "after the upstream's restart" fetch_all /
  stop "$PHP_FPM" QUIT
  verdict "$PASS: QUIT ends php-fpm" $?
  compare "502 without php-fpm" body_of /echo.php
  kill -TERM -- "-$FCGIWRAP" # its children don't end with it
  stop "$FCGIWRAP"
  stop "$FRONTEND" QUIT
  verdict "$PASS: QUIT ends the front" $?
  stop "$UPSTREAM"
  verdict "$PASS: TERM ends the upstream" $?
  compare_text "alarms in the logs" "$(grep -hoE '\[(alert|emerg|crit)\] [0-9#]+: (\*[0-9]+ )?.*' "$R/up.log" "$R/front.log" |
    sed -E 's/[0-9]+/N/g' | sort -u)"
  # fcgiwrap leaves its socket
  rm -f "$CGI"
}

make_files
run_twice one_run
