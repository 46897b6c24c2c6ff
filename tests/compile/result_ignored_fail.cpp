// expect: ignoring return.*nodiscard
// flags: -Werror=unused-result
#include <heed/cache/kv_cache.hpp>
#include <heed/policy/grouped.hpp>

void create(const heed::Gqa& policy) { heed::KvCache<heed::Gqa, heed::F32>::create(policy, {}); }
