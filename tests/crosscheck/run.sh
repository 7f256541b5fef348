#!/usr/bin/env bash
# run.sh WEFT: makes the Python environment and compares Weft's formats with the libraries that define them
# (build/reports/loader-crosscheck.json). Exit 77: the environment cannot be made here (no network).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

# --no-deps: of the streaming package only the writer is used, which needs neither PyTorch nor a cloud's client.
python="$(tools/venv.sh loader-crosscheck --no-deps webdataset==1.0.2 mosaicml-streaming==0.13.0 img2dataset==1.47.0 \
  braceexpand==0.1.7 brotli==1.2.1 catalogue==2.0.10 cramjam==2.14.0 fsspec==2026.9.0 numpy==2.1.3 pillow==13.0.0 \
  pyarrow==26.0.1 python-snappy==0.7.3 PyYAML==6.0.3 tqdm==4.70.1 typing_extensions==4.16.0 xxhash==4.1.0 zstd==1.5.7.2)"
code=$?
if ((code == 3)); then exit 77; fi
if ((code)); then exit "$code"; fi
mkdir -p build/reports
exec "$python" tests/crosscheck/loader_crosscheck.py --weft "$1" --report build/reports/loader-crosscheck.json
