# Runs a program and checks both what it prints and how it ends; ctest's PASS_REGULAR_EXPRESSION ignores the exit code.
#
#   cmake -DEXIT=<code> -DOUTPUT=<regular expression> -P RunProgram.cmake -- <program> <arguments>...
#
# What the program prints on both streams must match OUTPUT. A crash has no code, so it never passes.
cmake_minimum_required(VERSION 3.25)
set(command "")
set(past FALSE)
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(i RANGE ${last})
  if(past)
    string(APPEND command " [==[${CMAKE_ARGV${i}}]==]")  # an argument may be empty
  elseif("${CMAKE_ARGV${i}}" STREQUAL "--")
    set(past TRUE)
  endif()
endforeach()
if("${command}" STREQUAL "" OR "${EXIT}" STREQUAL "" OR "${OUTPUT}" STREQUAL "")
  message(FATAL_ERROR "EXIT, OUTPUT, or the program after -- is missing")
endif()
cmake_language(EVAL CODE
  "execute_process(COMMAND ${command} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)")
message(NOTICE "${output}")
if(NOT "${result}" STREQUAL "${EXIT}")
  message(FATAL_ERROR "the program ended with '${result}', must end with ${EXIT}")
endif()
if(NOT "${output}" MATCHES "${OUTPUT}")
  message(FATAL_ERROR "the program did not print '${OUTPUT}'")
endif()
