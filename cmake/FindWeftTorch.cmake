# Finds LibTorch without its own TorchConfig.cmake, which wants the whole of CUDA.
#
#   find_package(WeftTorch REQUIRED)
#
# Looks in LIBTORCH_ROOT (cache or environment: a folder with include/ and lib/, such as the torch folder of a Python
# environment), else in .deps/libtorch, where tools/setup.sh puts it.
#
# Targets
#   Weft::TorchCpu   torch_cpu, c10
#   Weft::TorchCuda  torch_cuda, c10_cuda and the above (only with WEFT_CUDA)
#   Weft::Torch      the one of the two that this build uses
# and WeftTorch_VERSION, WeftTorch_ROOT.
#
# Three rules that these targets keep:
#   1. LibTorch ships headers of an old protobuf (and of fmt, dnnl ...). -idirafter puts its folder behind the system's.
#   2. libtorch_cpu.so also exports symbols of that protobuf: the system's library stands before it on every link line.
#   3. libtorch_cpu.so needs libcudart and libcupti even without a GPU. Only DT_RPATH (not DT_RUNPATH) is also searched
#      for what a library needs, hence --disable-new-dtags.

if(DEFINED ENV{LIBTORCH_ROOT} AND NOT "$ENV{LIBTORCH_ROOT}" STREQUAL "")
  set(LIBTORCH_ROOT "$ENV{LIBTORCH_ROOT}" CACHE PATH "Folder with LibTorch's include/ and lib/" FORCE)
endif()
set(WeftTorch_ROOT "${CMAKE_CURRENT_LIST_DIR}/../.deps/libtorch")
if(LIBTORCH_ROOT)
  set(WeftTorch_ROOT "${LIBTORCH_ROOT}")
endif()
get_filename_component(WeftTorch_ROOT "${WeftTorch_ROOT}" REALPATH)

find_path(WeftTorch_INCLUDE_DIR ATen/ATen.h PATHS "${WeftTorch_ROOT}/include" NO_DEFAULT_PATH NO_CACHE)
find_library(WeftTorch_LIBRARY torch_cpu PATHS "${WeftTorch_ROOT}/lib" NO_DEFAULT_PATH NO_CACHE)
find_library(WeftTorch_C10_LIBRARY c10 PATHS "${WeftTorch_ROOT}/lib" NO_DEFAULT_PATH NO_CACHE)

if(WeftTorch_INCLUDE_DIR)
  get_filename_component(WeftTorch_INCLUDE_DIR "${WeftTorch_INCLUDE_DIR}" REALPATH) # no slash at the end
  file(STRINGS "${WeftTorch_INCLUDE_DIR}/torch/headeronly/version.h" _weft_torch_lines
       REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) +[0-9]+")
  list(TRANSFORM _weft_torch_lines REPLACE "[^0-9]*([0-9]+).*" "\\1")
  list(JOIN _weft_torch_lines "." WeftTorch_VERSION)
endif()

# The CUDA runtime libraries that LibTorch needs to start: from the toolkit, the system, or where setup put them.
set(_weft_cuda_hints "${CMAKE_CURRENT_LIST_DIR}/../.deps/cuda-libs")
if(DEFINED ENV{CUDA_HOME})
  list(APPEND _weft_cuda_hints "$ENV{CUDA_HOME}")
endif()
file(GLOB _weft_cuda_toolkits LIST_DIRECTORIES true "/usr/local/cuda*")
list(APPEND _weft_cuda_hints ${_weft_cuda_toolkits} "${WeftTorch_ROOT}/../nvidia/cu13"
     "${WeftTorch_ROOT}/../nvidia/cuda_runtime" "${WeftTorch_ROOT}/../nvidia/cuda_cupti")
find_library(WeftTorch_CUDART_LIBRARY NAMES libcudart.so.13 HINTS ${_weft_cuda_hints} PATH_SUFFIXES lib lib64
                                                                  extras/CUPTI/lib64 NO_CACHE)
find_library(WeftTorch_CUPTI_LIBRARY NAMES libcupti.so.13 HINTS ${_weft_cuda_hints} PATH_SUFFIXES lib lib64
                                                                extras/CUPTI/lib64 NO_CACHE)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  WeftTorch
  REQUIRED_VARS WeftTorch_LIBRARY WeftTorch_C10_LIBRARY WeftTorch_INCLUDE_DIR WeftTorch_CUDART_LIBRARY
                WeftTorch_CUPTI_LIBRARY
  VERSION_VAR WeftTorch_VERSION
  REASON_FAILURE_MESSAGE "run `make setup`, or set LIBTORCH_ROOT (looked in ${WeftTorch_ROOT})")

if(WeftTorch_FOUND AND NOT TARGET Weft::TorchCpu)
  find_package(Protobuf REQUIRED)

  set(_weft_torch_rpath)
  foreach(_lib IN ITEMS ${WeftTorch_LIBRARY} ${WeftTorch_CUDART_LIBRARY} ${WeftTorch_CUPTI_LIBRARY})
    get_filename_component(_dir "${_lib}" DIRECTORY)
    list(APPEND _weft_torch_rpath "${_dir}")
  endforeach()
  list(REMOVE_DUPLICATES _weft_torch_rpath)
  list(TRANSFORM _weft_torch_rpath PREPEND "-Wl,-rpath,")

  # Interface targets around plain file names: CMake keeps the order of what is written here.
  add_library(Weft::TorchCpu INTERFACE IMPORTED GLOBAL)
  set_target_properties(
    Weft::TorchCpu
    PROPERTIES
      INTERFACE_COMPILE_OPTIONS
      "SHELL:-idirafter ${WeftTorch_INCLUDE_DIR};SHELL:-idirafter ${WeftTorch_INCLUDE_DIR}/torch/csrc/api/include"
      INTERFACE_LINK_OPTIONS
      "-Wl,--no-as-needed;-Wl,--disable-new-dtags;-Wl,--allow-shlib-undefined;${_weft_torch_rpath};$<TARGET_FILE:protobuf::libprotobuf>"
      INTERFACE_LINK_LIBRARIES "protobuf::libprotobuf;${WeftTorch_LIBRARY};${WeftTorch_C10_LIBRARY}")
  set(_weft_torch Weft::TorchCpu)

  if(WEFT_CUDA)
    find_package(WeftCuda REQUIRED)
    # libtorch_cuda also wants libcufile, libnvshmem and libcusparseLt, which only GPU machines need to have:
    # --allow-shlib-undefined (above) lets it link without them.
    # LINK_ONLY: no include folder is added, so the same compile commands as without CUDA, and all come from ccache.
    # What includes CUDA's headers links Weft::Cuda or Weft::Nccl itself.
    add_library(Weft::TorchCuda INTERFACE IMPORTED GLOBAL)
    set_target_properties(
      Weft::TorchCuda
      PROPERTIES INTERFACE_LINK_LIBRARIES
                 "Weft::TorchCpu;${WeftTorch_ROOT}/lib/libtorch_cuda.so;${WeftTorch_ROOT}/lib/libc10_cuda.so;$<LINK_ONLY:Weft::Nccl>;$<LINK_ONLY:Weft::Cuda>")
    set(_weft_torch Weft::TorchCuda)
  endif()
  add_library(Weft::Torch INTERFACE IMPORTED GLOBAL)
  set_target_properties(Weft::Torch PROPERTIES INTERFACE_LINK_LIBRARIES ${_weft_torch})
endif()
