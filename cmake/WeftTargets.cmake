# How Weft's libraries, programs and tests are built. Include once, from the root.
#
#   weft_library(NAME weft_base SRCS a.cc b.cc [DEPS weft_x Boost::headers ...] [TORCH])
#   weft_proto_library(NAME weft_recipe_proto PROTOS cluster/config/recipe.proto ... [DEPS ...])
#   weft_program(NAME weft SRCS main.cc [DEPS ...] [TORCH])
#   weft_test(NAME base_test SRCS x_test.cc ... [DEPS ...] [LABELS unit ...] [TIMEOUT s] [PROCESSORS n] [SERIAL] [TORCH])
#
# Paths in SRCS are relative to the calling CMakeLists.txt; #include paths and PROTOS are relative to the root. Without
# SRCS a library is header-only. DEPS are public. TORCH links LibTorch and uses the one precompiled header; with
# WEFT_TORCH=OFF such targets are left out.

option(WEFT_TORCH "Build what needs LibTorch" ON)
option(WEFT_CUDA "Build the CUDA and NCCL code" OFF)
option(WEFT_TESTS "Build the tests" ON)
option(WEFT_WERROR "Treat warnings as errors" ON)
set(WEFT_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")

list(PREPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}")
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# All programs in one place, so that `weft` finds `weft-worker` beside itself.
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
# No CMAKE_POSITION_INDEPENDENT_CODE: programs and libraries must agree on it to share the precompiled header.

find_package(Threads REQUIRED)
if(WEFT_TESTS)
  enable_testing()
  include(GoogleTest)
  find_package(GTest REQUIRED)
endif()

find_program(WEFT_CCACHE ccache)
if(WEFT_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # base_dir makes two checkouts share the cache; the sloppiness is what precompiled headers need.
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}
                                  CCACHE_NOHASHDIR=1 ${WEFT_CCACHE})
