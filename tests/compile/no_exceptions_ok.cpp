// flags: -fno-exceptions -fno-rtti -c
// A decode step of an engine that has neither exceptions nor RTTI, compiled for real.
#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/exec/thread_pool.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/simd/scalar.hpp>

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "the flags of this test do not reach the compiler"
#endif

heed::Status decode(std::span<const float> q, std::span<const float> k, std::span<const float> v, std::span<float> out) {
  const heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .scale = 0.25f};
  auto cache = heed::KvCache<heed::Gqa, heed::Bf16>::create(policy, {.layers = 1, .capacity = 64});
  if (!cache.ok()) return cache.status();
  auto pool = heed::ThreadPool::create(2);
  if (!pool.ok()) return pool.status();
  auto step = cache->begin(heed::NumTokens(1));
  if (!step.ok()) return step.status();
  if (heed::Status status = step->write(0, k, v); !status.ok()) return status;
  heed::Workspace workspace;
  const auto keys = step->keys(0);
  if (heed::Status status = heed::attend<heed::Scalar>(policy, q, keys, out, workspace, **pool); !status.ok()) {
    return status;
  }
  return step->commit();
}
