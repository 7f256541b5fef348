#!/usr/bin/env bash
# run.sh BIN_FOLDER: makes the peers' Python environments and the pictures, then measures (build/reports/decode.json).
# A peer that cannot be installed is named in the report. Exit 77: there is no environment at all (no network).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.." || exit 1

peers="$(tools/venv.sh decode-peers torch==2.11.0 torchvision==0.26.0 webdataset mosaicml-streaming litdata megatron-energon \
  open_clip_torch "Pillow<13")"
code=$?
if ((code == 3)); then exit 77; fi
if ((code)); then exit "$code"; fi
# Pillow-SIMD takes Pillow's place; all else comes from the other environment.
if simd="$(CC="cc -mavx2" tools/venv.sh decode-simd pillow-simd "numpy<2.4")"; then
  "$peers" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' \
    > "$("$simd" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/weft_peers.pth"
else
  simd=
fi
readonly images=$PWD/build/bench-decode
if [[ ! -e $images/done ]]; then
  rm -rf "$images"
  OMP_NUM_THREADS=1 "$peers" tests/bench/decode/images.py "$images" "${IMAGES:-192}" || exit 1
  touch "$images/done"
fi
exec "$peers" tests/bench/decode/bench.py "$1" "$images" build/reports/decode.json "$peers" ${simd:+"$simd"}