endif()
find_program(WEFT_MOLD mold)
if(WEFT_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

if(WEFT_SANITIZE)
  add_compile_options(-fsanitize=${WEFT_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${WEFT_SANITIZE})
  if(WEFT_SANITIZE MATCHES undefined)
    # vptr wants type information that LibTorch keeps to itself.
    add_compile_options(-fno-sanitize=vptr -fno-sanitize-recover=undefined)
  endif()
  if(WEFT_SANITIZE MATCHES thread)
    # GCC's thread sanitizer does not understand fences; Asio has none with this, and its mutexes are enough.
    add_compile_definitions(BOOST_ASIO_DISABLE_FENCED_BLOCK)
  endif()
endif()

set(WEFT_GENERATED_DIR "${CMAKE_BINARY_DIR}/generated")

# Settings of every target of ours.
function(_weft_common target torch)
  target_include_directories(${target} PRIVATE "${CMAKE_SOURCE_DIR}")
  # missing-field-initializers is noise for `F({.op = kSum})`; the others are false alarms of GCC 12's optimiser.
  target_compile_options(
    ${target} PRIVATE -Wall -Wextra -Winvalid-pch -Wno-missing-field-initializers
                      $<$<BOOL:${WEFT_WERROR}>:-Werror>
                      $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict -Wno-maybe-uninitialized -Wno-stringop-overflow
                      -Wno-stringop-overread -Wno-array-bounds>
                      $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>)
  if(torch)
    _weft_torch_pch()
    target_link_libraries(${target} PUBLIC Weft::Torch)
    target_compile_options(${target} PRIVATE -fpch-preprocess) # lets ccache see through the precompiled header
    target_precompile_headers(${target} REUSE_FROM weft_torch_pch)
  endif()
endfunction()

# The target that builds the precompiled header. It takes half a minute, so there is exactly one.
function(_weft_torch_pch)
  if(TARGET weft_torch_pch)
    return()
  endif()
  if(NOT TARGET Weft::Torch)
    message(FATAL_ERROR "find_package(WeftTorch REQUIRED) must come before the first TORCH target")
  endif()
  set(source "${CMAKE_BINARY_DIR}/weft_torch_pch.cc")
  if(NOT EXISTS "${source}")
    file(WRITE "${source}" "// Holds the precompiled header.\n")
  endif()
  add_library(weft_torch_pch STATIC "${source}")
  target_link_libraries(weft_torch_pch PUBLIC Weft::TorchCpu) # the same bytes, so the same ccache entry, with CUDA
  target_precompile_headers(weft_torch_pch PRIVATE "${CMAKE_SOURCE_DIR}/cmake/torch_pch.h")
endfunction()

function(weft_library)
  cmake_parse_arguments(PARSE_ARGV 0 arg "TORCH" "NAME" "SRCS;DEPS")
  _weft_check_arguments(weft_library)
  if(arg_TORCH AND NOT WEFT_TORCH)
    return()
  endif()
  if(NOT arg_SRCS)
    add_library(${arg_NAME} INTERFACE)
    target_include_directories(${arg_NAME} INTERFACE "${CMAKE_SOURCE_DIR}")
    target_link_libraries(${arg_NAME} INTERFACE ${arg_DEPS} $<$<BOOL:${arg_TORCH}>:Weft::Torch>)
    return()
  endif()
  add_library(${arg_NAME} STATIC ${arg_SRCS})
  target_link_libraries(${arg_NAME} PUBLIC ${arg_DEPS} Threads::Threads)
  _weft_common(${arg_NAME} ${arg_TORCH})
endfunction()

function(weft_program)
  cmake_parse_arguments(PARSE_ARGV 0 arg "TORCH" "NAME" "SRCS;DEPS")
  _weft_check_arguments(weft_program)
  if(arg_TORCH AND NOT WEFT_TORCH)
    return()
  endif()
  add_executable(${arg_NAME} ${arg_SRCS})
  target_link_libraries(${arg_NAME} PRIVATE ${arg_DEPS} Threads::Threads)
  _weft_common(${arg_NAME} ${arg_TORCH})
endfunction()

# Every case is a ctest test of its own, named suite.case and found when ctest starts (not at build time).
function(weft_test)
  cmake_parse_arguments(PARSE_ARGV 0 arg "TORCH;SERIAL" "NAME;TIMEOUT;PROCESSORS" "SRCS;DEPS;LABELS")
  _weft_check_arguments(weft_test)
  if(NOT WEFT_TESTS OR (arg_TORCH AND NOT WEFT_TORCH))
    return()
  endif()
  add_executable(${arg_NAME} ${arg_SRCS})
  set_target_properties(${arg_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  target_link_libraries(${arg_NAME} PRIVATE ${arg_DEPS} GTest::gmock GTest::gtest GTest::gtest_main Threads::Threads)
  _weft_common(${arg_NAME} ${arg_TORCH})

  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(WEFT_SANITIZE) # as tests/support/sanitizers.h
    math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 10")
  endif()
  if(NOT arg_PROCESSORS)
    set(arg_PROCESSORS 1)
  endif()
  if(NOT arg_LABELS)
    set(arg_LABELS unit)
  endif()
  # ctest runs as many tests as there are cores, so each gets one thread. LibTorch is not built with ASan: the checks
  # that need whole-program instrumentation are off. Tests fork a loader from a process with threads (die_after_fork).
  set(environment OMP_NUM_THREADS=1 UBSAN_OPTIONS=print_stacktrace=1
                  TSAN_OPTIONS=second_deadlock_stack=1:die_after_fork=0:suppressions=${PROJECT_SOURCE_DIR}/tests/support/tsan.supp
                  ASAN_OPTIONS=detect_container_overflow=0:detect_odr_violation=0:alloc_dealloc_mismatch=0)
  gtest_discover_tests(
    ${arg_NAME}
    NO_PRETTY_VALUES # they may be addresses, which change from run to run
    DISCOVERY_MODE PRE_TEST
    DISCOVERY_TIMEOUT 60
    PROPERTIES TIMEOUT ${arg_TIMEOUT} PROCESSORS ${arg_PROCESSORS} RUN_SERIAL ${arg_SERIAL})
  # Properties that are lists do not survive gtest_discover_tests: ctest reads them from a file of their own.
  set(properties "${CMAKE_CURRENT_BINARY_DIR}/${arg_NAME}_properties.cmake")
  file(CONFIGURE OUTPUT "${properties}" @ONLY CONTENT [[
foreach(test IN LISTS @arg_NAME@_TESTS)
  set_tests_properties("${test}" PROPERTIES LABELS "@arg_LABELS@" ENVIRONMENT "@environment@")
endforeach()
]])
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${properties}")
endfunction()

# Compiles .proto files to a library. Their headers are included by the path of the .proto from the root.
function(weft_proto_library)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME" "PROTOS;DEPS")
  _weft_check_arguments(weft_proto_library)
  find_package(Protobuf REQUIRED)
  set(generated)
  foreach(proto IN LISTS arg_PROTOS)
    string(REGEX REPLACE "\\.proto$" "" stem "${proto}")
    set(outputs "${WEFT_GENERATED_DIR}/${stem}.pb.cc" "${WEFT_GENERATED_DIR}/${stem}.pb.h")
    get_filename_component(folder "${WEFT_GENERATED_DIR}/${stem}" DIRECTORY)
    file(MAKE_DIRECTORY "${folder}")
    add_custom_command(
      OUTPUT ${outputs}
      COMMAND protobuf::protoc --cpp_out=${WEFT_GENERATED_DIR} -I${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/${proto}
      DEPENDS "${CMAKE_SOURCE_DIR}/${proto}" protobuf::protoc
      COMMENT "Generating ${stem}.pb.{h,cc}")
    list(APPEND generated ${outputs})
  endforeach()
  add_library(${arg_NAME} STATIC ${generated})
  target_include_directories(${arg_NAME} SYSTEM PUBLIC "${WEFT_GENERATED_DIR}")
  target_link_libraries(${arg_NAME} PUBLIC ${arg_DEPS} protobuf::libprotobuf Threads::Threads)
endfunction()

macro(_weft_check_arguments function)
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_NAME)
    message(FATAL_ERROR "${function}(NAME ${arg_NAME}): bad arguments: ${arg_UNPARSED_ARGUMENTS}")
  endif()
endmacro()
