#!/usr/bin/env bash
# TSSX_LOG: what the library says, to whom, and that saying it never disturbs the program: not its
# output, not its descriptors, and not when nobody can take the line.
set -euo pipefail
: "${TSSX_LIB:?}" "${TSSX_SOURCE:?}"
export LC_ALL=C
unset LD_PRELOAD USE_TSSX TSSX_IDS TSSX_SECCOMP TSSX_SPIN TSSX_LOG

if ! command -v python3 >/dev/null; then
  echo "missing: python3"
  exit 77
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/tssx-log.XXXXXX")
trap 'rm -rf "$work"' EXIT
version=$(sed -n 's/^project(tssx VERSION \([0-9.]*\).*/\1/p' "$TSSX_SOURCE/CMakeLists.txt")

timeout 100 python3 -B - "$TSSX_LIB" "$work" "$version" <<'PYTHON'
import fcntl, os, re, resource, signal, subprocess, sys

library, work, version = sys.argv[1:]
failed = 0

def check(what, good, shown=""):
    global failed
    if not good:
        print("failed:", what, shown)
        failed += 1

def run(program=("/bin/echo", "hello"), stderr=subprocess.PIPE, **variables):
    """Preloaded, with these variables. Returns its exit status, standard output and error."""
    environment = {"LD_PRELOAD": library, "LC_ALL": "C", "PATH": os.environ["PATH"], **variables}
    p = subprocess.run(program, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=stderr, timeout=50)
    return p.returncode, p.stdout, p.stderr

def said(**variables):
    """The lines on standard error; the program itself is not disturbed."""
    status, out, err = run(**variables)
    check(f"the program with {variables}", (status, out) == (0, b"hello\n"), (status, out))
    return err.decode("ascii").splitlines()

speaker = r"tssx: echo\[[1-9][0-9]*\]: "
here = re.escape(library)

# Quiet by default, and where nothing is wrong.
check("nothing is said", said() == [])
check("nothing is said", said(USE_TSSX="*", TSSX_IDS="negative", TSSX_SPIN="7") == [])
for level in ("", "off", "warn"):
    check("nothing is said", said(USE_TSSX="*", TSSX_LOG=level) == [], level)

# One line of level info.
def introduces(expected, **variables):
    lines = said(TSSX_LOG="info", **variables)
    check("one line at start-up", len(lines) == 1 and
          re.fullmatch(speaker + "libtssx " + re.escape(version) + ", " + here + ": " + expected,
                       lines[0]), lines)

introduces("takes no part, every connection stays in the kernel")
introduces("takes no part, every connection stays in the kernel", USE_TSSX="  ")
introduces(r"accept\(\) returns kernel numbers, spins up to 50 us, USE_TSSX=/a /b\*",
           USE_TSSX="/a /b*")
introduces(r"accept\(\) returns negative IDs, spins up to 0 us, USE_TSSX=\*",
           USE_TSSX="*", TSSX_IDS="negative", TSSX_SPIN="0")
introduces(r"accept\(\) returns negative IDs, raw calls are trapped, spins up to 50 us, USE_TSSX=\*",
           USE_TSSX="*", TSSX_IDS="negative", TSSX_SECCOMP="trap")
# Whatever a variable holds, it is one printable line of a limited length.
introduces(r"accept\(\) .*, USE_TSSX=/\\x0a\\x1b\[31m\\xffx{1000,2500}\.\.\.",
           USE_TSSX="/\n\x1b[31m\udcff" + "x" * 5000)

# A bad value gets one line, not more, and the program goes on.
for variable, value, problem in (
    ("USE_TSSX", "a " * 300, "more than 256 patterns; the rest is ignored"),
    ("TSSX_IDS", "both", "neither auto, negative nor kernel; auto is used"),
    ("TSSX_SECCOMP", "on", "not trap; ignored"),
    ("TSSX_SPIN", "fast", "not a number of microseconds from 0 to 1000000; ignored"),
    ("TSSX_SPIN", "-1", "not a number of microseconds from 0 to 1000000; ignored"),
    ("TSSX_SPIN", "1000001", "not a number of microseconds from 0 to 1000000; ignored"),
    ("TSSX_SPIN", "9" * 40, "not a number of microseconds from 0 to 1000000; ignored"),
    ("TSSX_LOG", "loud", "the level is neither off, warn nor info; warn is used"),
    ("TSSX_LOG", "infos", "the level is neither off, warn nor info; warn is used"),
    ("TSSX_LOG", "warn:", "the file is no absolute path; standard error is used"),
    ("TSSX_LOG", "warn:tssx.log", "the file is no absolute path; standard error is used"),
):
    lines = said(**{"USE_TSSX": "*", variable: value})
    check("a bad value gets one line", len(lines) == 1 and
          re.fullmatch(speaker + variable + ": " + re.escape(problem), lines[0]),
          (variable, value[:20], lines))
    check("and none where nothing is to be said",
          variable == "TSSX_LOG" or said(**{"USE_TSSX": "*", "TSSX_LOG": "off", variable: value}) == [])
