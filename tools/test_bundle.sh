#!/usr/bin/env bash
# test_bundle.sh PRESET: unpacks the bundle of a build in a clean root and runs it there. The root holds glibc, a shell, the
# coreutils and a bare python3, copied file by file from their Debian packages, and nothing else of this machine: no build tree,
# no library that a program of ours needs. LibTorch is mounted where the tests say. Wants root, or user namespaces.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly preset=$1
readonly weft_packages="libprotobuf32 libgoogle-glog0v5 libjpeg62-turbo libspng0 libwebp7 libssl3 libutf8proc2 libopenmpi3 libgflags2.2"
variant=cpu
if [[ $preset == cuda ]]; then variant=cuda; fi
bundle="$(find build/bundle -maxdepth 1 -name "weft-*-$variant.tar.gz" -newer CMakeLists.txt 2>/dev/null | sort | tail -n 1)"
[[ -n $bundle ]] || { echo "test-bundle: no bundle; run make bundle PRESET=$preset" >&2 && exit 1; }
libtorch="$(realpath "${LIBTORCH_ROOT:-.deps/libtorch}")"

# Everything below runs in a mount and pid namespace of its own: what is mounted goes with it.
if [[ -z ${WEFT_CLEAN_ROOT:-} ]]; then
  export WEFT_CLEAN_ROOT=1
  as_user=()
  if ((EUID != 0)); then as_user=(--user --map-root-user); fi
  exec unshare "${as_user[@]}" --mount --pid --fork --kill-child "${BASH_SOURCE[0]}" "$preset"
fi

root="$(mktemp -d)"
trap 'umount -R "$root" 2>/dev/null || true; rmdir "$root" 2>/dev/null || true' EXIT
mount -t tmpfs -o size=1g weft "$root"

