#!/usr/bin/env bash
# fuzz.sh: builds the libFuzzer targets and runs each for FUZZ_SECONDS (60), starting from its corpus. What is found lies in
# build/fuzz/findings, and the exit code is then 1. Inputs that reach new code stay in build/fuzz/corpus, for the next run.
# FUZZ_TARGETS holds names, to run only these.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

readonly build=build/fuzz
readonly seconds=${FUZZ_SECONDS:-60}
readonly findings=$build/findings
export ASAN_OPTIONS=detect_container_overflow=0:detect_odr_violation=0:alloc_dealloc_mismatch=0
export UBSAN_OPTIONS=print_stacktrace=1

if ! command -v clang++ >/dev/null; then
  echo "fuzz: there is no clang++; on Debian 12: apt-get install --no-install-recommends clang libclang-rt-14-dev" >&2
  exit 2
fi
tools/build.sh fuzz weft_fuzzers || exit 2
mkdir -p "$findings" build/reports
failed=0
lines=()
while IFS=$'\t' read -r name corpus; do
  [[ -n $name ]] || continue
  [[ -z ${FUZZ_TARGETS:-} || " ${FUZZ_TARGETS} " == *" $name "* ]] || continue
  grown=$build/corpus/$name
  log=$findings/$name.log
  mkdir -p "$grown"
  clean=true
  if ! "$build/fuzzers/$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$findings/$name-" "$grown" "$corpus" >"$log" 2>&1; then
    clean=false
    failed=1
    tail -n 40 "$log" >&2
  fi
  runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
  covered="$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)"
  printf '%-24s %10s inputs in %s s, %s places of code reached: %s\n' "$name" "${runs:-?}" "$seconds" "${covered:-?}" \
    "$([[ $clean == true ]] && echo clean || echo "FOUND something, see $findings")"
  lines+=("  \"$name\": {\"inputs\": ${runs:-0}, \"seconds\": $seconds, \"covered\": ${covered:-0}, \"clean\": $clean}")
done <"$build/fuzzers.txt"

((${#lines[@]})) || { echo "fuzz: no such target" >&2; exit 2; }
{
  printf '{\n'
  printf '%s\n' "${lines[@]}" | sed '$!s/$/,/'
  printf '}\n'
} >build/reports/loader-fuzz.json
exit "$failed"
