#!/usr/bin/env bash
# Gets a machine ready to build Weft: Debian packages, LibTorch, and two small extras. Called by make; safe to repeat:
# every part first looks whether it is done already, which takes a fraction of a second for all of them together.
#
#   LIBTORCH_ROOT=DIR   use this LibTorch (a folder with include/ and lib/, such as a Python environment's torch folder)
#
# What is not a Debian package goes to .deps/ and is unpacked beside its place first, so that an interrupted run never
# leaves half a tree that looks complete. Output of apt and pip: .deps/setup.log.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly root
readonly deps="$root/.deps"
readonly log="$deps/setup.log"

# Pins. pip checks the hashes.
readonly torch_version=2.11.0
readonly torch_hash=7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a
readonly cudart_pin="nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"
readonly cupti_pin="nvidia-cuda-cupti==13.0.85 --hash=sha256:4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"
readonly clip_pin="open_clip_torch==3.3.0 --hash=sha256:c549ad5ed6bfc119cc11105033c0a2b9d7a2a4afeb40a58a09aab3da1a0043ce"
readonly clip_vocabulary=bpe_simple_vocab_16e6.txt.gz

# Debian package, and how to tell on other systems that it is there: p = a program, h = a header.
readonly needs="
g++                 p g++
cmake               p cmake
ninja-build         p ninja
ccache              p ccache
mold                p mold
make                p make
pkg-config          p pkg-config
unzip               p unzip
python3             p python3
protobuf-compiler   p protoc
openmpi-bin         p mpirun
libopenmpi-dev      p mpicxx
clang-format        p clang-format
clang-tidy          p clang-tidy
libboost-dev        h boost/asio.hpp
libboost-system-dev h boost/system/error_code.hpp
libprotobuf-dev     h google/protobuf/message.h
libgoogle-glog-dev  h glog/logging.h
libgtest-dev        h gtest/gtest.h
libgmock-dev        h gmock/gmock.h
libjpeg62-turbo-dev h jpeglib.h
libspng-dev         h spng.h
libpng-dev          h png.h
libwebp-dev         h webp/decode.h
zlib1g-dev          h zlib.h
libzstd-dev         h zstd.h
libssl-dev          h openssl/evp.h
libutf8proc-dev     h utf8proc.h
nlohmann-json3-dev  h nlohmann/json.hpp
"

say() { printf 'setup: %s\n' "$*"; }

