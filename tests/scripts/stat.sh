#!/usr/bin/env bash
# tssx-stat on segments made by hand: it shows them, to whom it may, as a table and as JSON, and
# stays calm about whatever else bears their name.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/support/frame.sh"

stat=$TSSX_BUILD/tssx-stat
needs "$stat" python3
needs_to_read_processes
work_in tssx-stat
# run <expected status> <arguments>
run() { captured "$1" "$stat" "${@:2}"; }
# check <python expression over c, the connections by path, and all, the document>
check() {
  python3 - "$work/out" "$1" <<'EOF' || fail "not so: $1"
import json, sys
all = json.load(open(sys.argv[1], encoding="ascii"))
c = {connection["path"]: connection for connection in all["connections"]}
sys.exit(0 if eval(sys.argv[2]) else 1)
EOF
}

# --- usage --------------------------------------------------------------------------------------

run 0 --version
shows '^tssx-stat [0-9]+\.[0-9]+\.[0-9]+$'
run 0 --help
shows '--json'
# Each option is in the man page.
man=$TSSX_SOURCE/docs/man/tssx-stat.1
for option in $(grep -oE -- '(^| |,)--?[a-z]+' "$work/out" | tr -d ' ,' | sort -u); do
  grep -qE -- "${option//-/\\\\-}([^a-z]|\$)" "$man" || fail "$option is not in the man page"
done
for command in show listeners explain; do
  grep -qE "^ +$command " "$work/out" || fail "$command is not in --help"
done
run 2 --no-such-option
run 2 --pid 0
run 2 --pid x
run 2 stray
# An option has one value: what follows it is a command, an argument, or wrong.
run 2 --pid 1 2
run 2 --path /x /y
run 2 --watch 1 2
run 3 -p 1 explain 2147483647
says '^tssx-stat: 2147483647: no Unix stream socket of that process$'
run 3 explain --path /x --path /y -p 1 2147483647
says '^tssx-stat: 2147483647: no Unix stream socket of that process$'
run 3 show --path /x 999999999999
run 2 --json --prometheus
run 2 --summary --json
run 2 --sort colour
run 2 --interval -1
run 2 --watch 0
run 2 --watch 1 --json
run 2 show
run 2 show 1 --prometheus
run 2 explain
run 3 show 999999999999

# --- nothing to show (other tests may have connections of their own) ----------------------------

run 0 --path "$work/nothing"
shows '^no accelerated connections$'
run 0 --path "$work/nothing" --json
check 'all["connections"] == [] and all["hidden_processes"] >= 0'

# --- connections made by hand -------------------------------------------------------------------

# segments.py <prefix of the paths> <many|each>: a thousand connections, or one of each kind, mapped
# by it and by a child of it. Prints the pids of both when all is ready; goes when its input ends.
# The offsets are those of core/layout.h.
cat >"$work/segments.py" <<'EOF'
import ctypes, mmap, os, signal, struct, sys, time

prefix, what = sys.argv[1], sys.argv[2]
CAPACITY = 65536
server = os.getpid()
kept = []

def put(page, offset, form, *values):
    struct.pack_into("=" + form, page, offset, *values)

def segment(path, *changes, size=4096 + 2 * CAPACITY):
    fd = os.memfd_create("tssx-segment", os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    page = mmap.mmap(fd, size)
    os.close(fd)
    put(page, 0, "8sIIQQ", b"TSSXSEG1", 2, 4096, size, CAPACITY)
    put(page, 48, "QIIII", time.time_ns() - 90 * 10**9, server, 0, len(path), 0)
    put(page, 72, f"{len(path)}s", path)
    put(page, 512, "I", 1)
    put(page, 640, "II", server, 1)
    put(page, 768, "II", 0, 2)
    for way in (1024, 1536):
        put(page, way + 12, "I", 1)
        put(page, way + 128 + 8, "I", 1)
    for offset, form, *values in changes:
        put(page, offset, form, *values)
    kept.append(page)
    return page

def set_client(page, pid):
    put(page, 60, "I", pid)
    put(page, 768, "I", pid)

name = prefix.encode()
if what == "many":
    for i in range(1000):
        segment(name + b"/many")
else:
    segment(name + b"/ring", (1024, "Q", 5000), (1024 + 24, "QQ", 12, 3), (1024 + 128, "Q", 4900),
            (1024 + 128 + 24, "Q", 4), (1536, "Q", 77), (1536 + 24, "Q", 1), (1536 + 128, "Q", 77))
    segment(b"\0" + name + b"/abstract", (1024 + 12, "I", 0), (1024 + 136, "I", 0),
            (1536 + 12, "I", 0), (1536 + 136, "I", 0))
    segment(name + b"/withdrawn", (512, "I", 2))
    segment(name + b"/closing", (1024 + 8, "I", 2))
    segment(name + b"/damaged", (1024, "Q", 2**64 - 1))
    segment(name + b"/\x1b[31m\xff\n\xe2\x80\xae")
    segment(name + b"/other-version", (8, "I", 99))
    segment(name + b"/bad-capacity", (24, "Q", 2**63))
    segment(name + b"/tiny", (16, "Q", 4096), size=4096)

hold, gate = os.pipe()
client = os.fork()
if client == 0:
    os.close(gate)
    ctypes.CDLL(None).prctl(15, b"stat client", 0, 0, 0)  # PR_SET_NAME
    os.read(hold, 1)
    os._exit(0)
os.close(hold)
for page in kept:
    set_client(page, client)
if what != "many":
    # Mapped by the server alone: not answered yet, and left by a client that is no more.
    set_client(segment(name + b"/offered", (512, "I", 0)), client)
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    set_client(segment(name + b"/left"), gone)
print(server, client, flush=True)
sys.stdin.read()
for page in kept:
    page.close()
os.close(gate)
os.waitpid(client, 0)
EOF

# start <what>: makes the segments; sets server and client
start() {
  coproc MAKER { exec python3 "$work/segments.py" "$work" "$1"; }
  pids=("$MAKER_PID")
  read -r -t 60 server client <&"${MAKER[0]}" || fail "the segments could not be made"
}
stop() {
  local input=${MAKER[1]}
  exec {input}>&-
  wait "${pids[0]}" || fail "the process that holds the segments"
  pids=()
}

start each
run 0 --pid "$server" --json
check 'set(c) >= {"'"$work"'/" + name for name in
       ("ring", "withdrawn", "closing", "damaged", "offered", "left")}'
