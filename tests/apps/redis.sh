#!/bin/bash
# Redis over its Unix socket: redis-benchmark, values of awkward sizes, publish and subscribe, blocked clients,
# killed clients, a background save under load. See common.sh for the environment.

TITLE='Redis'
TIME_LIMIT=90
PROGRAMS='redis-server redis-cli redis-benchmark'
. "$(dirname "$0")/common.sh"

S=$T/a/redis.sock
LISTED=$S
cd "$T/a" || exit 2

cli() { on client redis-cli -s "$S" "$@"; }
quietly() { on neither redis-cli -s "$S" "$@" 2>/dev/null | tr -d '\r'; } # for waiting, never preloaded
answers() { [ "$(quietly ping)" = PONG ]; }
info_is() { quietly info "$1" | grep -qx "$2"; } # info_is SECTION LINE
clients_named() { quietly client list | grep -c " name=$1 "; }
named() { [ "$(clients_named "$1")" = "$2" ]; } # named NAME COUNT
number_of_clients() { [ "$(quietly client list | grep -c .)" = "$1" ]; }

start_server() {
  start server "$T/log/server.$((RUN = ${RUN:-0} + 1))" redis-server --port 0 --unixsocket "$S" --dir "$T/a" \
    --save '' --appendonly no --daemonize no
  SERVER=$PID
  wait_for 10 answers
}
start_server
verdict "the server starts" $? "$(cat "$T/log/server.1")"
alive "$SERVER" || finish
check_preload server "$SERVER"
equal "PING" PONG "$(cli ping)"

# --- redis-benchmark ------------------------------------------------------------------------------------------

bench() { # bench NAME TESTS OPTION...: every test reports a rate, nothing fails
  local name=$1 log=$T/log/${1//[^a-z0-9]/-} rc count
  LIMIT=25 on client redis-benchmark -s "$S" -q -t "$2" "${@:3}" >"$log" 2>&1
  rc=$?
  count=$(tr '\r' '\n' <"$log" | grep -c '^[A-Z].*: [0-9.]* requests per second')
  if [ $rc = 0 ] && [ "$count" -ge "$(tr , '\n' <<<"$2" | grep -c .)" ] && ! grep -qiE 'error|failed|closed' "$log"; then
    pass "$name"
  else
    fail "$name" "status $rc"$'\n'"$(tr '\r' '\n' <"$log" | tail -n 10)"
  fi
}
bench "redis-benchmark" ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,lrange_600,mset -n 4000
bench "redis-benchmark -P 16" set,get,incr,lpush -n 60000 -P 16
bench "redis-benchmark, 50 connections" set,get -n 20000 -c 50
bench "redis-benchmark, 200 connections" ping,set -n 8000 -c 200
bench "redis-benchmark, 1 connection" set,get -n 1500 -c 1
bench "redis-benchmark, two threads" set,get -n 20000 -c 20 --threads 2
bench "redis-benchmark, values of 1 MB" set,get -n 150 -c 4 -d 1000000
bench "redis-benchmark, a connection for each request" set -n 1500 -c 8 -k 0
check "all its connections are closed" wait_for 5 number_of_clients 1

if look_from_outside; then
  for CASE in 'set -c 50' 'get -c 10 -P 16'; do
    COUNT=${CASE#*-c } COUNT=${COUNT%% *}
    start client "$T/log/watched" redis-benchmark -s "$S" -q -n 1000000000 -t $CASE
    check "tssx-stat while redis-benchmark runs ($CASE)" busy_connections "$COUNT" redis-benchmark
    alive "$PID" || fail "redis-benchmark keeps running" "$(tail -c 500 "$T/log/watched")"
    stop "$PID" KILL
    check "the server notices that its $COUNT clients are gone" wait_for 5 number_of_clients 1
  done
  if accelerated; then check "no connection is left on rings" wait_for 5 connections_are '.*' 0 redis-benchmark; fi
fi

# --- values there and back ------------------------------------------------------------------------------------

cli flushall >/dev/null
head -c 10485760 /dev/urandom >"$T/noise"
SIZES=(1 4095 4096 4097 65535 65536 65537 131072 212991 212992 262143 262144 262145 1048577 10485760)
there_and_back() { # there_and_back SIZE
  head -c "$1" "$T/noise" >"$T/in"
  [ "$(cli -x set "value:$1" <"$T/in")" = OK ] || return 1
  [ "$(cli strlen "value:$1")" = "$1" ] || return 1
  cli --raw get "value:$1" | head -c "$1" >"$T/out"
  cmp "$T/in" "$T/out"
}
for n in "${SIZES[@]}"; do check "a value of $n bytes, there and back" there_and_back "$n"; done
get_all() { # all of them on one connection, at once
  for n in "${SIZES[@]}"; do head -c "$n" "$T/noise"; echo; done | md5sum
  for n in "${SIZES[@]}"; do echo "get value:$n"; done | cli --raw | md5sum
}
equal "all values on one connection" 1 "$(get_all | sort -u | wc -l)"
pipe_in() { # the mass insertion of redis-cli: one stream of commands
  awk 'BEGIN { for (i = 1; i <= 50000; i++) {
    k = "key:" i; v = "value " i * 7
    printf "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", length(k), k, length(v), v } }' | cli --pipe
}
check "50000 commands in one stream" pipe_in
equal "they have arrived" "$((50000 + ${#SIZES[@]}))" "$(cli dbsize)"
equal "and so has their content" "value $((49999 * 7))" "$(cli get key:49999)"
equal "SCAN" 11111 "$(cli --scan --pattern 'key:1*' | wc -l)"

