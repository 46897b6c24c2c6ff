// expect: AttentionPolicy.*value_stream
#include <heed/cache/kv_cache.hpp>

#include "compile/concepts/minimal.hpp"

struct StreamHidden : minimal::Policy {
  void value_stream();
};
using Cache = heed::KvCache<StreamHidden, heed::F32>;
Cache* cache = nullptr;
