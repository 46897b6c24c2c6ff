// expect: a sink must have chunk.* and finish
#include <heed/codec/f32.hpp>
#include <heed/hooks.hpp>

struct NoFinish {
  void logits(const heed::LogitChunk&) {}
  void chunk(const heed::ChunkProbabilities&) {}
};
heed::Kernel kernel(NoFinish& hooks) { return heed::kernel<heed::Scalar, heed::F32, heed::F32>(hooks); }
