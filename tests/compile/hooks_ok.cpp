// Hooks of each kind alone and together, named and temporary, constant and not, final and overloaded.
#include <heed/heed.hpp>

struct Bias final {
  float value = 1;
  void logits(heed::LogitChunk chunk) const {
    for (float& logit : chunk.logits) logit += value;
  }
};
struct Capped {
  int calls = 0;
  void capped_logits(const heed::LogitChunk&) { ++calls; }
};
struct Sink {
  void chunk(const heed::ChunkProbabilities&) {}
  void finish(const heed::FinishedRow&) {}
};
struct All : Capped, Sink {
  void logits(const heed::LogitChunk&) {}
  void logits(int) {}
};
static_assert(heed::LogitHook<const Bias> && !heed::CappedLogitHook<Bias> && !heed::ChunkSink<Bias>);
static_assert(heed::CappedLogitHook<Capped> && !heed::CappedLogitHook<const Capped>);
static_assert(heed::AttendHooks<Sink> && !heed::LogitHook<Sink> && !heed::AttendHooks<heed::NoHooks>);
static_assert(heed::LogitHook<All> && heed::CappedLogitHook<All> && heed::ChunkSink<All>);

struct LargeMask {
  bool visible(heed::Index query, heed::Index key, heed::Index kv_head) const { return key <= query && key >= kv_head; }
  heed::Coverage coverage(heed::Interval, heed::Interval, heed::Index) const { return heed::Coverage::partial; }
  char large[100] = {};
};

heed::Status every_form(const heed::KvCache<heed::Gqa, heed::F32>& cache, std::span<const float> q,
                        std::span<float> out) {
  const heed::Gqa policy{};
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const auto keys = cache.keys(0);
  using Keys = heed::KvCache<heed::Gqa, heed::F32>::Keys;
  All all;
  const Bias bias;
  std::vector<float> lse;
  const std::vector<heed::Index> positions;
  const heed::Sequence<Keys> sequence{.keys = &keys, .mask = {}, .q = q, .out = out};
  const std::span<const heed::Sequence<Keys>> batch(&sequence, 1);
  const heed::Kernel kernel = heed::kernel<heed::Scalar, heed::F32, heed::F32>(all);
  heed::Status status = heed::attend(kernel, policy, q, keys, out, workspace, executor);
  if (status.ok()) status = heed::attend<heed::Scalar>(policy, q, keys, out, workspace, executor, {}, bias);
  if (status.ok()) status = heed::attend<heed::Scalar>(policy, q, keys, out, workspace, executor, {}, Bias{2}, lse);
  if (status.ok()) {
    status =
        heed::attend<heed::Scalar>(policy, q, keys, heed::Causal{}, out, workspace, executor, {}, all, lse, positions);
  }
  if (status.ok())
    status = heed::attend<heed::Scalar>(policy, q, keys, LargeMask{}, out, workspace, executor, {}, Sink{});
  if (status.ok()) status = heed::attend<heed::Scalar>(policy, q, keys, LargeMask{}, out, workspace, executor, {}, lse);
  if (status.ok()) status = heed::attend_batch<heed::Scalar>(policy, batch, workspace, executor, {}, Capped{});
  return status;
}
