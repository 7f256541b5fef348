#!/usr/bin/env bash
# lint.sh PRESET [BASE]: clang-tidy, by .clang-tidy, on the sources that differ from BASE (default: where this branch
# left main, or the last commit on main itself), committed or not. A changed header is seen through the sources beside
# it. Exits 1 on a finding, 77 if nothing changed. LINT_MAX=n checks the first n files only and says so.
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

readonly built="build/$preset/compile_commands.json"
if [[ ! -e $built ]]; then
  printf 'lint: %s is not there; run make build first\n' "$built" >&2
  exit 1
fi
base="$(base_commit "${@:2}")"
readonly base
files=()
while read -r file; do
  if grep -qF "/$file\"" "$built"; then files+=("$file"); fi # not in this build: LibTorch or CUDA code
done < <(changed_sources "$base")
if ((${#files[@]} == 0)); then
  printf 'lint: no source of this build differs from %s\n' "${base:0:10}"
  exit 77
fi

if ((${#files[@]} > ${LINT_MAX:-1000})); then
  printf 'lint: %d files differ from %s; checking the first %d\n' "${#files[@]}" "${base:0:10}" "$LINT_MAX"
  files=("${files[@]:0:LINT_MAX}")
fi
write_database
# -D: clang 14 has C++20 coroutines, but does not say so to libstdc++.
if printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(nproc)" \
  clang-tidy -p "$database" --quiet --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wthread-safety \
  --extra-arg=-D__cpp_impl_coroutine=201902L --extra-arg=-Wno-builtin-macro-redefined 2> >(grep -v 'warnings generated' >&2); then
  printf 'lint: %d files, no findings\n' "${#files[@]}"
else
  exit 1
fi
