#!/bin/bash
# scripts/bench-apps: its JSON says what was measured, it notices a library that moves nothing, and ended in the
# middle it leaves neither processes nor files. Nothing here asserts a time.
#   TSSX_SOURCE, TSSX_BUILD  the source and build directories
set -u
source=${TSSX_SOURCE:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
build=${TSSX_BUILD:-$source/build/release}
unset LD_PRELOAD USE_TSSX

for needed in python3 redis-server redis-benchmark; do
  command -v "$needed" >/dev/null || { echo "skipped: $needed is not installed"; exit 77; }
done
[[ -x $build/tssx-stat ]] || { echo "skipped: no $build/tssx-stat"; exit 77; }

directory=$(mktemp -d /tmp/tssx-bench.XXXXXX) || exit 1
chmod 755 "$directory" # the servers run as another user if we are root
mkdir -m 755 "$directory/work" "$directory/other"
bench=
failures=0

processes() { # those that work below the directory
  {
    find /proc -maxdepth 2 -path '/proc/[0-9]*/cwd' -lname "$directory/*" -printf '%h\n'
    # without CAP_SYS_PTRACE root does not see the directories of others
    ((EUID)) || setpriv --reuid=postgres "--regid=$(id -g postgres)" --init-groups \
      find /proc -maxdepth 2 -path '/proc/[0-9]*/cwd' -lname "$directory/*" -printf '%h\n'
  } 2>/dev/null | sed 's,/proc/,,' | sort -un
}
clean_up() {
  local pid
  trap '' INT TERM
  [[ -z $bench ]] || { kill -TERM "$bench" && wait "$bench"; } 2>/dev/null
  for pid in $(processes); do kill -KILL "$pid" 2>/dev/null; done
  rm -rf "$directory"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

verdict() { # verdict NAME STATUS
  if (($2 == 0)); then echo "ok $1"; return; fi
  echo "not ok $1"
  tail -n 30 "$directory/log"
  failures=$((failures + 1))
}
nothing_left() {
  local left
  left="$(for i in $(processes); do echo "process $i: $(tr '\0' ' ' <"/proc/$i/cmdline")"; done)$(find "$directory/work" -mindepth 1)"
  [[ -z $left ]] || { echo "$left" >>"$directory/log"; return 1; }
}
run() { # run LIBRARY OPTION...
  local library=$1
  shift
  TMPDIR=$directory/work timeout 60 "$source/scripts/bench-apps" --lib "$library" --seconds 0.2 "$@" >"$directory/log" 2>&1
}

run "$build/libtssx.so" --rounds 3 --filter redis-get-c1 --json "$directory/json"
verdict "measures a cell" $?
python3 - "$directory/json" >>"$directory/log" 2>&1 <<'PYTHON'
import json, statistics, sys
report = json.load(open(sys.argv[1]))
assert report['rounds'] == 3 and report['seconds'] == 0.2, report
cell, = report['cells']
assert cell['name'] == 'redis-get-c1' and cell['unit'] == 'req/s' and cell['notes'] == [], cell
assert cell['accelerated'] is True and cell['rings'] >= cell['connections'] == 1, cell
assert cell['bells_per_operation'] >= 0, cell
for side in ('kernel', 'tssx'):
    for what in ('throughput', 'server_cpu_us_per_operation', 'client_cpu_us_per_operation'):
        rounds = cell[side][what]['rounds']
        assert len(rounds) == 3 and cell[side][what]['median'] == statistics.median(rounds), (side, what, rounds)
    assert min(cell[side]['throughput']['rounds']) > 0
    # it takes some processor time, and not more than all of it (with its start, generously)
    assert 0 < cell[side]['client_cpu_us_per_operation']['median'] < 1e6
    latency = cell[side]['latency_us']
    assert 0 < latency['p50'] <= latency['p99'], latency
ratios = [t / k for k, t in zip(cell['kernel']['throughput']['rounds'], cell['tssx']['throughput']['rounds'])]
assert cell['ratio']['rounds'] == ratios and cell['ratio']['median'] == statistics.median(ratios), (ratios, cell['ratio'])
PYTHON
verdict "its JSON is complete, and agrees with itself" $?
nothing_left
verdict "nothing is left" $?

# any library but ours
library=$(ldconfig -p 2>/dev/null | awk '$1 == "libutil.so.1" { print $NF; exit }')
if [[ -f $library ]]; then
  cp "$library" "$directory/other/libother.so" && ln -s "$build/tssx-stat" "$directory/other/"
  run "$directory/other/libother.so" --rounds 1 --filter redis-get-c1 --json "$directory/json"
  verdict "measures with a library that moves nothing" $?
  python3 - "$directory/json" >>"$directory/log" 2>&1 <<'PYTHON'
import json, sys
cell, = json.load(open(sys.argv[1]))['cells']
assert cell['accelerated'] is False and cell['rings'] == 0 and 'NOT ACCELERATED' in cell['notes'][0], cell
PYTHON
  verdict "and says so" $?
fi

run "$build/libtssx.so" --filter no-such-cell
(($? == 1)) && grep -q 'no cell has such a name' "$directory/log"
verdict "refuses an unknown cell" $?

for signal in INT:130 TERM:143; do
  expected=${signal#*:} signal=${signal%:*}
  env --default-signal=INT,TERM TMPDIR="$directory/work" timeout 100 "$source/scripts/bench-apps" \
    --lib "$build/libtssx.so" --seconds 60 --rounds 5 --filter redis-get-c1 >"$directory/log" 2>&1 &
  bench=$!
  for ((i = 0; i < 300; i++)); do
    (($(processes | wc -l) < 3)) || break # two servers and the client
    sleep 0.1
  done
  ((i < 300))
  verdict "gets that far" $?
  sleep 0.3
  kill "-$signal" "$bench" # timeout hands it on
  wait "$bench"
  status=$?
  bench=
  ((status == expected))
  verdict "$signal ends it with status $expected" $?
  nothing_left
  verdict "and nothing is left" $?
done
((failures == 0))
