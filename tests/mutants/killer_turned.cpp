// Kills mutants of keys that the kernel rotates by a table while it reads them, with xsimd's loops: every answer must have
// the bits of one without a table.
#include <cstring>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/strided.hpp>
#include <heed/codec/bf16.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/rotated_keys.hpp>
#include <heed/simd/xsimd.hpp>

#include "mutants/expect.hpp"
#include "oracle/random.hpp"

namespace {

using heed::Index;

/// Keys in one piece, whose positions may have gaps.
struct Keys : heed::StridedSource<heed::Bf16> {
  using heed::StridedSource<heed::Bf16>::StridedSource;
  Index gap = 0;
  [[nodiscard]] Index position(Index key) const noexcept {
    return heed::StridedSource<heed::Bf16>::position(key) + key / 40 * gap;
  }
};

void check(const char* name, heed::RopeLayout layout, Index table, Index first_position = 0, Index gap = 0) {
  constexpr Index width = 64, keys = 300, bytes = 2 * width;
  heed::RopeOptions options{.head_dim = width, .layout = layout, .theta = 1e4, .table_positions = 1024};
  const auto plain = heed::Rope::create(options);
  options.read_positions = table;
  const auto tables = heed::Rope::create(options);
  if (!plain.ok() || !tables.ok()) return killer::expect(false, name, "create");
  oracle::Random random(2);
  std::vector<std::byte> rows(keys * bytes);
  heed::Bf16::encode(random.gaussians(keys * width).data(), keys * width, rows.data());
  const heed::StridedStream stream{rows.data(), bytes, bytes, bytes};
  const std::vector<float> q = random.gaussians(2 * width);
  heed::SerialExecutor executor;
  heed::Workspace workspace;
  Keys source(keys, stream, stream, first_position);
  source.gap = gap;
  const auto out_of = [&](const heed::Rope& rope) {
    const heed::RotatedKeys<heed::Gqa> policy{{.num_heads = 2, .num_kv_heads = 1, .head_dim = width, .scale = 0.1f},
                                              &rope};
    std::vector<float> out(2 * width);
    heed::check(heed::attend<heed::Xsimd<>>(policy, q, source, heed::Causal{}, out, workspace, executor));
    return out;
  };
  const std::vector<float> got = out_of(*tables), want = out_of(*plain);
  killer::expect(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)) == 0, name, "bits");
}

}  // namespace

int main() {
  check("turned: halves", heed::RopeLayout::half_split, 512);
  check("turned: neighbours", heed::RopeLayout::interleaved, 512);
  check("turned: a short table", heed::RopeLayout::half_split, 288);
  check("turned: from 5 on", heed::RopeLayout::half_split, 1024, 5);
  check("turned: gaps", heed::RopeLayout::half_split, 1024, 0, 16);
  return killer::failures == 0 ? 0 : 1;
}
