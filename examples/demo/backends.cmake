# heed_add_demo_backends(<target>): the models on every backend, a file for each, as an object library.
function(heed_add_demo_backends target)
  add_library(${target} OBJECT)
  heed_read_list(backends Backends)
  foreach(backend IN LISTS backends)
    heed_type_name(name "${backend}")
    set(unit "${CMAKE_CURRENT_BINARY_DIR}/${target}_${name}.cpp")
    file(CONFIGURE OUTPUT "${unit}" @ONLY CONTENT
"#include \"demo/backend_of.hpp\"

namespace heed_examples {
template DemoBackend demo_backend<heed::@backend@>();
}  // namespace heed_examples
")
    target_sources(${target} PRIVATE "${unit}")
  endforeach()
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/examples")
  target_link_libraries(${target} PRIVATE heed::kernels heed_dev_flags nlohmann_json::nlohmann_json)
endfunction()
