// expect: the member capped_logits must be callable with a heed::LogitChunk
#include <heed/codec/f32.hpp>
#include <heed/hooks.hpp>

struct NotConst {
  void logits(const heed::LogitChunk&) const {}
  void capped_logits(const heed::LogitChunk&) {}
};
heed::Kernel kernel(const NotConst& hooks) { return heed::kernel<heed::Scalar, heed::F32, heed::F32>(hooks); }
