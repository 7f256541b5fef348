#!/usr/bin/env bash
# build.sh PRESET [TARGET...]: configures where needed, builds (all targets, or those named), says how long it took.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly preset=$1
readonly folder=build/$preset
shift

# As many jobs as there are cores, but a file that includes LibTorch may take 1.4 GiB.
jobs() {
  local cores memory_gib
  cores="$(nproc)"
  memory_gib="$(awk '/MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)"
  local by_memory=$((memory_gib * 2 / 3))
  if ((by_memory < 1)); then by_memory=1; fi
  printf '%d' $((by_memory < cores ? by_memory : cores))
}

# A change to a CMakeLists.txt is seen by ninja; these are not.
must_configure() {
  [[ ! -e $folder/build.ninja || CMakePresets.json -nt $folder/build.ninja || -n ${LIBTORCH_ROOT:-} ]] ||
    [[ .deps/libtorch -nt $folder/build.ninja ]]
}

started=$SECONDS
if must_configure; then
  mkdir -p "$folder"
  if ! cmake --preset "$preset" >"$folder/configure.log" 2>&1; then
    cat "$folder/configure.log" >&2
    printf '\nbuild: configuring %s failed\n' "$preset" >&2
    exit 1
  fi
fi
if (($#)); then set -- --target "$@"; fi
cmake --build --preset "$preset" --parallel "${JOBS:-$(jobs)}" "$@"
printf 'build: %s is up to date (%d s)\n' "$folder" $((SECONDS - started))
