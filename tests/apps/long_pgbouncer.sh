#!/bin/bash
# PgBouncer with Unix sockets at both ends: psql, pgbench and pg_dump in front, PostgreSQL behind. Session,
# transaction and statement pooling, prepared statements, cancelled queries, the administration console, peers that
# go away, and an online restart, which hands the open connections on to a new process.
# See common.sh for the environment, twice.sh for the two passes. TSSX_SIDE=server preloads PgBouncer,
# TSSX_SIDE=client everything around it.

TITLE='PgBouncer'
TIME_LIMIT=280
APP_USER=postgres
BIN=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
BIN=${BIN:-$(dirname "$(command -v initdb || echo /nowhere/x)")}
PROGRAMS="pgbouncer $BIN/initdb $BIN/postgres $BIN/pgbench $BIN/psql $BIN/pg_dump"
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

FRONT=$R/b/.s.PGSQL.6432 BACK=$R/s/.s.PGSQL.5432
LISTED="$FRONT $BACK"
unset PGOPTIONS PGSERVICE PGPASSWORD PGSSLMODE
export PGHOST=$R/b PGPORT=6432 PGUSER=postgres PGDATABASE=session PGCONNECT_TIMEOUT=20

client() { on client "$@"; }
sql() { on client "$BIN/psql" -XAtq -v ON_ERROR_STOP=1 "$@"; } # sql [-d POOL]
admin() { sql -d pgbouncer -c "$1"; }
direct() { on neither "$BIN/psql" -XAtq -h "$R/s" -p 5432 -d postgres -c "$1" 2>/dev/null; } # for waiting
holds() { [ "$(direct "select $1")" = t ]; }
direct_answers() { [ "$(direct 'select 1')" = 1 ]; }
answers() { [ "$(on neither "$BIN/psql" -XAtqc 'select 1' -d "${1:-session}" 2>/dev/null)" = 1 ]; }
sleepers_are() { holds "count(*) = $1 from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"; }

# --- psql as an interactive session ---------------------------------------------------------------------------

declare -A IN=() SESSION=()
ASKED=0
open_session() { # open_session NAME POOL
  local fd
  mkfifo "$T/$1.in"
  exec {fd}<>"$T/$1.in"
  start client "$T/$1.out" "$BIN/psql" -XAtq -d "$2" <"$T/$1.in"
  IN[$1]=$fd SESSION[$1]=$PID
}
tell() { echo "$2" >&"${IN[$1]}"; }
has_line() { grep -qsxF -e "$2" "$1"; }
ask() { # ask NAME TEXT: what psql prints for it, in ANSWER
  ASKED=$((ASKED + 1))
  printf '%s\n' "\\echo begin-$ASKED" "$2" "\\echo end-$ASKED" >&"${IN[$1]}"
  wait_for 15 has_line "$T/$1.out" "end-$ASKED" || { ANSWER="no answer: $(tail -n 5 "$T/$1.out")"; return 1; }
  ANSWER=$(sed "0,/^begin-$ASKED\$/d;/^end-$ASKED\$/,\$d" "$T/$1.out")
}
compare_answer() { # compare_answer NAME TITLE TEXT
  ask "$1" "$3"
  compare_text "$2" "$ANSWER"
}
close_session() { # close_session NAME: it may have ended by itself
  local fd=${IN[$1]}
  tell "$1" '\q'
  ends "${SESSION[$1]}" 5 || stop "${SESSION[$1]}"
  exec {fd}>&-
  rm -f "$T/$1.in"
}

# --- the servers ----------------------------------------------------------------------------------------------

