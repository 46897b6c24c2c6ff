// Hooks on logits: those that do nothing change no bit, the library's own biases written as hooks give their bits, and
// what a hook writes for a hidden key is not read.
#include <heed/floats.hpp>

#include "hooks/hooked.hpp"
#include "laws/sources.hpp"

namespace heed_test::logits_test {
namespace {

class LogitHooks : public HookLaws {};
HEED_FOR_ALL_HOOKED(LogitHooks);

AttentionShape shape_of(Mechanism mechanism) {
  return {.mechanism = mechanism, .heads = 6, .kv_heads = 2, .key_dim = 40, .value_dim = 24};
}

Problem with_options(Problem p, bool cap, bool alibi, bool sinks) {
  if (cap) p.soft_cap = 3;
  for (Index h = 0; h < p.shape.heads; ++h) {
    if (alibi) p.slopes.push_back(0.01f * float(h + 1));
    if (sinks) p.sinks.push_back(float(h) - 2);
  }
  return p;
}

/// A split mask: a window of 60 keys, and every seventh key stays visible. Every 16th query is blind to those.
Split split_of(Index tokens) {
  Split mask;
  std::vector<Index> kept;
  for (Index i = 0; i < tokens; ++i) {
    mask.begin.push_back(std::max<Index>(0, i - 59));
    mask.landmark.push_back(i % 7 == 0);
    mask.blind.push_back(i % 16 == 5);
    kept.push_back(i);
  }
  return mask.of(kept);
}

TEST_P(LogitHooks, ThatDoNothingChangeNoBit) {
  for (const Mechanism mechanism : mechanisms()) {
    for (const auto& [queries, keys] : {std::pair<Index, Index>{1, 700}, {3, 257}, {50, 300}, {1, 1}, {2, 0}}) {
      for (const AnyMask& mask :
           {causal(), window(40), unmasked(), holes(1), ignorant_holes(2), split(split_of(keys))}) {
        const bool all = queries != 1;
        Problem p = with_options(gaussian(shape_of(mechanism), std::min(queries, keys), keys, 1), all, all, all);
        p.mask = mask;
        const auto cache = filled(plain(), p);
        const auto rows = cache->keys();
        AnyHooks hooks;
        const Output want = run(plain(), p, *rows);
        EXPECT_TRUE(hooked(hooks, p, *rows) == want) << p;
        EXPECT_TRUE(hooked(hooks, p, *rows, 3) == want) << "three workers " << p;
        EXPECT_TRUE(hooked_planned(hooks, p, *rows) == want) << "planned " << p;
        EXPECT_TRUE(hooked_planned(hooks, p, *rows, 3) == want) << "planned, three workers " << p;
      }
    }
  }
}

/// s <- s - slope * |i - j|, with the float operations of AttendOptions::alibi_slopes.
TEST_P(LogitHooks, AlibiHasItsBits) {
  for (const Mechanism mechanism : mechanisms()) {
    for (const AnyMask& mask : {causal(), window(40), unmasked(), holes(3), split(split_of(600))}) {
      Problem p = with_options(gaussian(shape_of(mechanism), 9, 600, 2), true, true, false);
      p.mask = mask;
      const auto cache = filled(plain(), p);
      const auto rows = cache->keys();
      const Output want = run(plain(), p, *rows);
      const std::vector<float> slopes = p.slopes;
      AnyHooks hooks;
      hooks.after_cap = [&](const heed::LogitChunk& chunk) {
        for (std::size_t i = 0; i < chunk.logits.size(); ++i) {
          const auto distance = float(std::abs(chunk.positions[i] - chunk.row.position));
          chunk.logits[i] = heed::Scalar::fma(-slopes[std::size_t(chunk.row.head)], distance, chunk.logits[i]);
        }
      };
      p.slopes.clear();
      EXPECT_TRUE(hooked(hooks, p, *rows) == want) << p;
      EXPECT_TRUE(hooked_planned(hooks, p, *rows, 3) == want) << "planned " << p;
      EXPECT_FALSE(run(plain(), p, *rows) == want) << "the bias does nothing " << p;
    }
  }
}

/// s <- cap tanh(s / cap), with the loops of the backend.
TEST_P(LogitHooks, SoftCapHasItsBits) {
  for (const Mechanism mechanism : mechanisms()) {
    for (const AnyMask& mask : {causal(), holes(3), split(split_of(600))}) {
      Problem p = with_options(gaussian(shape_of(mechanism), 9, 600, 3), true, true, true);
      p.mask = mask;
      const auto cache = filled(plain(), p);
      const auto rows = cache->keys();
      const Output want = run(plain(), p, *rows);
      const float cap = p.soft_cap;
      AnyHooks hooks;
      hooks.before_cap = [&](const heed::LogitChunk& chunk) {
        float padded[heed::chunk_keys + 16] = {};
        std::copy(chunk.logits.begin(), chunk.logits.end(), padded);
        GetParam().soft_cap(padded, Index(chunk.logits.size()), cap);
        std::copy_n(padded, chunk.logits.size(), chunk.logits.begin());
      };
      p.soft_cap = 0;
      EXPECT_TRUE(hooked(hooks, p, *rows) == want) << p;
      EXPECT_TRUE(hooked_planned(hooks, p, *rows, 3) == want) << "planned " << p;
      EXPECT_FALSE(run(plain(), p, *rows) == want) << "the cap does nothing " << p;
    }
  }
}

/// A hook before the cap is capped, one after it is not.
TEST_P(LogitHooks, StandBeforeAndAfterTheCap) {
  Problem p = with_options(gaussian(shape_of(Mechanism::gqa), 1, 300, 4), true, false, false);
  const auto cache = filled(plain(), p);
  const auto rows = cache->keys();
  const auto add = [](const heed::LogitChunk& chunk) {
    for (float& s : chunk.logits) s += 1000;
  };
  AnyHooks before{.before_cap = add}, after{.after_cap = add};
  const Output capped = hooked(before, p, *rows), shifted = hooked(after, p, *rows);
  for (std::size_t row = 0; row < capped.lse.size(); ++row) {
    EXPECT_NEAR(capped.lse[row], 3 + std::log(300.0f), 1e-3f) << "every logit is the cap";
    EXPECT_GT(shifted.lse[row], 1000);
  }
}

/// A hook is told of every visible key of every row once, finds -inf for the others, and cannot show them.
TEST_P(LogitHooks, HiddenKeysStayHidden) {
  for (const Mechanism mechanism : mechanisms()) {
    for (const AnyMask& mask :
         {causal(), window(40), holes(3), ignorant_holes(4), split(split_of(600)), ignorant_split(split_of(600))}) {
      Problem p = with_options(gaussian(shape_of(mechanism), 9, 600, 5), true, true, true);
      p.mask = mask;
      const oracle::Visible visible = mask.visible();
      const auto cache = filled(plain(), p);
      const auto rows = cache->keys();
      const Index kv_heads = mechanism == Mechanism::mla_expanded ? p.shape.heads : p.shape.kv_heads;
      std::vector<int> seen[2];
      const auto look = [&](std::vector<int>& at, const heed::LogitChunk& chunk) {
        const Index row = chunk.row.query * p.shape.heads + chunk.row.head;
        EXPECT_EQ(chunk.row.position, p.keys - p.queries + chunk.row.query);
        EXPECT_EQ(chunk.row.kv_head, chunk.row.head * kv_heads / p.shape.heads);
        EXPECT_LE(chunk.logits.size(), std::size_t(heed::chunk_keys));
        EXPECT_EQ(chunk.keys.size(), chunk.logits.size());
        EXPECT_EQ(chunk.positions.size(), chunk.logits.size());
        for (std::size_t i = 0; i < chunk.logits.size(); ++i) {
          const Index key = chunk.keys[i];
          EXPECT_EQ(chunk.positions[i], key);
          const bool shown = chunk.logits[i] != -infinity;
          EXPECT_LE(shown, visible(chunk.row.position, key)) << p;
          at[std::size_t(row * p.keys + key)] += shown;
          if (!shown) chunk.logits[i] = i % 2 == 0 ? nan : 1000;
        }
        EXPECT_NE(chunk.logits.size(), 0u);
      };
      AnyHooks hooks{.before_cap = [&](const heed::LogitChunk& chunk) { look(seen[0], chunk); },
                     .after_cap = [&](const heed::LogitChunk& chunk) { look(seen[1], chunk); }};
      for (std::vector<int>& at : seen) at.assign(std::size_t(p.queries * p.shape.heads * p.keys), 0);
      EXPECT_TRUE(hooked(hooks, p, *rows) == run(plain(), p, *rows)) << p;
      for (const std::vector<int>& at : seen) {
        for (Index row = 0; row < p.queries * p.shape.heads; ++row) {
          for (Index key = 0; key < p.keys; ++key) {
            ASSERT_EQ(at[std::size_t(row * p.keys + key)], visible(p.keys - p.queries + row / p.shape.heads, key))
                << "row " << row << " key " << key << " " << p;
          }
        }
      }
    }
  }
}

/// -inf hides a key, and a chunk or a row in which all keys are hidden so is as if it were not there.
TEST_P(LogitHooks, MayHideKeys) {
  Problem p = gaussian(shape_of(Mechanism::gqa), 5, 900, 6);
  const auto cache = filled(plain(), p);
  const auto rows = cache->keys();
  AnyHooks hooks;
  hooks.after_cap = [&](const heed::LogitChunk& chunk) {
    for (std::size_t i = 0; i < chunk.logits.size(); ++i) {
      const Index key = chunk.positions[i];
      if (key % 3 == 0 || key / 256 == 1 || chunk.row.query == 2) chunk.logits[i] = -infinity;
    }
  };
  const Output got = hooked(hooks, p, *rows);
  EXPECT_TRUE(hooked_planned(hooks, p, *rows) == got);
  oracle::Problem o{.heads = 6, .kv_heads = 2, .key_dim = 40, .value_dim = 24, .scale = p.shape.scale};
  o.q = oracle::doubles(p.q);
  o.k = oracle::doubles(p.k);
  o.v = oracle::doubles(p.v);
  for (double& x : o.k) x = rounded(x, plain().key_codec());
  for (double& x : o.v) x = rounded(x, plain().value_codec());
  o.visible = [](oracle::Int query, oracle::Int key) {
    return key <= query && key % 3 != 0 && key / 256 != 1 && query != 897;
  };
  const oracle::Answer want = oracle::attention(o);
  EXPECT_LE(oracle::worst_output(got.out, want), 1);
  EXPECT_LE(oracle::worst_lse(got.lse, want), 1);
}

/// A NaN or +inf that a hook writes reaches its row and no other.
TEST_P(LogitHooks, NanReachesItsRowOnly) {
  const Problem p = gaussian(shape_of(Mechanism::gqa), 5, 300, 7);
  const auto cache = filled(plain(), p);
  const auto rows = cache->keys();
  const Output want = run(plain(), p, *rows);
  for (const float wrong : {nan, infinity}) {
    AnyHooks hooks;
    hooks.before_cap = [&](const heed::LogitChunk& chunk) {
      if (chunk.row.query == 3 && chunk.row.head == 4 && chunk.positions.front() == 0) chunk.logits[7] = wrong;
    };
    const Output got = hooked(hooks, p, *rows);
    for (std::size_t i = 0; i < got.out.size(); ++i) {
      if (i / 24 == 3 * 6 + 4) {
        EXPECT_TRUE(std::isnan(got.out[i]));
      } else {
        EXPECT_EQ(got.out[i], want.out[i]);
      }
    }
  }
}

}  // namespace
}  // namespace heed_test::logits_test
