# Fails unless FILE is what PROGRAM prints.
execute_process(COMMAND "${PROGRAM}" OUTPUT_VARIABLE printed COMMAND_ERROR_IS_FATAL ANY)
file(READ "${FILE}" written)
if(NOT printed STREQUAL written)
  message(FATAL_ERROR "${FILE} is not what ${PROGRAM} prints; write it anew")
endif()
