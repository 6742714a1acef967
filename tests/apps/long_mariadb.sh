#!/bin/bash
# MariaDB over mysqld.sock: DDL and DML, errors, results and statements of 20 MB, LOAD DATA LOCAL INFILE,
# transactions, mariadb-dump and restore, many connections by mariadb-slap, killed queries, connections, clients and
# servers, restart. First with a thread for each connection, then with the thread pool.
# See common.sh for the environment, twice.sh for the two passes.

TITLE='MariaDB'
TIME_LIMIT=280
APP_USER=nobody
PROGRAMS='mariadbd mariadb mariadb-admin mariadb-dump mariadb-slap mariadb-install-db'
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/twice.sh"

S=$R/mysqld.sock
LISTED=$S
IDS=${TSSX_IDS:-auto}
export HOME=$T/a
unset MYSQL_HOST MYSQL_PWD MYSQL_TCP_PORT MYSQL_UNIX_PORT MARIADB_HOST

client() { on client "$1" --no-defaults -u root -S "$S" "${@:2}"; }
PACKET=--max-allowed-packet=64M
sql() { client mariadb -BN --local-infile=1 $PACKET "$@"; }
quietly() { on neither mariadb --no-defaults -u root -S "$S" -BN -e "$1" 2>/dev/null; } # for waiting
answers() { [ "$(quietly 'select 1')" = 1 ]; }
holds() { [ "$(quietly "select $1")" = 1 ]; }
asleep() { holds "count(*) = $1 from information_schema.processlist where info like 'select sleep%'"; }
number_of_clients() { holds "count(*) $1 from information_schema.processlist where user = 'root'"; }

OPTIONS=(--no-defaults "--socket=$S" --skip-networking "--datadir=$R/data" "--tmpdir=$R" "--pid-file=$R/pid"
  --innodb-buffer-pool-size=64M --innodb-log-file-size=48M --innodb-flush-log-at-trx-commit=0 --max-connections=120
  $PACKET --local-infile=1 --innodb-use-native-aio=0 --character-set-server=utf8mb4)

prepare() {
  if ! LIMIT=60 on neither mariadb-install-db --no-defaults "--datadir=$T/a/data" --auth-root-authentication-method=normal \
    --skip-test-db --skip-name-resolve --innodb-log-file-size=48M --innodb-use-native-aio=0 >"$T/log/install" 2>&1; then
    fail mariadb-install-db "$(cat "$T/log/install")"
    finish
  fi
  awk 'BEGIN { for (i = 1; i <= 200000; i++) printf "%d\t%s\t%.3f\n", i, (i % 9 ? "the row of number " i * 7 : "\\N"), i / 8 }' >"$T/rows.tsv"
  {
    printf "select md5('"
    head -c 20000000 /dev/zero | tr '\0' z
    echo "');"
  } >"$T/long.sql"
  head -c 3000000 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$T/noise.hex"
  chmod 644 "$T/rows.tsv"
}
start_server() { # start_server OPTION...
  start server "$T/log/server.$PASS.$((RUN = ${RUN:-0} + 1))" mariadbd "${OPTIONS[@]}" "$@"
  SERVER=$PID
  wait_for 40 answers
  verdict "$PASS: the server starts${*:+ with $*}" $? "$(cat "$T/log/server.$PASS.$RUN")"
  alive "$SERVER"
}

# --- what is done with it -------------------------------------------------------------------------------------