# fail SUMMARY [LINE...]: the one message that says what is missing and how to get it.
fail() {
  printf '\nsetup failed: %s\n' "$1" >&2
  shift
  if (($#)); then printf '  %s\n' "$@" >&2; fi
  exit 1
}

now() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }
since() { # since START: seconds with one digit
  local tenths=$((($(now) - $1 + 50000) / 100000))
  printf '%d.%d s' $((tenths / 10)) $((tenths % 10))
}

# --- the machine -----------------------------------------------------------------------------------------------------

is_debian_12() {
  # shellcheck disable=SC1091
  [[ -r /etc/os-release ]] && (. /etc/os-release && [[ ${ID:-} == debian && ${VERSION_ID:-} == 12 ]])
}

check_machine() {
  [[ "$(uname -sm)" == "Linux x86_64" ]] || fail "Weft builds on Linux on x86-64, and this is $(uname -sm)."
  mkdir -p "$deps" 2>/dev/null || fail "cannot write to $deps."
  [[ -w $deps ]] || fail "cannot write to $deps."
}

# need_disk GIB WHAT
need_disk() {
  local free_kib
  free_kib="$(df -Pk "$deps" | awk 'NR == 2 { print $4 }')"
  if ((free_kib < $1 * 1024 * 1024)); then
    fail "$2 needs $1 GiB of disk, and $((free_kib / 1024)) MiB are free under $root." \
      "Free some space, or clone the repository to a larger disk."
  fi
}

check_disk() {
  if ! have_libtorch; then
    need_disk 4 "LibTorch and the build"
  elif [[ ! -d $root/build ]]; then
    need_disk 2 "the build"
  fi
}

# --- Debian packages -------------------------------------------------------------------------------------------------

packages() { awk 'NF { print $1 }' <<<"$needs"; }

missing_packages() {
  local installed
  # shellcheck disable=SC2046
  installed="$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $(packages) 2>/dev/null | sed -n 's/^installed //p')"
  comm -23 <(packages | sort) <(sort <<<"$installed")
}

# On other systems: what the compiler or the shell does not find.
missing_by_probe() {
  local package kind probe headers=""
  while read -r package kind probe; do
    [[ -n $package ]] || continue
    if [[ $kind == p ]]; then
      command -v "$probe" >/dev/null || printf '%s (program %s)\n' "$package" "$probe"
    else
      headers+="#if !__has_include(<$probe>)"$'\n'"$package (header $probe)"$'\n'"#endif"$'\n'
    fi
  done <<<"$needs"
  if command -v g++ >/dev/null; then g++ -E -P -x c++ - <<<"$headers" | sed '/^$/d; s/ \/ /\//g; s/ \. /./g'; fi
}

install_packages() {
  local started missing as_root=()
  started="$(now)"
  missing="$(missing_packages | tr '\n' ' ')"
  missing="${missing% }"
  [[ -n $missing ]] || return 0
  local line="apt-get install --no-install-recommends $missing"
  if ((EUID != 0)); then
    sudo -n true 2>/dev/null || fail "Debian packages are missing, and this is not root." "Run once: sudo $line"
    as_root=(sudo -n)
  fi
  say "installing Debian packages: $missing"
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=2)
  # An update may fail in part and the packages still be there: only the install decides.
  "${apt[@]}" update >>"$log" 2>&1 || true
  # shellcheck disable=SC2086
  if ! "${apt[@]}" install --no-install-recommends $missing >>"$log" 2>&1; then
    tail -n 5 "$log" >&2
    fail "apt could not install: $missing" \
      "Without a network: connect, or run on a machine image that has them. The whole output is in $log." \
      "By hand: $line"
  fi
  say "Debian packages installed in $(since "$started")"
}

check_packages() {
  if is_debian_12; then
    install_packages
    return
  fi
  local missing
  missing="$(missing_by_probe)"
  if [[ -n $missing ]]; then
    fail "this is not Debian 12, where setup could install them, and these are missing (by their Debian names):" \
      "$(tr '\n' ',' <<<"$missing" | sed 's/,$//; s/,/, /g')" \
      "Install them with this system's package manager, or build in a Debian 12 container."
  fi
  say "this is not Debian 12: every program and header is there, versions are not checked"
}

# --- wheels ----------------------------------------------------------------------------------------------------------

python_with_pip() {
  local python
  for python in python3 /usr/bin/python3; do
    if "$python" -c 'import pip' 2>/dev/null; then
      printf '%s' "$python"
      return
    fi
  done
  return 1
}

ensure_pip() {
  python_with_pip >/dev/null && return
  is_debian_12 || fail "python3 has no pip, which fetches LibTorch." "Install pip for python3 with this system's package manager."
  local as_root=()
  if ((EUID != 0)); then
    sudo -n true 2>/dev/null || fail "python3 has no pip, and this is not root." \
      "Run once: sudo apt-get install --no-install-recommends python3-pip"
    as_root=(sudo -n)
  fi
  say "installing python3-pip"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y install --no-install-recommends python3-pip >>"$log" 2>&1 ||
    fail "apt could not install python3-pip." "The output is in $log."
}

# fetch_wheel FOLDER REQUIREMENT: downloads one wheel for LibTorch's platform to FOLDER; pip checks its hash.
# Scratch files stay under FOLDER too: /tmp may be small.
fetch_wheel() {
  local folder=$1 python
  python="$(python_with_pip)"
  printf '%s\n' "$2" >"$folder/requirement.txt"
  mkdir -p "$folder/tmp"
  TMPDIR="$folder/tmp" "$python" -m pip download --no-deps --only-binary=:all: --python-version 311 \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --platform any \
    --require-hashes -r "$folder/requirement.txt" --dest "$folder" --no-cache-dir --disable-pip-version-check \
    --progress-bar off --retries 2 >>"$log" 2>&1
}