# --- publish and subscribe, MONITOR ---------------------------------------------------------------------------

for i in 1 2 3; do
  start client "$T/subscriber.$i" redis-cli -s "$S" subscribe news
  SUBSCRIBER[i]=$PID
done
check_preload client "$PID"
start client "$T/monitor" redis-cli -s "$S" monitor
MONITOR=$PID
subscribed() { [ "$(quietly pubsub numsub news | tail -n 1)" = 3 ]; }
check "three subscribers" wait_for 5 subscribed
wait_for 5 grep -q OK "$T/monitor"
equal "all publications reach three" "300 3" "$(for i in {1..300}; do echo "publish news message-$i"; done | cli | uniq -c | awk '{ print $1, $2 }')"
received() { [ "$(grep -c '^message-' "$T/subscriber.$1")" = "$2" ]; }
for i in 1 2 3; do
  check "subscriber $i has all" wait_for 5 received "$i" 300
  equal "subscriber $i: in order" "$(printf 'message-%s\n' {1..300})" "$(grep '^message-' "$T/subscriber.$i")"
done
seen() { [ "$(grep -c '"publish" "news"' "$T/monitor")" = 300 ]; }
check "MONITOR has seen them" wait_for 5 seen
head -c 300000 "$T/noise" | base64 -w 0 >"$T/in"
equal "a publication of 400 kB" 3 "$(cli -x publish news <"$T/in")"
large() { [ "$(tail -n 1 "$T/subscriber.$1" | md5sum)" = "$( (cat "$T/in"; echo) | md5sum)" ]; }
check "it arrives" wait_for 5 large 2
stop "${SUBSCRIBER[1]}" KILL
gone_from_channel() { [ "$(quietly pubsub numsub news | tail -n 1)" = 2 ]; }
check "a killed subscriber: the server notices" wait_for 5 gone_from_channel
stop "${SUBSCRIBER[3]}"
stop "$MONITOR"

# --- blocked clients, killed clients --------------------------------------------------------------------------