# take PACKAGE...: the files of installed packages, to their places in the root.
take() {
  local file
  dpkg -L "$@" | while read -r file; do
    if [[ -f $file && $file != /usr/share/doc/* && $file != /usr/share/man/* && $file != /usr/share/locale/* ]]; then
      file="$(realpath "$(dirname "$file")")/$(basename "$file")" # /lib is /usr/lib
      printf '%s\0' "${file#/}"
    fi
  done | sort -zu | tar -C / --null -T - -cf - | tar -C "$root" -xf -
}

make_root() {
  mkdir -p "$root"/{usr/bin,usr/lib/x86_64-linux-gnu,usr/lib64,usr/sbin,proc,dev,tmp,etc,cuda,bundle}
  local link
  for link in bin lib lib64 sbin; do ln -s "usr/$link" "$root/$link"; done
  # A shell and the coreutils with what they load, and the smallest python3.
  take libc6 dash coreutils sed grep libacl1 libattr1 libselinux1 libpcre2-8-0 libgmp10 python3.11-minimal \
    libpython3.11-minimal python3-minimal libexpat1 zlib1g
  ln -sf dash "$root/usr/bin/sh"
  ln -sf python3.11 "$root/usr/bin/python3"
  chroot "$root" /sbin/ldconfig 2>/dev/null || true
  mount -t proc proc "$root/proc"
  local device
  for device in null zero urandom random; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
  done
  mkdir -p "$root/site/torch"
  mount --bind "$libtorch" "$root/site/torch"
  # In a Python environment CUDA's libraries are beside it.
  if [[ -d $libtorch/../nvidia ]]; then
    mkdir "$root/site/nvidia"
    mount --bind "$libtorch/../nvidia" "$root/site/nvidia"
  fi
  # The CUDA libraries that LibTorch itself needs to start: a toolkit's, or the two that setup fetched.
  mkdir -p "$root/cuda/lib64"
  local toolkit="${CUDA_HOME:-/usr/local/cuda}"
  if [[ -e $toolkit/lib64/libcudart.so.13 || -e $toolkit/lib/libcudart.so.13 ]]; then
    mount --bind "$(realpath "$toolkit")" "$root/cuda"
  else
    cp -L .deps/cuda-libs/lib/*.so.13 "$root/cuda/lib64/"
  fi
  tar -C "$root/bundle" --strip-components=1 -xzf "$bundle"
}

failures=0
check() { # check WHAT EXIT_CODE TEXT COMMAND...: the command ends with that code and says that text
  local what=$1 code=$2 text=$3 output rc=0 started=$SECONDS
  shift 3
  output="$("$@" 2>&1)" || rc=$?
  if ((rc == code)) && grep -qE "$text" <<<"$output"; then
    printf 'ok      %s (%d s)\n' "$what" $((SECONDS - started))
  else
    printf 'FAILED  %s: exit code %d, not %d, or it does not say "%s":\n%s\n' "$what" "$rc" "$code" "$text" "$output"
    failures=$((failures + 1))
  fi
}

make_root
for package in $weft_packages; do
  for file in $(dpkg -L "$package" 2>/dev/null | grep '\.so\.' || true); do
    if [[ -e $root$file ]]; then echo "FAILED  the clean root is not clean: $file" && exit 1; fi
  done
done

readonly torch=LIBTORCH_ROOT=/site/torch
readonly shapes=build/shapes
in_work() { # in_work NAME=VALUE SHELL_COMMAND: in the unpacked bundle, with an empty environment but for that
  chroot "$root" /usr/bin/env -i PATH=/usr/bin HOME=/tmp CUDA_HOME=/cuda "$1" /bin/sh -c "cd /bundle && $2"
}
train="bin/weft train recipes/clip/shapes.textproto --set steps=4 --set schedule.warmup_steps=1 --set layout.dp=2 --set eval.retrieval=false"

check "weft takes its libraries from the bundle" 0 "^clean$" in_work A=1 \
  '/lib64/ld-linux-x86-64.so.2 --list bin/weft 2>&1 | grep -v "/bundle/bin/../lib/\|libc.so\|libm.so\|ld-linux\|libpthread.so\|vdso" || echo clean'
check "weft version" 0 "[0-9]+\.[0-9]+" in_work A=1 "bin/weft version"
check "weft data pack shapes" 0 "" in_work A=1 "bin/weft data pack shapes --out $shapes --pictures 400"
check "weft data vocab" 0 "" in_work A=1 \
  "bin/weft data vocab --captions-from '$shapes/train-{000000..000003}.tar' --size 560 --out $shapes/vocab.txt"
check "weft train without LibTorch: one clear error" 1 "no LibTorch was found: set LIBTORCH_ROOT" in_work A=1 \
  "$train --run-dir runs/none"
check "weft train with a wrong LIBTORCH_ROOT" 1 "LIBTORCH_ROOT=/bundle holds no LibTorch" in_work LIBTORCH_ROOT=/bundle \
  "$train --run-dir runs/wrong"
# The variant cuda loads only beside all of CUDA's libraries, as pip puts them.
if [[ $variant == cpu || -d $root/site/nvidia ]]; then
  check "weft train, LIBTORCH_ROOT" 0 "" in_work $torch "$train --run-dir runs/root"
  # As pip would have put it: found by asking python3.
  check "weft train, the torch of python3" 0 "" in_work PYTHONPATH=/site \
    "$train --run-dir runs/python"
  check "both have the same four losses" 0 "^4 same$" in_work A=1 \
    "for run in root python; do sed 's/.*\"loss_bits\":\"\([0-9a-f]*\)\".*/\1/' runs/\$run/steps.jsonl > \$run; done
   [ \"\$(cat root)\" = \"\$(cat python)\" ] && echo \$(wc -l < root) same"
else
  check "weft train without CUDA's libraries: one clear error" 1 "the worker cannot start: .*: cannot open shared object file" \
    in_work $torch "$train --run-dir runs/root"
  echo "skipped training: no CUDA libraries beside $libtorch; set LIBTORCH_ROOT to the torch of a Python environment"
fi
check "training over MPI without OpenMPI: one clear error" 1 "mpirun, which is not in PATH" in_work $torch \
  "$train --set layout.backend=MPI --run-dir runs/mpi"
if [[ $variant == cpu || -d $root/site/nvidia ]]; then
  check "weft selftest gpu: no CUDA device" 3 "no CUDA device" in_work $torch "bin/weft selftest gpu"
fi
if [[ $variant == cpu ]]; then
  check "weft selftest cpu --quick" 0 " 0 failed" in_work $torch "bin/weft selftest cpu --quick --json ''"
fi

if ((failures)); then
  printf 'test-bundle: %d failed (%s)\n' "$failures" "$bundle"
  exit 1
fi
printf 'test-bundle: all passed (%s)\n' "$bundle"
