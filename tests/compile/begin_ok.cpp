#include <cstdint>
#include <vector>

#include <heed/heed.hpp>

// Ids, and counts by name.
bool open(heed::KvCache<heed::Gqa, heed::F32>& cache, const std::vector<std::int32_t>& ids, std::int32_t id) {
  return cache.begin(ids).ok() && cache.begin(std::span(&id, 1)).ok() && cache.begin(heed::NumTokens(3)).ok() &&
         cache.begin(heed::NumTokens(ids.size())).ok();
}
