/// \file
/// MLGRU: float64 step by step, and a scan that is its steps, bit by bit.
#include "oracle/mlgru.hpp"

#include <heed/ternary/mlgru.hpp>

#include "ternary/ternary.hpp"

namespace heed_test::mlgru_test {
namespace {

using heed::GateOrder;

constexpr std::pair<GateOrder, oracle::GateOrder> orders[] = {
    {GateOrder::norm_gate_swish_h, oracle::GateOrder::norm_gate_swish_h},
    {GateOrder::norm_h_swish_gate, oracle::GateOrder::norm_h_swish_gate},
    {GateOrder::sigmoid_gate, oracle::GateOrder::sigmoid_gate}};

/// A random layer as the library takes it.
struct RandomMlgru {
  Index width;
  RandomLinear i, f, g, o;
  Floats g_norm, bound;
  GateOrder order = GateOrder::norm_gate_swish_h;

  RandomMlgru(oracle::Random& random, Index wide, GateOrder gate_order = GateOrder::norm_gate_swish_h,
              bool bounded = true)
      : width(wide),
        i(random, wide, wide, true, 0.2f),
        f(random, wide, wide, true, 0.2f),
        g(random, wide, wide, true, 0.2f),
        o(random, wide, wide, true, 0.2f),
        order(gate_order) {
    for (Index d = 0; d < wide; ++d) {
      if (order != GateOrder::sigmoid_gate) g_norm.push_back(float(1 + 0.3 * random.gaussian()));
      if (bounded) bound.push_back(float(random.uniform()));
    }
  }

