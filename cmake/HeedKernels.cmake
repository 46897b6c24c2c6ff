# heed_add_kernels(<target>) makes a static library of heed's kernels, so that a program compiles them once and not in every
# unit: link it and include <heed/compiled.hpp>. Part of the build tree and of the installed package.
#
# Every line of the headers in heed/compiled is a kernel. The kernels of a header in one math are a unit. The library must be
# compiled with the flags of the program that links it, -march=... above all: target_compile_options(<target> PRIVATE ...).
function(heed_add_kernels target)
  set(folder "${HEED_INCLUDE_DIR}/heed/compiled")
  add_library(${target} STATIC EXCLUDE_FROM_ALL)
  target_link_libraries(${target} PUBLIC heed::heed)
  file(GLOB headers CONFIGURE_DEPENDS RELATIVE "${folder}" "${folder}/*.hpp")
  list(TRANSFORM headers REPLACE "\\.hpp$" "")
  foreach(header IN LISTS headers)
    string(TOUPPER "HEED_HAS_${header}" has)  # not defined for a backend that every build has
    if(TARGET heed::${header})
      target_link_libraries(${target} PUBLIC heed::${header})
    endif()
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${folder}/${header}.hpp")
    file(READ "${folder}/${header}.hpp" kernels)
    string(REGEX MATCHALL "extern template [^;]*" kernels "${kernels}")
    list(TRANSFORM kernels REPLACE "^extern " "")
    set(maths "default")
    foreach(kernel IN LISTS kernels)
      if(kernel MATCHES "math::([A-Za-z0-9_]+)>$")
        list(APPEND maths "${CMAKE_MATCH_1}")
      endif()
    endforeach()
    list(REMOVE_DUPLICATES maths)
    foreach(math IN LISTS maths)
      set(of_math ${kernels})
      set(unit "${CMAKE_CURRENT_BINARY_DIR}/${target}_${header}")
      if(math STREQUAL "default")
        list(FILTER of_math EXCLUDE REGEX "math::")
      else()
        list(FILTER of_math INCLUDE REGEX "math::${math}>$")
        string(TOLOWER "${math}" name)
        string(APPEND unit "_${name}")
      endif()
      list(JOIN of_math ";\n" of_math)
      file(CONFIGURE OUTPUT "${unit}.cpp" @ONLY CONTENT
"#include <heed/config.hpp>
#if !defined(@has@) || @has@
#include <heed/compiled/@header@.hpp>

namespace heed::inline HEED_ABI {
@of_math@;
}  // namespace heed::inline HEED_ABI
#endif
")
      target_sources(${target} PRIVATE "${unit}.cpp")
    endforeach()
  endforeach()
endfunction()
