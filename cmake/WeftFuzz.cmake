# Fuzz targets. Include once, from the root, after WeftTargets.
#
#   weft_fuzzer(NAME fuzz_tar SOURCES tar_fuzz.cc [DEPS weft_x ...] CORPUS folder)
#
# SOURCES define LLVMFuzzerTestOneInput. With WEFT_FUZZ=ON (clang; `make fuzz`) each becomes a libFuzzer program in
# build/fuzz/fuzzers, and everything is built with the address and undefined-behaviour sanitizers. In all other builds the
# same sources, with a main of our own, are a test that gives them each file of the CORPUS: what was once found stays found.

option(WEFT_FUZZ "Build the fuzz targets with libFuzzer (clang)" OFF)

if(WEFT_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES Clang)
    message(FATAL_ERROR "WEFT_FUZZ needs clang: cmake --preset fuzz")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=vptr,function
                      -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()

function(weft_fuzzer)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;CORPUS" "SOURCES;DEPS")
  _weft_check_arguments(weft_fuzzer)
  if(NOT arg_SOURCES OR NOT arg_CORPUS)
    message(FATAL_ERROR "weft_fuzzer(NAME ${arg_NAME}) needs SOURCES and CORPUS")
  endif()
  get_filename_component(corpus "${arg_CORPUS}" ABSOLUTE)
  if(WEFT_FUZZ)
    add_executable(${arg_NAME} ${arg_SOURCES})
    target_link_options(${arg_NAME} PRIVATE -fsanitize=fuzzer)
    set_target_properties(${arg_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/fuzzers")
    # tools/fuzz.sh runs what is listed: a line is the program, a tab, and its corpus.
    set_property(GLOBAL APPEND_STRING PROPERTY weft_fuzzers "${arg_NAME}\t${corpus}\n")
    get_property(list GLOBAL PROPERTY weft_fuzzers)
    file(WRITE "${CMAKE_BINARY_DIR}/fuzzers.txt" "${list}")
    if(NOT TARGET weft_fuzzers)
      add_custom_target(weft_fuzzers)
    endif()
    add_dependencies(weft_fuzzers ${arg_NAME})
  elseif(WEFT_TESTS)
    add_executable(${arg_NAME} ${arg_SOURCES} "${CMAKE_SOURCE_DIR}/tests/fuzz/replay_main.cc")
    set_target_properties(${arg_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
    add_test(NAME Fuzz.${arg_NAME} COMMAND ${arg_NAME} "${corpus}")
    set_tests_properties(
      Fuzz.${arg_NAME}
      PROPERTIES LABELS unit TIMEOUT 120 ENVIRONMENT
                 "ASAN_OPTIONS=detect_container_overflow=0:detect_odr_violation=0:alloc_dealloc_mismatch=0")
  else()
    return()
  endif()
  target_link_libraries(${arg_NAME} PRIVATE ${arg_DEPS} Threads::Threads)
  _weft_common(${arg_NAME} FALSE)
endfunction()
