// expect: cannot convert .*PrefixScope|PrefixScope.* could not bind
#include <heed/heed.hpp>

using Cache = heed::KvCache<heed::Gqa, heed::F32>;

// A bare number is no scope: it could be meant as another argument.
bool insert(heed::PrefixCache<Cache>& prefixes, std::span<const std::int32_t> ids, const Cache& cache) {
  return prefixes.insert(ids, cache, 7).ok();
}