lines = said(USE_TSSX="*", TSSX_IDS="both", TSSX_SPIN="x", TSSX_SECCOMP="x")
check("each bad value gets one line", len(lines) == 3 and len(set(lines)) == 3, lines)

# A file takes the lines in place of standard error, with the time, from many processes at once.
log = work + "/lines"
check("standard error stays empty", said(USE_TSSX="*", TSSX_LOG="info:" + log) == [])
environment = {"LD_PRELOAD": library, "TSSX_LOG": "info:" + log, "TSSX_IDS": "x", "USE_TSSX": "*"}
many = [subprocess.Popen(["/bin/echo"], env=environment, stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE) for _ in range(20)]
check("standard error stays empty", [p.communicate()[1] for p in many] == [b""] * 20)
lines = open(log).read().splitlines()
line = (r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]Z echo\[[0-9]+\]: "
        r"(TSSX_IDS: neither auto, .*|libtssx .*=\*)")
check("every line is whole", len(lines) == 41 and all(re.fullmatch(line, l) for l in lines), lines)

# A file that can't be written: one line about that, and the lines go where they went before.
for path in (work + "/none/lines", work):
    lines = said(USE_TSSX="*", TSSX_LOG="info:" + path)
    check("an unusable file", len(lines) == 2 and
          re.fullmatch(speaker + "TSSX_LOG: the file can't be written; standard error is used",
                       lines[0]) and "libtssx" in lines[1], (path, lines))
os.mkfifo(work + "/fifo")
lines = said(USE_TSSX="*", TSSX_LOG="info:" + work + "/fifo")
check("a FIFO that nobody reads", len(lines) == 2, lines)

# Nobody there to take it: the program runs as ever.
everything = dict(USE_TSSX="*", TSSX_LOG="info", TSSX_IDS="x")
pending = ("/usr/bin/awk", "/^(Sig|Shd)Pnd|^SigBlk/ { sum = sum $2 } END { print sum ~ /^0+$/ }",
           "/proc/self/status")
reader, writer = os.pipe()
os.close(reader)
status, out, _ = run(pending, stderr=writer, **everything)
check("a pipe that nobody reads", (status, out) == (0, b"1\n"), (status, out))
os.close(writer)

reader, writer = os.pipe()
os.set_blocking(writer, False)
try:
    while True:
        os.write(writer, b"x" * 4096)
except BlockingIOError:
    pass
os.set_blocking(writer, True)
status, out, _ = run(stderr=writer, **everything)
check("a full pipe", (status, out) == (0, b"hello\n"), (status, out))

def limited(program, **variables):
    environment = {"LD_PRELOAD": library, **variables}
    p = subprocess.run(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
    return p.returncode, p.stdout
small = work + "/small"
outcome = limited(pending, USE_TSSX="*", TSSX_LOG="info:" + small)
check("a file that may not grow", outcome == (0, b"1\n") and os.path.getsize(small) == 0, outcome)

# No descriptor is used up: the next one to be opened is 2 if that is free.
shell = "exec 2>&-; exec python3 -c 'import os; print(sorted(map(int, os.listdir(\"/proc/self/fd\")))[:3])'"
for target in ("info", "info:" + log):
    plain = subprocess.run(["sh", "-c", shell], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    status, out, _ = run(("sh", "-c", shell), USE_TSSX="*", TSSX_LOG=target)
    check("standard error is closed", (status, out) == (0, plain.stdout), (status, out, plain.stdout))

print("failed:" if failed else "ok", failed or "")
sys.exit(1 if failed else 0)
PYTHON

# The version is in the file, for strings(1), as a line of its own; the exports are no more for it.
if ! tr -c '[:print:]' '\n' <"$TSSX_LIB" | grep -x "libtssx $version" >/dev/null; then
  echo "failed: no version in the library"
  exit 1
fi
