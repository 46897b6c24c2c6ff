// expect: no matching|could not convert|no known conversion|no viable conversion
#include <heed/heed.hpp>

using Cache = heed::KvCache<heed::Gqa, heed::F32>;

// A bare number is no scope: it could be meant as another argument.
bool insert(heed::PrefixCache<Cache>& prefixes, std::span<const std::int32_t> ids, const Cache& cache) {
  return prefixes.insert(ids, cache, 7).ok();
}
