#!/usr/bin/env bash
# A program that runs with more rights than its caller ignores the environment: USE_TSSX of the caller
# has no say in it (secure_getenv(3)), even where the library is there, as it is linked with it here.
# LD_PRELOAD, the usual way, is ignored by the dynamic linker itself (ld.so(8)).
set -euo pipefail

skip() {
  echo "$1"
  exit 77
}
((EUID == 0)) || skip "only root makes setuid programs"
id nobody >/dev/null 2>&1 || skip "no user nobody"
compiler=$(command -v cc || command -v gcc) || skip "no C compiler"

work=$(mktemp -d "${TMPDIR:-/tmp}/tssx-setuid.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cp "$TSSX_LIB" "$work/libtssx.so"
chmod 755 "$work/libtssx.so"

# Prints "marked" if its connection bears a mark, and is ready for the ring; "plain" if not.
cat >"$work/program.c" <<'END'
#define _GNU_SOURCE
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

int main(void) {
  struct sockaddr_un address = {AF_UNIX, ""};
  socklen_t length = offsetof(struct sockaddr_un, sun_path) + 1 +
                     snprintf(address.sun_path + 1, 90, "tssx-setuid-%d", getpid());
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  int client = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 4) != 0 ||
      connect(client, (struct sockaddr *)&address, length) != 0) {
    perror("program");
    return 1;
  }
  int server = accept(listener, NULL, NULL);
  char bytes[5];
  for (int i = 0; i < 50; ++i) {
    if (write(client, "hello", 5) != 5 || read(server, bytes, 5) != 5 ||
        write(server, "world", 5) != 5 || read(client, bytes, 5) != 5) {
      return 2;
    }
  }
  /* The kernel's own view of the name; the library shows none. */
  struct sockaddr_un name = {0};
  length = sizeof name;
  syscall(SYS_getsockname, client, &name, &length);
  printf("%s %s\n", getauxval(AT_SECURE) ? "secure" : "ordinary",
         length > sizeof(sa_family_t) && memcmp(name.sun_path + 1, "tssx/", 5) == 0 ? "marked" : "plain");
  return 0;
}
END
"$compiler" -o "$work/linked" "$work/program.c" -Wl,--no-as-needed "$work/libtssx.so" \
  -Wl,-rpath,"$work"
"$compiler" -o "$work/alone" "$work/program.c"
for program in linked alone; do
  cp "$work/$program" "$work/$program-setuid"
  cp "$work/$program" "$work/$program-setgid"
  chmod 4755 "$work/$program-setuid"
  chmod 2755 "$work/$program-setgid"
done

failed=0
# expect <what> <program> <environment...>
expect() {
  local wanted=$1 program=$2 got
  shift 2
  got=$(setpriv --reuid=nobody --regid=nogroup --clear-groups env "$@" "$work/$program" 2>/dev/null) ||
    got="status $?"
  if [[ $got == "$wanted" ]]; then
    echo "ok $program $*: $got"
  else
    echo "FAIL $program $*: $got, not $wanted"
    failed=1
  fi
}
[[ $(setpriv --reuid=nobody --regid=nogroup --clear-groups "$work/alone-setuid") == "secure plain" ]] ||
  skip "setuid programs have no effect in $work"

# The library works in these programs where nothing is privileged,
expect "ordinary marked" linked USE_TSSX='*'
expect "ordinary plain" linked -u USE_TSSX
expect "ordinary marked" alone USE_TSSX='*' LD_PRELOAD="$work/libtssx.so"
# and not where it is, whatever the caller says.
for rights in setuid setgid; do
  expect "secure plain" linked-$rights USE_TSSX='*'
  expect "secure plain" linked-$rights USE_TSSX='*' TSSX_IDS=negative TSSX_SECCOMP=trap TSSX_SPIN=1
  expect "secure plain" alone-$rights USE_TSSX='*' LD_PRELOAD="$work/libtssx.so"
done
exit "$failed"
