#!/usr/bin/env bash
# tssx-bench: its options, its output for people and programs, that it refuses what was not
# accelerated, and that it leaves nothing behind, whether it ends by itself or is interrupted. No
# number it measures is judged.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/support/frame.sh"

bench=$TSSX_BUILD/tssx-bench
needs "$bench" python3

work_in tssx-bench-test
# What the tool makes is in there, so that it can be seen whether it is gone.
mkdir "$work/tmp"
export TMPDIR=$work/tmp
# run <expected status> <arguments>
run() {
  captured "$1" "$bench" "${@:2}"
  nothing_is_left
}
# Workers have the temporary directory on their command line, in the name of their socket.
workers() { pgrep -f -- "--worker .*socket=$TMPDIR/" || true; }
nothing_is_left() {
  [[ -z $(ls -A "$TMPDIR") ]] || fail "left in TMPDIR: $(ls -A "$TMPDIR")"
  [[ -z $(workers) ]] || fail "left running: $(workers)"
}
# check <python expression over all, the document, and c, the cells by name>
check() {
  python3 - "$work/out" "$1" <<'PYTHON' || fail "not so: $1"
import json, sys
all = json.load(open(sys.argv[1], encoding="ascii"))
c = {cell["name"]: cell for cell in all["cells"]}
sys.exit(0 if eval(sys.argv[2]) else 1)
PYTHON
}

# --- usage --------------------------------------------------------------------------------------

run 0 --version
shows '^tssx-bench [0-9]+\.[0-9]+\.[0-9]+$'
run 0 --help
shows '--filter'
run 2 --no-such-option
run 2 --rounds 0
run 2 --seconds x
run 2 --quick --all
run 2 --list --filter 'hog/*' 'floor/*' # the second is no value of the option's
run 2 --filter no-such-cell
says 'no cell matches'
run 1 --lib "$work/none.so" --filter hog/one-cpu
says 'no such library'
run 0 --list --filter 'hog/*'
prints $'hog/one-cpu\nhog/two-cpus'
run 0 --list --filter hog/one-cpu --filter hog/two-cpus
prints $'hog/one-cpu\nhog/two-cpus'

# --- measuring ----------------------------------------------------------------------------------

short=(--lib "$TSSX_LIB" --rounds 2 --seconds 0.02)
# One of each kind. The tool itself refuses a cell that was not on rings, so a number is a proof.
cells=(pingpong/64B/blocking/free pingpong/1KiB/poll/free pingpong/8KiB/epoll-edge/free
  pingpong/64B/epoll-level/one-cpu stream/4KiB/free stream-both/64KiB/free epoll-server/8-busy/one-cpu
  pairs/2/free paced/0.5ms work/20us/free connect-request-close/free accept/free other/read)
filters=()
for cell in "${cells[@]}"; do filters+=(--filter "$cell"); done
run 0 "${short[@]}" --json "${filters[@]}"
check "sorted(c) == sorted('${cells[*]}'.split())"
check "all['base'] == 'kernel' and all['ours'] == 'tssx' and all['rounds'] == 2"
check "not any('error' in cell or 'skipped' in cell for cell in c.values())"
check "min(side['lowest'] for cell in c.values() for m in cell['metrics'] for side in (m['base'], m['ours'])) > 0"
check "min(len(side['rounds']) for cell in c.values() for m in cell['metrics'] for side in (m['base'], m['ours'])) == 2"

run 0 "${short[@]}" --filter floor/null-call --filter pingpong/64B/blocking/one-cpu \
  --filter pingpong/64B/blocking/free
shows '^CELL +METRIC +UNIT +kernel +tssx +TIMES BETTER$'
shows '^floor/null-call +time +ns +[0-9.]+ \([0-9.]+ to [0-9.]+\) +- +-$'
shows '^pingpong/64B/blocking/free +p99.9 +ns( +[0-9.]+ \([0-9.]+ to [0-9.]+\)){3}$'
shows '^Against the best placement of the other side:$'

# Beside a command: it is started when the connections are on rings, and gone with the measurement, maybe in the
# middle of what it prints.
longer=(--lib "$TSSX_LIB" --rounds 2 --seconds 1.5)
run 0 "${longer[@]}" --filter epoll-server/8-busy/one-cpu \
  --beside "$TSSX_BUILD/tssx-stat --json --interval 0 >>'$work/beside'; exec sleep 1000"
