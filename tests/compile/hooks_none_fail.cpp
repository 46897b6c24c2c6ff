// expect: the object has none of logits
#include <heed/cache/strided.hpp>
#include <heed/codec/f32.hpp>
#include <heed/exec/serial.hpp>
#include <heed/hooks.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/retention/full.hpp>

struct Misspelt {
  void logit(const heed::LogitChunk&) {}
};
heed::Status attend(std::span<const float> q, const heed::StridedSource<heed::F32>& keys, std::span<float> out) {
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  return heed::attend<heed::Scalar>(heed::Gqa{}, q, keys, heed::Causal{}, out, workspace, executor, {}, Misspelt{});
}
