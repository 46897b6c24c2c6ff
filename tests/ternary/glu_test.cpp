/// \file
/// The gated channel mixer: float64, and both forms of its first projection with the same bits.
#include <heed/ternary/glu.hpp>

#include "oracle/mlgru.hpp"
#include "ternary/ternary.hpp"

namespace heed_test::glu_test {
namespace {

using heed::GluActivation;

/// Gate and up with one scale and one norm, as one projection or as two.
struct RandomGlu {
  Index hidden, inner;
  RandomLinear both, down;

  RandomGlu(oracle::Random& random, Index hidden_size, Index intermediate_size)
      : hidden(hidden_size),
        inner(intermediate_size),
        both(random, 2 * intermediate_size, hidden_size, true, 0.3f),
        down(random, hidden_size, intermediate_size, true, 0.3f) {}

  /// Rows [first, first + inner) of both.
  [[nodiscard]] RandomLinear half(Index first) const {
    RandomLinear made = both;
    made.weights.rows = inner;
    made.weights.w = rows_of(both.weights.w, first, inner, hidden);
    return made;
  }
  template <class L>
  [[nodiscard]] heed::BitGlu<L> as_one() const {
    return heed::value_or_throw(heed::BitGlu<L>::create(both.make<L>(), down.make<L>()));
  }
  template <class L>
  [[nodiscard]] heed::BitGlu<L> as_two(GluActivation activation = GluActivation::swish) const {
    return heed::value_or_throw(
        heed::BitGlu<L>::create(half(0).make<L>(), half(inner).make<L>(), down.make<L>(), activation));
  }
};

template <class B, class L, class E>
Floats output(const heed::BitGlu<L>& layer, const Floats& x, E& executor) {
  Floats y(x.size(), nan_float);
  heed::Workspace workspace;
  heed::check(layer.template forward<B>(x, y, workspace, executor));
  return y;
}
template <class B, class L>
Floats output(const heed::BitGlu<L>& layer, const Floats& x) {
  heed::SerialExecutor executor;
  return output<B>(layer, x, executor);
}

/// float64 from the layer's own gate and up, which bit_linear_test.cpp compares.
TEST(BitGlu, IsTheOracle) {
  oracle::Random random(1);
  for (const auto& [hidden, inner] : {std::pair<Index, Index>{1, 1}, {5, 9}, {32, 48}, {60, 33}}) {
    const RandomGlu layer(random, hidden, inner);
    for (const Index tokens : {1, 3, 14}) {
      const Floats x = random.gaussians(tokens * hidden, 2);
      Floats both(std::size_t(tokens * 2 * inner));
      heed::Workspace workspace;
      heed::SerialExecutor executor;
      heed::check(heed::bit_linear<Backend>(layer.both.make<heed::TwoBit>(), x, both, workspace, executor));
      for (const GluActivation activation : {GluActivation::swish, GluActivation::relu_squared}) {
        oracle::Numbers product;
        for (Index t = 0; t < tokens; ++t) {
          for (Index i = 0; i < inner; ++i) {
            const double gate = both[std::size_t(t * 2 * inner + i)], up = both[std::size_t((t * 2 + 1) * inner + i)];
            const double active = activation == GluActivation::swish ? oracle::silu(gate) : gate > 0 ? gate * gate : 0;
            product.push_back(active * up);
          }
        }
        const auto made = heed::value_or_throw(
            heed::BitGlu<>::create(layer.both.make<heed::TwoBit>(), layer.down.make<heed::TwoBit>(), activation));
        // gates_test.cpp: 6 units; the norm below as much again
        ASSERT_NO_FATAL_FAILURE(
            expect_products(output<Backend>(made, x), product, layer.down.exact(), 12 * 0x1p-23, 127 * 12 * 0x1p-23));
      }
    }
  }
}

TEST(BitGlu, OneProjectionIsTwo) {
  oracle::Random random(2);
  for (const auto& [hidden, inner] : {std::pair<Index, Index>{1, 1}, {40, 64}, {33, 50}}) {
    const RandomGlu layer(random, hidden, inner);
    for (const Index tokens : {1, 2, 5, 17}) {
      const Floats x = random.gaussians(tokens * hidden);
      const Floats want = output<heed::Scalar>(layer.as_one<heed::TwoBit>(), x);
      with_every_form([&]<class B, class L>(const std::string& form) {
        ASSERT_TRUE(same_bits(output<B>(layer.as_one<L>(), x), want)) << form << ", one";
        ASSERT_TRUE(same_bits(output<B>(layer.as_two<L>(), x), want)) << form << ", two";
      });
    }
  }
}

TEST(BitGlu, TokensAloneAreTokensTogether) {
  oracle::Random random(3);
  const RandomGlu layer(random, 30, 44);
  const Floats x = random.gaussians(13 * 30);
  for (const GluActivation activation : {GluActivation::swish, GluActivation::relu_squared}) {
    const auto made = layer.as_two<heed::TwoBit>(activation);
    Floats alone;
    for (Index t = 0; t < 13; ++t) {
      const Floats y = output<Backend>(made, rows_of(x, t, 1, 30));
      alone.insert(alone.end(), y.begin(), y.end());
    }
    EXPECT_TRUE(same_bits(output<Backend>(made, x), alone));
    for (const Index workers : {1, 2, 3, 7}) {
      auto pool = heed::value_or_throw(heed::ThreadPool::create(workers));
      EXPECT_TRUE(same_bits(output<Backend>(made, x, *pool), alone)) << workers;
    }
  }
}

TEST(BitGlu, YMayBeX) {
  oracle::Random random(4);
  const RandomGlu layer(random, 40, 24);
  for (const Index tokens : {1, 6}) {
    Floats x = random.gaussians(tokens * 40);
    for (const auto& made : {layer.as_one<heed::TwoBit>(), layer.as_two<heed::TwoBit>()}) {
      const Floats want = output<Backend>(made, x);
      Floats y = x;
      heed::Workspace workspace;
      heed::SerialExecutor executor;
      heed::check(made.forward<Backend>(y, y, workspace, executor));
      EXPECT_TRUE(same_bits(y, want));
    }
  }
}

TEST(BitGlu, Sizes) {
  oracle::Random random(5);
  const RandomGlu layer(random, 40, 24);
  const auto one = layer.as_one<heed::TwoBit>(), two = layer.as_two<heed::TwoBit>();
  EXPECT_EQ(one.hidden_size(), 40);
  EXPECT_EQ(one.intermediate_size(), 24);
  using L = heed::TwoBit;
  EXPECT_EQ(one.bytes(), L::bytes(48, 40) + L::bytes(40, 24) + (40 + 24) * 4);
  EXPECT_EQ(two.bytes(), 2 * L::bytes(24, 40) + L::bytes(40, 24) + (40 + 40 + 24) * 4);
}

TEST(BitGluErrors, Layers) {
  oracle::Random random(6);
  const auto linear = [&](Index out, Index in) { return RandomLinear(random, out, in).make<heed::TwoBit>(); };
  const auto one = [&](Index out, Index in, Index down_out, Index down_in) {
    return heed::BitGlu<>::create(linear(out, in), linear(down_out, down_in)).status();
  };
  EXPECT_TRUE(one(10, 4, 4, 5).ok());
  expect_invalid(one(9, 4, 4, 5), "gate_proj (gate and up) has shape [9, 4], must be [10, 4]");
  expect_invalid(one(5, 4, 4, 5), "gate_proj (gate and up) has shape [5, 4], must be [10, 4]");
  expect_invalid(one(10, 4, 5, 5), "down_proj has shape [5, 5], must be [4, 5]");
  const auto two = [&](Index out, Index up_out, Index up_in) {
    return heed::BitGlu<>::create(linear(out, 4), linear(up_out, up_in), linear(4, 5), GluActivation::swish).status();
  };
  EXPECT_TRUE(two(5, 5, 4).ok());
  expect_invalid(two(10, 5, 4), "gate_proj has shape [10, 4], must be [5, 4]");
  expect_invalid(two(5, 6, 4), "up_proj has shape [6, 4], must be [5, 4]");
  expect_invalid(two(5, 5, 3), "up_proj has shape [5, 3], must be [5, 4]");
}

TEST(BitGluErrors, CallsWriteNothing) {
  oracle::Random random(7);
  const auto layer = RandomGlu(random, 6, 5).as_one<heed::TwoBit>();
  heed::Workspace workspace, none(std::span<std::byte>{});
  heed::SerialExecutor executor;
  const Floats x(12, 1.0f);
  Floats y(12, -77.0f);
  expect_invalid(layer.forward<Backend>(std::span(x).first(11), y, workspace, executor),
                 "x has 11 numbers, must have 6 for 1 token");
  expect_invalid(layer.forward<Backend>(x, std::span(y).first(6), workspace, executor),
                 "y has 6 numbers, must have 12 for 2 tokens");
  const std::string bytes = std::to_string(layer.scratch_bytes<Backend>(2, 1));
  expect_failure(layer.forward<Backend>(x, y, none, executor), StatusCode::out_of_memory,
                 "workspace has 0 bytes, this call needs " + bytes);
  EXPECT_EQ(y, Floats(12, -77.0f));
}

}  // namespace
}  // namespace heed_test::glu_test
