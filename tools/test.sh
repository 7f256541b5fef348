#!/usr/bin/env bash
# test.sh PRESET: runs the tests of a build through ctest, live and into build/PRESET/test.log, two at a time.
# Ends with each skipped test and its reason, each failed test, and one line: N passed, N failed, N skipped.
# ARGS holds more arguments for ctest, such as -R NAME or -L unit.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

readonly preset=$1
readonly folder=$PWD/build/$preset
readonly results=$folder/test-results.xml

rm -f "$results"
# shellcheck disable=SC2086
ctest --preset "$preset" --output-junit "$results" ${ARGS:-} 2>&1 | tee "$folder/test.log"
tools/test_summary.py "$results" "${PIPESTATUS[0]}" | tee -a "$folder/test.log"
exit "${PIPESTATUS[0]}"
