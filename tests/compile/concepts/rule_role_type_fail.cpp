// expect: Retention.*role
#include <heed/cache/kv_cache.hpp>

#include "compile/concepts/minimal.hpp"

struct LandmarksOnly : minimal::Rule {
  bool role(heed::Index, std::int32_t) const { return true; }
};
heed::AnyRule rule{LandmarksOnly{}};
