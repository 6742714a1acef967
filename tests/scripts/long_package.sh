#!/usr/bin/env bash
# The Debian packages, as an operator meets them: lintian, dpkg -i, the tools and the library from where they are
# then, a PostgreSQL cluster of Debian's that is accelerated by one file, what the example's container runs, dpkg -P,
# and nothing left.
#
# All of it happens on a copy of this machine's files: an overlay whose upper layer is memory, in namespaces of their
# own. So what is installed and started can't be met by anything else, and is gone with them.
set -euo pipefail
: "${TSSX_SOURCE:?}"
export LC_ALL=C.UTF-8
unset LD_PRELOAD USE_TSSX TSSX_IDS TSSX_SECCOMP TSSX_SPIN TSSX_LOG TSSX_LIB TSSX_BUILD

fail() {
  echo "failed: $*"
  exit 1
}
skip() {
  echo "skipped: $*"
  exit 77
}

# --- in the copy --------------------------------------------------------------------------------

if [[ ${1:-} == inside ]]; then
  version=$2
  cd /
  says() { [[ $1 =~ $2 ]] || fail "no $2 in: $1"; }
  await() { # await <condition>: the test's own time-out ends what hangs
    until eval "$1"; do sleep 0.1; done
  }
  dpkg -i /tmp/*.deb >/tmp/log 2>&1 || fail "dpkg -i: $(cat /tmp/log)"
  for tool in tssx-run tssx-stat tssx-bench; do
    [[ $(command -v "$tool") == "/usr/bin/$tool" ]] || fail "no $tool"
    [[ $("$tool" --version) == "$tool $version" ]] || fail "version of $tool"
    man -w "$tool" >/dev/null || fail "no manual page of $tool"
  done
  man -w 7 tssx >/dev/null || fail "no manual page"
  library=$(dpkg -L tssx | grep '/libtssx\.so$')
  says "$(tssx-run -s /x cat /proc/self/maps)" "$library"
  # The name alone will do.
  says "$(LD_PRELOAD=libtssx.so TSSX_LOG=info /bin/true 2>&1)" "libtssx $version, .*${library#/usr}: takes no part"
  says "$(tr -c '[:print:]' '\n' <"$library" | grep '^libtssx ')" "^libtssx $version\$"
  says "$(pkg-config --modversion tssx-core)" "^$version\$"

  # In a setuid program ld.so(8) loads what bears the bit itself, and the library stays silent and idle.
  cp /bin/cat /usr/bin/rights
  chmod 4755 /usr/bin/rights "$library"
  as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups env LD_PRELOAD=libtssx.so "$@"; }
  loud=(USE_TSSX='*' TSSX_IDS=nonsense TSSX_LOG=info)
  says "$(as_nobody "${loud[@]}" rights /proc/self/maps 2>/tmp/log)" "$library"
  [[ ! -s /tmp/log ]] || fail "in a setuid program: $(cat /tmp/log)"
  as_nobody "${loud[@]}" cat /dev/null 2>/tmp/log
  says "$(cat /tmp/log)" 'TSSX_IDS: neither'
  rm /usr/bin/rights
  chmod 644 "$library"

  # PostgreSQL as Debian runs it.
  release=$(ls /usr/lib/postgresql | sort -V | tail -n 1)
  pg_createcluster --port 5599 "$release" tssx -- --no-sync >/tmp/log 2>&1 || fail "$(cat /tmp/log)"
  export PGPORT=5599
  environment=/etc/postgresql/$release/tssx/environment
  cluster() { pg_ctlcluster "$release" tssx "$@" >/tmp/log 2>&1 || fail "pg_ctlcluster $*: $(cat /tmp/log)"; }
  as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
  printf "listen_addresses = ''\nfsync = off\n" >>"${environment%/*}/postgresql.conf"
  stat() { as_postgres tssx-stat --json --path '*/.s.PGSQL.*'; }
  on_rings() { stat | jq '[.connections[] | select(.state == "ring")] | length'; }
  cluster start
  as_postgres pgbench -i -q postgres >/tmp/log 2>&1 || fail "$(cat /tmp/log)"
  # Before: the clients alone have the library.
  as_postgres tssx-run -s '*/.s.PGSQL.*' -- pgbench -n -S -t 100 postgres >/tmp/log 2>&1 || fail "$(cat /tmp/log)"
  [[ $(on_rings) == 0 ]] || fail "accelerated without the server's consent"
  # The one file, and a restart.
  cp /usr/share/tssx/postgresql.environment "$environment"
  cluster restart
  as_postgres tssx-run -s '*/.s.PGSQL.*' --verify=30 -- pgbench -n -S -c 2 -T 10 postgres >/tmp/bench 2>/tmp/verify &
  bench=$!
  await '[[ $(on_rings) == 2 ]]'
  first=$(stat | jq '[.connections[].to_client.bytes] | add')
  await '(($(stat | jq "[.connections[].to_client.bytes] | add // 0") > first))'
  says "$(stat | jq -c '[.connections[] | [.server.program, .client.program, .path]] | unique')" \
    '^\[\["postgres","pgbench","/var/run/postgresql/\.s\.PGSQL\.[0-9]+"\]\]$'
  wait "$bench" || fail "pgbench: $(cat /tmp/bench)"
  await '[[ -s /tmp/verify ]]'
  says "$(cat /tmp/verify)" '2 connections over shared memory (when it ended|after 30 s): /var/run/postgresql/'
  # And back.
  : >"$environment"
  cluster restart
  as_postgres tssx-run -s '*/.s.PGSQL.*' -- pgbench -n -S -t 100 postgres >/tmp/log 2>&1 || fail "$(cat /tmp/log)"
  grep -qs libtssx "/proc/$(head -n 1 /var/run/postgresql/"$release"-tssx.pid)/maps" && fail "still preloaded"
  cluster stop
  pg_dropcluster "$release" tssx

  # What runs in the container of the example, in namespaces as it has them, and a client outside.
  command=$(sed -nE 's/^(ENTRYPOINT|CMD) //p' /usr/share/doc/tssx/examples/Dockerfile | jq -s -r 'add | @sh')
  says "$command" "redis-server"
  socket=/run/redis-tssx/redis.sock
  mkdir "${socket%/*}"
  eval "unshare --mount-proc --net --pid --ipc --uts --fork --kill-child $command" >/tmp/log 2>&1 &
  container=$!
  await '[[ -S $socket ]]'
  tssx-run -s "$socket" -- redis-benchmark -s "$socket" -c 3 -t get -l >/dev/null 2>&1 &
  client=$!
  inside() { tssx-stat --json --path "$socket" | jq -c '[.connections[] | [.server.program, .client.program, .state]]'; }
  connection='["redis-server","redis-benchmark","ring"]'
  await '[[ $(inside) == "[$connection,$connection,$connection]" ]]'
  kill "$client" "$container"
  wait "$client" "$container" || true
  rm -r "${socket%/*}"

  dpkg -P tssx libtssx-core-dev >/tmp/log 2>&1 || fail "dpkg -P: $(cat /tmp/log)"
  # What the copy has and the machine has not. Logs and caches of others note that something was installed.
  cd /tmp/upper
  {
    find . ! -type d -printf '/%P\n'
    find . -type d -printf '/%P\n' | while IFS= read -r folder; do [[ -d /tmp/lower$folder ]] || echo "$folder"; done
  } | grep -vE '^/(run|var/run|var/log|var/cache|var/lib/(dpkg|postgresql)|etc/(ld\.so\.cache|postgresql|\.pwd\.lock))(/|$)' >/tmp/left || true
  [[ ! -s /tmp/left ]] || fail "left behind, or gone: $(head -n 20 /tmp/left)"
  find . -name '*tssx*' ! -path './var/lib/dpkg/*' ! -path './var/log/postgresql/*' >/tmp/left
  [[ ! -s /tmp/left ]] || fail "left behind: $(head -n 20 /tmp/left)"
  echo ok
  exit 0
