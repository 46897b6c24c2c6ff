#include <heed/codec/bf16.hpp>
#include <heed/simd/xsimd.hpp>

#include "attention.hpp"

namespace bench {

const bool xsimd_bf16_added = [] {
  using Backend = heed::Xsimd<>;
  add_smoke<Backend, heed::Bf16>();
  add_all_decode<Backend, heed::Bf16>();
  // What speculative decoding asks for: a few drafted tokens at the price of reading the cache once.
  for (const Index queries : {1, 2, 4, 8}) {
    add<Backend, heed::Bf16>(gqa(), {.group = "verify", .queries = queries, .keys = 32768});
  }
  add_all_prefill<Backend, heed::Bf16>();
  return true;
}();

}  // namespace bench
