#!/usr/bin/env bash
# images.sh COOK_IMAGES [FOLDER...]: makes the Python environment and compares Weft's pictures with Pillow's
# (build/reports/images.json). Exit 77: the environment cannot be made here (no network).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

# Pillow 13 resizes tall pictures vertically first; the papers' versions do not.
python="$(tools/venv.sh decode-check "Pillow<13" "opencv-python-headless<4.11" numpy)"
code=$?
if ((code == 3)); then exit 77; fi
if ((code)); then exit "$code"; fi
program=$1
shift
exec "$python" -W ignore tests/crosscheck/images.py "$program" build/check-images build/reports/images.json "$@"
