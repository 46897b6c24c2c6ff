/// \file
/// Every loop of this build gives the exact integer sums, in both layouts and whatever the columns.
#include "ternary/ternary.hpp"

namespace heed_test::product_test {
namespace {

using Sums = std::vector<std::int32_t>;

template <class T, class L>
struct Kind {
  using Loops = T;
  using Layout = L;
};
template <class T>
using Packed2 = Kind<T, heed::TwoBit>;
template <class T>
using Packed5 = Kind<T, heed::FiveTrits>;

using Kinds = testing::Types<
#if defined(__AVX2__)
    Packed2<heed::TernaryAvx2>, Packed5<heed::TernaryAvx2>,
#endif
#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
    Packed2<heed::TernaryVnni256>, Packed5<heed::TernaryVnni256>,
#endif
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
    Packed2<heed::TernaryVnni512>, Packed5<heed::TernaryVnni512>,
#endif
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
    Packed2<heed::TernaryNeon>, Packed5<heed::TernaryNeon>,
#endif
#if defined(__AVX__)  // GCC does not return such vectors otherwise
    Packed2<heed::TernaryLanes<8>>, Packed5<heed::TernaryLanes<8>>,
#endif
#if defined(__AVX512F__)
    Packed2<heed::TernaryLanes<16>>, Packed5<heed::TernaryLanes<16>>,
#endif
    Packed2<heed::TernaryLanes<4>>, Packed5<heed::TernaryLanes<4>>, Packed2<heed::TernaryScalar>,
    Packed5<heed::TernaryScalar>>;

constexpr Index all_cols[] = {1, 2, 15, 16, 17, 19, 20, 21, 96, 333, 4096, 6912, 13824};

/// 32 rows: all 1, all -1, alternating, halves, zeros, random.
oracle::TernaryWeights hard_weights(Index cols) {
  oracle::Random random(std::uint64_t(cols) + 1);
  auto weights = random_weights(random, 32, cols);
  for (Index c = 0; c < cols; ++c) {
    const int pattern[] = {1, -1, c % 2 == 0 ? 1 : -1, c < cols / 2 ? 1 : -1, 0};
    for (Index r = 0; r < Index(std::size(pattern)); ++r)
      weights.w[std::size_t(r * cols + c)] = std::int8_t(pattern[r]);
  }
  return weights;
}

/// 12 tokens: extremes, which -128 belongs to although no quantiser makes it, and random ones.
Trits hard_tokens(Index cols) {
  oracle::Random random(std::uint64_t(cols) + 2);
  Trits q;
  for (int t = 0; t < 12; ++t) {
    for (Index c = 0; c < cols; ++c) {
      const int pattern[] = {127, -128, -127, c % 2 == 0 ? 127 : -128, c < cols / 2 ? -128 : 127, 0};
      q.push_back(std::int8_t(t < 6 ? pattern[t] : int(random.below(256)) - 128));
    }
  }
  return q;
}

/// What the loops of a kind make of a group, called as they are documented. Operands start at odd addresses.
template <class K>
class Group {
  using T = typename K::Loops;
  using L = typename K::Layout;

 public:
  Group(const oracle::TernaryWeights& weights, const Trits& q)
      : cols_(weights.cols), blocks_(L::blocks(cols_)), q_(q), want_(oracle::integer_products(q, weights)) {
    const auto matrix = matrix_of<L>(weights);
    packed_.assign(1, std::byte{0xee});
    packed_.insert(packed_.end(), matrix.group(0), matrix.group(0) + blocks_ * L::block_bytes);
    panel_.assign(std::size_t(1 + blocks_ * L::block_cols * 32), 0xee);
    T::template unpack<L>(packed(), blocks_, panel_.data() + 1);
  }

  [[nodiscard]] const std::byte* packed() const { return packed_.data() + 1; }
  [[nodiscard]] Index blocks() const { return blocks_; }
  [[nodiscard]] const std::uint8_t* panel() const { return panel_.data() + 1; }

  /// Tokens [first, first + count) as [quads][count][4].
  [[nodiscard]] Trits laid(Index first, Index count) const {
    Trits to(std::size_t(1 + blocks_ * L::block_cols * count), 0);
    for (Index t = 0; t < count; ++t) {
      for (Index c = 0; c < cols_; ++c) {
        to[std::size_t(1 + c / 4 * 4 * count + 4 * t + c % 4)] = q_[std::size_t((first + t) * cols_ + c)];
      }
    }
    return to;
  }
  [[nodiscard]] Index sum_of_token(Index t) const {
    Index sum = 0;
    for (Index c = 0; c < cols_; ++c) sum += q_[std::size_t(t * cols_ + c)];
    return sum;
  }

