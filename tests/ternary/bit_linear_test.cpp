/// \file
/// BitLinear: the oracle's numbers, and the same bits alone and together, for any workers, backend and layout.
#include "ternary/ternary.hpp"

namespace heed_test::bit_linear_test {
namespace {

constexpr Index token_counts[] = {1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 16, 17, 24, 31, 32, 33};

template <class B, class L, class E>
Floats output(const heed::BitLinear<L>& linear, const Floats& x, E& executor) {
  Floats y(x.size() / std::size_t(linear.in()) * std::size_t(linear.out()), nan_float);
  heed::Workspace workspace;
  heed::check(heed::bit_linear<B>(linear, x, y, workspace, executor));
  return y;
}
template <class B, class L>
Floats output(const heed::BitLinear<L>& linear, const Floats& x) {
  heed::SerialExecutor executor;
  return output<B>(linear, x, executor);
}

TEST(BitLinear, RandomShapes) {
  oracle::Random random(1);
  for (int repeat = 0; repeat < 24; ++repeat) {
    const Index out = 1 + random.below(200), in = 1 + random.below(200);
    RandomLinear linear(random, out, in, repeat % 3 != 0, float(std::exp(random.gaussian())));
    linear.eps = repeat % 2 == 0 ? 1e-6 : 1e-8;
    const Index tokens = 1 + random.below(20);
    Floats x = random.gaussians(tokens * in, std::exp(3 * random.gaussian()));
    if (repeat % 4 == 0) std::fill_n(x.begin(), in, 0.0f);
    with_every_form([&]<class B, class L>(const std::string& form) {
      SCOPED_TRACE(form + ": " + std::to_string(out) + " of " + std::to_string(in));
      ASSERT_NO_FATAL_FAILURE(expect_products(output<B>(linear.make<L>(), x), oracle::doubles(x), linear.exact()));
    });
  }
}

TEST(BitLinear, EveryFormGivesTheSameBits) {
  oracle::Random random(2);
  for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 1}, {33, 17}, {96, 160}, {200, 333}}) {
    const Index out = rows, in = cols;
    const RandomLinear linear(random, out, in);
    for (const Index tokens : token_counts) {
      const Floats x = random.gaussians(tokens * in);
      const Floats want = output<heed::Scalar>(linear.make<heed::TwoBit>(), x);
      with_every_form([&]<class B, class L>(const std::string& form) {
        ASSERT_TRUE(same_bits(output<B>(linear.make<L>(), x), want))
            << form << ": " << out << " of " << in << ", " << tokens << " tokens";
      });
    }
  }
}

TEST(BitLinear, TokensAloneAreTokensTogether) {
  oracle::Random random(3);
  for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 5}, {40, 96}, {67, 131}}) {
    const Index out = rows, in = cols;
    const RandomLinear linear(random, out, in, out != 40);
    const Floats x = random.gaussians(33 * in);
    with_every_form([&]<class B, class L>(const std::string& form) {
      const auto layer = linear.make<L>();
      Floats alone;
      for (Index t = 0; t < 33; ++t) {
        const Floats y = output<B>(layer, rows_of(x, t, 1, in));
        alone.insert(alone.end(), y.begin(), y.end());
      }
      for (const Index tokens : token_counts) {
        ASSERT_TRUE(same_bits(output<B>(layer, rows_of(x, 0, tokens, in)), rows_of(alone, 0, tokens, out)))
            << form << ": " << tokens << " tokens";
      }
    });
  }
}

TEST(BitLinear, WorkersChangeNothing) {
  oracle::Random random(4);
  const RandomLinear wide(random, 700, 60), long_rows(random, 40, 3000);
  for (const Index workers : {1, 2, 3, 7}) {
    auto pool = heed::value_or_throw(heed::ThreadPool::create(workers));
    for (const RandomLinear* linear : {&wide, &long_rows}) {
      for (const Index tokens : {1, 3, 4, 5, 12, 29}) {
        const Floats x = random.gaussians(tokens * linear->weights.cols);
        with_every_form([&]<class B, class L>(const std::string& form) {
          const auto layer = linear->make<L>();
          ASSERT_TRUE(same_bits(output<B>(layer, x, *pool), output<B>(layer, x)))
              << form << ": " << workers << " workers, " << tokens << " tokens";
        });
      }
    }
  }
}

