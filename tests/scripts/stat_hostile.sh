#!/usr/bin/env bash
# tssx-stat on memory that wants to harm it: segments and records of random bytes, with absurd
# positions, cut short, changed while they are read, and gone. Each command ends by itself, with the
# status it ought to have, and what it prints is what its parsers take.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/support/frame.sh"

stat=$TSSX_BUILD/tssx-stat
needs "$stat" python3 jq promtool
needs_to_read_processes
work_in tssx-hostile
about_failure() { echo "seed ${seed-}"; }

# hostile.py <seed> <directory>: 150 pieces of memory of each kind, half of which change for ever. It
# listens on odd names, too. The offsets are those of core/layout.h and core/record.h.
cat >"$work/hostile.py" <<'PY'
import mmap, os, random, signal, socket, struct, sys, threading
seed, directory = int(sys.argv[1]), sys.argv[2]
signal.alarm(110)
rnd = random.Random(seed)
kept = []

def put(page, offset, form, *values):
    struct.pack_into("=" + form, page, offset, *values)

INTERESTING = [0, 1, 2, 3, 4, 7, 8, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 65536, 4096]

def spoil(page, times):
    for _ in range(times):
        if rnd.random() < 0.6:
            value = rnd.choice(INTERESTING)
            at = rnd.randrange(0, 4088) & ~3
            if rnd.random() < 0.5: put(page, at, "I", value & 0xffffffff)
            else: put(page, at, "Q", value)
        else:
            page[rnd.randrange(4096)] = rnd.randrange(256)

def segment():
    fd = os.memfd_create("tssx-segment", os.MFD_CLOEXEC)
    size = rnd.choice([4096, 4096 + 2 * 4096, 4096 + 2 * 65536, 4097, 100])
    os.ftruncate(fd, max(size, 1))
    page = mmap.mmap(fd, 4096 if size >= 4096 else size)
    if rnd.random() < 0.2:
        os.ftruncate(fd, rnd.choice([0, 50]))  # who reads it gets SIGBUS, or EFAULT
        os.close(fd)
        return None, page
    os.close(fd)
    if size < 4096: return None, page
    kind = rnd.random()
    if kind < 0.2:
        page[:] = rnd.randbytes(4096)
        if rnd.random() < 0.5: put(page, 0, "8sIIQQ", b"TSSXSEG1", 2, 4096, 4096 + 8192, 4096)
        return page, page
    put(page, 0, "8sIIQQ", b"TSSXSEG1", 2, 4096, 4096 + 2 * 65536, 65536)
    path = rnd.choice([b"/h/\x1b[2J\x07", b"\0abstract\0\xff", b"/h/" + rnd.randbytes(90), b"",
                       b'/h/"quotes\\and\nlines', "/h/\u202e\u2028x".encode()])
    put(page, 48, "QIIII", rnd.choice(INTERESTING), rnd.choice([os.getpid(), 1, 2**32 - 1]),
        rnd.choice(INTERESTING) & 0xffffffff, len(path), 0)
    put(page, 72, f"{len(path)}s", path)
    put(page, 512, "I", rnd.choice([0, 1, 1, 1, 2, 3]))
    spoil(page, rnd.randrange(12))
    if rnd.random() < 0.8: put(page, 0, "8sIIQQ", b"TSSXSEG1", 2, 4096, 4096 + 2 * 65536, 65536)
    return page, page

def record():
    size = rnd.choice([4096, 4096, 8192, 65536])
    page = mmap.mmap(-1, size)
    if rnd.random() < 0.3:
        page[:4096] = rnd.randbytes(4096)
    if rnd.random() < 0.5:
        put(page, 0, "8sII", b"TSSXSID1", 1, END_SIZE)
        put(page, 16, "II", rnd.choice([0, 1, 2]), rnd.choice([0, 11, 108, 109, 2**32 - 1]))
    else:
        put(page, 0, "8sIIIII", b"TSSXPRC1", 1, 1, rnd.choice([112, 200, 4096, 60000, 2**32 - 1, 3]),
            rnd.choice([0, 1, 1000, 2**32 - 1]), 1)
        page[112:4096] = (b"*a" * 30 + b"b\0" + b"[" * 50 + b"\0") * 34 + bytes(3984 - 34 * 113)
    spoil(page, rnd.randrange(6))
    return page, page

def slow_patterns():
    """A sound record, of patterns that a careless matcher would need years for."""
    page = mmap.mmap(-1, 4096)
    put(page, 0, "8sIIIII", b"TSSXPRC1", 1, 1, 4096, 30, 0)
    patterns = (b"*a" * 30 + b"b\0") * 30
    page[112:112 + len(patterns)] = patterns
    return page