prepare() {
  if ! on neither "$BIN/initdb" -D "$T/a/data" -U postgres --no-locale -E UTF8 -A trust --no-sync >"$T/log/initdb" 2>&1; then
    fail initdb "$(cat "$T/log/initdb")"
    finish
  fi
  cat >>"$T/a/data/postgresql.conf" <<CONF
listen_addresses = ''
port = 5432
unix_socket_directories = '$R/s'
fsync = off
autovacuum = off
max_connections = 60
shared_buffers = 64MB
wal_level = minimal
max_wal_senders = 0
max_wal_size = 512MB
synchronize_seqscans = off
dynamic_shared_memory_type = mmap
logging_collector = off
CONF
  cat >"$T/pgbouncer.ini" <<CONF
[databases]
session = host=$R/s port=5432 dbname=postgres pool_mode=session pool_size=20
second = host=$R/s port=5432 dbname=second pool_mode=session pool_size=5
transaction = host=$R/s port=5432 dbname=postgres pool_mode=transaction pool_size=4
statement = host=$R/s port=5432 dbname=postgres pool_mode=statement pool_size=2
nowhere = host=$R/none port=5432 dbname=postgres
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = $R/b
auth_type = trust
auth_file = $T/users
admin_users = postgres
pidfile = $R/pgbouncer.pid
max_client_conn = 100
ignore_startup_parameters = extra_float_digits,options
server_login_retry = 1
server_check_delay = 0
query_wait_timeout = 0
CONF
  echo '"postgres" ""' >"$T/users"
  chmod 644 "$T/pgbouncer.ini" "$T/users"
}
start_postgres() {
  start client "$T/log/postgres.$PASS.$((RUN = ${RUN:-0} + 1))" "$BIN/postgres" -D "$R/data"
  POSTGRES=$PID
  wait_for 30 direct_answers
}
start_pgbouncer() { # start_pgbouncer [OPTION]
  start server "$T/log/pgbouncer.$PASS.$((RUN = ${RUN:-0} + 1))" pgbouncer "$@" "$T/pgbouncer.ini"
  PGBOUNCER=$PID
  PGBOUNCER_LOG=$T/log/pgbouncer.$PASS.$RUN
}

# --- what is done with them -----------------------------------------------------------------------------------

bench() { # bench OPTION...: no failure, no abort; how many transactions, and nothing of times
  local log=$T/log/bench.$PASS rc
  client "$BIN/pgbench" -n "$@" >"$log" 2>&1
  rc=$?
  grep -E '^(transaction type|query mode|number of (clients|transactions))' "$log"
  [ $rc = 0 ] && ! grep -iE 'abort|error:|failed transactions: [1-9]' "$log"
}
queries() { # queries POOL
  sql -d "$1" -c "select 123 * 45, 'x'" || return 1
  sql -d "$1" -c "select md5(string_agg(g::text, '')) from generate_series(1, 100000) g" || return 1
  sql -d "$1" -c "select g, repeat('r', g % 300) from generate_series(1, 30000) g" | md5sum
  sql -d "$1" -c "select repeat('z', 20000000)" | md5sum
  sql -d "$1" <"$T/long.sql"
}
errors() { # errors POOL
  on client "$BIN/psql" -XAt -d "$1" 2>&1 <<'SQL'
select 1 / 0;
select nonsense;
syntax error;
begin;
select 1;
select 1 / 0;
select 1;
rollback;
select 'after';
SQL
}
copy_both_ways() { # copy_both_ways POOL: 30 MB
  sql -d "$1" -c 'create unlogged table big as select g, repeat(md5(g::text), 9) t from generate_series(1, 100000) g' \
    -c 'create unlogged table big2 (like big)' || return 1
  sql -d "$1" -c 'copy big to stdout' >"$T/copied" || return 1
  md5sum <"$T/copied"
  sql -d "$1" -c 'copy big2 from stdin' <"$T/copied" || return 1
  sql -d "$1" -c 'select count(*), count(*) filter (where a.t = b.t) from big a full join big2 b using (g)'
  sql -d "$1" -c 'copy big2 to stdout' | { sleep 1; md5sum; }
  sql -d "$1" -c 'drop table big, big2'
  rm -f "$T/copied"
}
prepared() { # prepared POOL: on one connection
  on client "$BIN/psql" -XAt -d "$1" 2>&1 <<'SQL'
prepare p (int, text) as select $1 * 2, repeat($2, $1);
execute p (3, 'ab');
execute p (4, 'cd');
begin;
declare c cursor for select generate_series(1, 1000);
fetch 3 from c;
move 500 in c;
fetch 2 from c;
commit;
deallocate p;
SQL
}
balances() {
  sql -c "select a = t, t = b, b = h, n from (select sum(abalance) a from pgbench_accounts) a,
    (select sum(tbalance) t from pgbench_tellers) t, (select sum(bbalance) b from pgbench_branches) b,
    (select sum(delta) h, count(*) n from pgbench_history) h"
}
dump_and_restore() {
  set -o pipefail
  client "$BIN/pg_dump" -d session -T 'pgbench_*' | client "$BIN/psql" -XAtq -v ON_ERROR_STOP=1 -d second >/dev/null || return 1
  client "$BIN/pg_dump" -d second | grep -v '^--\|^\\.*restrict' | md5sum
}
interrupted() { # interrupted POOL: psql, waiting for an answer, gets Ctrl-C
  start client "$T/interrupted" "$BIN/psql" -XAtq -d "$1" -c 'select pg_sleep(60)'
  check "$PASS: a query runs, $1" wait_for 10 sleepers_are 1
  kill -INT "$PID"
  check_ends "$PASS: psql, interrupted, ends, $1" "$PID" 10
  compare_text "psql, interrupted, $1" "$STATUS $(cat "$T/interrupted")"
  check "$PASS: the backend has stopped, $1" wait_for 5 sleepers_are 0
}
pools() { admin 'show databases' | cut -d '|' -f 1,4,6,7,8; }
lists() { admin 'show lists' | grep -E '^(databases|users|pools)'; }