shows '^CELL +METRIC +UNIT +alone +beside +TIMES BETTER$'
shows '^epoll-server/8-busy/one-cpu +time +us( +[0-9.]+ \([0-9.]+ to [0-9.]+\)){3}$'
python3 - "$work/beside" "$TMPDIR" <<'PYTHON' || fail "it did not run beside the measurement"
import json, sys
text, seen = open(sys.argv[1]).read(), []
try:
    while True:
        document, end = json.JSONDecoder().raw_decode(text.lstrip())
        text = text.lstrip()[end:]
        seen.append([c["state"] for c in document["connections"] if c["path"].startswith(sys.argv[2])])
except json.JSONDecodeError:
    pass
sys.exit(not 1 <= len(seen) <= 2 or any(states != ["ring"] * 8 for states in seen))
PYTHON
[[ -z $(pgrep -f '^sleep 1000$' | while read -r pid; do
  tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -xF "TMPDIR=$TMPDIR"
done) ]] || fail "the command is left"
run 1 "${longer[@]}" --filter epoll-server/8-busy/one-cpu --beside true
shows '^epoll-server/8-busy/one-cpu +error: beside, round 1: the command beside it has ended$'
run 2 --beside true --against "$TSSX_LIB"

# What is measured beside tssx-stat.
captured 0 "$TSSX_SOURCE/scripts/bench-watched" --rounds 1 --seconds 1 --lib "$TSSX_LIB"
[[ $(grep -cE '^epoll-server/1000-busy/(one-cpu|two-cpus) +time +us( +[0-9.]+ \([0-9.]+ to [0-9.]+\)){3}$' "$work/out") == 4 ]] ||
  fail "not four lines"
shows '^tssx-stat, .*: [0-9]+ ms \([0-9]+ to [0-9]+\) in [0-9]+ runs; CPU time [0-9]+ ms \([0-9]+ to [0-9]+\)$'
nothing_is_left

# --- refusing -----------------------------------------------------------------------------------

# The library is loaded and listed, but may make no segment: none is as small as this limit.
if (ulimit -f 8 && "$bench" "${short[@]}" --filter pingpong/64B/blocking/free) \
  >"$work/out" 2>"$work/err" </dev/null; then
  fail "a cell without rings was measured"
fi
shows '^pingpong/64B/blocking/free +error: tssx, round 1: not accelerated: 0 of 1 connections on rings$'
nothing_is_left

# A file that is no library: the dynamic linker only warns.
touch "$work/empty.so"
run 1 --lib "$work/empty.so" --rounds 1 --seconds 0.02 --filter other/read
shows '^other/read +error: tssx, round 1: the library was not preloaded$'

# --- time-outs and interruptions ----------------------------------------------------------------

# Until a server listens: the cells below keep their listening socket.
await_worker() {
  for _ in {1..600}; do
    if compgen -G "$TMPDIR/*/*" >/dev/null && [[ $(workers) ]]; then return 0; fi
    kill -0 "$running" 2>/dev/null || break
    sleep 0.05
  done
  fail "no worker started"
}

# A measurement that stands still fails, and the next one is made, although the socket of the first
# is still there.
status=0
"$bench" --lib "$TSSX_LIB" --rounds 1 --seconds 1 --timeout 8 --filter epoll-server/1-busy/one-cpu \
  --filter epoll-server/8-busy/one-cpu >"$work/out" 2>"$work/err" </dev/null &
running=$!
pids=("$running")
await_worker
mapfile -t stopped < <(workers)
kill -STOP "${stopped[@]}"
# When the next one starts, all of the first must be gone.
others() { workers | grep -vxF "$(printf '%s\n' "${stopped[@]}")" || true; }
for _ in {1..600}; do
  [[ ! $(others) ]] || break
  sleep 0.05
done
[[ $(others) ]] || fail "no second measurement"
for pid in "${stopped[@]}"; do
  [[ ! -e /proc/$pid ]] || fail "left while the next cell is measured: $pid"
done
wait "$running" || status=$?
pids=()
[[ $status == 1 ]] || fail "exit status $status after a time-out"
shows '^epoll-server/1-busy/one-cpu +error: kernel, round 1: timed out$'
shows '^epoll-server/8-busy/one-cpu +time +us( +[0-9.]+ \([0-9.]+ to [0-9.]+\)){3}$'
nothing_is_left