END_SIZE = int(sys.argv[3])
# As if the library was there.
with open(os.path.join(directory, "libtssx.so"), "wb+") as library:
    library.write(b"x" * 4096)
    library.flush()
    kept.append(mmap.mmap(library.fileno(), 4096))
changing = []
kept += [slow_patterns() for _ in range(3)]
for make in (segment, record):
    for i in range(150):
        page, keep = make()
        kept.append(keep)
        if page is not None and i % 2: changing.append(page)
names = [b"\0" + b"a" * 107, b"\0\xff\x1b[31m", os.path.join(directory, 'q"\\\n').encode()]
for name in names:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(name)
    listener.listen(1)
    kept.append(listener)
    client = socket.socket(socket.AF_UNIX)
    client.bind(b"\0tssx/1/" + rnd.choice([b"f" * 32, b"F" * 32, b"f" * 31, b"", rnd.randbytes(40)]) + name[:8])
    client.connect(name)
    kept += [client, listener.accept()[0]]
# Some go while they are looked at.
def come_and_go():
    while True:
        page, keep = segment()
        other, keep2 = record()
        del page, keep, other, keep2
threading.Thread(target=come_and_go, daemon=True).start()
kept += [slow_patterns() for _ in range(3)]
print("ready", flush=True)
while True:
    for page in changing: spoil(page, 1)
PY

# The size of the record's page, which a reader of this version demands.
cat >"$work/size.cc" <<'CC'
#include <cstdio>
#include "core/side.h"
int main() { std::printf("%zu\n", sizeof(tssx::Side)); }
CC
g++ -std=gnu++20 -I"$TSSX_SOURCE" -o "$work/size" "$work/size.cc"
end_size=$("$work/size")

# run <expected status> <arguments>
run() { captured "$1" "$stat" "${@:2}"; }
printable() {
  if LC_ALL=C grep -q '[^ -~]' "$work/out"; then fail "unprintable bytes: $1"; fi
}

rounds=3
if [[ ${TSSX_TEST_LONG:-} ]]; then rounds=30; fi
shown=0
for ((round = 0; round < rounds; ++round)); do
  seed=$((RANDOM + 1))
  start_ready python3 "$work/hostile.py" "$seed" "$work" "$end_size"
  maker=$pid
  for _ in 1 2 3; do
    run 0 --json --interval 0.02
    jq -e '.schema == 1 and (.connections | type == "array") and
      all(.connections[]; .to_client.waiting <= .to_client.capacity and (.path | length) <= 108)' \
      "$work/out" >/dev/null || fail "JSON"
    count=$(jq --argjson pid "$maker" '[.connections[] | select(.path | startswith("/h/"))] | length' \
      "$work/out")
    shown=$((shown + count))
    run 0 --prometheus
    promtool check metrics <"$work/out" >"$work/err" 2>&1 || fail "metrics"
    [[ $(wc -l <"$work/out") -gt 20 ]] || fail "no metrics"
    run 0 --sort rate
    printable table
    run 0 --summary
    printable summary
    run 0 listeners
    printable listeners
    grep -q 'xff' "$work/out" || fail "a listener with an odd name"
    run 0 explain "$maker"
    printable explain
    run 0 explain "$maker" --json
    jq -e '.listeners | length == 3' "$work/out" >/dev/null || fail "explain, JSON"
  done
  id=$("$stat" --json 2>/dev/null | jq -r --argjson pid "$maker" '.connections[0].id // empty')
  if [[ $id ]]; then
    status=0
    timeout -k 5 60 "$stat" show "$id" >"$work/out" 2>"$work/err" </dev/null || status=$?
    [[ $status == 0 || $status == 3 ]] || fail "show $id: $status"
    printable show
  fi
  # A screen over them all, for a moment.
  status=0
  timeout -k 10 2 "$stat" --watch 0.1 >"$work/out" 2>"$work/err" </dev/null || status=$?
  [[ $status == 124 ]] || fail "--watch: $status"
  # And gone in the middle.
  (sleep 0.05 && kill "$maker") &
  run 0 --json --interval 0.2
  wait "$maker" 2>/dev/null || true
  wait
  pids=()
  rm -f "$work/q"*
done
((shown > 0)) || fail "nothing hostile was shown: the test shows nothing"
echo "ok: $shown hostile connections shown in $rounds rounds"
