// isas: x86-64 x86-64-v2 x86-64-v3 x86-64-v4 cascadelake sapphirerapids
// The whole library in one include, for every instruction set it has loops for.
#include <heed/heed.hpp>

const char* version() { return heed::version_string(); }
const char* isa() { return heed::isa_name(); }
