// expect: heed refuses fast-math
// flags: -ffinite-math-only
#include <heed/config.hpp>
