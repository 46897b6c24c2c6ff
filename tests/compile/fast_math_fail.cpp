// expect: heed refuses fast-math
// flags: -ffast-math
#include <heed/config.hpp>