  void expect_sums(const Sums& acc, Index first, Index count, const std::string& what) const {
    ASSERT_EQ(Index(acc.size()), 32 * count + 2) << what;
    ASSERT_EQ(acc.front(), guard) << what;
    ASSERT_EQ(acc.back(), guard) << what;
    for (Index t = 0; t < count; ++t) {
      const Index sum = sum_of_token(first + t);
      for (Index r = 0; r < 32; ++r) {
        ASSERT_EQ(acc[std::size_t(1 + 32 * t + r)] - sum, want_[std::size_t((first + t) * 32 + r)])
            << what << ": " << cols_ << " columns, token " << first + t << ", row " << r;
      }
    }
  }
  [[nodiscard]] static Sums sums(Index count) { return Sums(std::size_t(32 * count + 2), guard); }

 private:
  static constexpr std::int32_t guard = 0x5a5a5a5a;

  Index cols_, blocks_;
  Trits q_;
  std::vector<oracle::Int> want_;
  std::vector<std::byte> packed_;
  std::vector<std::uint8_t> panel_;
};

template <class K>
class TernaryProduct : public testing::Test {};
TYPED_TEST_SUITE(TernaryProduct, Kinds);

TYPED_TEST(TernaryProduct, RowsOfOneToken) {
  for (const Index cols : all_cols) {
    const Group<TypeParam> group(hard_weights(cols), hard_tokens(cols));
    for (Index t = 0; t < 8; ++t) {
      auto acc = group.sums(1);
      const Trits q = group.laid(t, 1);
      TypeParam::Loops::template rows<typename TypeParam::Layout>(group.packed(), group.blocks(), q.data() + 1,
                                                                  acc.data() + 1);
      ASSERT_NO_FATAL_FAILURE(group.expect_sums(acc, t, 1, "rows"));
    }
  }
}

TYPED_TEST(TernaryProduct, RowsOfFourTokens) {
  using T = typename TypeParam::Loops;
  using L = typename TypeParam::Layout;
  if constexpr (requires(Group<TypeParam> g) { T::template four_rows<L>(g.packed(), 0, nullptr, nullptr); }) {
    for (const Index cols : all_cols) {
      const Group<TypeParam> group(hard_weights(cols), hard_tokens(cols));
      for (const Index first : {0, 4}) {
        auto acc = group.sums(4);
        const Trits q = group.laid(first, 4);
        T::template four_rows<L>(group.packed(), group.blocks(), q.data() + 1, acc.data() + 1);
        ASSERT_NO_FATAL_FAILURE(group.expect_sums(acc, first, 4, "four_rows"));
      }
    }
  }
}

TYPED_TEST(TernaryProduct, TilesOfManyTokens) {
  for (const Index cols : all_cols) {
    const Group<TypeParam> group(hard_weights(cols), hard_tokens(cols));
    for (Index tokens = 4; tokens <= TypeParam::Loops::tile_tokens; tokens += 4) {
      auto acc = group.sums(tokens);
      const Trits q = group.laid(12 - tokens, tokens);
      TypeParam::Loops::tile(group.panel(), group.blocks() * TypeParam::Layout::planes, q.data() + 1, tokens, false,
                             acc.data() + 1);
      ASSERT_NO_FATAL_FAILURE(group.expect_sums(acc, 12 - tokens, tokens, "tile"));
    }
  }
}

TYPED_TEST(TernaryProduct, TilesResume) {
  using T = typename TypeParam::Loops;
  for (const Index cols : {17, 96, 333, 4096}) {
    const Group<TypeParam> group(hard_weights(cols), hard_tokens(cols));
    const Index quads = group.blocks() * TypeParam::Layout::planes;
    for (Index tokens = 4; tokens <= T::tile_tokens; tokens += 4) {
      const Trits q = group.laid(0, tokens);
      for (const Index cut : {Index{1}, quads / 3, quads - 1}) {
        auto acc = group.sums(tokens);
        T::tile(group.panel(), cut, q.data() + 1, tokens, false, acc.data() + 1);
        T::tile(group.panel() + 128 * cut, quads - cut, q.data() + 1 + 4 * tokens * cut, tokens, true, acc.data() + 1);
        ASSERT_NO_FATAL_FAILURE(group.expect_sums(acc, 0, tokens, "resumed at quad " + std::to_string(cut)));
      }
    }
  }
}

TYPED_TEST(TernaryProduct, UnpacksOneCodePerByte) {
  using L = typename TypeParam::Layout;
  for (const Index cols : {1, 17, 333}) {
    const auto weights = hard_weights(cols);
    const Group<TypeParam> group(weights, {});
    for (Index r = 0; r < 32; ++r) {
      for (Index c = 0; c < L::blocks(cols) * L::block_cols; ++c) {
        const int w = c < cols ? weights.w[std::size_t(r * cols + c)] : 0;
        ASSERT_EQ(group.panel()[128 * (c / 4) + 4 * r + c % 4], w + 1) << r << ", " << c;
      }
    }
  }
}

/// The longest rows that a layout takes, with the largest sums that there can be.
TYPED_TEST(TernaryProduct, MostColumns) {
  using T = typename TypeParam::Loops;
  using L = typename TypeParam::Layout;
  constexpr Index cols = L::max_cols;
  const auto all_ones = [](Index, std::span<std::int8_t> to) -> Status {
    std::fill(to.begin(), to.end(), std::int8_t{1});
    return {};
  };
  const auto matrix = heed::value_or_throw(heed::TernaryMatrix<L>::create("weight", 32, cols, 1, all_ones));
  Trits q(std::size_t(4 * matrix.blocks() * L::block_cols), 0);
  const auto expect = [](std::span<const std::int32_t> acc) {
    for (const std::int32_t sum : acc) ASSERT_EQ(sum, -128 * 2 * cols);
  };
  std::fill_n(q.begin(), cols, std::int8_t{-128});
  Sums acc(32);
  T::template rows<L>(matrix.group(0), matrix.blocks(), q.data(), acc.data());
  ASSERT_NO_FATAL_FAILURE(expect(acc));
  if constexpr (requires { T::template four_rows<L>(matrix.group(0), 0, q.data(), acc.data()); }) {
    std::fill_n(q.begin(), 4 * cols, std::int8_t{-128});  // a multiple of 4
    acc.resize(128);
    T::template four_rows<L>(matrix.group(0), matrix.blocks(), q.data(), acc.data());
    ASSERT_NO_FATAL_FAILURE(expect(acc));
  }
}

/// Several groups, tokens in tiles, and columns that are cut into panels.
TYPED_TEST(TernaryProduct, WholeMatrices) {
  using T = typename TypeParam::Loops;
  using L = typename TypeParam::Layout;
  oracle::Random random(5);
  for (const auto& [rows, cols, tokens] : {std::tuple<Index, Index, Index>{1, 1, 1},
                                           {33, 40, 2},
                                           {40, 40, 3},
                                           {70, 21, 5},
                                           {31, 100, 12},
                                           {65, 33, 13},
                                           {5, 33000, 1},
                                           {5, 33000, 4},
                                           {5, 33000, 17}}) {
    const auto weights = random_weights(random, rows, cols, 1);
    const auto matrix = matrix_of<L>(weights);
    const heed::detail::TokenTiles<T> tiles{tokens, L::blocks(cols) * L::block_cols};
    Trits q, laid(std::size_t(tiles.bytes()), 0);
    std::vector<heed::detail::QuantizedRow> scales(std::size_t(tokens), {.scale = 0.5f, .sum = 0});
    for (Index t = 0; t < tokens; ++t) {
      for (Index c = 0; c < cols; ++c) {
        q.push_back(std::int8_t(random.below(255) - 127));
        laid[std::size_t(tiles.offset(t) + c / 4 * 4 * tiles.tile_of(t) + c % 4)] = q.back();
        scales[std::size_t(t)].sum += q.back();
      }
    }
    Floats y(std::size_t(tokens * rows), nan_float);
    heed::Workspace scratch;
    heed::check(scratch.reserve(std::size_t(heed::detail::ProductScratch<T, L>{tiles}.bytes())));
    heed::detail::ternary_product<T>(matrix, tiles, {laid.data(), scales.data()}, 0, matrix.groups(), y.data(),
                                     scratch.data());
    const auto want = oracle::integer_products(q, weights);
    for (std::size_t i = 0; i < y.size(); ++i) {
      ASSERT_EQ(y[i], 0.5f * float(want[i])) << rows << " x " << cols << ", " << tokens << " tokens, number " << i;
    }
  }
}

}  // namespace
}  // namespace heed_test::product_test