blocked() { info_is clients "blocked_clients:$1"; }
start client "$T/blpop" redis-cli -s "$S" blpop queue 30
check "BLPOP blocks" wait_for 5 blocked 1
sleep 0.5
equal "RPUSH" 1 "$(cli rpush queue done)"
check_ends "BLPOP ends" "$PID" 5
equal "BLPOP has its answer" "queue done" "$(tr '\n' ' ' <"$T/blpop" | sed 's/ $//')"
start client "$T/blpop" redis-cli -s "$S" blpop queue 1
check_ends "BLPOP with a time limit ends" "$PID" 4
CROWD=()
for i in {1..20}; do
  start client "$T/crowd.$i" redis-cli -s "$S" brpop many 30
  CROWD+=("$PID")
done
check "20 blocked clients" wait_for 5 blocked 20
cli lpush many {1..20} >/dev/null
for i in {1..20}; do ends "${CROWD[i - 1]}" 5; done
equal "each has one element" "$(echo {1..20})" "$(grep -hv many "$T"/crowd.* | sort -n | tr '\n' ' ' | sed 's/ $//')"
start client "$T/victim" redis-cli -s "$S" blpop nothing 30
wait_for 5 blocked 1
VICTIM=$(quietly client list | sed -n 's/^id=\([0-9]*\) .* cmd=blpop .*/\1/p')
equal "CLIENT KILL" 1 "$(cli client kill id "$VICTIM")"
check_ends "the killed client notices" "$PID" 5
check "it says so" grep -qiE 'closed|reset|broken' "$T/victim"
start client "$T/victim" redis-cli -s "$S" blpop nothing 30
wait_for 5 blocked 1
stop "$PID" KILL
check "a client killed while it was blocked: the server notices" wait_for 5 blocked 0
equal "MULTI" 'OK QUEUED QUEUED OK 2' "$(printf 'multi\nset counter 1\nincr counter\nexec\n' | cli | tr '\n' ' ' | sed 's/ $//')"

# --- a background save under load -----------------------------------------------------------------------------

start client "$T/log/load" redis-benchmark -s "$S" -q -n 1000000000 -c 20 -t get
LOAD=$PID
number_at_least() { [ "$(quietly client list | grep -c .)" -ge "$1" ]; }
wait_for 5 number_at_least 20
cli config set rdb-key-save-delay -10 >/dev/null # so that the child lives for half a second
saved() { info_is persistence rdb_bgsave_in_progress:0; }
for i in 1 2 3; do
  check "BGSAVE $i under load" cli bgsave
  check "BGSAVE $i ends" wait_for 15 saved
done
cli config set rdb-key-save-delay 0 >/dev/null
check "its status is good" info_is persistence rdb_last_bgsave_status:ok
check "the load goes on" alive "$LOAD"
check "its connections are there" number_at_least 21
stop "$LOAD"
check "the file is complete" on neither redis-check-rdb "$T/a/dump.rdb"
check "a replica's transfer" cli --rdb "$T/transfer.rdb"
check "the transferred file is complete" on neither redis-check-rdb "$T/transfer.rdb"

# --- the end --------------------------------------------------------------------------------------------------

start client "$T/last" redis-cli -s "$S" blpop nothing 30
LAST=$PID
wait_for 5 blocked 1
cli shutdown nosave >"$T/log/shutdown" 2>&1
check_ends "SHUTDOWN ends the server" "$SERVER" 5
check_ends "SHUTDOWN: a blocked client ends" "$LAST" 5
stop "${SUBSCRIBER[2]}"
check "afterwards: refused" grep -qE 'No such file|refused' <(cli ping 2>&1)
start_server
verdict "the server starts with the saved data" $? "$(cat "$T/log/server.2")"
equal "all of it" "value $((777 * 7))" "$(cli get key:777)"
cli --raw get value:1048577 | head -c 1048577 >"$T/out"
head -c 1048577 "$T/noise" >"$T/in"
same "a saved value of 1 MB" "$T/in" "$T/out"
stop "$SERVER" TERM 10
verdict "TERM ends the server" $?
equal "its socket is removed" '' "$(find "$T/a" -type s)"
finish