# Why the last download failed, from pip's words.
explain_download() {
  local words
  words="$(tail -n 40 "$log")"
  case $words in
    *"No space left"*) printf 'the disk is full' ;;
    *"DO NOT MATCH THE HASHES"*) printf 'the file that came is not the pinned one (wrong SHA-256)' ;;
    *Connection* | *"name resolution"* | *"timed out"* | *unreachable* | *ProxyError* | *SSLError*)
      printf 'no network, or the package index cannot be reached' ;;
    *"No matching distribution"*) printf 'the package index does not have it' ;;
    *) printf 'pip failed' ;;
  esac
}

# One line every ten seconds while a big download runs. heartbeat FOLDER WHAT TOTAL_MIB
# It waits on a pipe that nobody writes to: a `sleep` would outlive it and keep our output open.
heartbeat() {
  mkfifo "$1/never"
  while [[ -p $1/never ]] && ! read -rt 10 _ <>"$1/never"; do
    say "$2: $(du -sm "$1" 2>/dev/null | cut -f1) of about $3 MiB"
  done
}

# --- LibTorch --------------------------------------------------------------------------------------------------------

# version_of DIR: the version of the LibTorch in DIR, nothing if there is none.
version_of() {
  local header=$1/include/torch/headeronly/version.h
  [[ -r $header && -e $1/lib/libtorch_cpu.so ]] || return 0
  awk '/define TORCH_VERSION_(MAJOR|MINOR|PATCH) / { printf "%s%s", dot, $3; dot = "." }' "$header"
}

have_libtorch() {
  if [[ -n ${LIBTORCH_ROOT:-} ]]; then return 0; fi
  if [[ -L $deps/libtorch ]]; then
    [[ "$(version_of "$deps/libtorch")" == "$torch_version" ]]
  else
    [[ -r $deps/libtorch/.wheel && "$(<"$deps/libtorch/.wheel")" == "$torch_hash" ]]
  fi
}

use_given_libtorch() {
  local version
  version="$(version_of "$LIBTORCH_ROOT")"
  if [[ $version != "$torch_version" ]]; then
    fail "LIBTORCH_ROOT=$LIBTORCH_ROOT holds ${version:-no LibTorch}; Weft needs $torch_version." \
      "Give a folder with include/ and lib/ of that version, or unset it to have setup fetch one."
  fi
  if [[ ! -e $deps/libtorch || -L $deps/libtorch ]]; then
    # Remembered, so that the next make needs no variable.
    ln -sfn "$(realpath "$LIBTORCH_ROOT")" "$deps/libtorch"
  fi
}

unpack_libtorch() { # unpack_libtorch SCRATCH
  unzip -q -d "$1/unpacked" "$1"/torch-*.whl 'torch/lib/*' 'torch/include/*' \
    -x 'torch/include/google/*' 'torch/include/pybind11/*' 'torch/lib/libtorch_python.so' 'torch/lib/libshm*' \
    >>"$log" 2>&1 || return 1
  printf '%s\n' "$torch_hash" >"$1/unpacked/torch/.wheel"
  if [[ -e $deps/libtorch || -L $deps/libtorch ]]; then mv "$deps/libtorch" "$1/old"; fi
  mv "$1/unpacked/torch" "$deps/libtorch"
}

install_libtorch() {
  if [[ -n ${LIBTORCH_ROOT:-} ]]; then use_given_libtorch; fi
  if have_libtorch; then return 0; fi
  local started scratch beat ok=1
  started="$(now)"
  ensure_pip
  scratch="$(mktemp -d "$deps/scratch.XXXXXX")"
  say "fetching LibTorch $torch_version (506 MiB) to .deps/libtorch"
  heartbeat "$scratch" LibTorch 506 9>&- &
  beat=$!
  fetch_wheel "$scratch" "torch==$torch_version --hash=sha256:$torch_hash" || ok=0
  kill "$beat"
  wait "$beat" 2>/dev/null || true
  ((ok)) || fail "LibTorch could not be fetched: $(explain_download)." \
    "Connect and run make again; or set LIBTORCH_ROOT to a LibTorch $torch_version that is there; or set PIP_FIND_LINKS" \
    "to a folder with the wheel torch-$torch_version-cp311-cp311-manylinux_2_28_x86_64.whl. pip's output is in $log."
  local fetched
  fetched="$(since "$started")"
  started="$(now)"
  unpack_libtorch "$scratch" || fail "LibTorch could not be unpacked: is the disk full?" "The output is in $log."
  rm -rf "$scratch"
  say "LibTorch fetched in $fetched, unpacked in $(since "$started")"
}

