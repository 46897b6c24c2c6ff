// Floats at their ends and sizes at the ends of 64 bits, for the state of a softmax and for options of policies and
// layers.
#include "extremes/numbers.hpp"

#include <cfloat>
#include <cmath>
#include <vector>

namespace heed_test::options_test {
namespace {

using heed::Scalar;

constexpr std::array<float, 14> floats{0.0f,  -0.0f, 1e-45f,  -1e-45f,  1.0f,     -1.0f,     88.0f,
                                       -1e5f, 1e30f, FLT_MAX, -FLT_MAX, INFINITY, -INFINITY, NAN};

TEST(Extremes, MergedResults) {
  for (const float l : floats) {
    for (const float r : floats) {
      SCOPED_TRACE(std::to_string(l) + " and " + std::to_string(r));
      const std::vector<float> a(3, 2.0f), b(3, 4.0f);
      for (const Index width : {smallest, Index{-1}, Index{0}, Index{1}, Index{3}}) {
        std::vector<float> out(3, 9.0f);
        float lse = 0;
        heed::merge_results(l, a.data(), r, b.data(), width, out.data(), &lse);
        const bool no_l = std::isinf(l), no_r = std::isinf(r);
        for (Index i = 0; i < 3; ++i) {
          const float x = out[std::size_t(i)];
          if (i >= width) {
            EXPECT_EQ(x, 9.0f);
          } else if (no_l || no_r) {
            EXPECT_EQ(x, no_l && no_r ? 0.0f : no_l ? 4.0f : 2.0f);
          } else if (std::isnan(l) || std::isnan(r)) {
            EXPECT_TRUE(std::isnan(x));
          } else {
            const double weight = 1 / (1 + std::exp(double(r) - double(l)));
            EXPECT_NEAR(x, 2 * weight + 4 * (1 - weight), 1e-5);
          }
        }
        if (no_l && no_r) {
          EXPECT_EQ(lse, -INFINITY);
        } else if ((!no_l && std::isnan(l)) || (!no_r && std::isnan(r))) {
          EXPECT_TRUE(std::isnan(lse));
        } else if (no_l || no_r) {
          EXPECT_EQ(lse, no_l ? r : l);
        } else {
          EXPECT_TRUE(lse >= std::max(l, r) && lse <= std::max(l, r) + 0.7f) << lse;
        }
      }
    }
  }
}

TEST(Extremes, MergedWeights) {
  for (const float l : floats) {
    for (const float r : floats) {
      for (const float sum : floats) {
        const heed::MergeWeights made = heed::merge_weights({l, sum}, {r, 1.0f});
        std::ignore = made.state.lse();
        if (std::isfinite(l) && std::isfinite(r) && sum >= 1 && sum < 1e30f) {
          EXPECT_NEAR(made.left + made.right, 1.0f, 1e-6f) << l << ' ' << r << ' ' << sum;
          EXPECT_EQ(made.state.max, std::max(l, r));
        }
        if (std::isnan(l) || std::isnan(r) || std::isnan(sum)) {
          EXPECT_TRUE(std::isnan(made.state.sum)) << l << ' ' << r << ' ' << sum;
        }
      }
    }
  }
}

TEST(Extremes, Scales) {
  for_extremes([](Index n) {
    const float scale = heed::default_scale(n);
    const heed::Gqa policy{.num_heads = 1, .num_kv_heads = 1, .head_dim = 2, .scale = scale};
    EXPECT_EQ(policy.validate().ok(), n >= 1);
    expect_said(policy.validate());
  });
  for_extreme_floats([](double factor, double k) {
    const double m = heed::yarn_mscale(factor, k);
    if (factor <= 1) {
      EXPECT_EQ(m, 1);
    } else if (factor < endless && k >= 0 && k < 1e39) {
      EXPECT_TRUE(m >= 1 && m < endless) << m;
    }
  });
}

// What create() accepts gives finite rows.
TEST(Extremes, YarnOptions) {
  for_extreme_floats([](double x, double y) {
    for (int field = 0; field < 6; ++field) {
      heed::Yarn yarn{.factor = 4, .original_max_position = 64};
      (field == 0   ? yarn.factor
       : field == 1 ? yarn.beta_fast
       : field == 2 ? yarn.beta_slow
       : field == 3 ? yarn.mscale
       : field == 4 ? yarn.mscale_all_dim
                    : yarn.factor) = x;
      (field == 5 ? yarn.mscale : yarn.beta_fast) = y;
      for (const double theta : {2.0, x}) {
        const auto rope = heed::Rope::create({.head_dim = 4,
                                              .layout = heed::RopeLayout::half_split,
                                              .theta = theta,
                                              .yarn = yarn,
                                              .table_positions = 64});
        expect_said(rope);
        if (!yarn.validate().ok()) {
          EXPECT_FALSE(rope.ok());
        }
        if (!rope.ok()) continue;
        for (const Index position : extremes) {
          for (const auto direction : {heed::RopeDirection::forward, heed::RopeDirection::inverse}) {
            std::vector<float> row{0.5f, -0.5f, 0.25f, 1.0f};
            rope->apply(position, row.data(), direction);
            for (const float number : row) {
              ASSERT_TRUE(std::isfinite(number))
                  << "field " << field << ' ' << x << ' ' << y << ' ' << theta << ' ' << position;
            }
          }
        }
      }
    }
  });
  for_extremes([](Index dim, Index length) {
    const heed::Yarn yarn{.factor = 4, .original_max_position = length};
    for_extreme_floats([&](double theta) {
      const heed::YarnRange range = yarn.range(dim, theta);
      if (length >= 1 && dim >= 2 && theta > 1 && theta < endless) {
        EXPECT_TRUE(range.low >= 0 && range.low < 1e300 && std::isfinite(range.high)) << range.low << ' ' << range.high;
        const double scaled = yarn.scaled(1.0, dim, range);
        EXPECT_TRUE(scaled >= 0.25 && scaled <= 1) << scaled;
      }
    });
  });
}

TEST(Extremes, RopeOptions) {
  for_extreme_floats([](double theta, double factor) {
    const auto rope = heed::Rope::create({.head_dim = 4,
                                          .layout = heed::RopeLayout::interleaved,
                                          .theta = theta,
                                          .linear_factor = factor,
                                          .table_positions = 64});
    expect_said(rope);
    EXPECT_TRUE(!rope.ok() || (theta > 0 && factor > 0 && theta < endless && factor < endless));
    if (!rope.ok()) return;
    for (const Index position : extremes) {
      std::vector<float> row{0.5f, -0.5f, 0.25f, 1.0f};
      rope->apply(position, row.data());
      for (const float number : row) ASSERT_TRUE(std::isfinite(number)) << theta << ' ' << factor << ' ' << position;
    }
  });
}

TEST(Extremes, RotatedKeys) {
  const auto rope = heed::value_or_throw(
      heed::Rope::create({.head_dim = 4, .layout = heed::RopeLayout::half_split, .theta = 1e4, .table_positions = 64}));
  for_extremes([&](Index heads, Index dim) {
    for (const heed::Rope* turned : {static_cast<const heed::Rope*>(nullptr), &rope}) {
      const heed::Gqa gqa{.num_heads = heads, .num_kv_heads = heads, .head_dim = dim, .scale = 1};
      for (const bool without : {false, true}) {
        const heed::RotatedKeys<heed::Gqa> keys{gqa, turned, without};
        expect_said(keys.validate());
        EXPECT_EQ(keys.validate().ok(), gqa.validate().ok() && without);  // no width of 4 among the extremes
        expect_said(heed::KvCache<heed::RotatedKeys<heed::Gqa>, heed::F32>::create(keys, {.memory = little_memory()}));
      }
      EXPECT_FALSE((heed::MfaKr{.num_heads = heads, .head_dim = dim, .scale = 1, .rope = &rope}.validate().ok()));
      EXPECT_FALSE((heed::Mla{.num_heads = heads,
                              .kv_lora_rank = dim,
                              .qk_rope_head_dim = dim,
                              .qk_nope_head_dim = dim,
                              .v_head_dim = dim,
                              .scale = 1,
                              .rope = &rope}
                        .validate()
                        .ok()));
    }
  });
  // Rows at any position, read by a policy that turns them.
  const heed::RotatedKeys<heed::Mqa> policy{{.num_heads = 1, .head_dim = 4, .scale = 1}, &rope};
  const std::vector<float> rows(8, 0.5f);
  const heed::StridedStream stream{reinterpret_cast<const std::byte*>(rows.data()), 16, 0, 16};
  for_extremes([&](Index first, Index position) {
    const heed::StridedSource<heed::F32> keys(2, stream, stream, first);
    const std::vector<Index> positions{position};
    std::vector<float> q(4, 1.0f), out(4, 9.0f);
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    const heed::Status status =
        heed::attend<Scalar>(policy, q, keys, heed::Unmasked{}, out, workspace, executor, {}, {}, positions);
    expect_said(status);
    for (const float x : out) EXPECT_NEAR(x, status.ok() ? 0.5f : 9.0f, 1e-6f);
  });
}

TEST(Extremes, AttendMla) {
  const std::vector<float> one(1, 0.5f), two(2, 0.5f), rows(16, 0.5f);
  const heed::StridedStream stream{reinterpret_cast<const std::byte*>(rows.data()), 8, 0, 8};
  for_extremes([&](Index heads, Index rank, Index n) {
    for (const bool weights : {false, true}) {
      for (const heed::MlaForm form : {heed::MlaForm::automatic, heed::MlaForm::absorbed, heed::MlaForm::expanded}) {
        heed::Mla mla{.num_heads = heads,
                      .kv_lora_rank = rank,
                      .qk_rope_head_dim = 1,
                      .qk_nope_head_dim = rank,
                      .v_head_dim = rank,
                      .scale = 1};
        if (weights) mla.weights = {one, two};
        std::ignore = mla.row_width();
        std::ignore = mla.qk_head_dim();
        std::ignore = mla.layout();
        const heed::StridedSource<heed::F32> keys(3, stream, stream, n);
        std::vector<float> q(2, 1.0f), out(1, 9.0f);
        heed::Workspace workspace;
        heed::SerialExecutor executor;
        const std::vector<Index> positions{n};
        for (const bool given : {false, true}) {
          const heed::Status status =
              heed::attend_mla<Scalar>(mla, form, q, keys, heed::Unmasked{}, out, workspace, executor, {}, {},
                                       given ? std::span<const Index>(positions) : std::span<const Index>());
          expect_said(status);
          EXPECT_TRUE(!status.ok() || (heads == 1 && rank == 1));
          if (!status.ok()) {
            EXPECT_EQ(out[0], 9.0f);
          }
        }
      }
    }
  });
}

TEST(Extremes, LayoutsOfTheCaller) {
  for_extremes([](Index n, Index m) {
    heed::AttentionLayout layout;
    EXPECT_EQ(layout.heads_per_group(), 0);
    layout.num_heads = n;
    layout.num_kv_heads = m;
    if (n >= 0) {
      EXPECT_EQ(layout.heads_per_group(), m < 1 ? 0 : n / m);
    }
    heed::Mla mla{
        .num_heads = n, .kv_lora_rank = m, .qk_rope_head_dim = n, .qk_nope_head_dim = m, .v_head_dim = n};
    std::ignore = mla.query_map().in_width();
    std::ignore = mla.output_map().out_width();
    std::ignore = heed::MlaExpanded{mla}.layout();
    if (m < 0 || m > 16) return;  // the maps begin behind the first nope key
    const std::vector<float> numbers(16);
    mla.weights = {numbers, numbers};
    std::ignore = mla.query_map().out_width();
    std::ignore = mla.output_map().in_width();
    std::ignore = heed::MlaExpanded{mla}.preparation().rotates_keys();
  });
}

TEST(Extremes, TernaryOptions) {
  const std::vector<float> one(1, 0.5f);
  const heed::Tensor tensor{one, 1, 1};
  const auto linear = [&] { return heed::value_or_throw(heed::BitLinear<>::create("w", tensor, 1, 1)); };
  for_extreme_floats([&](double eps) {
    const bool right = eps >= 0 && std::isfinite(eps);
    for (const heed::Rounding rounding : {heed::Rounding::half_even, heed::Rounding::half_away}) {
      const auto made = heed::BitLinear<>::create("w", tensor, 1, 1, tensor, {eps, rounding});
      EXPECT_EQ(made.ok(), right);
      expect_said(made);
      EXPECT_TRUE(heed::BitLinear<>::create("w", tensor, 1, 1, {}, {eps, rounding}).ok());  // has no norm
      if (!made.ok()) continue;
      for (const float x : floats) {
        float y = 9;
        heed::Workspace workspace;
        heed::SerialExecutor executor;
        ASSERT_TRUE(heed::bit_linear<Scalar>(*made, {&x, 1}, {&y, 1}, workspace, executor).ok());
        // Without an eps the norm of a row of zeros is 0 / 0.
        EXPECT_TRUE(std::isfinite(y) == std::isfinite(x) || eps < 1e-50) << "eps " << eps << " x " << x << " y " << y;
      }
    }
    for (const heed::GateOrder order :
         {heed::GateOrder::norm_gate_swish_h, heed::GateOrder::norm_h_swish_gate, heed::GateOrder::sigmoid_gate}) {
      for (const float bound : floats) {
        const bool norm = order != heed::GateOrder::sigmoid_gate;
        const auto made = heed::Mlgru<>::create({linear(), linear(), linear(), linear()},
                                                norm ? tensor : heed::Tensor(), {&bound, 1}, {order, eps});
        expect_said(made);
        EXPECT_EQ(made.ok(), (right || !norm) && bound >= 0 && bound <= 1);
      }
    }
  });
  for (const float scale : floats) {
    const std::vector<std::int8_t> value(1, 1);
    const auto made = heed::ternary_from_values<>("w", value, 1, 1, scale);
    EXPECT_EQ(made.ok(), scale > 0 && std::isfinite(scale));
    expect_said(made);
    if (!made.ok()) continue;
    const auto other = heed::value_or_throw(heed::with_layout<heed::FiveTrits>("w", *made));
    EXPECT_EQ(other.scale(), scale);
    std::int8_t back = 0;
    other.read_row(0, {&back, 1});
    EXPECT_EQ(back, 1);
  }
  EXPECT_FALSE((heed::with_layout<heed::FiveTrits>("w", heed::TernaryMatrix<heed::TwoBit>()).ok()));
  EXPECT_FALSE(heed::BitGlu<>::create({}, {}).ok());
  EXPECT_FALSE(heed::BitGlu<>::create({}, {}, {}, heed::GluActivation::relu_squared).ok());
  EXPECT_FALSE(heed::BitGlu<>::create(linear(), linear()).ok());  // gate and up are two rows
  EXPECT_FALSE(heed::Mlgru<>::create({}, {}, {}).ok());
}

TEST(Extremes, RoundedUp) {
  for_extremes([](Index n) {
    for (const Index multiple : {Index{1}, Index{3}, Index{64}, largest}) {
      const heed::Count made = round_up(heed::Count(n), multiple);
      if (n >= 0 && made.fits()) {
        EXPECT_GE(made.value(), n);
        EXPECT_EQ(made.value() % multiple, 0);
      }
      EXPECT_TRUE(n >= 0 || !made.fits());
      if (n >= 0 && n <= largest - multiple) {
        EXPECT_EQ(heed::round_up(n, multiple), made.value());
      }
    }
  });
}

TEST(Extremes, PrefixScopes) {
  for_extremes([](Index n, Index m) {
    const heed::PrefixScope a{std::uint64_t(n)}, b{std::uint64_t(m)};
    EXPECT_EQ(a.key() == b.key(), n == m);
    EXPECT_NE(a.key(), heed::PrefixScope().key());
    EXPECT_NE(a.key(), heed::PrefixScope(std::string_view(a.key()).substr(1)).key());
  });
  EXPECT_NE(heed::PrefixScope(std::string_view()).key(), heed::PrefixScope().key());
  EXPECT_NE(heed::PrefixScope(std::string_view("\0", 1)).key(), heed::PrefixScope(std::string_view()).key());
}

}  // namespace
}  // namespace heed_test::options_test
