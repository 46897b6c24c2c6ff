# heed's lists of types, for the units that the build makes: heed_read_list(<variable> <list>) reads
#   Backends  include/heed/simd/backends.hpp
#   Codecs    include/heed/codec/codecs.hpp
#   Maths     include/heed/math/maths.hpp
# and sets <variable> to the types as the header spells them, without heed::. A backend whose library was not found
# is left out. heed_type_name(<variable> <type>) sets <variable> to the name of a type: what its member `name` says.
include_guard()

function(heed_list_header variable list)
  if(list STREQUAL "Backends")
    set(${variable} "${HEED_INCLUDE_DIR}/heed/simd/backends.hpp" PARENT_SCOPE)
  elseif(list STREQUAL "Codecs")
    set(${variable} "${HEED_INCLUDE_DIR}/heed/codec/codecs.hpp" PARENT_SCOPE)
  elseif(list STREQUAL "Maths")
    set(${variable} "${HEED_INCLUDE_DIR}/heed/math/maths.hpp" PARENT_SCOPE)
  else()
    message(FATAL_ERROR "heed has no list ${list}")
  endif()
endfunction()

function(heed_read_list variable list)
  heed_list_header(header ${list})
  file(READ "${header}" text)
  if(NOT CMAKE_SCRIPT_MODE_FILE)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${header}")
  endif()
  if(NOT text MATCHES "using ${list} = List<([^;]*)>;")
    message(FATAL_ERROR "${header} has no `using ${list} = List<...>;`")
  endif()
  set(text "${CMAKE_MATCH_1}")
  # `#if HEED_HAS_NAME`, a type and `#endif` become NAME:type.
  string(REGEX REPLACE "#if HEED_HAS_([A-Z0-9_]+)[ \n]+" "\\1:" text "${text}")
  string(REGEX REPLACE "#endif|[ \n]" "" text "${text}")
  string(REPLACE "," ";" text "${text}")
  set(types "")
  foreach(entry IN LISTS text)
    if(entry MATCHES "^([A-Z0-9_]+):(.*)$")
      set(entry "${CMAKE_MATCH_2}")
      string(TOLOWER "${CMAKE_MATCH_1}" component)
      if(NOT CMAKE_SCRIPT_MODE_FILE AND NOT TARGET heed::${component})
        continue()
      endif()
    endif()
    list(APPEND types "${entry}")
  endforeach()
  set(${variable} "${types}" PARENT_SCOPE)
endfunction()

function(heed_type_name variable type)
  string(REGEX REPLACE "^.*::|<>|Packets" "" name "${type}")
  string(TOLOWER "${name}" name)
  set(${variable} "${name}" PARENT_SCOPE)
endfunction()
