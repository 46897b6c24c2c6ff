// A decode step with plain arrays, so that whatever it shares with another unit comes from heed's headers.
#include <heed/heed.hpp>

int UNIT() {
  const heed::Gqa policy{.num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .scale = heed::default_scale(16)};
  auto cache = heed::KvCache<heed::Gqa, heed::Bf16>::create(policy, {.layers = 1}, heed::SlidingWindow{8});
  if (!cache.ok()) return 2;
  static float q[64], k[32], v[32], out[64];
  for (int i = 0; i < 64; ++i) q[i] = float(i % 7);
  for (int i = 0; i < 32; ++i) k[i] = v[i] = float(i % 5);
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  heed::AttendOptions options;
  options.soft_cap = 30;
  for (int token = 0; token < 40; ++token) {
    auto step = cache->begin(heed::NumTokens(1));
    if (!step.ok() || !step->write(0, 0, k).ok() || !step->write(0, 1, v).ok()) return 3;
    const auto keys = step->keys(0);
    if (!heed::attend<heed::DefaultBackend>(policy, q, keys, out, workspace, executor, options).ok()) return 4;
    if (!heed::attend<heed::Scalar>(policy, q, keys, out, workspace, executor, options).ok()) return 5;
    if (!step->commit().ok()) return 6;
  }
  options.soft_cap = -1;  // a number in a message
  if (heed::attend<heed::Scalar>(policy, q, cache->keys(0), out, workspace, executor, options).ok()) return 7;
  return out[1] == v[1] ? 0 : 8;
}
