// exact_floats() under the flags this file is compiled with. The argument says what is wanted: exact, allowed (inexact, but
// HEED_ALLOW_FAST_MATH was defined, so attend() works) or refused (inexact, and attend() says so).
#include <heed/heed.hpp>

#include <cfenv>
#include <cstdio>
#include <cstring>
#include <vector>

int main(int, char** argv) {
  const bool exact = std::strcmp(argv[1], "exact") == 0, refused = std::strcmp(argv[1], "refused") == 0;
  const heed::Gqa policy{.num_heads = 1, .num_kv_heads = 1, .head_dim = 16, .scale = 0.25f};
  const std::vector<float> q(16, 1.0f), k(16, 1.0f), v(16, 1.0f);
  std::vector<float> out(16, 7.0f);
  auto cache = heed::KvCache<heed::Gqa, heed::F32>::create(policy, {.layers = 1});
  if (!cache.ok()) return 2;
  auto step = cache->begin(heed::NumTokens(1));
  if (!step.ok() || !step->write(0, 0, k).ok() || !step->write(0, 1, v).ok()) return 3;
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const heed::Status status = heed::attend<heed::Scalar>(policy, q, step->keys(0), out, workspace, executor);
  std::printf("exact_floats() is %d; attend(): %s\n", int(heed::exact_floats()), status.message().c_str());
  if (heed::exact_floats() != exact) return 4;
  if (status.ok() == refused) return 5;
  if (refused && (status.code() != heed::StatusCode::unsupported || out[0] != 7.0f)) return 6;
  // Another rounding mode of the host is no fault of the flags.
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    std::fesetround(mode);
    const bool still = heed::exact_floats();
    const bool answers = heed::attend<heed::Scalar>(policy, q, step->keys(0), out, workspace, executor).ok();
    std::fesetround(FE_TONEAREST);
    if (exact && !(still && answers)) return 7;
  }
  return 0;
}