# --- small extras ----------------------------------------------------------------------------------------------------

# find_library NAME: whether it is where cmake/FindWeftTorch.cmake looks.
find_library() {
  local base folder
  for base in "$deps/cuda-libs" ${CUDA_HOME:+"$CUDA_HOME"} /usr/local/cuda* /usr /usr/local \
    "$(realpath "$deps/libtorch")"/../nvidia/{cu13,cuda_runtime,cuda_cupti}; do
    for folder in lib lib64 lib/x86_64-linux-gnu extras/CUPTI/lib64; do
      if [[ -e $base/$folder/$1 ]]; then return 0; fi
    done
  done
  return 1
}

# install_cuda_library NAME REQUIREMENT: LibTorch needs these two to start, GPU or not.
install_cuda_library() {
  if find_library "$1"; then return 0; fi
  local started scratch
  started="$(now)"
  ensure_pip
  scratch="$(mktemp -d "$deps/scratch.XXXXXX")"
  fetch_wheel "$scratch" "$2" || fail "$1, which LibTorch needs, could not be fetched: $(explain_download)." \
    "Connect and run make again, or install the CUDA 13 toolkit. pip's output is in $log."
  unzip -q -j -d "$scratch/lib" "$scratch"/*.whl "nvidia/cu13/lib/$1" >>"$log" 2>&1 || fail "$1 could not be unpacked."
  mkdir -p "$deps/cuda-libs/lib"
  mv "$scratch/lib/$1" "$deps/cuda-libs/lib/$1"
  rm -rf "$scratch"
  say "$1 fetched to .deps/cuda-libs in $(since "$started")"
}

# CLIP's byte pair vocabulary, with which the tokenizer is tested. Only those tests need it, so this never fails.
install_clip_vocabulary() {
  local target=$deps/clip/$clip_vocabulary failed=$deps/clip/failed started scratch
  if [[ -e $target ]]; then return 0; fi
  if [[ -n "$(find "$failed" -mmin -60 2>/dev/null)" ]]; then return 0; fi # tried within the hour
  started="$(now)"
  mkdir -p "$deps/clip"
  scratch="$(mktemp -d "$deps/scratch.XXXXXX")"
  if (ensure_pip) && fetch_wheel "$scratch" "$clip_pin" &&
    unzip -q -j -d "$scratch" "$scratch"/*.whl "open_clip/$clip_vocabulary" >>"$log" 2>&1; then
    mv "$scratch/$clip_vocabulary" "$target"
    rm -f "$failed"
    say "CLIP vocabulary fetched in $(since "$started")"
  else
    touch "$failed"
    say "warning: no CLIP vocabulary ($(explain_download)): the tokenizer tests that need it will be skipped"
  fi
  rm -rf "$scratch"
}

# --- all of it -------------------------------------------------------------------------------------------------------

clean_up() {
  # shellcheck disable=SC2046
  kill $(jobs -p) 2>/dev/null || true
  rm -rf "$deps"/scratch.*
}

main() {
  local started
  started="$(now)"
  check_machine
  exec 9>"$deps/.lock"
  if ! flock -n 9; then
    say "another setup is running here; waiting for it"
    flock 9
  fi
  trap clean_up EXIT
  trap 'say interrupted; exit 130' INT TERM
  rm -rf "$deps"/scratch.*
  check_disk
  check_packages
  install_libtorch
  install_cuda_library libcudart.so.13 "$cudart_pin"
  install_cuda_library libcupti.so.13 "$cupti_pin"
  install_clip_vocabulary
  say "ready ($(since "$started"))"
}

main "$@"