fi

# --- here ---------------------------------------------------------------------------------------

for needed in cpack dpkg dpkg-shlibdeps file lintian jq man pkg-config pg_createcluster pgbench redis-server; do
  command -v "$needed" >/dev/null || skip "$needed is not installed"
done
((EUID == 0)) || skip "not root"
! dpkg-query -W -f='${db:Status-Status}\n' tssx 2>/dev/null | grep -qx installed || skip "tssx is installed here"

packages=$("$TSSX_SOURCE/scripts/package" 2>&1) || fail "scripts/package: $(tail -n 20 <<<"$packages")"
mapfile -t packages < <(cd "$TSSX_SOURCE" && realpath build/package/deb/*.deb)
[[ ${#packages[@]} == 2 ]] || fail "not two packages: ${packages[*]}"

work=$(mktemp -d /tmp/tssx-package.XXXXXX)
trap 'rm -rf --one-file-system "$work"' EXIT
mkdir "$work/lintian" "$work/memory"
# lintian forgets a file in there.
TMPDIR=$work/lintian lintian --fail-on error,warning --allow-root "${packages[@]}" || fail "lintian"
version=$(sed -n 's/^project(tssx VERSION \([0-9.]*\).*/\1/p' "$TSSX_SOURCE/CMakeLists.txt")
status=0
# shellcheck disable=SC2016
timeout -k 5 500 unshare --mount --net --pid --ipc --fork --kill-child bash -c '
  set -e
  work=$1 script=$2 version=$3
  shift 3
  mount --make-rprivate /
  mount -t tmpfs -o mode=755 tmpfs "$work"
  mkdir "$work/upper" "$work/work" "$work/root"
  if ! mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"; then
    echo "skipped: no overlay of this file system"
    exit 77
  fi
  root=$work/root
  mount -t proc proc "$root/proc"
  mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
  mount --rbind /dev "$root/dev"
  mkdir "$root/tmp/upper" "$root/tmp/lower"
  mount --bind "$work/upper" "$root/tmp/upper"
  mount --bind / "$root/tmp/lower"
  mkdir -p "$root/run/lock" "$root/var/run"
  cp "$@" "$script" "$root/tmp"
  chmod 644 "$root"/tmp/*.deb
  TSSX_SOURCE=/ exec chroot "$root" /bin/bash "/tmp/${script##*/}" inside "$version"
' bash "$work/memory" "$(realpath "$0")" "$version" "${packages[@]}" </dev/null || status=$?
exit "$status"
