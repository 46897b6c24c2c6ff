# What our own tests, benchmarks and examples need beyond the standard library. Each package is looked for on the system
# first; if it is not there and HEED_FETCH_DEPENDENCIES is on, a pinned release is downloaded. Where neither works, the
# optional ones (xsimd, Eigen) are reported and left out, the required ones stop the configuration with the ways out.
# heed::heed itself needs none of them.
include(FetchContent)

# name | URL | SHA-256 | Debian and Ubuntu package
set(HEED_DEPENDENCY_GTest
  https://github.com/google/googletest/archive/refs/tags/v1.14.0.tar.gz
  8ad598c73ad796e0d8280b082cebd82a630d73e73cd3c70057938a6501bba5d7 libgtest-dev)
set(HEED_DEPENDENCY_benchmark
  https://github.com/google/benchmark/archive/refs/tags/v1.8.3.tar.gz
  6bc180a57d23d4d9515519f92b0c83d61b05b5bab188961f36ac7b06b0d9e9ce libbenchmark-dev)
set(HEED_DEPENDENCY_nlohmann_json
  https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz
  d6c65aca6b1ed68e7a182f4757257b107ae403032760ed6ef121c9d55e81757d nlohmann-json3-dev)
set(HEED_DEPENDENCY_CLI11
  https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.3.2.tar.gz
  aac0ab42108131ac5d3344a9db0fdf25c4db652296641955720a4fbe52334e22 libcli11-dev)
set(HEED_DEPENDENCY_Eigen3
  https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.gz
  8586084f71f9bde545ee7fa6d00288b264a2b7ac3607b974e54d13e7162c1c72 libeigen3-dev)
set(HEED_DEPENDENCY_xsimd
  https://github.com/xtensor-stack/xsimd/archive/refs/tags/13.0.0.tar.gz
  8bdbbad0c3e7afa38d88d0d484d70a1671a1d8aefff03f4223ab2eb6a41110a3 libxsimd-dev)

# Downloads and unpacks the release pinned for `package`; `source_variable` gets its folder, or nothing with the reason
# in `reason_variable`. The archive is fetched here and only unpacked by FetchContent, whose own download cannot fail
# softly. `CMAKE_DISABLE_FIND_PACKAGE_<package>` means "do without", so nothing is downloaded behind its back.
function(heed_fetch_source package source_variable reason_variable)
  set(${source_variable} "" PARENT_SCOPE)
  set(${reason_variable} "" PARENT_SCOPE)
  if(CMAKE_DISABLE_FIND_PACKAGE_${package})
    set(${reason_variable} "switched off by CMAKE_DISABLE_FIND_PACKAGE_${package}" PARENT_SCOPE)
    return()
  endif()
  if(NOT HEED_FETCH_DEPENDENCIES OR FETCHCONTENT_FULLY_DISCONNECTED)
    set(${reason_variable} "not on this system, and HEED_FETCH_DEPENDENCIES is off" PARENT_SCOPE)
    return()
  endif()
  list(GET HEED_DEPENDENCY_${package} 0 url)
  list(GET HEED_DEPENDENCY_${package} 1 sha256)
  get_filename_component(suffix "${url}" LAST_EXT)
  set(archive "${CMAKE_BINARY_DIR}/_deps/${package}-${sha256}.tar${suffix}")
  if(NOT EXISTS "${archive}")
    message(STATUS "${package} is not on this system, downloading ${url}")
    file(DOWNLOAD "${url}" "${archive}.part" STATUS status TIMEOUT 120 INACTIVITY_TIMEOUT 20)
    list(GET status 0 code)
    list(GET status 1 text)
    set(got "")
    if(code EQUAL 0)
      file(SHA256 "${archive}.part" got)
    endif()
    if(NOT got STREQUAL sha256)
      file(REMOVE "${archive}.part")
      if(code EQUAL 0)
        set(text "the file does not have the expected SHA-256")
      endif()
      set(${reason_variable} "not on this system, and ${url} could not be fetched: ${text}" PARENT_SCOPE)
      return()
    endif()
    file(RENAME "${archive}.part" "${archive}")
  endif()
  # SOURCE_SUBDIR names a folder that does not exist: unpack only, the caller decides what to build of it.
  string(TOLOWER "heed_${package}" content)
  FetchContent_Declare(${content} URL "${archive}" URL_HASH SHA256=${sha256} SOURCE_SUBDIR heed-builds-it-itself
    DOWNLOAD_EXTRACT_TIMESTAMP OFF)
  FetchContent_MakeAvailable(${content})
  set(${source_variable} "${${content}_SOURCE_DIR}" PARENT_SCOPE)
