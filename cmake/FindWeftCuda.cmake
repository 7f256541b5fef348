# Finds the CUDA runtime and NCCL for the C++ code that calls them. (models/ alone has a .cu file and enables CUDA for it.)
#
#   find_package(WeftCuda REQUIRED)
#
# Looks in CUDA_HOME or CUDAToolkit_ROOT, NCCL_ROOT, then /usr/local/cuda. Targets, both free of LibTorch:
#   Weft::Cuda   headers and libcudart
#   Weft::Nccl   nccl.h and libnccl

set(_weft_cuda_hints ${CUDAToolkit_ROOT} $ENV{CUDAToolkit_ROOT} $ENV{CUDA_HOME} /usr/local/cuda /usr/local/cuda-13.0)
set(_weft_nccl_hints ${NCCL_ROOT} $ENV{NCCL_ROOT} ${_weft_cuda_hints})
find_path(WeftCuda_INCLUDE_DIR cuda_runtime_api.h HINTS ${_weft_cuda_hints} PATH_SUFFIXES include NO_CACHE)
find_library(WeftCuda_CUDART_LIBRARY NAMES cudart libcudart.so.13 HINTS ${_weft_cuda_hints} PATH_SUFFIXES lib lib64
                                                                        NO_CACHE)
find_path(WeftCuda_NCCL_INCLUDE_DIR nccl.h HINTS ${_weft_nccl_hints} PATH_SUFFIXES include NO_CACHE)
find_library(WeftCuda_NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${_weft_nccl_hints} PATH_SUFFIXES lib lib64 NO_CACHE)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  WeftCuda
  REQUIRED_VARS WeftCuda_INCLUDE_DIR WeftCuda_CUDART_LIBRARY WeftCuda_NCCL_INCLUDE_DIR WeftCuda_NCCL_LIBRARY
  REASON_FAILURE_MESSAGE "the cuda preset needs the CUDA 13 toolkit with nccl.h (CUDA_HOME, NCCL_ROOT)")

if(WeftCuda_FOUND AND NOT TARGET Weft::Cuda)
  foreach(_pair IN ITEMS "Cuda CUDART" "Nccl NCCL")
    string(REPLACE " " ";" _pair "${_pair}")
    list(GET _pair 0 _name)
    list(GET _pair 1 _key)
    get_filename_component(_dir "${WeftCuda_${_key}_LIBRARY}" DIRECTORY)
    add_library(Weft::${_name} INTERFACE IMPORTED GLOBAL)
    set_target_properties(
      Weft::${_name}
      PROPERTIES INTERFACE_LINK_LIBRARIES "${WeftCuda_${_key}_LIBRARY}" INTERFACE_LINK_OPTIONS "-Wl,-rpath,${_dir}")
  endforeach()
  target_include_directories(Weft::Cuda SYSTEM INTERFACE "${WeftCuda_INCLUDE_DIR}")
  target_include_directories(Weft::Nccl SYSTEM INTERFACE "${WeftCuda_NCCL_INCLUDE_DIR}")
  target_link_libraries(Weft::Nccl INTERFACE Weft::Cuda)
endif()