/// Layers that quantise alike share it, others do not, and neither changes a bit.
TEST(BitLinear, SeveralOutputsOfOneInput) {
  oracle::Random random(5);
  const Index in = 77;
  std::vector<RandomLinear> linears;
  for (const Index out : {40, 1, 64, 100, 33, 8, 200, 31}) linears.emplace_back(random, out, in, out != 1);
  linears[2].gain = linears[0].gain;  // the same norm
  linears[3].gain = linears[0].gain;  // but for eps
  linears[3].eps = 1e-1;
  linears[5].gain.clear();
  auto pool = heed::value_or_throw(heed::ThreadPool::create(3));
  for (const Index tokens : {1, 2, 4, 6, 13}) {
    const Floats x = random.gaussians(tokens * in, 0.1);
    with_every_form([&]<class B, class L>(const std::string& form) {
      std::vector<heed::BitLinear<L>> layers;
      for (const RandomLinear& linear : linears) layers.push_back(linear.make<L>());
      std::list<Floats> ys;
      std::vector<heed::BitLinearOutput<L>> outputs;
      for (const auto& layer : layers) {
        ys.emplace_back(std::size_t(tokens * layer.out()), nan_float);
        outputs.push_back({&layer, ys.back()});
      }
      heed::Workspace workspace;
      heed::check(heed::bit_linear<B>(std::span<const heed::BitLinearOutput<L>>(outputs), x, workspace, *pool));
      auto y = ys.begin();
      for (const auto& layer : layers) ASSERT_TRUE(same_bits(*y++, output<B>(layer, x))) << form << ": " << layer.out();
    });
  }
}

/// Two layers with the same weights and norm, one of which rounds halves away from zero.
TEST(BitLinear, OutputsThatRoundDifferently) {
  const auto weights = oracle::TernaryWeights{.rows = 1, .cols = 4, .w = {0, 1, 0, 0}, .scale = 1};
  const auto layer = [&](heed::Rounding rounding) {
    return heed::value_or_throw(
        heed::BitLinear<>::create("weight", matrix_of<heed::TwoBit>(weights), {}, {.rounding = rounding}));
  };
  const auto even = layer(heed::Rounding::half_even), away = layer(heed::Rounding::half_away);
  Floats y(2, nan_float);
  const heed::BitLinearOutput<heed::TwoBit> outputs[] = {{&even, std::span(y).first(1)}, {&away, std::span(y).last(1)}};
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  heed::check(heed::bit_linear<Backend>(std::span<const heed::BitLinearOutput<heed::TwoBit>>(outputs),
                                        Floats{127, 2.5f, 0, 0}, workspace, executor));
  EXPECT_EQ(y, (Floats{2, 3}));
}

TEST(BitLinear, EpsOfTheInnerNorm) {
  oracle::Random random(6);
  RandomLinear linear(random, 8, 16);
  const Floats x = random.gaussians(3 * 16, 1e-4);  // its mean square, 1e-8, is between the two
  Floats y[2];
  for (const int i : {0, 1}) {
    linear.eps = i == 0 ? 1e-6 : 1e-8;
    y[i] = output<Backend>(linear.make<heed::TwoBit>(), x);
    ASSERT_NO_FATAL_FAILURE(expect_products(y[i], oracle::doubles(x), linear.exact()));
  }
  EXPECT_NE(y[0], y[1]);
  linear.eps = 1e-6;
  const auto by_default = heed::value_or_throw(
      heed::BitLinear<>::create("weight", matrix_of<heed::TwoBit>(linear.weights), vector_of(linear.gain)));
  EXPECT_TRUE(same_bits(output<Backend>(by_default, x), y[0]));
}

