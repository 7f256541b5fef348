#!/usr/bin/env bash
# bundle.sh PRESET: packs weft, weft-worker and weft_parity (for `weft selftest`) of a build with what they need into build/bundle/weft-VERSION-VARIANT.tar.gz,
# which runs from any folder of an x86-64 Linux with this machine's glibc or a newer one and a LibTorch 2.11 (cluster/launch/
# worker_libraries.h). Not in it: glibc, LibTorch, CUDA, OpenMPI. PRESET cuda makes the variant "cuda", others "cpu".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly preset=$1
readonly build=build/$preset
readonly most_mib=60
variant=cpu
if [[ $preset == cuda ]]; then variant=cuda; fi
version="$(sed -n 's/^project(weft VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)"
readonly name=weft-$version-linux-x86_64-$variant
readonly stage=build/bundle/$name

fail() {
  printf 'bundle: %s\n' "$*" >&2
  exit 1
}

# The system has them, or who brings LibTorch and the driver.
is_left_out() {
  case $1 in
    libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | libresolv.so.* | libutil.so.* | ld-linux-*) return 0 ;;
    libtorch*.so* | libc10*.so* | libcuda.so* | libcudart.so* | libcupti.so* | libnccl.so* | libcublas*.so*) return 0 ;;
  esac
  return 1
}

needed() { readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }

where_is() { # where_is SONAME
  ldconfig -p | awk -v name="$1" '$1 == name && /x86-64/ && !found { print $NF; found = 1 }'
}

# collect FILE: what it needs, and what that needs, to lib/.
collect() {
  local library path
  for library in $(needed "$1"); do
    if is_left_out "$library" || [[ -e $stage/lib/$library ]]; then continue; fi
    path="$(where_is "$library")"
    [[ -n $path ]] || fail "$1 needs $library, which this system does not have"
    cp -L "$path" "$stage/lib/$library"
    chmod 644 "$stage/lib/$library"
    licence "$path"
    collect "$stage/lib/$library"
  done
}

licence() { # licence PATH: the copyright of the Debian package that it is from
  local package
  # By name: a package may have it under /lib and the system under /usr/lib.
  package="$(dpkg -S "*/$(basename "$(realpath "$1")")" 2>/dev/null | sed -n '/\/lib\/x86_64-linux-gnu\//{s/:.*//;p}' | sort -u | tail -n 1)" || true
  [[ -n $package ]] || fail "no Debian package owns $1, so its licence is not known"
  cp "/usr/share/doc/$package/copyright" "$stage/licences/$package"
}

rm -rf "$stage"
mkdir -p "$stage"/{bin,lib,licences}
for program in weft weft-worker weft_parity; do
  [[ -x $build/bin/$program ]] || fail "$build/bin/$program is not built"
  objcopy --strip-debug "$build/bin/$program" "$stage/bin/$program"
  # shellcheck disable=SC2016
  printf 'file(RPATH_SET FILE "%s" NEW_RPATH "$ORIGIN/../lib")\n' "$stage/bin/$program" >"$stage/rpath.cmake"
  cmake -P "$stage/rpath.cmake" 2>/dev/null
done
rm "$stage/rpath.cmake"
collect "$stage/bin/weft"
collect "$stage/bin/weft-worker"
collect "$stage/bin/weft_parity"
cp -r recipes "$stage/recipes"
cp LICENSE "$stage/licences/weft"
cp docs/bundle.md "$stage/README.md"
printf 'weft %s %s %s\n' "$version" "$variant" "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" >"$stage/BUNDLE"

tar -C build/bundle --sort=name --owner=0 --group=0 --numeric-owner -cf - "$name" | gzip -9 >"$stage.tar.gz"
mib=$(($(stat -c %s "$stage.tar.gz") / 1048576 + 1))
((mib <= most_mib)) || fail "$stage.tar.gz has $mib MiB, more than $most_mib"
printf 'bundle: %s.tar.gz, %d MiB, %d libraries\n' "$stage" "$mib" "$(find "$stage/lib" -type f | wc -l)"
