#!/usr/bin/env bash
# cmake --install: what is installed works from there, others can build with core, and "uninstall" leaves
# nothing. Into a prefix of its own and into a DESTDIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/support/frame.sh"
unset TSSX_LIB DESTDIR

needs cmake ninja pkg-config g++
work_in tssx-install
# What the installation writes into the build directory is no part of the build: whoever installed from here before
# can still uninstall afterwards.
mkdir "$work/kept"
records=(install_manifest.txt install_directories.txt)
for record in "${records[@]}"; do
  [[ ! -e $TSSX_BUILD/$record ]] || mv "$TSSX_BUILD/$record" "$work/kept"
done
at_exit() {
  for record in "${records[@]}"; do
    rm -f "$TSSX_BUILD/$record"
    [[ ! -e $work/kept/$record ]] || mv "$work/kept/$record" "$TSSX_BUILD"
  done
}
quietly() { "$@" >"$work/log" 2>&1 </dev/null || fail "$*"; }
version=$(sed -n 's/^project(tssx VERSION \([0-9.]*\).*/\1/p' "$TSSX_SOURCE/CMakeLists.txt")

# --- a prefix of its own ------------------------------------------------------------------------

prefix=$work/prefix
quietly cmake --install "$TSSX_BUILD" --prefix "$prefix"
find "$prefix" ! -type d -printf '%P\n' | sort >"$work/files"
for expected in bin/tssx-bench bin/tssx-run bin/tssx-stat 'lib.*/libtssx\.so' 'lib.*/libtssx_core\.a' \
  'include/tssx/core/layout\.h' 'lib.*/pkgconfig/tssx-core\.pc' 'lib.*/cmake/tssx/tssx-config\.cmake' \
  'share/man/man1/tssx-run\.1' 'share/man/man1/tssx-stat\.1' 'share/man/man7/tssx\.7' \
  share/bash-completion/completions/tssx-run 'share/doc/tssx/README\.md' \
  'share/doc/tssx/examples/postgresql@\.service\.conf' 'share/tssx/postgresql\.environment'; do
  grep -qxE "$expected" "$work/files" || fail "not installed: $expected"
done
# The tools find the library where it is now, and nothing points back to where it was built.
library=$(find "$prefix" -name libtssx.so)
[[ $("$prefix/bin/tssx-run" -s /x sh -c 'echo "$LD_PRELOAD"') == "$library" ]] || fail "another library"
for tool in tssx-run tssx-stat tssx-bench; do
  [[ $("$prefix/bin/$tool" --version) == "$tool $version" ]] || fail "$tool has another version"
done
grep -rlF "$TSSX_BUILD" "$prefix" --include='*.cmake' --include='*.pc' >"$work/log" &&
  fail "these name the build directory"

# A program of somebody else's, built with what is there alone.
mkdir "$work/consumer"
cat >"$work/consumer/main.cc" <<'CC'
// A segment is made, mapped a second time as a peer would, and carries a few bytes.
#include <core/layout.h>
#include <core/ring.h>
#include <core/segment.h>

#include <cstdio>

int main() {
  const tssx::SegmentOrigin origin{{{1, 2, 3}}, 0, "/x.sock", 7};
  const auto made = tssx::create_segment(tssx::kMinCapacity, origin);
  if (!made) return 1;
  const auto mapped = tssx::map_segment(made.value().fd.get(), origin.nonce);
  if (!mapped) return 2;
  const tssx::SegmentView& near = made.value().view;
  const tssx::SegmentView& far = mapped.value();
  const char sent[] = "over the edge";
  char received[sizeof sent]{};
  const std::uint64_t position = near.capacity - 4;
  if (!tssx::copy_into_ring(near.data(0), near.capacity, position, sent, sizeof sent)) return 3;
  if (!tssx::copy_from_ring(far.data(0), far.capacity, position, received, sizeof received)) return 4;
  std::printf("%s %.7s\n", received, far.page->header.path);
  tssx::unmap_segment(near);
  tssx::unmap_segment(far);
}
CC
cat >"$work/consumer/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES CXX)
find_package(tssx 0.1 REQUIRED)
add_executable(consumer main.cc)
target_link_libraries(consumer PRIVATE tssx::core)
CMAKE
consumes() { [[ $("$1") == "over the edge /x.sock" ]] || fail "the consumer does something else"; }
quietly cmake -S "$work/consumer" -B "$work/consumer/build" -G Ninja -DCMAKE_PREFIX_PATH="$prefix"
quietly cmake --build "$work/consumer/build"
consumes "$work/consumer/build/consumer"
pkgconfig=$(dirname "$(find "$prefix" -name tssx-core.pc)")
[[ $(PKG_CONFIG_PATH=$pkgconfig pkg-config --modversion tssx-core) == "$version" ]] || fail "version of tssx-core.pc"
read -ra flags < <(PKG_CONFIG_PATH=$pkgconfig pkg-config --cflags --libs tssx-core)
quietly g++ -std=c++20 -o "$work/consumer/plain" "$work/consumer/main.cc" "${flags[@]}"
consumes "$work/consumer/plain"

# --- uninstall ----------------------------------------------------------------------------------

quietly cmake --build "$TSSX_BUILD" --target uninstall
[[ ! -e $prefix ]] || fail "left behind: $(find "$prefix")"
if cmake --build "$TSSX_BUILD" --target uninstall >"$work/log" 2>&1; then fail "uninstalled twice"; fi

# Into a DESTDIR in which others have something already: theirs stays, and so do their directories.
export DESTDIR=$work/destination
mkdir -p "$DESTDIR/usr/share/man/man1" "$DESTDIR/usr/lib"
touch "$DESTDIR/usr/lib/other"
find "$DESTDIR" | sort >"$work/before"
quietly cmake --install "$TSSX_BUILD" --prefix /usr
[[ -x $DESTDIR/usr/bin/tssx-run ]] || fail "not installed below DESTDIR"
quietly cmake --install "$TSSX_BUILD" --prefix /usr # twice is once
touch "$DESTDIR/usr/share/tssx/mine"
quietly cmake --build "$TSSX_BUILD" --target uninstall
[[ -e $DESTDIR/usr/share/tssx/mine ]] || fail "somebody else's file is gone"
rm -r "$DESTDIR/usr/share/tssx"
rmdir --ignore-fail-on-non-empty "$DESTDIR/usr/share"
diff "$work/before" <(find "$DESTDIR" | sort) || fail "not as it was before"
unset DESTDIR

# --- completion ---------------------------------------------------------------------------------

if [[ -r /usr/share/bash-completion/bash_completion ]]; then
  # complete <word>...: what is offered for the last of them
  complete() {
    PATH=$TSSX_BUILD:$PATH bash --norc -c '
      set +u
      . /usr/share/bash-completion/bash_completion
      . "$1/$2"
      shift
      COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
      _${1//-/_} "$1" "${@: -1}" "${@: -2:1}"
      printf "%s\n" "${COMPREPLY[@]}"' completion "$TSSX_SOURCE/tools/completion" "$@" 2>"$work/log"
  }
  offers() { # offers <expected line> <word>...
    complete "${@:2}" | grep -xF -- "$1" >/dev/null || fail "not offered: $1 for ${*:2}"
  }
  offers --verify tssx-run --
  offers -s tssx-run -
  offers kernel tssx-run --ids k
  offers readelf tssx-run -s /x -- reade
  offers readelf tssx-run reade
  offers --json tssx-stat --
  offers --quick tssx-bench --q
  offers hog/one-cpu tssx-bench --filter hog
else
  echo "left out: completion (no bash-completion)"
fi
echo ok