endfunction()

# A header-only package under its usual target name.
function(heed_import_headers target folder)
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} INTERFACE "${folder}")
endfunction()

function(heed_dependency_missing package reason)
  list(GET HEED_DEPENDENCY_${package} 2 debian)
  message(FATAL_ERROR
    "heed's own tests, benchmarks or examples need ${package}: ${reason}.\n"
    "Ways out: install it (Debian and Ubuntu: apt-get install ${debian}, or run ./bootstrap), allow the download with "
    "-DHEED_FETCH_DEPENDENCIES=ON, or switch the part off that needs it with -DHEED_BUILD_TESTS=OFF, "
    "-DHEED_BUILD_BENCH=OFF or -DHEED_BUILD_EXAMPLES=OFF. The library itself needs none of this.")
endfunction()

# Required by the parts that are switched on. heed_require(GTest) makes the package's usual targets available or stops.
macro(heed_require package)
  find_package(${package} CONFIG QUIET)
  if(NOT ${package}_FOUND)
    heed_fetch_source(${package} heed_source heed_reason)
    if(NOT heed_source)
      heed_dependency_missing(${package} "${heed_reason}")
    endif()
    cmake_language(CALL heed_build_${package} "${heed_source}")
  endif()
endmacro()

function(heed_build_GTest source)
  if(TARGET GTest::gtest_main)
    return()
  endif()
  set(INSTALL_GTEST OFF)
  set(BUILD_GMOCK ON)
  add_subdirectory("${source}" "${CMAKE_BINARY_DIR}/_deps/gtest" EXCLUDE_FROM_ALL SYSTEM)
endfunction()

function(heed_build_benchmark source)
  if(TARGET benchmark::benchmark)
    return()
  endif()
  set(BENCHMARK_ENABLE_TESTING OFF)
  set(BENCHMARK_ENABLE_INSTALL OFF)
  set(BENCHMARK_ENABLE_WERROR OFF)
  add_subdirectory("${source}" "${CMAKE_BINARY_DIR}/_deps/benchmark" EXCLUDE_FROM_ALL SYSTEM)
endfunction()

function(heed_build_nlohmann_json source)
  if(NOT TARGET nlohmann_json::nlohmann_json)
    heed_import_headers(nlohmann_json::nlohmann_json "${source}/include")
  endif()
endfunction()

function(heed_build_CLI11 source)
  if(NOT TARGET CLI11::CLI11)
    heed_import_headers(CLI11::CLI11 "${source}/include")
  endif()
endfunction()

# Optional, and only our own targets make them worth a download.
if(HEED_BUILD_TESTS OR HEED_BUILD_BENCH OR HEED_BUILD_EXAMPLES)
  find_package(Threads REQUIRED)
  if(NOT TARGET xsimd)
    find_package(xsimd CONFIG QUIET GLOBAL)
  endif()
  if(NOT TARGET xsimd)
    heed_fetch_source(xsimd heed_source heed_reason)
    if(heed_source)
      heed_import_headers(xsimd "${heed_source}/include")
      set(heed_fetched_xsimd TRUE)
    else()
      message(STATUS "xsimd: ${heed_reason}")
    endif()
  endif()
  if(NOT TARGET Eigen3::Eigen)
    find_package(Eigen3 CONFIG QUIET GLOBAL)
  endif()
  if(NOT TARGET Eigen3::Eigen)
    heed_fetch_source(Eigen3 heed_source heed_reason)
    if(heed_source)
      heed_import_headers(Eigen3::Eigen "${heed_source}")
      set(heed_fetched_eigen TRUE)
    else()
      message(STATUS "Eigen3: ${heed_reason}")
    endif()
  endif()
endif()
