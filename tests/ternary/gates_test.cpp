/// \file
/// Gates of every backend against float64, and the same bits as the scalar ones wherever a number stands.
#include "oracle/mlgru.hpp"
#include "ternary/ternary.hpp"

namespace heed_test::gates_test {
namespace {

template <class B>
class Gates : public testing::Test {};
/// Every backend, and xsimd's registers where they are not the widest.
#if HEED_HAS_XSIMD && defined(__AVX512F__)
using Backends = heed::Backends::With<heed::Xsimd<xsimd::avx2>, heed::Xsimd<xsimd::sse2>>;
#elif HEED_HAS_XSIMD && defined(__AVX__)
using Backends = heed::Backends::With<heed::Xsimd<xsimd::sse2>>;
#else
using Backends = heed::Backends;
#endif
using GatesOf = Backends::As<testing::Types>;
TYPED_TEST_SUITE(Gates, GatesOf);

// exp is good to 2 units of 2^-23 (tests/simd); 1 / (1 + e) adds two roundings, e times that another one, and gates two
// more. Below exp(-87) a gate is zero.
constexpr double relative = 6 * 0x1p-23, absolute = 1.2e-38;

/// Numbers of all sizes, zeros of both signs, and what exp overflows for.
Floats inputs() {
  oracle::Random random(1);
  Floats x{0.0f, -0.0f, 1e-45f, -1e-45f, 17, -17, 80, -80, 87, -87, 88, -88, 89, -89, 1e4f, -1e4f, 3e38f, -3e38f};
  for (const double size : {1e-6, 0.1, 1.0, 4.0, 30.0}) {
    const Floats more = random.gaussians(200, size);
    x.insert(x.end(), more.begin(), more.end());
  }
  return x;
}

using Zip = void (*)(const float*, const float*, Index, float*);

/// out = gate(a) * b within the bound of float64, for every a of inputs().
void expect_gate(Zip zip, double (*gate)(double)) {
  oracle::Random random(2);
  const Floats a = inputs(), b = random.gaussians(Index(a.size()));
  Floats out(a.size(), nan_float);
  zip(a.data(), b.data(), Index(a.size()), out.data());
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double want = gate(double(a[i])) * double(b[i]);
    if (std::abs(want) > 3.4e38) continue;
    const double tolerance = relative * std::abs(want) + absolute * (1 + std::abs(double(a[i])));
    ASSERT_TRUE(std::abs(double(out[i]) - want) <= tolerance) << a[i] << " times " << b[i] << ": " << out[i];
  }
}

TYPED_TEST(Gates, Sigmoid) { expect_gate(TypeParam::Gates::sigmoid_times, oracle::sigmoid); }
TYPED_TEST(Gates, Swish) { expect_gate(TypeParam::Gates::swish_times, oracle::silu); }
TYPED_TEST(Gates, ReluSquared) {
  expect_gate(TypeParam::Gates::relu_squared_times, [](double x) { return x > 0 ? x * x : 0; });
}

TYPED_TEST(Gates, OfZeros) {
  for (const float zero : {0.0f, -0.0f}) {
    const float two = 2;
    float out = nan_float;
    TypeParam::Gates::sigmoid_times(&zero, &two, 1, &out);
    EXPECT_EQ(out, 1.0f);
    TypeParam::Gates::swish_times(&zero, &two, 1, &out);
    EXPECT_EQ(out, 0.0f);
    EXPECT_EQ(std::signbit(out), std::signbit(zero));
    TypeParam::Gates::relu_squared_times(&zero, &two, 1, &out);
    EXPECT_EQ(out, 0.0f);
  }
}

/// sigmoid is 0 and 1 far out, never beyond.
TYPED_TEST(Gates, SigmoidFarOut) {
  const Floats x{-3e38f, -1e4f, -200, 200, 1e4f, 3e38f}, ones(6, 1.0f);
  Floats out(6, nan_float);
  TypeParam::Gates::sigmoid_times(x.data(), ones.data(), 6, out.data());
  EXPECT_EQ(out, (Floats{0, 0, 0, 1, 1, 1}));
}

/// Any length, any number at any place: the bits of the scalar gates. Beyond the end nothing is written.
TYPED_TEST(Gates, AnyLengthHasTheBitsOfScalar) {
  const Floats all = inputs();
  oracle::Random random(3);
  const std::pair<Zip, Zip> zips[] = {{TypeParam::Gates::sigmoid_times, heed::Scalar::Gates::sigmoid_times},
                                      {TypeParam::Gates::swish_times, heed::Scalar::Gates::swish_times},
                                      {TypeParam::Gates::relu_squared_times, heed::Scalar::Gates::relu_squared_times}};
  for (Index n = 0; n <= 40; ++n) {
    const auto first = random.below(std::int64_t(all.size()) - n);
    const Floats a = rows_of(all, first, n, 1), b = random.gaussians(n);
    for (const auto& [zip, scalar] : zips) {
      Floats out(std::size_t(n + 1), -77.0f), want = out;
      zip(a.data(), b.data(), n, out.data());
      scalar(a.data(), b.data(), n, want.data());
      ASSERT_TRUE(same_bits(out, want)) << n;
    }
    for (const bool masked : {false, true}) {
      for (const bool bounded : {false, true}) {
        const Floats forget = random.gaussians(n, 4);
        Floats bound, state = random.gaussians(n + 1), want = state;
        for (Index i = 0; i < n; ++i) bound.push_back(float(random.uniform()));
        const float* const lowest = bounded ? bound.data() : nullptr;
        TypeParam::Gates::gated_mix(a.data(), forget.data(), lowest, masked, n, state.data());
        heed::Scalar::Gates::gated_mix(a.data(), forget.data(), lowest, masked, n, want.data());
        ASSERT_TRUE(same_bits(state, want)) << n;
      }
    }
  }
}

TYPED_TEST(Gates, OutputsMayBeInputs) {
  const Floats a = inputs();
  oracle::Random random(4);
  const Floats b = random.gaussians(Index(a.size()));
  Floats out(a.size(), nan_float), in_a = a, in_b = b;
  const Index n = Index(a.size());
  TypeParam::Gates::swish_times(a.data(), b.data(), n, out.data());
  TypeParam::Gates::swish_times(in_a.data(), b.data(), n, in_a.data());
  TypeParam::Gates::swish_times(a.data(), in_b.data(), n, in_b.data());
  EXPECT_TRUE(same_bits(in_a, out));
  EXPECT_TRUE(same_bits(in_b, out));
}

TYPED_TEST(Gates, NanComesThrough) {
  for (const Zip zip :
       {TypeParam::Gates::sigmoid_times, TypeParam::Gates::swish_times, TypeParam::Gates::relu_squared_times}) {
    for (Index at = 0; at < 20; ++at) {
      Floats a(20, 1.0f), out(20, 0.0f);
      const Floats ones(20, 1.0f);
      a[std::size_t(at)] = nan_float;
      zip(a.data(), ones.data(), 20, out.data());
      for (Index i = 0; i < 20; ++i) ASSERT_EQ(std::isnan(out[std::size_t(i)]), i == at);
      zip(ones.data(), a.data(), 20, out.data());
      for (Index i = 0; i < 20; ++i) ASSERT_EQ(std::isnan(out[std::size_t(i)]), i == at);
    }
  }
}

/// One step of the state. f and 1 - f are good to `relative` of 1, whatever their size.
TYPED_TEST(Gates, MlgruStep) {
  oracle::Random random(5);
  const Index n = 300;
  for (const bool masked : {false, true}) {
    for (const bool bounded : {false, true}) {
      const Floats input = random.gaussians(n, 3), forget = random.gaussians(n, 6), before = random.gaussians(n);
      Floats bound, state = before;
      for (Index i = 0; i < n; ++i) bound.push_back(float(random.uniform()));
      TypeParam::Gates::gated_mix(input.data(), forget.data(), bounded ? bound.data() : nullptr, masked, n,
                                  state.data());
      for (std::size_t i = 0; i < std::size_t(n); ++i) {
        const double lowest = bounded ? double(bound[i]) : 0;
        const double f = lowest + (1 - lowest) * oracle::sigmoid(double(forget[i]));
        const double swish = masked ? 0 : oracle::silu(double(input[i])), h = double(before[i]);
        const double tolerance = relative * (std::abs(h) + 2 * std::abs(swish));
        ASSERT_TRUE(std::abs(double(state[i]) - (f * h + swish * (1 - f))) <= tolerance) << i;
      }
    }
  }
}

TYPED_TEST(Gates, MlgruFarOut) {
  const Floats input{5, 5, 5, -3e38f}, forget{-1e4f, 1e4f, 0, -1e4f};
  Floats state{2, 2, 2, 2};
  TypeParam::Gates::gated_mix(input.data(), forget.data(), nullptr, false, 4, state.data());
  EXPECT_TRUE(std::abs(double(state[0]) - oracle::silu(5)) <= 1e-6);
  EXPECT_EQ(state[1], 2.0f);
  EXPECT_TRUE(std::abs(double(state[2]) - (1 + oracle::silu(5) / 2)) <= 1e-6);
  EXPECT_EQ(state[3], 0.0f);
}

/// A NaN of any operand makes the number's state NaN, but a masked input does not count.
TYPED_TEST(Gates, MlgruNan) {
  for (int operand = 0; operand < 4; ++operand) {
    for (const bool masked : {false, true}) {
      Floats operands[4];
      for (Floats& numbers : operands) numbers.assign(21, 0.5f);
      operands[operand][17] = nan_float;
      TypeParam::Gates::gated_mix(operands[0].data(), operands[1].data(), operands[2].data(), masked, 21,
                                  operands[3].data());
      for (std::size_t i = 0; i < 21; ++i) {
        ASSERT_EQ(std::isnan(operands[3][i]), i == 17 && (operand != 0 || !masked)) << operand << ": " << i;
      }
    }
  }
}

}  // namespace
}  // namespace heed_test::gates_test