definitions() {
  sql -vvv --show-warnings --force 2>&1 <<'SQL' | sed 's/([0-9.]* sec)//; s/[0-9.]* sec//'
create database if not exists one; use one;
create table people (id int auto_increment primary key, name varchar(40) unique, born date, note text,
  key (born)) engine=innodb;
insert into people (name, born, note) values ('Ada', '1815-12-10', 'ä'), ('Grace', '1906-12-09', null),
  ('Alan', '1912-06-23', repeat('n', 300));
select * from people order by id;
update people set note = concat(name, '!') where born > '1900-01-01';
select row_count(), last_insert_id();
insert into people (name) values ('Ada');
select 1 / 0; show warnings;
select nonsense from people;
syntax error;
alter table people add column extra json default '{"a": 1}';
create view old as select id, name from people where born < '1900-01-01';
select * from old;
delete from people where name = 'Alan';
create table copied engine=aria select * from people;
checksum table people, copied;
prepare p from 'select name, ? from people where id = ?';
set @a = 'given', @b = 2;
execute p using @a, @b;
deallocate prepare p;
show create table people;
drop table copied;
drop table copied;
delimiter //
create procedure several(n int) begin
  declare i int default 0;
  while i < n do set i = i + 1; select i, repeat('s', i * 100); end while;
end//
delimiter ;
call several(12);
SQL
}
results() {
  sql one -e 'select seq, md5(seq), repeat("r", seq % 200) from seq_1_to_100000' | md5sum
  sql one --quick -e 'select seq, repeat("q", 900) from seq_1_to_30000' | { sleep 1; md5sum; } # a slow reader
  sql one -e "select repeat('z', 20000000)" | md5sum
  sql one <"$T/long.sql" || return 1
  sql one --compress -e "select seq, repeat('c', 300) from seq_1_to_30000" | md5sum
  client mariadb one -t -e 'select seq, seq * seq from seq_1_to_5'
  client mariadb one -X -e 'select seq from seq_1_to_3'
}
many_statements() { # on one connection
  awk 'BEGIN { for (i = 0; i < 3000; i++) printf "select %d, repeat(\"m\", %d);\n", i, i % 700 }' | sql one | md5sum
}
load_data() {
  sql one -e 'create table rows_in (id int primary key, t text, x decimal(12, 3))' || return 1
  sql one -vv -e "load data local infile '$T/rows.tsv' into table rows_in" | grep -v ' sec' || return 1
  sql one -e 'select count(*), sum(length(t)), sum(x) from rows_in; checksum table rows_in'
  sql one --quick -e 'select * from rows_in order by id' | sed 's/\tNULL\t/\t\\N\t/' | cmp - "$T/rows.tsv" || return 1
  sql one -e "load data local infile '$T/nowhere' into table rows_in" 2>&1
  sql one -e "load data local infile '$T/rows.tsv' into table no_such" 2>&1
  sql one -e "select count(*) from rows_in"
}
blob() {
  { printf "create table blobs (b longblob); insert into blobs values (x'"; cat "$T/noise.hex"; echo "');"; } | sql one || return 1
  sql one -e 'select length(b), md5(b) from blobs'
  sql one -e 'select lower(hex(b)) from blobs' | tr -d '\n' | cmp - "$T/noise.hex"
}
transactions() {
  sql one -e "create table account (id int primary key, n int) engine=innodb;
    insert into account select seq, 100 from seq_1_to_10;
    begin; update account set n = n - 10 where id = 1; update account set n = n + 10 where id = 2; commit;
    begin; update account set n = 0; savepoint s; delete from account; rollback to s; select sum(n) from account; rollback;
    select id, n from account where n <> 100; select sum(n) from account"
}
lock_wait() { # a second session waits for the first one's lock, in vain
  {
    echo 'begin; update account set n = 1 where id = 1; select "locked";'
    sleep 3
    echo 'rollback; select n from account where id = 1;'
  } | sql one -n &
  sleep 1
  sql one -e 'set innodb_lock_wait_timeout = 1; update account set n = 2 where id = 1' 2>&1
  wait
}
dump_and_restore() {
  set -o pipefail
  sql -e 'create database two' || return 1
  client mariadb-dump $PACKET --routines one | client mariadb $PACKET two || return 1
  client mariadb-dump $PACKET --routines --skip-comments one >"$T/dump.1" || return 1
  client mariadb-dump $PACKET --routines --skip-comments two >"$T/dump.2" || return 1
  cmp "$T/dump.1" "$T/dump.2" || return 1
  md5sum <"$T/dump.1"
  sql -e 'drop database two'
}
slap() { # slap OPTION...: nothing fails; prints no times
  LIMIT=40 client mariadb-slap "$@" >"$T/log/slap.$PASS" 2>&1
  local rc=$?
  grep -vE 'seconds|^$' "$T/log/slap.$PASS"
  return $rc
}
many_connections() {
  sql one -e 'create table slapped (c int auto_increment primary key, t text)' || return 1
  slap -c 50 --number-of-queries 1500 --create-schema one --no-drop -q "insert into slapped (t) select repeat('s', 500)" || return 1
  slap -c 30 --number-of-queries 300 --detach=1 --create-schema one --no-drop -q "insert into slapped (t) values ('detached')" || return 1
  sql one -e "select count(*), count(distinct c), sum(length(t)) from slapped; drop table slapped"
  slap -c 20 -a --auto-generate-sql-load-type=mixed --number-of-queries 400 --auto-generate-sql-write-number=20
}
too_many() { # the server refuses one connection too many
  local i
  sql -e 'set global max_connections = 10'
  for i in {1..14}; do
    sql -e 'select sleep(3)' >"$T/many.$i" 2>&1 &
  done
  wait
  grep -h 'ERROR' "$T"/many.* | sort -u
  rm -f "$T"/many.*
  sql -e 'set global max_connections = 120; select "and now"'
}

