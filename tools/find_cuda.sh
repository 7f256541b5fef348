#!/usr/bin/env bash
# find_cuda.sh: exits 0 if the CUDA preset can be built here, else says what is missing and exits 1.
set -euo pipefail

# have KIND NAME: a header or library of the toolkit (CUDA_HOME, NCCL_ROOT, /usr/local/cuda)
have() {
  local base
  for base in ${CUDA_HOME:+"$CUDA_HOME"} ${NCCL_ROOT:+"$NCCL_ROOT"} /usr/local/cuda /usr/local /usr; do
    if compgen -G "$base/$1" >/dev/null; then return 0; fi
  done
  return 1
}

missing=()
have include/cuda_runtime_api.h || missing+=(cuda_runtime_api.h)
have 'lib*/libcudart.so*' || missing+=(libcudart)
have include/nccl.h || have include/x86_64-linux-gnu/nccl.h || missing+=(nccl.h)
have 'lib*/libnccl.so*' || have 'lib/x86_64-linux-gnu/libnccl.so*' || missing+=(libnccl)
if ((${#missing[@]})); then
  printf 'cuda: not found: %s. Install the CUDA 13 toolkit and NCCL, or set CUDA_HOME and NCCL_ROOT.\n' "${missing[*]}" >&2
  exit 1
fi
