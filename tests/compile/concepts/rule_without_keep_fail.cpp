// expect: Retention.*keep
#include <heed/cache/kv_cache.hpp>

#include "compile/concepts/minimal.hpp"

using Cache = heed::KvCache<minimal::Policy, heed::F32, heed::F32, minimal::Mask>;
Cache* cache = nullptr;
