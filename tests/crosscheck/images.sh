#!/usr/bin/env bash
# images.sh COOK_IMAGES [FOLDER...]: makes the Python environment and compares Weft's pictures with Pillow's
# (build/reports/images.json): made ones, and those of the Debian packages openclipart-png and tuxpaint-stamps-default, which
# are fetched into build/check-images without being installed. WEFT_OPENCLIPART and WEFT_STAMPS name unpacked ones instead.
# Exit 77: the environment cannot be made here (no network).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
readonly work=$PWD/build/check-images

# Pillow 13 resizes tall pictures vertically first; the papers' versions do not.
python="$(tools/venv.sh decode-check "Pillow<13" "opencv-python-headless<4.11" numpy)"
code=$?
if ((code == 3)); then exit 77; fi
if ((code)); then exit "$code"; fi

# package NAME FOLDER: the folder of an unpacked Debian package's files, on stdout. One line on stderr says why not.
package() {
  local unpacked=$work/$1
  if [[ ! -d $unpacked/$2 ]]; then
    rm -rf "$unpacked" "$unpacked.part"
    mkdir -p "$unpacked.part"
    if ! (cd "$unpacked.part" && apt-get download "$1" && dpkg-deb -x ./*.deb . && rm ./*.deb) > "$unpacked.log" 2>&1; then
      echo "check-images: skipped: no package $1 here: $(tail -n 1 "$unpacked.log") (apt-get update?)" >&2
      return 1
    fi
    mv "$unpacked.part" "$unpacked"
  fi
  echo "$unpacked/$2"
}

program=$1
shift
folders=("$@")
if folder=${WEFT_OPENCLIPART:-$(package openclipart-png usr/share/openclipart/png)}; then folders+=("$folder"); fi
if folder=${WEFT_STAMPS:-$(package tuxpaint-stamps-default usr/share/tuxpaint/stamps)}; then folders+=("$folder"); fi
exec "$python" -W ignore tests/crosscheck/images.py "$program" "$work" build/reports/images.json "${folders[@]}"
