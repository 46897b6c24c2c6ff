# heed_dev_flags: how our own tests, benchmarks and examples are compiled. Consumers never see it.
add_library(heed_dev_flags INTERFACE)

set(HEED_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # False alarms: std::string's own operator+ (GCC bug 105651), and the compiler's own AVX-512 header.
  list(APPEND HEED_WARNINGS -Wno-restrict -Wno-maybe-uninitialized)
endif()
if(HEED_WERROR)
  list(APPEND HEED_WARNINGS -Werror)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # These depend on what the optimiser inlined, cry wolf, and differ from version to version: shown, but not fatal.
    foreach(warning IN ITEMS aggressive-loop-optimizations array-bounds maybe-uninitialized stringop-overflow
                             stringop-overread)
      list(APPEND HEED_WARNINGS -Wno-error=${warning})
    endforeach()
  endif()
endif()

# What selects the instruction set; the compile tests need it too.
set(HEED_ARCH_FLAGS "")
if(HEED_NATIVE AND NOT HEED_NO_SIMD)
  set(HEED_ARCH_FLAGS -march=native)
endif()

set(HEED_SANITIZE_FLAGS "")
if(HEED_SANITIZE)
  list(JOIN HEED_SANITIZE "," heed_sanitizers)
  set(HEED_SANITIZE_FLAGS -fsanitize=${heed_sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)
endif()

target_compile_options(heed_dev_flags INTERFACE ${HEED_WARNINGS} ${HEED_ARCH_FLAGS} ${HEED_SANITIZE_FLAGS})
target_link_options(heed_dev_flags INTERFACE ${HEED_SANITIZE_FLAGS})
target_link_libraries(heed_dev_flags INTERFACE heed::heed Threads::Threads)
foreach(component IN ITEMS xsimd eigen)
  if(TARGET heed::${component})
    target_link_libraries(heed_dev_flags INTERFACE heed::${component})
  else()
    # Its headers may be on the compiler's path all the same. Then Backends would have more than heed_read_list() says.
    string(TOUPPER "HEED_NO_${component}" without)
    target_compile_definitions(heed_dev_flags INTERFACE ${without})
  endif()
endforeach()

# Coloured diagnostics survive ninja, and binaries of one build lie together.
set(CMAKE_COLOR_DIAGNOSTICS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_EXTENSIONS OFF)

if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(HEED_CCACHE ccache)
  if(HEED_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${HEED_CCACHE}")
    if(HEED_PRECOMPILE)
      # Without these ccache compiles again whatever includes a precompiled header. heed uses no __TIME__, and no unit's
      # definitions differ from its header's.
      set(sloppiness pch_defines,time_macros,include_file_mtime,include_file_ctime)
      set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env CCACHE_SLOPPINESS=${sloppiness} "${HEED_CCACHE}")
    endif()
  endif()
endif()
