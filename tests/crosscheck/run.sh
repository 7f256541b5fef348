#!/usr/bin/env bash
# run.sh WEFT: makes the Python environment and compares Weft's formats with the libraries that define them
# (build/reports/loader-crosscheck.json). Exit 77: the environment cannot be made here (no network).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

# --no-deps: of the streaming package only the writer is used, which needs neither PyTorch nor a cloud's client.
python="$(tools/venv.sh loader-crosscheck --no-deps webdataset==1.0.2 mosaicml-streaming==0.13.0 img2dataset==1.47.0 \
  numpy==1.26.4 Brotli python-snappy cramjam tqdm xxhash zstd catalogue pillow==11.0.0 braceexpand pyyaml pyarrow fsspec \
  typing_extensions)"
code=$?
if ((code == 3)); then exit 77; fi
if ((code)); then exit "$code"; fi
mkdir -p build/reports
exec "$python" tests/crosscheck/loader_crosscheck.py --weft "$1" --report build/reports/loader-crosscheck.json
