# Runs the compiler on one file and judges the outcome; called by ctest as
#   cmake -DSETTINGS=<file> -DSOURCE=<file> -DOUTPUT=<object> [-DEXTRA=<flags>] -P CompileTest.cmake
# SETTINGS is written by tests/compile/CMakeLists.txt: HEED_COMPILER, HEED_COMPILE_FLAGS and HEED_STRICT_FLAGS. Comments
# in the first lines of SOURCE say what is wanted:
#   // expect: <regex>   the file must not compile, and the compiler must say this (a CMake regular expression)
#   // flags: <flags>    added to the command; -c asks for a real compilation instead of -fsyntax-only
# A file without `expect` must compile without a warning.
cmake_minimum_required(VERSION 3.25)
include("${SETTINGS}")

file(STRINGS "${SOURCE}" head LIMIT_COUNT 8 REGEX "^// (expect|flags): ")
set(expect "")
set(flags "")
foreach(line IN LISTS head)
  if(line MATCHES "^// expect: (.*)$")
    set(expect "${CMAKE_MATCH_1}")
  elseif(line MATCHES "^// flags: (.*)$")
    separate_arguments(words UNIX_COMMAND "${CMAKE_MATCH_1}")
    list(APPEND flags ${words})
  endif()
endforeach()
separate_arguments(words UNIX_COMMAND "${EXTRA}")
list(APPEND flags ${words})

if("-c" IN_LIST flags)
  list(APPEND flags -o "${OUTPUT}")
else()
  list(APPEND flags -fsyntax-only)
endif()
if(expect STREQUAL "")
  list(PREPEND flags ${HEED_STRICT_FLAGS})
endif()

# The C locale, because the quotation marks in messages depend on it.
set(ENV{LC_ALL} C)
set(command "${HEED_COMPILER}" ${HEED_COMPILE_FLAGS} ${flags} "${SOURCE}")
execute_process(COMMAND ${command} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)

# The output goes out as it came; message(FATAL_ERROR) would wrap it.
list(JOIN command " " shown)
string(SUBSTRING "${output}" 0 6000 shown_output)
function(fail reason)
  message(NOTICE "${shown}\n${shown_output}")
  message(FATAL_ERROR "${SOURCE} ${reason}")
endfunction()

if(expect STREQUAL "")
  if(NOT result EQUAL 0)
    fail("must compile without a warning, but does not")
  endif()
elseif(result EQUAL 0)
  fail("must not compile, but does")
elseif(NOT output MATCHES "${expect}")
  fail("does not compile, as it should, but the message does not match '${expect}'")
endif()
