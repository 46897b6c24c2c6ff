#include <heed/codec/bf16.hpp>
#include <heed/compiled/scalar.hpp>

#include "attention.hpp"

namespace bench {

// The readable definition of the loops; how much slower it is tells what the backends are worth.
const bool scalar_bf16_added = [] {
  add_smoke<heed::Scalar, heed::Bf16>();
  add<heed::Scalar, heed::Bf16>(gqa(), {.group = "decode", .keys = 4096, .threads = {1}});
  return true;
}();

}  // namespace bench
