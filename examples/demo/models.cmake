# heed_add_demo_models(<target>): the models as an object library. The models of each codec are a file, and so is each
# backend that they run on.
function(heed_add_demo_models target)
  add_library(${target} OBJECT)
  heed_add_demo_units(${target} Codecs "model/mechanisms.hpp" "CodecModels codec_models")
  heed_add_demo_units(${target} Backends "demo/backend_of.hpp" "ModelBackend model_backend")
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/examples")
  target_link_libraries(${target} PRIVATE heed::kernels heed_dev_flags nlohmann_json::nlohmann_json)
  heed_compile_demo(${target})
endfunction()

# How the demo and its models are compiled: -O2 takes less time than -O3. The attention kernels, which they link, keep the
# flags of the build.
function(heed_compile_demo target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O2>)
endfunction()

# heed_add_demo_units(<target> <list> <header> <function>): adds a file for each type of a list of heed, which compiles the
# header's function template for it.
function(heed_add_demo_units target list header function)
  heed_read_list(types ${list})
  foreach(type IN LISTS types)
    heed_type_name(name "${type}")
    set(unit "${CMAKE_CURRENT_BINARY_DIR}/${target}_${name}.cpp")
    file(CONFIGURE OUTPUT "${unit}" @ONLY CONTENT
"#include \"@header@\"

namespace heed_examples {
template @function@<heed::@type@>();
}  // namespace heed_examples
")
    target_sources(${target} PRIVATE "${unit}")
  endforeach()
endfunction()