check 'all["unrecognized_segments"] >= 3 and not any("other-version" in path or "tiny" in path or
       "bad-capacity" in path for path in c)'
for state in ring withdrawn closing damaged offered; do
  check "c['$work/$state']['state'] == '$state'"
done
check "c['$work/left']['state'] == 'closing' and c['$work/left']['client']['program'] == ''"
check "c['@$work/abstract']['state'] == 'handshake'"
check "c['$work/ring']['server']['pid'] == $server and c['$work/ring']['server']['holders'] == 1"
check "c['$work/ring']['server']['program'].startswith('python')"
check "c['$work/ring']['client'] == {'pid': $client, 'program': 'stat client',
       'user': '$(id -un)', 'holders': 2, 'end': None}"
check "c['$work/ring']['to_client'] == {'bytes': 5000, 'messages': 12, 'reads': 0, 'waiting': 100,
       'bells': 7, 'data_sleeps': 0, 'space_sleeps': 0, 'capacity': 65536,
       'bytes_per_second': 0.0, 'messages_per_second': 0.0, 'mode': 'ring'}"
check "c['$work/ring']['to_server']['bytes'] == 77 and c['$work/ring']['to_server']['waiting'] == 0"
check "89 < c['$work/ring']['age_seconds'] < 10000"
check "len({one['id'] for one in all['connections']}) == len(all['connections']) == 8"

run 0 --path "$work/ring" --pid "$client"
shows '^ID +STATE +AGE +SERVER +CLIENT .* PATH$'
shows "^[0-9]+ +ring +[0-9.]+ +$server/python[^ ]* +$client/stat.x20client +[^ ]+ +- +1[+]2 +5000 +12 +0 +0 +100 +7 +77 +1 +0 +0 +0 +0 +65536 +$work/ring\$"
[[ $(wc -l <"$work/out") == 2 ]] || fail "more than the one line asked for"

run 0 --path "$work/*" --path "@$work/*"
[[ $(wc -l <"$work/out") == 9 ]] || fail "not one line for each connection and one for the titles"
if LC_ALL=C grep -q '[^ -~]' "$work/out"; then fail "unprintable bytes"; fi
shows '\\x1b\[31m\\xff\\x0a\\xe2\\x80\\xae'

run 0 --pid 2147483647
shows '^no accelerated connections$'

# Somebody else sees nothing of this, and is told that there is more than he sees.
nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
install -m 755 "$stat" "$work/stat-for-all"
chmod 755 "$work"
if [[ $(id -u) == 0 ]] && "${nobody[@]}" test -x "$work/stat-for-all" 2>/dev/null; then
  "${nobody[@]}" "$work/stat-for-all" --path "$work/*" >"$work/out" 2>"$work/err" ||
    fail "as nobody"
  shows '^no accelerated connections$'
  shows '^[0-9]+ processes could not be looked at'
  "${nobody[@]}" "$work/stat-for-all" --json --path "$work/*" >"$work/out" 2>"$work/err" ||
    fail "as nobody, JSON"
  check 'all["connections"] == [] and all["hidden_processes"] >= 2'
else
  echo "the view of another user is left out: not root, or he can't reach the program"
fi
stop

# --- a thousand of them, and processes that go while they are looked at -------------------------

start many
run 0 --json --pid "$server"
check 'len(all["connections"]) == 1000'
stop

for _ in 1 2 3 4 5; do
  start each
  kill "${pids[0]}"
  run 0 --json
  check '"connections" in all'
  wait "${pids[0]}" 2>/dev/null || true
  pids=()
done

echo "ok"
