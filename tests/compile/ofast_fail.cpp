// expect: heed refuses fast-math
// flags: -O3 -Ofast
#include <heed/config.hpp>
