// Keys that the kernel rotates by a table while it reads them: the bits of keys that are rotated before they are scored.
#include <heed/cache/kv_cache.hpp>
#include <heed/cache/strided.hpp>
#include <heed/codec/codecs.hpp>
#include <heed/exec/serial.hpp>
#include <heed/exec/thread_pool.hpp>
#include <heed/policy/grouped.hpp>
#include <heed/policy/mla.hpp>
#include <heed/policy/rotated_keys.hpp>
#include <heed/retention/sinks.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "oracle/random.hpp"
#include "policy/backend.hpp"

namespace heed_test::turned_keys_test {
namespace {

using heed::Rope;
using heed::value_or_throw;
using Policy = heed::RotatedKeys<heed::Gqa>;

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<heed::RopeOptions> rotations() {
  using enum heed::RopeLayout;
  return {{.head_dim = 64, .layout = half_split, .theta = 1e4},
          {.head_dim = 64, .layout = interleaved, .theta = 1e4},
          {.head_dim = 128,
           .layout = half_split,
           .theta = 5e5,
           .yarn = heed::Yarn{.factor = 4, .original_max_position = 64}},
          {.head_dim = 192, .rotary_dim = 64, .rotary_offset = 96, .layout = half_split, .theta = 1e4},
          {.head_dim = 96, .rotary_dim = 32, .rotary_offset = 64, .layout = interleaved, .theta = 1e4},
          // No whole blocks of 32 turn: keys are made first.
          {.head_dim = 96, .layout = half_split, .theta = 1e4},
          {.head_dim = 40, .layout = interleaved, .theta = 1e4},
          {.head_dim = 64, .rotary_dim = 32, .rotary_offset = 4, .layout = interleaved, .theta = 1e4}};
}

/// Outputs of the last query of `rows` heads per KV head, in a cache of ranks that evicts.
template <class C>
std::vector<float> ranked(const heed::RopeOptions& options, Index rows, Index workers) {
  const Index width = options.head_dim, kv_heads = 2, heads = rows * kv_heads;
  const Rope rope = value_or_throw(Rope::create(options));
  const Policy policy{
      {.num_heads = heads, .num_kv_heads = kv_heads, .head_dim = width, .scale = heed::default_scale(width)}, &rope};
  auto cache = value_or_throw(
      heed::KvCache<Policy, C>::create(policy, {.positions = heed::Positions::rank}, heed::SinkWindow{4, 330}));
  auto pool = value_or_throw(heed::ThreadPool::create(workers));
  heed::Workspace workspace;
  oracle::Random random(1);
  const auto append = [&](Index tokens, std::vector<float>* out) {
    auto step = value_or_throw(cache.begin(heed::NumTokens(tokens)));
    const std::vector<float> k = random.gaussians(tokens * kv_heads * width),
                             v = random.gaussians(tokens * kv_heads * width);
    const std::vector<float> q = random.gaussians(tokens * heads * width);
    heed::check(step.write(0, k, v));
    if (out != nullptr) {
      out->resize(q.size());
      heed::check(heed::attend<Backend>(policy, q, step.keys(0), *out, workspace, *pool));
    }
    heed::check(step.commit());
  };
  std::vector<float> out, all;
  for (const Index tokens : {20, 1, 260, 1, 200, 1, 2}) {
    append(tokens, tokens < 3 ? &out : nullptr);
    if (tokens < 3) all.insert(all.end(), out.begin(), out.end());
  }
  return all;
}

TEST(TurnedKeys, HaveTheBitsOfKeysThatWereRotatedBefore) {
  heed::Codecs::for_each([]<class C>() {
    for (heed::RopeOptions options : rotations()) {
      for (const Index rows : {1, 3, 4, 6, 8, 9}) {
        const std::vector<float> want = ranked<C>(options, rows, 1);
        for (const Index table : {Index{512}, Index{300}}) {  // keys behind a short table are made first
          options.read_positions = table;
          EXPECT_TRUE(same(ranked<C>(options, rows, 1), want))
              << C::name << " " << options.head_dim << " rows " << rows;
        }
        if (rows == 4) {
          EXPECT_TRUE(same(ranked<C>(options, rows, 3), want)) << C::name << " workers";
        }
        options.read_positions = 0;
      }
    }
  });
}

/// Keys in one piece, whose positions may have gaps.
struct Keys : heed::StridedSource<heed::Bf16> {
  using heed::StridedSource<heed::Bf16>::StridedSource;
  Index gap = 0;
  [[nodiscard]] Index position(Index key) const noexcept {
    return heed::StridedSource<heed::Bf16>::position(key) + key / 40 * gap;
  }
};

TEST(TurnedKeys, MayHaveAnyPositions) {
  constexpr Index width = 64, keys = 300, bytes = 2 * width;
  heed::RopeOptions options{.head_dim = width, .layout = heed::RopeLayout::half_split, .theta = 1e4};
  const Rope plain = value_or_throw(Rope::create(options));
  options.read_positions = 1024;
  const Rope tables = value_or_throw(Rope::create(options));
  oracle::Random random(2);
  std::vector<std::byte> rows(std::size_t(keys * bytes));
  heed::Bf16::encode(random.gaussians(keys * width).data(), keys * width, rows.data());
  const heed::StridedStream stream{rows.data(), bytes, bytes, bytes};
  const std::vector<float> q = random.gaussians(2 * width);
  heed::SerialExecutor executor;
  heed::Workspace workspace;
  for (const Index first : {0, 5, 16, 250, 1000, 70000}) {
    for (const Index gap : {0, 16}) {
      Keys source(keys, stream, stream, first);
      source.gap = gap;
      const auto out_of = [&](const Rope& rope) {
        const Policy policy{{.num_heads = 2, .num_kv_heads = 1, .head_dim = width, .scale = 0.1f}, &rope};
        std::vector<float> out(2 * width);
        heed::check(heed::attend<Backend>(policy, q, source, heed::Causal{}, out, workspace, executor));
        return out;
      };
      EXPECT_TRUE(same(out_of(tables), out_of(plain))) << "from " << first << " gap " << gap;
    }
  }
}

TEST(TurnedKeys, MayBeAPartOfARow) {
  constexpr Index rank = 64, part = 64, width = rank + part, keys = 280, bytes = 2 * width, heads = 3;
  oracle::Random random(3);
  std::vector<std::byte> rows(std::size_t(keys * bytes));
  heed::Bf16::encode(random.gaussians(keys * width).data(), keys * width, rows.data());
  const heed::StridedSource<heed::Bf16> source(keys, heed::StridedStream{rows.data(), bytes, bytes, bytes});
  const std::vector<float> q = random.gaussians(heads * width);
  heed::SerialExecutor executor;
  heed::Workspace workspace;
  for (const heed::RopeLayout layout : {heed::RopeLayout::half_split, heed::RopeLayout::interleaved}) {
    const auto out_of = [&](Index table) {
      const Rope rope =
          value_or_throw(Rope::create({.head_dim = part, .layout = layout, .theta = 1e4, .read_positions = table}));
      heed::Mla mla{.num_heads = heads,
                    .kv_lora_rank = rank,
                    .qk_rope_head_dim = part,
                    .qk_nope_head_dim = 8,
                    .v_head_dim = 8,
                    .scale = 0.1f};
      mla.rope = &rope;
      std::vector<float> out(heads * rank);
      heed::check(heed::attend<Backend>(mla, q, source, heed::Causal{}, out, workspace, executor));
      return out;
    };
    EXPECT_TRUE(same(out_of(512), out_of(0)));
  }
}

TEST(TurnedKeys, ATableIsAnOptionWithinLimits) {
  heed::RopeOptions options{.head_dim = 64, .layout = heed::RopeLayout::half_split, .theta = 1e4};
  EXPECT_EQ(value_or_throw(Rope::create(options)).turns().angles, nullptr);
  options.read_positions = 17;
  Rope rope = value_or_throw(Rope::create(options));
  const heed::KeyTurns turns = rope.turns();
  EXPECT_EQ(turns.positions, 32);
  EXPECT_EQ(turns.pairs, 32);
  EXPECT_EQ(turns.angles[0], 1);  // cos 0
  const Rope moved = std::move(rope);
  EXPECT_EQ(moved.turns().angles, turns.angles);
  EXPECT_EQ(rope.turns().positions, 0);
  options.read_positions = -1;
  EXPECT_EQ(options.validate().message(), "read_positions is -1, must be 0 to 2147483648");
}

}  // namespace
}  // namespace heed_test::turned_keys_test