watch_slap() { # watch_slap NAME
  start client "$T/log/watched" mariadb-slap --no-defaults -u root -S "$S" -c 16 -i 1000000 --number-of-queries 160000 \
    --create-schema one --no-drop -q "select seq, repeat('w', 100) from seq_1_to_3"
  check "$PASS: 16 connections, $1" wait_for 10 number_of_clients ">= 17" # and the one who asks
  check_preload client "$PID"
  WAYS=2 look "mariadb-slap, $1" "$S" 12
  if preloaded_side server; then
    if accelerated; then check_ids "the server, $1," "$IDS" "$SERVER"; fi
  fi
  check "$PASS: mariadb-slap keeps running, $1" alive "$PID"
  stop "$PID" KILL
  check "$PASS: the server notices that they are gone, $1" wait_for 10 number_of_clients "= 1"
}

one_run() {
  "${AS[@]}" cp -a "$T/a/data" "$R/data"
  start_server || return
  check_preload server "$SERVER"
  compare "ping" client mariadb-admin ping
  compare "definitions" definitions
  compare "results" results
  compare "3000 statements on one connection" many_statements
  compare "LOAD DATA LOCAL" load_data
  compare "a blob of 3 MB" blob
  compare "transactions" transactions
  compare "a lock that is waited for in vain" lock_wait
  compare "mariadb-dump | mariadb" dump_and_restore
  compare "mariadb-slap" many_connections
  compare "too many connections" too_many
  watch_slap "a thread each"

  # queries and connections that are killed
  start client "$T/victim" mariadb --no-defaults -u root -S "$S" -BN -e 'select sleep(60); select "goes on"'
  check "$PASS: a query runs" wait_for 10 asleep 1
  compare "KILL QUERY" sql -e "kill query $(quietly "select id from information_schema.processlist where info like 'select sleep%'")"
  check_ends "$PASS: its client ends" "$PID" 10
  compare_text "the client of KILL QUERY" "$(cat "$T/victim")"
  start client "$T/victim" mariadb --no-defaults -u root -S "$S" -BN -e 'select sleep(60); select "goes on"'
  check "$PASS: another runs" wait_for 10 asleep 1
  compare "KILL" sql -e "kill $(quietly "select id from information_schema.processlist where info like 'select sleep%'")"
  check_ends "$PASS: its client ends as well" "$PID" 10
  compare_text "the client of KILL" "$(cat "$T/victim")"
  start client "$T/victim" mariadb --no-defaults -u root -S "$S" -BN -e 'select sleep(60); select "goes on"'
  check "$PASS: a third runs" wait_for 10 asleep 1
  kill -INT "$PID"
  check_ends "$PASS: interrupted, mariadb ends" "$PID" 10
  compare_text "mariadb, interrupted" "$(cat "$T/victim")"
  check "$PASS: the query has stopped" wait_for 5 asleep 0
  compare_failure "max_statement_time" sql one -e 'set statement max_statement_time = 0.5 for select count(*) from rows_in a, rows_in b where a.t < b.t'
  idle() { # a session that the server ends for being idle
    { echo 'set wait_timeout = 1; select 1;'; sleep 3; echo 'select 2;'; } | sql -n --skip-reconnect 2>&1
  }
  compare_failure "an idle connection" idle
  start client "$T/large" mariadb --no-defaults -u root -S "$S" -BN --quick one -e 'select repeat("x", 1000) from seq_1_to_1000000000'
  sending() { holds "count(*) = $1 from information_schema.processlist where info like 'select repeat%'"; }
  check "$PASS: an endless result" wait_for 10 sending 1
  stop "$PID" KILL
  check "$PASS: its client is killed: the server notices" wait_for 10 sending 0
  rm -f "$T/large"
  rm -f "$T/full"
  mkfifo "$T/full"
  exec {FULL}<>"$T/full" # nobody reads: the client blocks in write, and the server in send
  start client "$T/full" mariadb --no-defaults -u root -S "$S" -BN --quick one -e 'select repeat("x", 1000) from seq_1_to_1000000000'
  check "$PASS: an endless result that nobody reads" wait_for 10 sending 1
  sleep 1
  compare "KILL of a connection that waits for room" sql -e "kill $(quietly "select id from information_schema.processlist where info like 'select repeat%'")"
  check "$PASS: it is gone" wait_for 10 sending 0
  exec {FULL}>&-
  stop "$PID" KILL

  # restart, with the thread pool
  start client "$T/victim" mariadb --no-defaults -u root -S "$S" -BN -e 'select sleep(60)'
  check "$PASS: a query runs before the shutdown" wait_for 10 asleep 1
  compare "shutdown" client mariadb-admin shutdown
  check_ends "$PASS: the server ends" "$SERVER" 30
  check_ends "$PASS: its last client ends" "$PID" 10
  compare_text "the last client" "$(sed 's/ near.*//' "$T/victim" | grep -oE 'ERROR [0-9]+|^[01]$')"
  compare_failure "refused without the server" sql -e 'select 1'
  start_server --thread-handling=pool-of-threads --thread-pool-size=2 || return
  compare "what was stored, with the thread pool" sql one -e 'checksum table people, rows_in, blobs, account'
  compare "results, with the thread pool" results
  compare "mariadb-slap, with the thread pool" many_connections
  compare "3000 statements on one connection, with the thread pool" many_statements
  compare "mariadb-dump | mariadb, with the thread pool" dump_and_restore
  watch_slap "with the thread pool"
  start client "$T/victim" mariadb --no-defaults -u root -S "$S" -BN -e 'select sleep(60)'
  check "$PASS: a query runs, with the thread pool" wait_for 10 asleep 1
  compare "KILL, with the thread pool" sql -e "kill $(quietly "select id from information_schema.processlist where info like 'select sleep%'")"
  check_ends "$PASS: its client ends, with the thread pool" "$PID" 10
  compare_text "the client of KILL, with the thread pool" "$(cat "$T/victim")"
  compare_failure "an idle connection, with the thread pool" idle

  # the server is killed
  start client "$T/victim" mariadb --no-defaults -u root -S "$S" -BN -e 'select sleep(60)'
  check "$PASS: a query runs before the kill" wait_for 10 asleep 1
  stop "$SERVER" KILL
  check_ends "$PASS: the server is killed: its client ends" "$PID" 10
  compare_text "the client of a killed server" "$(cat "$T/victim")"
  start_server || return
  compare "what was stored, after the recovery" sql one -e 'checksum table people, rows_in, blobs, account'
  stop "$SERVER" TERM 30
  verdict "$PASS: TERM ends the server" $?
  compare_text "what is left of sockets" "$(find "$R" -type s)"
}

prepare
run_twice one_run
