#include <heed/codec/f32.hpp>
#include <heed/compiled/xsimd.hpp>

#include "attention.hpp"

namespace bench {

const bool xsimd_f32_added = [] {
  using Backend = heed::Xsimd<>;
  add_smoke<Backend, heed::F32>();
  add_all_decode<Backend, heed::F32>();
  add_all_prefill<Backend, heed::F32>();
  return true;
}();

}  // namespace bench