TEST(BitLinear, FromFloatsIsFromTheirTernaryWeights) {
  oracle::Random random(7);
  const Floats master = random.gaussians(20 * 30, 0.02), gain = random.gaussians(30), x = random.gaussians(5 * 30);
  const heed::Tensor tensor{master, 20, 30};
  const auto direct = heed::BitLinear<>::create("w", tensor, 20, 30, vector_of(gain));
  const auto matrix = heed::value_or_throw(heed::ternary_from_floats("w", tensor));
  const auto values = values_of(matrix);
  const auto twice = heed::BitLinear<>::create(
      "w", heed::value_or_throw(heed::ternary_from_values("w", values, 20, 30, matrix.scale())), vector_of(gain));
  ASSERT_TRUE(direct.ok() && twice.ok());
  EXPECT_TRUE(same_bits(output<Backend>(*direct, x), output<Backend>(*twice, x)));
  EXPECT_EQ(direct->bytes(), heed::TwoBit::bytes(20, 30) + 30 * 4);
  EXPECT_EQ(direct->in(), 30);
  EXPECT_EQ(direct->out(), 20);
}

/// A number that is not finite makes its token NaN, in every output, and no other token.
TEST(BitLinear, NanStaysInItsToken) {
  oracle::Random random(8);
  for (const bool normed : {false, true}) {
    const RandomLinear linear(random, 35, 50, normed);
    for (const Index tokens : {1, 3, 4, 6, 14}) {
      for (const float bad : {nan_float, inf_float, -inf_float}) {
        const Floats good = random.gaussians(tokens * 50);
        const Index token = random.below(tokens);
        Floats x = good;
        x[std::size_t(token * 50 + random.below(50))] = bad;
        with_every_form([&]<class B, class L>(const std::string& form) {
          const auto layer = linear.make<L>();
          const Floats y = output<B>(layer, x), want = output<B>(layer, good);
          for (Index i = 0; i < tokens * 35; ++i) {
            const float got = y[std::size_t(i)];
            ASSERT_TRUE(i / 35 == token ? std::isnan(got) : got == want[std::size_t(i)]) << form << ": " << i;
          }
        });
      }
    }
  }
}

/// x and y are not aligned, and what is beside them is neither read nor written.
TEST(BitLinear, AnyAddress) {
  oracle::Random random(9);
  const RandomLinear linear(random, 37, 45);
  heed::SerialExecutor executor;
  for (const Index tokens : {1, 2, 4, 5, 12, 14}) {
    const Floats aligned = random.gaussians(tokens * 45);
    with_every_form([&]<class B, class L>(const std::string& form) {
      const auto layer = linear.make<L>();
      const Floats want = output<B>(layer, aligned);
      Floats x(aligned.size() + 2, nan_float), y(want.size() + 2, -77.0f);
      std::copy(aligned.begin(), aligned.end(), x.begin() + 1);
      heed::Workspace workspace;
      heed::check(heed::bit_linear<B>(layer, std::span(x).subspan(1, aligned.size()),
                                      std::span(y).subspan(1, want.size()), workspace, executor));
      ASSERT_TRUE(same_bits(rows_of(y, 1, Index(want.size()), 1), want)) << form;
      ASSERT_EQ(y.front(), -77.0f) << form;
      ASSERT_EQ(y.back(), -77.0f) << form;
    });
  }
}

TEST(BitLinear, NoTokens) {
  oracle::Random random(10);
  const auto layer = RandomLinear(random, 5, 6).make<heed::TwoBit>();
  heed::Workspace workspace(std::span<std::byte>{});
  heed::SerialExecutor executor;
  EXPECT_TRUE(heed::bit_linear<Backend>(layer, std::span<const float>(), std::span<float>(), workspace, executor).ok());
}

