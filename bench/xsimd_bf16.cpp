#include <heed/codec/bf16.hpp>
#include <heed/compiled/xsimd.hpp>

#include "attention.hpp"
#include "overhead.hpp"

namespace bench {

const bool xsimd_bf16_added = [] {
  using Backend = heed::Xsimd<>;
  add_smoke<Backend, heed::Bf16>();
  add_all_decode<Backend, heed::Bf16>();
  add_all_verify<Backend, heed::Bf16>();
  add_all_prefill<Backend, heed::Bf16>();
  add_all_overhead<Backend, heed::Bf16>();
  return true;
}();

}  // namespace bench
