// Kills mutants of passes: the keys of several chunks are scored before their values are read.
#include <cstring>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/strided.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/retention/full.hpp>
#include <heed/simd/scalar.hpp>

#include "mutants/expect.hpp"

namespace {

using heed::Index;

/// Hides keys in other places of each chunk, and of each query others.
struct Gaps {
  [[nodiscard]] heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
  [[nodiscard]] bool visible(Index query, Index key) const {
    return key / 256 % 4 != 2 && key % (5 + key / 256) != 1 && (query % 2 == 0 || key % 7 != 0);
  }
};

std::vector<float> numbers(Index count, std::uint32_t seed) {
  std::vector<float> made;
  for (Index i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    made.push_back(float(seed >> 8) * 0x1p-23f - 1);
  }
  return made;
}

}  // namespace

int main() {
  constexpr Index keys = 1500, width = 16, queries = 3;
  const heed::Mqa policy{.num_heads = 2, .head_dim = width, .scale = 0.3f};
  const auto k = numbers(keys * width, 1), v = numbers(keys * width, 2), q = numbers(queries * 2 * width, 3);
  const auto stream = [](const std::vector<float>& rows) {
    return heed::StridedStream{.data = reinterpret_cast<const std::byte*>(rows.data()),
                               .token_stride_bytes = width * 4,
                               .head_stride_bytes = width * 4,
                               .row_bytes = width * 4};
  };
  const heed::StridedSource<heed::F32> source(keys, stream(k), stream(v));
  const heed::PrefetchTable one{.chunks = 1}, many{.chunks = 16};
  heed::Workspace workspace;
  heed::SerialExecutor serial;
  std::vector<float> want(q.size()), got(q.size());
  const auto expect_same = [&](const auto& mask) {
    const bool ran =
        heed::attend<heed::Scalar>(policy, q, source, mask, want, workspace, serial, {.prefetch = &one}).ok() &&
        heed::attend<heed::Scalar>(policy, q, source, mask, got, workspace, serial, {.prefetch = &many}).ok();
    killer::expect(ran && std::memcmp(got.data(), want.data(), got.size() * sizeof(float)) == 0, "passes",
                   "bits of one chunk after the other");
  };
  expect_same(Gaps{});
  expect_same(heed::Causal{});
  return killer::failures == 0 ? 0 : 1;
}
