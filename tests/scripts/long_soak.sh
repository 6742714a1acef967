#!/usr/bin/env bash
# scripts/soak, for 20 seconds: servers under load, with kills and restarts, lose and leak nothing. Interrupted, it
# leaves nothing behind either.
set -euo pipefail

for program in redis-server memcached; do
  command -v "$program" >/dev/null || {
    echo "no $program here"
    exit 77
  }
done
"$TSSX_SOURCE/scripts/soak" --seconds 20 --library "$TSSX_LIB"

before=$(find "${TMPDIR:-/tmp}" -maxdepth 1 -name 'tssx-soak.*')
"$TSSX_SOURCE/scripts/soak" --seconds 100 --library "$TSSX_LIB" &
soak=$!
sleep 6
kill -TERM "$soak"
status=0
wait "$soak" || status=$?
[[ $status == 143 ]] || {
  echo "interrupted, it ended with $status"
  exit 1
}
[[ $(find "${TMPDIR:-/tmp}" -maxdepth 1 -name 'tssx-soak.*') == "$before" ]] || {
  echo "interrupted, it left its directory"
  exit 1
}
