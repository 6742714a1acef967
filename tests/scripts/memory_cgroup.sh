#!/usr/bin/env bash
# A program in a memory cgroup that is small for it: on the kernel's sockets and on ours it gets through
# the same transfers, nobody is killed, and what the connections took is given back.
set -euo pipefail

skip() {
  echo "$1"
  exit 77
}
((EUID == 0)) || skip "only root makes memory cgroups"
parent=
# Version 1, or version 2 where the controller is handed down to us.
if path=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup) && [[ $path ]]; then
  parent=/sys/fs/cgroup/memory$path
  [[ -d $parent ]] || parent=/sys/fs/cgroup/memory
  limit=memory.limit_in_bytes usage=memory.usage_in_bytes kills=memory.oom_control
elif path=$(sed -n 's/^0:://p' /proc/self/cgroup) && [[ $path ]]; then
  parent=/sys/fs/cgroup$path
  limit=memory.max usage=memory.current kills=memory.events
  grep -qsw memory "$parent/cgroup.subtree_control" || skip "no memory controller for our children"
fi
[[ $parent && -d $parent ]] || skip "no memory cgroups here"
group=$parent/tssx-test-$$
mkdir "$group" 2>/dev/null || skip "no memory cgroup can be made here"
trap 'rmdir "$group"' EXIT
[[ -e $group/$limit ]] || skip "no memory controller here"
# gtest, its program and libc need some 5 MiB.
echo 10M >"$group/$limit"

cases='Volume.OneBig*:Volume.EachSize*:Acceleration.HappensForEachOfManyConnections:Acceleration.Leaves*'
run_in_group() { # <name> <environment...>
  local name=$1
  shift
  bash -c 'echo $$ >"$1/cgroup.procs" && shift && exec env "$@"' run "$group" "$@" \
    "$TSSX_BUILD/tests/call_tests" --gtest_filter="$cases" --gtest_brief=1
  killed=$(sed -n 's/^oom_kill //p' "$group/$kills")
  [[ $killed == 0 ]] || {
    echo "$name: $killed processes were killed for want of memory"
    exit 1
  }
}
run_in_group kernel -u TSSX_TEST_PRELOADED
unset_preloaded=$(cat "$group/$usage")
run_in_group rings LD_PRELOAD="$TSSX_LIB" USE_TSSX='*' TSSX_TEST_PRELOADED=1
left=$(cat "$group/$usage")
echo "left behind: $unset_preloaded bytes on the kernel's sockets, $left on rings"
# What stays is the cache of files that were read; a ring that stayed would be 256 KiB at least.
((left - unset_preloaded < 512 * 1024))