interrupt() { # by signal $1
  local status=0
  "$bench" --lib "$TSSX_LIB" --seconds 60 --filter epoll-server/1-busy/one-cpu \
    >"$work/out" 2>"$work/err" </dev/null &
  running=$!
  pids=("$running")
  await_worker
  kill "-$1" "$running"
  wait "$running" || status=$?
  pids=()
  [[ $status == $((128 + $(kill -l "$1"))) ]] || fail "exit status $status after $1"
  nothing_is_left
}
interrupt TERM
interrupt HUP

# Killed, it can't remove its directory, but its processes go with it.
"$bench" --lib "$TSSX_LIB" --seconds 60 --filter epoll-server/1-busy/one-cpu \
  >"$work/out" 2>"$work/err" </dev/null &
running=$!
pids=("$running")
await_worker
kill -KILL "$running"
wait "$running" 2>/dev/null || true
pids=()
for _ in {1..600}; do
  [[ $(workers) ]] || break
  sleep 0.05
done
[[ -z $(workers) ]] || fail "left running after SIGKILL: $(workers)"

# --- what the scripts make of it ----------------------------------------------------------------

cat >"$work/results.json" <<'JSON'
{"machine": {"cpus": 2, "system": "Linux", "processor": "p"}, "base": "kernel", "ours": "tssx",
 "rounds": 1, "seconds": 0.1, "cells": [
  {"name": "a/free", "metrics": [{"name": "p50", "unit": "ns", "better": "lower",
    "base": {"median": 30, "lowest": 30, "highest": 30, "rounds": [30]},
    "ours": {"median": 10, "lowest": 10, "highest": 10, "rounds": [10]},
    "times_better": {"median": 3, "lowest": 3, "highest": 3}}]},
  {"name": "floor/b", "metrics": [{"name": "time", "unit": "ns", "better": "lower",
    "base": {"median": 7, "lowest": 7, "highest": 7, "rounds": [7]},
    "ours": null, "times_better": null}]},
  {"name": "c", "metrics": [], "error": "timed out"}]}
JSON
compare=$TSSX_SOURCE/scripts/bench_compare.py
python3 -B "$compare" "$work/results.json" "$work/recorded.json" >"$work/out"
shows '^a/free +p50 .* 3.00 \(3.00 to 3.00\) +-$'
shows '^c +error: timed out$'
[[ ! -e $work/recorded.json ]] || fail "recorded without being asked"
python3 -B "$compare" --record "$work/results.json" "$work/recorded.json" >"$work/out"
python3 -B "$compare" "$work/results.json" "$work/recorded.json" >"$work/out"
shows '^a/free +p50 .* 3.00 \(3.00 to 3.00\) +3.00$'
python3 - "$work/recorded.json" <<'PYTHON' || fail "recorded something else"
import json, sys
sys.exit(json.load(open(sys.argv[1]))["cells"] != {"a/free": {"p50": 3}})
PYTHON

# The drawings, where matplotlib is there: scripts/setup plot brings it, nothing else needs it.
plot() { MPLCONFIGDIR=$work/mpl /usr/bin/python3 -B "$TSSX_SOURCE/scripts/plot-bench" "$@"; }
if plot "$work/results.json" "$work/drawn" >"$work/out" 2>"$work/err"; then
  fail "drew a picture of one size"
fi
if /usr/bin/python3 -c "import matplotlib" 2>/dev/null; then
  "$bench" "${short[@]}" --json --filter 'pingpong/1B/blocking/free' --filter 'stream/4KiB/free' \
    --filter 'pingpong/64KiB/blocking/free' --filter 'pingpong/1KiB/poll/free' >"$work/results.json"
  plot "$work/results.json" "$work/drawn" >"$work/out" 2>"$work/err" || fail "drew nothing"
  [[ $(ls "$work/drawn") == latency-free.svg ]] || fail "drew something else: $(ls "$work/drawn")"
  grep -q '<svg ' "$work/drawn/latency-free.svg" || fail "no SVG"
  # The same results give the same file.
  cp "$work/drawn/latency-free.svg" "$work/first.svg"
  plot "$work/results.json" "$work/drawn" >"$work/out" 2>"$work/err" || fail "drew nothing"
  cmp -s "$work/first.svg" "$work/drawn/latency-free.svg" || fail "drew the same in another way"
fi
