// expect: Codec.*decode
#include <heed/cache/kv_cache.hpp>

#include "compile/concepts/minimal.hpp"

struct NoDecode : minimal::Codec {
  static void decode();
};
using Cache = heed::KvCache<minimal::Policy, NoDecode>;
Cache* cache = nullptr;
