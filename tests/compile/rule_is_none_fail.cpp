// expect: this type is no rule.*name
#include <heed/cache/kv_cache.hpp>
#include <heed/policy/grouped.hpp>

struct Window {
  heed::Index window = 4;
};
auto make() { return heed::KvCache<heed::Gqa, heed::F32>::create({}, {}, Window{}); }