# Clients that ask one question after the other until they are told that it is enough, however long that takes. A
# statement is short enough for the rest of them in the pipe to be answered soon.
LOAD=()
start_load() { # start_load POOL COUNT
  local i
  rm -f "$T/enough"
  LOAD=()
  for ((i = 1; i <= $2; i++)); do
    start client "$T/load.$i" "$BIN/psql" -XAtq -v ON_ERROR_STOP=1 -d "$1" < <(questions "$i")
    LOAD+=("$PID")
  done
  check "$PASS: $2 clients are served, $1" wait_for 10 load_is_served
}
questions() { # questions NUMBER
  local i
  for ((i = 1; ; i++)); do
    [ ! -e "$T/enough" ] || break
    echo "select case when abalance is null then 'wrong' else 'right' end from pgbench_accounts where aid = $((i % 1000 + $1));"
  done 2>/dev/null # psql may be gone
}
load_is_served() {
  local i
  for ((i = 1; i <= ${#LOAD[@]}; i++)); do has_answers "$T/load.$i" 20 || return 1; done
}
has_answers() { [ "$(grep -c right "$1")" -ge "$2" ]; }
load_goes_on() { # each client gets more answers
  local i
  for ((i = 1; i <= ${#LOAD[@]}; i++)); do
    wait_for 10 has_answers "$T/load.$i" $(($(grep -c right "$T/load.$i") + 20)) || return 1
  done
}
end_load() { # end_load NAME: all of them end well, and every answer was right
  local pid i statuses=
  touch "$T/enough"
  for pid in "${LOAD[@]}"; do
    check_ends "$PASS: $1: a client ends" "$pid" 15
    statuses+=" $STATUS"
  done
  compare_text "$1: their statuses and answers" "$statuses: $(for ((i = 1; i <= ${#LOAD[@]}; i++)); do sort "$T/load.$i"; done | sort -u)"
  rm -f "$T"/load.*
}
number_is() { # number_is POOL COLUMN-NUMBER VALUE: of SHOW POOLS: 3 active clients, 4 waiting ones
  [ "$(on neither "$BIN/psql" -XAtqc 'show pools' -d pgbouncer | awk -F'|' -v p="$1" -v c="$2" '$1 == p { print $c }')" = "$3" ]
}

lost='server closed the connection unexpectedly|terminating connection|connection to server was lost|no connection to the server|server conn crashed'
says_lost() { grep -oE "$lost" "$1" | sort -u; }

one_run() {
  local i old
  "${AS[@]}" mkdir -m 700 "$R/b" "$R/s"
  "${AS[@]}" cp -a "$T/a/data" "$R/data"
  start_postgres
  verdict "$PASS: PostgreSQL starts" $? "$(cat "$T/log/postgres.$PASS."*)"
  start_pgbouncer
  check "$PASS: PgBouncer starts" wait_for 10 answers
  alive "$PGBOUNCER" || { fail "$PASS: PgBouncer runs" "$(cat "$PGBOUNCER_LOG")"; return; }
  check_preload server "$PGBOUNCER"
  check_preload client "$POSTGRES"

  for POOL in session transaction statement; do compare "queries, $POOL" queries "$POOL"; done
  for POOL in session transaction; do
    compare "errors, $POOL" errors "$POOL"
    compare "COPY both ways, $POOL" copy_both_ways "$POOL"
    compare "a prepared statement and a cursor, $POOL" prepared "$POOL"
  done
  compare_failure "errors, statement" errors statement
  compare_failure "no such pool" sql -d nonsense -c 'select 1'
  compare_failure "a pool without a server" sql -d nowhere -c 'select 1'

  compare "pgbench -i" bench -i -q -s 2
  compare "pgbench -S, session" bench -S -c 8 -j 2 -t 800
  compare "pgbench -S -M extended, session" bench -S -M extended -c 8 -j 2 -t 800
  compare "pgbench -S -M prepared, session" bench -S -M prepared -c 8 -j 2 -t 800
  export PGDATABASE=transaction
  compare "pgbench -S, transaction" bench -S -c 30 -j 2 -t 150
  compare "pgbench -S -M extended, transaction" bench -S -M extended -c 30 -j 2 -t 150
  compare "pgbench TPC-B, transaction" bench -c 8 -j 2 -t 200
  compare "pgbench with a connection for each transaction, transaction" bench -S -C -c 4 -j 2 -t 50
  export PGDATABASE=session
  compare "pgbench TPC-B, session" bench -c 6 -j 2 -t 200
  compare "pgbench with a connection for each transaction, session" bench -S -C -c 4 -j 2 -t 50
  compare "the balances agree" balances

  start client "$T/log/watched" "$BIN/pgbench" -n -S -M prepared -c 6 -j 2 -T 10000
  check_preload client "$PID"
  WAYS=2 look "pgbench to PgBouncer" "$FRONT" 6
  WAYS=2 look "PgBouncer to PostgreSQL" "$BACK" 6
  check "$PASS: pgbench keeps running" alive "$PID"
  stop "$PID" KILL
  compare_text "it has nothing to say" "$(grep -iE 'abort|error|failed' "$T/log/watched")"

  sql <<'SQL'
create table kinds (id serial primary key, b bytea, j jsonb, a text[], at timestamptz, long text);
insert into kinds (b, j, a, at, long)
  select decode(md5(g::text), 'hex'), jsonb_build_object('k', g, 'v', repeat('ä', g % 50)), array[g::text, null, 'a"b\c'],
    'epoch'::timestamptz + g * interval '1 hour', repeat(md5(g::text), g * 20) from generate_series(1, 300) g;
SQL
  direct 'create database second'
  compare "pg_dump and restore" dump_and_restore

  for POOL in session transaction; do interrupted "$POOL"; done
  compare_failure "statement_timeout" sql -c 'set statement_timeout = 300' -c 'select pg_sleep(20)'
  open_session listener session
  ask listener 'listen news;'
  sql -d transaction -c "notify news, 'first'" -c "select pg_notify('news', repeat('n', 7000))"
  ask listener 'select 1;'
  compare_text "LISTEN by the session pool" "$(sed 's/PID [0-9]*/PID/' <<<"$ANSWER")"
  close_session listener

  # more clients than connections: the fifth waits
  for i in 1 2 3 4; do
    open_session "holder.$i" transaction
    ask "holder.$i" "begin; select $i;"
  done
  start client "$T/fifth" "$BIN/psql" -XAtq -d transaction -c "select 'fifth'"
  check "$PASS: the fifth client waits" wait_for 5 number_is transaction 4 1
  compare_answer holder.1 "the first goes" "commit; select 'done';"
  check_ends "$PASS: then the fifth gets its answer" "$PID" 10
  compare_text "the fifth" "$(cat "$T/fifth")"
  for i in 1 2 3 4; do close_session "holder.$i"; done

  # the console
  compare "SHOW DATABASES" pools
  compare "SHOW LISTS" lists
  compare_failure "a wrong command" admin 'show nonsense'
  start_load transaction 6
  compare "PAUSE under load" admin 'pause transaction'
  check "$PASS: the clients wait" wait_for 5 number_is transaction 4 6
  compare "RESUME" admin 'resume transaction'
  # Not at once: PgBouncer takes a connection that is told to go while it logs in for one that failed.
  check "$PASS: the clients are served again after RESUME" load_goes_on
  compare "RECONNECT under load" admin 'reconnect transaction'
  check "$PASS: the clients are served again after RECONNECT" load_goes_on
  compare "RELOAD under load" admin reload
  check "$PASS: the clients are served again after RELOAD" load_goes_on
  end_load "PAUSE and its like under load"

  # peers that go away
  start client "$T/copying" "$BIN/psql" -XAtq -o /dev/null -c "copy (select repeat('x', 500), generate_series(1, 1000000000)) to stdout"
  check "$PASS: COPY out without an end" wait_for 5 \
    holds "count(*) = 1 from pg_stat_activity where query like 'copy%' and state = 'active'"
  stop "$PID" KILL
  check "$PASS: a client killed during COPY out: the backend notices" wait_for 10 \
    holds "count(*) = 0 from pg_stat_activity where query like 'copy%' and state = 'active'"
  open_session victim session
  ask victim 'select pg_backend_pid();'
  direct "select pg_terminate_backend($ANSWER)" >/dev/null
  tell victim 'select 1;'
  check_ends "$PASS: a backend is ended: its client ends" "${SESSION[victim]}" 10
  compare_text "its client's status" "$STATUS"
  check "$PASS: it was told why" grep -qE "$lost" "$T/victim.out" # in which words depends on who was faster
  close_session victim
  start_load transaction 6
  stop "$POSTGRES" INT
  verdict "$PASS: PostgreSQL stops under load" $?
  for PID in "${LOAD[@]}"; do stop "$PID"; done # they wait for PostgreSQL, or were told that it is gone
  rm -f "$T"/load.*
  admin 'set query_wait_timeout = 2' # a client waits so long for PostgreSQL
  compare_failure "while PostgreSQL is away" sql -d session -c 'select 1'
  admin 'set query_wait_timeout = 0' # for ever
  start_postgres
  verdict "$PASS: PostgreSQL starts again" $?
  for POOL in session transaction; do check "$PASS: PgBouncer finds it again, $POOL" wait_for 10 answers "$POOL"; done
  compare "after the restart" queries transaction

  # an online restart: a second PgBouncer takes the sockets of the first, connections included
  for POOL in session transaction; do
    open_session "open.$POOL" "$POOL"
    for i in {1..20}; do ask "open.$POOL" "select $i;"; done
  done
  ask open.session "create temp table mine as select 42 n; prepare q as select n + 1 from mine;"
  look "the open sessions" "$FRONT" 1
  start_load transaction 4
  old=$PGBOUNCER
  start_pgbouncer -R
  check_ends "$PASS: online restart: the old process ends" "$old" 20
  check "$PASS: the new process runs" alive "$PGBOUNCER"
  compare_answer open.session "the session goes on" 'execute q; select length(repeat($$y$$, 1000000));'
  compare_answer open.session "and on" "select md5(string_agg(g::text, '')) from generate_series(1, 100000) g;"
  compare_answer open.transaction "the one on the transaction pool too" "select 6 * 7, md5(repeat('t', 300000));"
  end_load "across the restart"
  compare "after the online restart" queries session
  compare "pgbench after the online restart" bench -S -c 8 -j 2 -t 500
  for POOL in session transaction; do close_session "open.$POOL"; done

  # PgBouncer goes away
  open_session waits session
  ask waits 'select 1;'
  tell waits 'select pg_sleep(60);'
  check "$PASS: a query runs" wait_for 10 sleepers_are 1
  stop "$PGBOUNCER" KILL
  check_ends "$PASS: PgBouncer is killed: its client ends" "${SESSION[waits]}" 10
  compare_text "it is told then" "$(says_lost "$T/waits.out")"
  close_session waits
  direct "select pg_cancel_backend(pid) from pg_stat_activity where query like 'select pg_sleep%'" >/dev/null
  check "$PASS: PostgreSQL notices" wait_for 10 holds "count(*) = 1 from pg_stat_activity where backend_type = 'client backend'"
  compare_failure "refused without PgBouncer" sql -c 'select 1'
  rm -f "$R/pgbouncer.pid"
  start_pgbouncer
  check "$PASS: PgBouncer starts over a dead one's socket" wait_for 10 answers
  compare "afterwards" queries session
  stop "$PGBOUNCER" INT
  verdict "$PASS: INT ends PgBouncer" $? "$(tail -n 5 "$PGBOUNCER_LOG")"
  stop "$POSTGRES" INT
  verdict "$PASS: INT ends PostgreSQL" $?
  compare_text "what is left of sockets" "$(find "$R" -type s)"
}

{
  printf "select md5('"
  head -c 5000000 /dev/zero | tr '\0' z
  echo "');"
} >"$T/long.sql"
prepare
run_twice one_run
