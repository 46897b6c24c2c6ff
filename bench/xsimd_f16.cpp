#include <heed/codec/f16.hpp>
#include <heed/compiled/xsimd.hpp>

#include "attention.hpp"

namespace bench {

const bool xsimd_f16_added = [] {
  using Backend = heed::Xsimd<>;
  add_smoke<Backend, heed::F16>();
  for (const Index keys : {4096, 32768}) add<Backend, heed::F16>(gqa(), {.group = "decode", .keys = keys});
  add<Backend, heed::F16>(mla(), {.group = "decode", .keys = 4096});
  return true;
}();

}  // namespace bench
