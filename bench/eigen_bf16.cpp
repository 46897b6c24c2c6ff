#include <heed/codec/bf16.hpp>
#include <heed/compiled/eigen.hpp>

#include "attention.hpp"

namespace bench {

// A few points: the loops are the same as xsimd's, and only a difference between the two would be news.
const bool eigen_bf16_added = [] {
  using Backend = heed::EigenPackets;
  add_smoke<Backend, heed::Bf16>();
  for (const Index keys : {4096, 32768}) {
    add<Backend, heed::Bf16>(gqa(), {.group = "decode", .keys = keys, .threads = {1}});
  }
  add<Backend, heed::Bf16>(mla(), {.group = "decode", .keys = 4096, .threads = {1}});
  add<Backend, heed::Bf16>(gqa(), {.group = "prefill", .queries = 512, .keys = 512, .threads = {1}});
  return true;
}();

}  // namespace bench
