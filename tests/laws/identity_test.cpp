// Identities of attention that hold bit for bit.
#include "laws/problem.hpp"
#include "laws/sources.hpp"

namespace heed_test::identity_test {
namespace {

class BitwiseIdentity : public Laws {};
HEED_FOR_ALL_KERNELS(BitwiseIdentity);

constexpr AttentionShape grouped{.heads = 9, .kv_heads = 3, .key_dim = 40, .value_dim = 24};

/// Rows [tokens][heads][dim] with every head `times` times.
std::vector<float> repeated(const std::vector<float>& rows, Index dim, Index times) {
  std::vector<float> all;
  for (auto row = rows.begin(); row != rows.end(); row += dim) {
    for (Index i = 0; i < times; ++i) all.insert(all.end(), row, row + dim);
  }
  return all;
}

TEST_P(BitwiseIdentity, GroupedIsMultiHeadWithRepeatedRows) {
  for (const Index queries : {1, 5, 30}) {
    const Problem p = gaussian(grouped, queries, 300, 1);
    Problem wide = p;
    wide.shape.mechanism = Mechanism::mha;
    wide.shape.kv_heads = 9;
    wide.k = repeated(p.k, p.shape.key_dim, 3);
    wide.v = repeated(p.v, p.shape.value_dim, 3);
    EXPECT_TRUE(run(subject(), p) == run(subject(), wide)) << p;
  }
}

TEST_P(BitwiseIdentity, MultiHeadAndMultiQueryAreGrouped) {
  for (const Mechanism mechanism : {Mechanism::mha, Mechanism::mqa}) {
    for (const Index queries : {1, 20}) {
      const Problem p = gaussian({.mechanism = mechanism, .heads = 6, .key_dim = 20, .value_dim = 33}, queries, 290, 2);
      Problem same = p;
      same.shape.mechanism = Mechanism::gqa;
      EXPECT_TRUE(run(subject(), p) == run(subject(), same)) << p;
    }
  }
}

TEST_P(BitwiseIdentity, ValueViewIsValueCopy) {
  if (!subject().shares()) GTEST_SKIP() << "keys and values have different codecs";
  for (const auto& [k, v] : {std::pair<Index, Index>{40, 24}, {17, 17}, {72, 1}}) {
    for (const Index queries : {1, 20}) {
      const Problem p =
          gaussian({.mechanism = Mechanism::shared_row, .heads = 6, .kv_heads = 2, .key_dim = k, .value_dim = v},
                   queries, 270, 3);
      Problem copied = p;
      copied.shape.mechanism = Mechanism::gqa;
      EXPECT_TRUE(run(subject(), p) == run(subject(), copied)) << p;
    }
  }
}

TEST_P(BitwiseIdentity, AppendingOneByOneOrTruncatingIsBulk) {
  for (const Mechanism mechanism : mechanisms()) {
    const Problem p =
        gaussian({.mechanism = mechanism, .heads = 6, .kv_heads = 2, .key_dim = 12, .value_dim = 7}, 3, 270, 4);
    const Output bulk = run(subject(), p);
    const auto rows = [](const std::vector<float>& all, Index first, Index count, Index width) {
      return std::span(all).subspan(std::size_t(first * width), std::size_t(count * width));
    };
    const auto append = [&](Cache& cache, Index first, Index count) {
      cache.append(rows(p.k, first, count, p.k_row()), rows(p.v, first, count, p.v_row()));
    };
    const auto one_by_one = subject().storage.cache(p.shape);
    for (Index t = 0; t < p.keys; ++t) append(*one_by_one, t, 1);
    EXPECT_TRUE(bulk == run(subject(), p, *one_by_one->keys())) << p;

    const auto rolled_back = subject().storage.cache(p.shape);
    append(*rolled_back, 0, 260);
    for (const Index kept : {259, 257, 256, 255, 31, 0}) {
      rolled_back->truncate(kept);
      append(*rolled_back, 7, 3);  // rejected drafts
      rolled_back->truncate(kept);
      append(*rolled_back, kept, p.keys - kept);
      EXPECT_TRUE(bulk == run(subject(), p, *rolled_back->keys())) << p << " kept " << kept;
    }
  }
}

TEST_P(BitwiseIdentity, EverySourceOfTheSameRows) {
  oracle::Random random(5);
  for (const Index queries : {1, 7, 20}) {
    const Problem p = gaussian(grouped, queries, 520, 5);
    const auto cache = filled(subject(), p);
    const auto keys = cache->keys();
    const Output want = run(subject(), p, *keys);
    for (const Index page : {1, 8, 16, 64, 100, 300}) {
      EXPECT_TRUE(want == run(subject(), p, Paged(*keys, page))) << p << " page " << page;
    }
    for (int i = 0; i < 5; ++i) {
      const StridedRows strided(subject(), p, random);
      EXPECT_TRUE(want == run(subject(), p, strided.keys())) << p;
      EXPECT_TRUE(want == run(subject(), p, Paged(strided.keys(), 16))) << p;
    }
  }
}

/// Masks that say `partial` about everything do more work, and the same work.
TEST_P(BitwiseIdentity, CoverageIsOnlySpeed) {
  for (const auto& [queries, keys] : {std::pair<Index, Index>{1, 700}, {9, 700}, {70, 300}, {33, 33}}) {
    Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 20}, queries, keys, 6);
    for (const auto& [honest, ignorant] : {std::pair{causal(), ignorant_causal()},
                                           {window(20), ignorant_window(20)},
                                           {window(300), ignorant_window(300)},
                                           {holes(3), ignorant_holes(3)},
                                           {holes(4), ignorant_holes(4)}}) {
      p.mask = honest;
      const Output want = run(subject(), p);
      p.mask = ignorant;
      EXPECT_TRUE(want == run(subject(), p)) << p;
    }
  }
}

