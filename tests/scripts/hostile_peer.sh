#!/usr/bin/env bash
# Servers with the library under clients of another user that do what they like, while well-behaved
# clients compare every byte. Nothing is asserted of times, they are printed; but nobody may hang, the
# server's memory must be what it was, and no descriptor, mapping or thread may be left.
# TSSX_TEST_LONG=1: minutes instead of seconds, and redis-server as well; TSSX_TEST_SECONDS for each of them.
set -euo pipefail
: "${TSSX_LIB:?}" "${TSSX_BUILD:?}"
unset USE_TSSX TSSX_IDS LD_PRELOAD
export LC_ALL=C

work=$(mktemp -d "${TMPDIR:-/tmp}/tssx-hostile.XXXXXX")
processes=()
finish() {
  local pid
  for pid in "${processes[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$work"
}
trap finish EXIT
chmod 755 "$work"
for program in hostile_server hostile_client hostile_attacker; do
  cp "$TSSX_BUILD/tests/$program" "$work/"
done
cp "$TSSX_LIB" "$work/libtssx.so"
chmod 755 "$work"/*
socket=$work/s
attacked=2
[[ ! ${TSSX_TEST_LONG:-} ]] || attacked=${TSSX_TEST_SECONDS:-90}

# The attacker is another user where we may choose.
as_other=()
if ((EUID == 0)); then
  as_other=(setpriv --reuid=nobody "--regid=$(id -g nobody)" --clear-groups)
else
  echo "not root: the attacker is the same user"
fi

fail() {
  echo "FAILED: $*" >&2
  exit 1
}
end_of() { # end_of PID SECONDS: its exit status; it must end
  local i status=0
  for ((i = 0; i < $2 * 10; ++i)); do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.1
  done
  ! kill -0 "$1" 2>/dev/null || fail "process $1 hangs"
  wait "$1" || status=$?
  return "$status"
}
preloaded=(env "LD_PRELOAD=$work/libtssx.so" "USE_TSSX=$socket")
wait_for_socket() {
  local i
  for ((i = 0; i < 300; ++i)); do
    [[ ! -S $socket ]] || return 0
    sleep 0.1
  done
  fail "nobody listens on $socket"
}
# What a process holds: descriptors, segments it maps, threads.
holds() {
  echo "$(find "/proc/$1/fd" -mindepth 1 | wc -l) $(grep -c 'memfd:tssx-segment' "/proc/$1/maps") $(find "/proc/$1/task" -mindepth 1 -maxdepth 1 | wc -l)"
}
settled() { # settled PID: what it holds once that does not change
  local was='' now
  for ((i = 0; i < 100; ++i)); do
    now=$(holds "$1")
    [[ $now != "$was" ]] || break
    was=$now
    sleep 0.3
  done
  echo "$now"
}
holds_again() { # holds_again PID WHAT: what it held before, after a moment for those that are closed just now
  local i
  for ((i = 0; i < 200; ++i)); do
    [[ $(holds "$1") != "$2" ]] || return 0
    sleep 0.1
  done
  fail "descriptors, segments, threads were $2 and are $(holds "$1")"
}

calm() { "${preloaded[@]}" "$work/hostile_client" "$socket" "$1" "$2"; }

# An attacker that does one thing (a way of hostile_attacker's) and holds on to it: others must not notice.
hold_up() { # hold_up WAY
  local attacker i
  "${as_other[@]}" "$work/hostile_attacker" "$socket" 60 7 "$1" >"$work/attacker.1" 2>&1 &
  attacker=$!
  processes+=("$attacker")
  for ((i = 0; i < 300; ++i)); do
    ! grep -q holding "$work/attacker.1" || break
    sleep 0.1
  done
  grep -q holding "$work/attacker.1" || fail "the attacker did not get where it wanted"
  timeout 30 "${preloaded[@]}" "$work/hostile_client" "$socket" 1 5 || fail "a peer that does not read stops others"
  kill -KILL "$attacker"
  wait "$attacker" 2>/dev/null || true
}
behaved() { # behaved NUMBER: a client of which everything is compared
  exec "${preloaded[@]}" "$work/hostile_client" "$socket" "$attacked" "$((RANDOM + $1))"
}
redis_behaved() { # the same for Redis: values there and back
  local end=$((SECONDS + attacked)) count=0 size
  while ((SECONDS < end)); do
    size=$((RANDOM * 4 + 1))
    head -c "$size" /dev/urandom | base64 -w 0 >"$work/value.$1"
    "${preloaded[@]}" redis-cli -s "$socket" -x set "key.$1" <"$work/value.$1" >/dev/null
    "${preloaded[@]}" redis-cli -s "$socket" --raw get "key.$1" | head -c -1 | cmp - "$work/value.$1" || return 1
    "${preloaded[@]}" timeout 60 redis-benchmark -s "$socket" -q -n 2000 -c 4 -t set,get >"$work/benchmark.$1" || return 1
    count=$((count + 1))
  done
  echo "redis client $1: $count values compared; $(tr '\r' '\n' <"$work/benchmark.$1" | grep -a '^GET.*requests per second' | tail -n 1)"
}

# attack SERVER_PID CLIENT: attackers, and two of the other clients, at once
attack() {
  local number pids=() pid status=0
  for number in 1 2; do
    "$2" "$number" >"$work/client.$number" 2>&1 &
    pids+=($!)
    "${as_other[@]}" "$work/hostile_attacker" "$socket" "$attacked" "$((RANDOM + 1))" >"$work/attacker.$number" 2>&1 &
    pids+=($!)
  done
  processes+=("${pids[@]}")
  for pid in "${pids[@]}"; do
    end_of "$pid" $((attacked + 90)) || status=$?
  done
  cat "$work"/client.[12] "$work"/attacker.[12]
  ((status == 0)) || fail "a client ended with status $status"
  kill -0 "$1" || fail "the server is gone"
}

for mode in epoll edge threads; do
  echo "== $mode"
  "${preloaded[@]}" "$work/hostile_server" "$socket" "$mode" >"$work/server" 2>&1 &
  server=$!
  processes+=("$server")
  wait_for_socket
  calm 1 7
  before=$(settled "$server")
  attack "$server" behaved
  holds_again "$server" "$before"
  hold_up 10
  holds_again "$server" "$before"
  echo "descriptors, segments, threads before and after: $before"
  kill -TERM "$server"
  status=0
  end_of "$server" 30 || status=$?
  cat "$work/server"
  ((status == 0)) || fail "the server ended with status $status"
  rm -f "$socket"
done

[[ ${TSSX_TEST_LONG:-} ]] || exit 0
if ! command -v redis-server >/dev/null; then
  echo "no redis-server: without it"
  exit 0
fi
echo "== redis-server"
mkdir "$work/redis"
as_redis=()
if ((EUID == 0)); then
  chown redis "$work/redis"
  as_redis=(setpriv --reuid=redis "--regid=$(id -g redis)" --clear-groups)
fi
socket=$work/redis/s
preloaded=(env "LD_PRELOAD=$work/libtssx.so" "USE_TSSX=$socket")
"${as_redis[@]}" "${preloaded[@]}" redis-server --port 0 --unixsocket "$socket" --unixsocketperm 777 \
  --dir "$work/redis" --save '' --appendonly no >"$work/server" 2>&1 &
server=$!
processes+=("$server")
wait_for_socket
attacked=2 redis_behaved 0
before=$(settled "$server")
attack "$server" redis_behaved
holds_again "$server" "$before"
attacked=2 redis_behaved 0
holds_again "$server" "$before"
echo "descriptors, segments, threads before and after: $before"
kill -TERM "$server"
end_of "$server" 30 || fail "redis-server ended with a status that is not 0"
