#!/usr/bin/env bash
# lint.sh PRESET [BASE]: clang-tidy, by .clang-tidy, on the sources that differ from BASE (default: where this branch
# left main, or the last commit on main itself), committed or not. A changed header is seen through the sources beside
# it. A file without findings is not checked again until it, its header or .clang-tidy changes.
# Exits 1 on a finding, 77 if nothing is to be checked. LINT_MAX=n checks the first n files only and says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly preset=$1
readonly database=build/$preset/lint

base_commit() {
  local candidate
  for candidate in "$@" origin/main main; do
    if candidate="$(git merge-base HEAD "$candidate" 2>/dev/null)" && [[ $candidate != "$(git rev-parse HEAD)" ]]; then
      printf '%s' "$candidate"
      return
    fi
  done
  git rev-parse --quiet --verify HEAD~1 || git rev-parse HEAD
}

# Sources to check: changed .cc files, and for a changed x.h the x.cc beside it.
changed_sources() {
  { git diff --name-only --diff-filter=d "$1"; git ls-files --others --exclude-standard; } |
    sed -n 's/\.h$/.cc/; /\.cc$/p' | sort -u | while read -r file; do
    if [[ -e $file ]]; then printf '%s\n' "$file"; fi
  done
}

# The build's own commands, less what only GCC understands; clang reads the precompiled header's source instead.
write_database() {
  mkdir -p "$database"
  sed -E -e 's/ -fpch-preprocess//; s/ -Winvalid-pch//g; s/ -Werror//' \
    -e "s# -include [^ ]*cmake_pch\.hxx# -include $PWD/cmake/torch_pch.h#" \
    -e 's# env [^ ]*CCACHE[^"]*ccache # #' \
    "build/$preset/compile_commands.json" >"$database/compile_commands.json"
}

# The name of the mark that FILE had no findings as it is now.
mark_of() {
  cat .clang-tidy "$1" "${1%.cc}.h" 2>/dev/null | sha256sum | cut -d' ' -f1
}

# check FILE: one clang-tidy run. -D: clang 14 has C++20 coroutines, but neither libstdc++ nor Asio knows.
check() {
  if clang-tidy -p "$database" --quiet --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wthread-safety \
    --extra-arg=-D__cpp_impl_coroutine=201902L --extra-arg=-Wno-builtin-macro-redefined \
    --extra-arg=-DBOOST_ASIO_HAS_CO_AWAIT=1 --extra-arg=-DBOOST_ASIO_HAS_STD_COROUTINE=1 "$1" \
    2> >(grep -v 'warnings generated' >&2); then
    touch "$database/clean/$(mark_of "$1")"
  else
    return 1
  fi
}

if ! git rev-parse --verify --quiet HEAD >/dev/null; then
  printf 'lint: not a git checkout, so nothing tells what changed\n'
  exit 77
fi
readonly built="build/$preset/compile_commands.json"
if [[ ! -e $built ]]; then
  printf 'lint: %s is not there; run make build first\n' "$built" >&2
  exit 1
fi
write_database
mkdir -p "$database/clean"

base="$(base_commit "${@:2}")"
files=()
while read -r file; do
  # Not in this build (LibTorch or CUDA code), or found clean before.
  if grep -qF "/$file\"" "$built" && [[ ! -e $database/clean/$(mark_of "$file") ]]; then files+=("$file"); fi
done < <(changed_sources "$base")
if ((${#files[@]} == 0)); then
  printf 'lint: nothing new to check since %s\n' "${base:0:10}"
  exit 77
fi
if ((${#files[@]} > ${LINT_MAX:-1000})); then
  printf 'lint: %d files to check since %s; only the first %d now\n' "${#files[@]}" "${base:0:10}" "$LINT_MAX"
  files=("${files[@]:0:LINT_MAX}")
fi

export database
export -f check mark_of
# shellcheck disable=SC2016
if printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(nproc)" bash -c 'check "$1"' check; then
  printf 'lint: %d files, no findings\n' "${#files[@]}"
else
  exit 1
fi
