#!/usr/bin/env bash
# venv.sh NAME PACKAGE...: a Python virtual environment build/venv/NAME with the packages ("webdataset", "numpy<2"), for
# benchmarks and cross-checks; Weft itself needs none. Prints the path of its python on stdout.
# A second call with the same packages does nothing; with others it makes the environment anew.
# Exit 3: it cannot be made here (no python3 with venv, no pip, no package index); one line on stderr says why.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

if [ $# -lt 2 ]; then
  echo "usage: tools/venv.sh NAME PACKAGE..." >&2
  exit 2
fi
readonly name=$1
shift
readonly folder=$PWD/build/venv/$name
readonly stamp=$folder/.packages
readonly log=$PWD/build/venv/$name.log

give_up() {
  echo "venv.sh: $name: $1 (see build/venv/$name.log)" >&2
  rm -rf "$folder"
  exit 3
}

mkdir -p build/venv
# Two callers of one environment: the second waits, then finds the stamp.
exec 9> "build/venv/$name.lock"
flock 9
if [ "$(cat "$stamp" 2> /dev/null)" = "$*" ]; then
  echo "$folder/bin/python"
  exit 0
fi
rm -rf "$folder"
: > "$log"
command -v python3 > /dev/null || give_up "there is no python3"
python3 -m venv "$folder" >> "$log" 2>&1 || give_up "python3 -m venv fails"
"$folder/bin/python" -m pip install --disable-pip-version-check --no-input "$@" >> "$log" 2>&1 ||
  give_up "pip cannot install $*: $(grep -E '^ERROR' "$log" | tail -n 1)"
echo "$*" > "$stamp"
echo "$folder/bin/python"
