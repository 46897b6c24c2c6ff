# Fails with the names of include/heed that have no description. HEED_SOURCE is the repository, WORK a folder for output.
cmake_minimum_required(VERSION 3.25)

find_program(doxygen NAMES doxygen)
if(NOT doxygen)
  message(FATAL_ERROR "skipped: no doxygen (Debian and Ubuntu: doxygen)")  # ctest goes by the word
endif()

# bare.hpp has one name without a description. So this also fails if doxygen stops reporting them.
file(READ "${HEED_SOURCE}/docs/Doxyfile" settings)
file(WRITE "${WORK}/Doxyfile" "${settings}
INPUT += \"${CMAKE_CURRENT_LIST_DIR}/bare.hpp\"
OUTPUT_DIRECTORY = \"${WORK}\"
GENERATE_HTML = NO
GENERATE_TAGFILE = \"${WORK}/heed.tag\"
")
execute_process(COMMAND "${doxygen}" "${WORK}/Doxyfile" WORKING_DIRECTORY "${HEED_SOURCE}" RESULT_VARIABLE result
  OUTPUT_VARIABLE output ERROR_VARIABLE output)
string(REGEX REPLACE "[^\n]*/bare.hpp:[0-9]+: warning: Member bare \\(variable\\) of struct heed::Toy is not documented.\n"
  "" unexpected "${output}")
if(unexpected STREQUAL output)
  message(NOTICE "${output}")
  message(FATAL_ERROR "doxygen did not report the name without a description in bare.hpp")
endif()
if(NOT result EQUAL 0 OR NOT unexpected STREQUAL "")
  message(NOTICE "${unexpected}")
  message(FATAL_ERROR "doxygen must not print anything: describe these names, or move them into a namespace detail")
endif()

# Were the headers read?
file(READ "${WORK}/heed.tag" tags)
foreach(name IN ITEMS heed::KvCache heed::Scalar heed::analysis::MlaShape)
  if(NOT tags MATCHES "<name>${name}</name>")
    message(FATAL_ERROR "doxygen did not see ${name}")
  endif()
endforeach()
