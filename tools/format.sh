#!/usr/bin/env bash
# format.sh [--check] [FILE...]: clang-format on the tracked C++ and proto files, or on those named. With --check it
# changes nothing, names each file that would change, and exits 1 if there is one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

check=0
if [[ ${1:-} == --check ]]; then
  check=1
  shift
fi
if ! git rev-parse --verify --quiet HEAD >/dev/null; then
  printf 'format: not a git checkout, so nothing tells which files are ours\n'
  exit 77
fi
if (($#)); then
  files=("$@")
else
  mapfile -t files < <(git ls-files '*.h' '*.cc' '*.cu' '*.cuh')
fi
if ((${#files[@]} == 0)); then exit 0; fi

if ((!check)); then
  clang-format -i "${files[@]}"
  exit 0
fi
violations="$(clang-format --dry-run "${files[@]}" 2>&1 | sed -n 's/ warning: code should be clang-formatted.*//p')"
if [[ -n $violations ]]; then
  printf '%s\n' "$violations" | sed 's/:$/: not formatted/'
  printf 'Run make format.\n'
  exit 1
fi
printf 'format: %d files are as clang-format writes them\n' "${#files[@]}"