  template <class L>
  [[nodiscard]] heed::Mlgru<L> make() const {
    return heed::value_or_throw(heed::Mlgru<L>::create({i.make<L>(), f.make<L>(), g.make<L>(), o.make<L>()},
                                                       vector_of(g_norm), bound, {order, 1e-6}));
  }
};

heed::RecurrentState new_state(Index width, Index undo_tokens = 0) {
  return heed::value_or_throw(heed::RecurrentState::create({.layers = 1, .width = width, .undo_tokens = undo_tokens}));
}

/// y of tokens u, which become part of the state.
template <class B, class L>
Floats forward(const heed::Mlgru<L>& layer, heed::RecurrentState& state, const Floats& u, const Bytes& masked = {}) {
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  auto step = heed::value_or_throw(state.begin(heed::NumTokens(Index(u.size()) / layer.hidden_size())));
  Floats y(u.size(), nan_float);
  heed::check(layer.template forward<B>(u, heed::value_or_throw(step.layer(0)), y, workspace, executor, masked));
  heed::check(step.commit());
  return y;
}
Floats state_of(const heed::RecurrentState& state) { return {state.state(0).begin(), state.state(0).end()}; }

/// Gates are good to 6 units of 2^-23 (gates_test.cpp), states to as much of what they can have summed up.
constexpr double unit = 0x1p-23;

/// The states from the layer's own projections, the outputs from its own states: each is off by its own rounding only.
TEST(Mlgru, IsTheOracleStepByStep) {
  oracle::Random random(1);
  for (const Index width : {1, 5, 32, 75}) {
    for (const auto& [order, exact_order] : orders) {
      for (const bool bounded : {false, true}) {
        const RandomMlgru layer(random, width, order, bounded);
        const Index tokens = 9;
        const Floats u = random.gaussians(tokens * width, 2);
        const auto made = layer.make<heed::TwoBit>();
        Floats projected[3];
        heed::Workspace workspace;
        heed::SerialExecutor executor;
        for (int n = 0; n < 3; ++n) {
          const auto* linear =
              std::array{&made.projections().i, &made.projections().f, &made.projections().g}[std::size_t(n)];
          projected[n].resize(u.size());
          heed::check(heed::bit_linear<Backend>(*linear, u, projected[n], workspace, executor));
        }
        auto state = new_state(width);
        oracle::Numbers gated, exact(std::size_t(width), 0.0), size(std::size_t(width), 0.0);
        Floats y;
        for (Index t = 0; t < tokens; ++t) {
          const Floats one = forward<Backend>(made, state, rows_of(u, t, 1, width));
          y.insert(y.end(), one.begin(), one.end());
          const Floats h = state_of(state);
          for (std::size_t d = 0; d < std::size_t(width); ++d) {
            const std::size_t at = std::size_t(t * width) + d;
            const double lowest = bounded ? double(layer.bound[d]) : 0;
            const double f = lowest + (1 - lowest) * oracle::sigmoid(double(projected[1][at]));
            const double swish = oracle::silu(double(projected[0][at]));
            exact[d] = f * exact[d] + swish * (1 - f);
            size[d] += std::abs(exact[d]) + 2 * std::abs(swish);
            ASSERT_TRUE(std::abs(double(h[d]) - exact[d]) <= 6 * unit * size[d]) << "token " << t << ", number " << d;
          }
          const auto now = oracle::gated(exact_order, oracle::doubles(rows_of(projected[2], t, 1, width)),
                                         oracle::doubles(h), oracle::doubles(layer.g_norm), 1e-6);
          gated.insert(gated.end(), now.begin(), now.end());
        }
        ASSERT_NO_FATAL_FAILURE(expect_products(y, gated, layer.o.exact(), 12 * unit, 127 * 12 * unit));
      }
    }
  }
}

TEST(Mlgru, ScanIsItsSteps) {
  oracle::Random random(2);
  for (const auto& [order, unused] : orders) {
    const RandomMlgru layer(random, 45, order);
    const Index tokens = 21;
    const Floats u = random.gaussians(tokens * 45);
    Floats want, end;  // of the first form, which all others equal
    with_every_form([&]<class B, class L>(const std::string& form) {
      const auto made = layer.make<L>();
      for (int repeat = 0; repeat < 5; ++repeat) {
        auto state = new_state(45);
        Floats y;
        for (Index at = 0; at < tokens;) {
          const Index most = tokens - at;
          const Index count = repeat == 0 ? tokens : repeat == 1 ? 1 : 1 + random.below(std::min<Index>(most, 9));
          const Floats part = forward<B>(made, state, rows_of(u, at, count, 45));
          y.insert(y.end(), part.begin(), part.end());
          at += count;
        }
        if (want.empty()) {
          want = y;
          end = state_of(state);
        }
        ASSERT_TRUE(same_bits(y, want)) << form << ", split " << repeat;
        ASSERT_TRUE(same_bits(state_of(state), end)) << form << ", split " << repeat;
      }
    });
  }
}

TEST(Mlgru, WorkersChangeNothing) {
  oracle::Random random(3);
  const RandomMlgru layer(random, 96);
  const Floats u = random.gaussians(13 * 96);
  const auto made = layer.make<heed::TwoBit>();
  auto serial = new_state(96);
  const Floats want = forward<Backend>(made, serial, u);
  for (const Index workers : {1, 2, 3, 7}) {
    auto pool = heed::value_or_throw(heed::ThreadPool::create(workers));
    auto state = new_state(96);
    auto step = heed::value_or_throw(state.begin(heed::NumTokens(13)));
    heed::Workspace workspace;
    Floats y(want.size(), nan_float);
    heed::check(made.forward<Backend>(u, heed::value_or_throw(step.layer(0)), y, workspace, *pool));
    heed::check(step.commit());
    EXPECT_TRUE(same_bits(y, want)) << workers;
    EXPECT_TRUE(same_bits(state_of(state), state_of(serial))) << workers;
  }
}

/// Padding on the left leaves the state at zero, and the text after it as if there were none.
TEST(Mlgru, LeftPadding) {
  oracle::Random random(4);
  for (const auto& [order, unused] : orders) {
    const RandomMlgru layer(random, 40, order);
    const Floats u = random.gaussians(6 * 40);
    with_every_form([&]<class B, class L>(const std::string& form) {
      const auto made = layer.make<L>();
      auto plain = new_state(40);
      const Floats want = forward<B>(made, plain, u);
      for (const Index padding : {1, 3, 10}) {
        Floats padded = random.gaussians(padding * 40);
        padded.insert(padded.end(), u.begin(), u.end());
        Bytes masked(std::size_t(padding + 6), 0);
        std::fill_n(masked.begin(), padding, std::uint8_t{1});
        auto state = new_state(40);
        const Floats y = forward<B>(made, state, padded, masked);
        ASSERT_TRUE(same_bits(rows_of(y, padding, 6, 40), want)) << form;
        ASSERT_TRUE(same_bits(state_of(state), state_of(plain))) << form;

        auto alone = new_state(40);
        forward<B>(made, alone, rows_of(padded, 0, padding, 40), Bytes(std::size_t(padding), 1));
        ASSERT_EQ(state_of(alone), Floats(40, 0.0f)) << form;
      }
    });
  }
}

/// A masked token has no input, but its forget gate stays: the state shrinks.
TEST(Mlgru, MaskedTokensForget) {
  oracle::Random random(5);
  const RandomMlgru layer(random, 24, GateOrder::norm_gate_swish_h, false);
  const auto made = layer.make<heed::TwoBit>();
  const Floats first = random.gaussians(24), second = random.gaussians(24);
  auto state = new_state(24);
  forward<Backend>(made, state, first);
  const Floats before = state_of(state);
  forward<Backend>(made, state, second, {7});  // anything but 0
  const Floats after = state_of(state);
  Floats forget(24);
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  heed::check(heed::bit_linear<Backend>(made.projections().f, second, forget, workspace, executor));
  for (std::size_t d = 0; d < 24; ++d) {
    const double want = oracle::sigmoid(double(forget[d])) * double(before[d]);
    EXPECT_TRUE(std::abs(double(after[d]) - want) <= 7 * unit * std::abs(want)) << d;
  }
}

/// The states of a step that are kept are those after each of its tokens.
TEST(Mlgru, StatesOfEveryTokenAreKept) {
  oracle::Random random(6);
  const RandomMlgru layer(random, 33);
  const auto made = layer.make<heed::TwoBit>();
  const Floats u = random.gaussians(6 * 33);
  for (const Index undo : {0, 2, 5, 9}) {
    for (Index accepted = std::max<Index>(1, 6 - undo); accepted <= 6; ++accepted) {
      auto want = new_state(33), state = new_state(33, undo);
      forward<Backend>(made, want, rows_of(u, 0, accepted, 33));
      auto step = heed::value_or_throw(state.begin(heed::NumTokens(6)));
      heed::Workspace workspace;
      heed::SerialExecutor executor;
      Floats y(u.size());
      heed::check(made.forward<Backend>(u, heed::value_or_throw(step.layer(0)), y, workspace, executor));
      ASSERT_TRUE(step.commit(accepted).ok());
      ASSERT_TRUE(same_bits(state_of(state), state_of(want))) << accepted << " of 6, undo_tokens " << undo;
    }
  }
}

TEST(Mlgru, YMayBeU) {
  oracle::Random random(7);
  for (const auto& [order, unused] : orders) {
    const RandomMlgru layer(random, 50, order);
    const auto made = layer.make<heed::FiveTrits>();
    for (const Index tokens : {1, 4, 7}) {
      Floats u = random.gaussians(tokens * 50);
      auto state = new_state(50), other = new_state(50);
      const Floats want = forward<Backend>(made, state, u);
      auto step = heed::value_or_throw(other.begin(heed::NumTokens(tokens)));
      heed::Workspace workspace;
      heed::SerialExecutor executor;
      heed::check(made.forward<Backend>(u, heed::value_or_throw(step.layer(0)), u, workspace, executor));
      EXPECT_TRUE(same_bits(u, want));
    }
  }
}

// --- lower bounds -----------------------------------------------------------------------------------------------------

TEST(ForgetLowerBounds, AreTheOracles) {
  oracle::Random random(8);
  for (const Index layers : {1, 2, 24}) {
    for (const double size : {0.0, 1.0, 1e4}) {
      const Floats parameter = random.gaussians(layers * 7, size);
      Floats got(parameter.size(), -1);
      ASSERT_TRUE(heed::forget_lower_bounds(parameter, layers, 7, got).ok());
      const auto want = oracle::lower_bounds(oracle::doubles(parameter), 7);
      ASSERT_EQ(got.size(), want.size());
      for (std::size_t i = 0; i < want.size(); ++i) {
        EXPECT_TRUE(std::abs(double(got[i]) - want[i]) <= 0x1p-24 * want[i] + 1e-14) << i;
        EXPECT_TRUE(got[i] >= 0 && got[i] <= 1) << i;
        if (i < 7) {
          EXPECT_EQ(got[i], 0.0f);
        } else {
          EXPECT_GE(got[i], got[i - 7]);
        }
      }
    }
  }
}

TEST(ForgetLowerBounds, OfZerosAreEvenSteps) {
  for (const Index layers : {1, 2, 24}) {
    const Floats zeros(std::size_t(layers * 3), 0.0f);
    Floats got(zeros.size(), -1);
    ASSERT_TRUE(heed::forget_lower_bounds(zeros, layers, 3, got).ok());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_TRUE(std::abs(double(got[i]) - double(i / 3) / double(layers)) <= 0x1p-24) << i;
    }
  }
}

TEST(ForgetLowerBounds, NameAWrongSize) {
  const Floats six(6);
  Floats five(5, 7.0f), right(6, 7.0f);
  const auto message = [](const heed::Status& status) { return status.message(); };
  EXPECT_EQ(message(heed::forget_lower_bounds(six, 2, 3, five)), "bounds has 5 numbers, must have 6");
  EXPECT_EQ(message(heed::forget_lower_bounds(five, 2, 3, right)), "parameter has 5 numbers, must have 6");
  EXPECT_EQ(message(heed::forget_lower_bounds({}, 0, 3, {})), "layers is 0, must be in 1 .. 65536");
  EXPECT_EQ(message(heed::forget_lower_bounds({}, 2, 0, {})), "width is 0, must be in 1 .. 16777216");
  EXPECT_EQ(five, Floats(5, 7.0f));
  EXPECT_EQ(right, Floats(6, 7.0f));
}

// --- errors ---------------------------------------------------------------------------------------------------------

TEST(MlgruErrors, Layers) {
  oracle::Random random(9);
  const Floats gain(6, 1.0f), bound(6, 0.5f);
  const auto linear = [&](Index out, Index in) { return RandomLinear(random, out, in).make<heed::TwoBit>(); };
  const auto refused = [&](int which, Index out, Index in) {
    heed::MlgruProjections<heed::TwoBit> p{linear(6, 6), linear(6, 6), linear(6, 6), linear(6, 6)};
    (which == 0 ? p.i : which == 1 ? p.f : which == 2 ? p.g : p.o) = linear(out, in);
    return heed::Mlgru<>::create(std::move(p), vector_of(gain), bound).status();
  };
  EXPECT_TRUE(refused(0, 6, 6).ok());
  expect_invalid(refused(0, 5, 6), "i_proj has shape [5, 6], must be [6, 6]");
  expect_invalid(refused(1, 5, 6), "f_proj has shape [5, 6], must be [6, 6]");
  expect_invalid(refused(2, 6, 7), "g_proj has shape [6, 7], must be [6, 6]");
  expect_invalid(refused(3, 12, 6), "o_proj has shape [12, 6], must be [6, 6]");
  EXPECT_EQ(heed::Mlgru<>::create({}, {}, {}).status().code(), StatusCode::invalid_argument);

  const auto with = [&](const Floats& norm, const Floats& lowest, heed::MlgruOptions options = {}) {
    heed::MlgruProjections<heed::TwoBit> p{linear(6, 6), linear(6, 6), linear(6, 6), linear(6, 6)};
    return heed::Mlgru<>::create(std::move(p), vector_of(norm), lowest, options).status();
  };
  EXPECT_TRUE(with(gain, {}).ok());
  EXPECT_TRUE(with({}, {}, {.gate_order = GateOrder::sigmoid_gate}).ok());
  expect_invalid(with({}, bound), "g_norm has shape [0, 0], must be [1, 6]");
  expect_invalid(with(Floats(5, 1.0f), bound), "g_norm has shape [1, 5], must be [1, 6]");
  expect_invalid(with(gain, bound, {.gate_order = GateOrder::sigmoid_gate}),
                 "g_norm has 6 numbers, sigmoid_gate has no norm");
  expect_invalid(with(gain, bound, {.norm_eps = -1}), "g_norm: eps is -1, must be a finite number of at least 0");
  expect_invalid(with(gain, Floats(5, 0.5f)), "lower_bound has 5 numbers, must have 6 for 1 token");
  expect_invalid(with(gain, {0, 0, 0, 0, 0, 1.5f}), "lower_bound has 1.5, must be in 0 .. 1");
  expect_invalid(with(gain, {0, -0.5f, 0, 0, 0, 0}), "lower_bound has -0.5, must be in 0 .. 1");
  expect_invalid(with(gain, {0, 0, nan_float, 0, 0, 0}), "lower_bound has nan, must be in 0 .. 1");
}

TEST(MlgruErrors, CallsWriteNothing) {
  oracle::Random random(10);
  const auto layer = RandomMlgru(random, 6).make<heed::TwoBit>();
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  auto state = new_state(6), wide = new_state(7);
  auto step = heed::value_or_throw(state.begin(heed::NumTokens(2))),
       wide_step = heed::value_or_throw(wide.begin(heed::NumTokens(2)));
  const auto place = heed::value_or_throw(step.layer(0)), other = heed::value_or_throw(wide_step.layer(0));
  const Floats u(12, 1.0f);
  Floats y(12, -77.0f);
  const auto call = [&](std::size_t in, std::size_t out, std::size_t masked, const heed::RecurrentLayer& to) {
    return layer.forward<Backend>(std::span(u).first(in), to, std::span(y).first(out), workspace, executor,
                                  Bytes(masked, 1));
  };
  expect_invalid(call(11, 12, 0, place), "u has 11 numbers, must have 6 for 1 token");
  expect_invalid(call(12, 11, 0, place), "y has 11 numbers, must have 12 for 2 tokens");
  expect_invalid(call(12, 12, 1, place), "masked has 1 number, must have 2 for 2 tokens");
  expect_invalid(call(12, 12, 0, other), "state has width 7, must be hidden_size 6");
  heed::Workspace none(std::span<std::byte>{});
  EXPECT_EQ(layer.forward<Backend>(u, place, y, none, executor).code(), StatusCode::out_of_memory);
  EXPECT_EQ(y, Floats(12, -77.0f));
  EXPECT_TRUE(call(12, 12, 2, place).ok());
}

}  // namespace
}  // namespace heed_test::mlgru_test
