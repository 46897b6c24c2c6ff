// expect: Codec.*codes
#include <heed/cache/kv_cache.hpp>

#include "compile/concepts/minimal.hpp"

struct NoCodes : minimal::Codec {
  static void codes();
};
using Cache = heed::KvCache<minimal::Policy, NoCodes>;
Cache* cache = nullptr;
