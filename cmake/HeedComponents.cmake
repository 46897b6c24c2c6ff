# The optional targets heed::<component>: heed::heed plus the third-party package that a part of the headers includes.
# Shared by the build tree and the installed package, so that both accept the same versions. A new component is a name
# in the list and a branch below.
set(HEED_KNOWN_COMPONENTS xsimd eigen openmp)

# Creates heed::<component>. On success `problem_variable` is empty, else it says why there is no such target.
# A macro, so that what the found package sets stays visible to the caller. HEED_COMPONENT_SCOPE is GLOBAL in the build
# tree, where a parent project that used add_subdirectory must see the targets too, and empty in an installed package.
macro(heed_add_component component problem_variable)
  set(${problem_variable} "")
  set(heed_component_target "")
  if(TARGET heed::${component})
    # Already there: a second find_package(heed), or heed's own build tree.
  elseif("${component}" STREQUAL "xsimd")
    if(NOT TARGET xsimd)
      find_package(xsimd CONFIG QUIET ${HEED_COMPONENT_SCOPE})
    endif()
    if(TARGET xsimd)
      # Only its include folder: Debian's xsimd 8.1 also asks for the library xtl, which is not a library, which
      # libxsimd-dev does not bring along, and which none of the headers need.
      add_library(heed::xsimd INTERFACE IMPORTED ${HEED_COMPONENT_SCOPE})
      target_link_libraries(heed::xsimd INTERFACE heed::heed)
      target_include_directories(heed::xsimd SYSTEM INTERFACE $<TARGET_PROPERTY:xsimd,INTERFACE_INCLUDE_DIRECTORIES>)
    else()
      set(${problem_variable} "xsimd was not found (Debian and Ubuntu: libxsimd-dev)")
    endif()
  elseif("${component}" STREQUAL "eigen")
    # No version in find_package: Eigen 5 refuses a request for 3.4, and Debian's Eigen 3.4.0 does not know ranges.
    if(NOT TARGET Eigen3::Eigen)
      find_package(Eigen3 CONFIG QUIET ${HEED_COMPONENT_SCOPE})
    endif()
    if(NOT TARGET Eigen3::Eigen)
      set(${problem_variable} "Eigen was not found (Debian and Ubuntu: libeigen3-dev)")
    elseif(Eigen3_VERSION AND (Eigen3_VERSION VERSION_LESS 3.4 OR Eigen3_VERSION VERSION_GREATER_EQUAL 6))
      set(${problem_variable} "Eigen ${Eigen3_VERSION} was found, but heed needs 3.4 <= version < 6")
    else()
      set(heed_component_target Eigen3::Eigen)
    endif()
  elseif("${component}" STREQUAL "openmp")
    if(NOT TARGET OpenMP::OpenMP_CXX)
      find_package(OpenMP QUIET COMPONENTS CXX ${HEED_COMPONENT_SCOPE})
    endif()
    if(TARGET OpenMP::OpenMP_CXX)
      set(heed_component_target OpenMP::OpenMP_CXX)
    else()
      set(${problem_variable} "the compiler offers no OpenMP")
    endif()
  else()
    set(${problem_variable} "heed has no component '${component}'; it has: ${HEED_KNOWN_COMPONENTS}")
  endif()

  if(heed_component_target)
    add_library(heed::${component} INTERFACE IMPORTED ${HEED_COMPONENT_SCOPE})
    target_link_libraries(heed::${component} INTERFACE heed::heed ${heed_component_target})
  endif()
  unset(heed_component_target)
endmacro()
