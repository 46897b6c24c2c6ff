// expect: the member logits must be callable with a heed::LogitChunk
#include <heed/codec/f32.hpp>
#include <heed/hooks.hpp>

struct WrongArgument {
  void logits(const heed::ChunkProbabilities&) {}
  void capped_logits(const heed::LogitChunk&) {}
};
heed::Kernel kernel(WrongArgument& hooks) { return heed::kernel<heed::Scalar, heed::F32, heed::F32>(hooks); }