/// The caller's memory suffices or not, and if not, nothing is written.
TEST(BitLinear, WorkspaceOfTheCaller) {
  oracle::Random random(11);
  const RandomLinear linear(random, 40, 50);
  heed::SerialExecutor executor;
  alignas(64) static std::byte memory[1 << 16];
  for (const Index tokens : {1, 3, 5, 13}) {
    const Floats x = random.gaussians(tokens * 50);
    with_every_form([&]<class B, class L>(const std::string&) {
      const auto layer = linear.make<L>();
      const auto bytes = std::size_t(heed::detail::bit_linear_bytes<B, L>(50, 1, tokens, 1));
      ASSERT_LT(bytes + 64, sizeof memory);
      std::fill_n(memory, bytes + 64, std::byte{0xa5});
      Floats y(std::size_t(tokens * 40), -77.0f);
      heed::Workspace small{std::span(memory).first(bytes - 1)}, enough{std::span(memory).first(bytes)};
      expect_failure(heed::bit_linear<B>(layer, x, y, small, executor), StatusCode::out_of_memory,
                     "workspace has " + std::to_string(bytes - 1) + " bytes, this call needs " + std::to_string(bytes));
      ASSERT_EQ(y, Floats(y.size(), -77.0f));
      heed::check(heed::bit_linear<B>(layer, x, y, enough, executor));
      ASSERT_TRUE(same_bits(y, output<B>(layer, x)));
      for (std::size_t i = 0; i < 64; ++i) ASSERT_EQ(memory[bytes + i], std::byte{0xa5});
    });
  }
}

TEST(BitLinearErrors, Calls) {
  oracle::Random random(12);
  const auto layer = RandomLinear(random, 5, 6).make<heed::TwoBit>(),
             other = RandomLinear(random, 5, 7).make<heed::TwoBit>();
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  const Floats x(12, 1.0f);
  Floats y(11, -77.0f), z(10, -77.0f);
  expect_invalid(heed::bit_linear<Backend>(layer, x, y, workspace, executor),
                 "y has 11 numbers, must have 10 for 2 tokens");
  expect_invalid(heed::bit_linear<Backend>(layer, std::span(x).first(11), z, workspace, executor),
                 "x has 11 numbers, must have 6 for 1 token");
  using Output = heed::BitLinearOutput<heed::TwoBit>;
  const auto several = [&](const std::vector<Output>& outputs) {
    return heed::bit_linear<Backend>(std::span<const Output>(outputs), x, workspace, executor);
  };
  expect_invalid(several({}), "outputs has 0 entries, must have 1 .. 8");
  expect_invalid(several(std::vector<Output>(9, {&layer, z})), "outputs has 9 entries, must have 1 .. 8");
  expect_invalid(several({{&layer, z}, {&other, y}}), "outputs[1] has in 7, the first one 6");
  expect_invalid(several({{&layer, z}, {&layer, y}}), "y has 11 numbers, must have 10 for 2 tokens");
  EXPECT_EQ(z, Floats(10, -77.0f));
  EXPECT_EQ(y, Floats(11, -77.0f));
}

TEST(BitLinearErrors, Layers) {
  oracle::Random random(13);
  const auto matrix = [&] { return matrix_of<heed::TwoBit>(random_weights(random, 4, 6)); };
  const Floats gain(6, 1.0f), master(24, 1.0f);
  const auto with = [&](const heed::Tensor& norm, double eps = 1e-6) {
    return heed::BitLinear<>::create("w", matrix(), norm, {.norm_eps = eps}).status();
  };
  expect_invalid(with({gain, 1, 5}), "w has shape [1, 5], must be [1, 6]");
  expect_invalid(with({gain, 6, 1}), "w has shape [6, 1], must be [1, 6]");
  expect_invalid(with({std::span(gain).first(5), 1, 6}), "w has 5 numbers, must have 6");
  expect_invalid(with(vector_of(gain), -1), "w: norm_eps is -1, must be a finite number of at least 0");
  expect_invalid(with(vector_of(gain), std::nan("")), "w: norm_eps is nan, must be a finite number of at least 0");
  EXPECT_TRUE(with(vector_of(gain), 0).ok());
  expect_invalid(heed::BitLinear<>::create("w", {master, 4, 6}, 6, 4).status(), "w has shape [4, 6], must be [6, 4]");
  expect_invalid(heed::BitLinear<>::create("w", {std::span(master).first(23), 4, 6}, 4, 6).status(),
                 "w has 23 numbers, must have 24");
}

}  // namespace
}  // namespace heed_test::bit_linear_test