/// A window inside a long cache: the masked chunks change nothing, whether they are skipped or looked at.
TEST_P(BitwiseIdentity, WindowIsTheMaskedWhole) {
  for (const Index width : {1, 100, 256, 257, 513}) {
    Problem p = gaussian({.heads = 4, .kv_heads = 2, .key_dim = 16, .value_dim = 20}, 3, 1500, 7);
    p.mask = window(width);
    const Output skipped = run(subject(), p);
    p.mask = ignorant_window(width);
    const Output masked = run(subject(), p);
    EXPECT_TRUE(skipped == masked) << p;
    // Poisoned rows outside every window are as good as absent.
    for (Index j = 0; j < (p.keys - width - 2) * p.k_row(); ++j) p.k[std::size_t(j)] = nan;
    for (Index j = 0; j < (p.keys - width - 2) * p.v_row(); ++j) p.v[std::size_t(j)] = nan;
    EXPECT_TRUE(skipped == run(subject(), p)) << p;
  }
}

/// More keys later, all masked, are as good as absent: the tree for S keys is a prefix of the tree for more.
TEST_P(BitwiseIdentity, LaterKeysDoNotMatter) {
  const Problem whole = gaussian({.heads = 2, .kv_heads = 1, .key_dim = 8, .value_dim = 8}, 1, 2600, 8);
  for (const Index keys : {1, 255, 256, 257, 700, 768, 769, 1025, 1281, 1793, 2049}) {
    Problem part = whole;
    part.keys = keys;
    part.k.resize(std::size_t(keys * part.k_row()));
    part.v.resize(std::size_t(keys * part.v_row()));
    Problem asked_late = whole;
    asked_late.query_positions = {keys - 1};
    EXPECT_TRUE(run(subject(), part) == run(subject(), asked_late)) << part;
  }
}

TEST_P(BitwiseIdentity, ScalingValuesByPowersOfTwo) {
  for (const Index queries : {1, 20}) {
    const Problem p = gaussian(grouped, queries, 300, 9);
    const Output want = run(subject(), p);
    for (const float factor : {0x1p-6f, 4.0f, 0x1p9f}) {
      // f16 has few exponents: the smallest values lose bits when they are stored.
      if (subject().value_codec() == "f16" && factor < 1) continue;
      Problem scaled = p;
      for (float& x : scaled.v) x *= factor;
      Output got = run(subject(), scaled);
      for (float& x : got.out) x /= factor;
      EXPECT_TRUE(want == got) << p << " times " << factor;
    }
  }
}

TEST_P(BitwiseIdentity, LseIsOptional) {
  const Problem p = gaussian(grouped, 4, 300, 10);
  const Output want = run(subject(), p);
  const auto cache = filled(subject(), p);
  const auto keys = cache->keys();
  std::vector<float> out(want.out.size());
  heed::Workspace workspace;
  const Call call{keys.get(), p.mask.ref(), p.q, out};
  ASSERT_TRUE(subject().attend(p.shape, {&call, 1}, workspace, workers(1), {}).ok());
  EXPECT_TRUE(out == want.out);
}

}  // namespace
}  // namespace heed_test::identity_test
