// flags: -ffast-math -DHEED_ALLOW_FAST_MATH -Wno-error
#include <heed/config.hpp>

const char* version() { return heed::version_string(); }
