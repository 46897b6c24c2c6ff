// Kills mutants of math::Bf16: the vectors of this build against the definition, and the definition itself.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include <heed/math/bf16.hpp>
#include <heed/math/f32.hpp>
#include <heed/simd/backends.hpp>

#include "mutants/expect.hpp"

namespace {

using heed::Index;
using heed::Interval;
using M = heed::math::Bf16;
using Vectors = M::On<heed::DefaultBackend>;
using Definition = M::On<heed::Scalar>;

constexpr Index count = 64, width = 71, rows = 9, dims = 64;

/// Bf16 rows of some numbers.
struct Rows {
  std::vector<std::uint16_t> stored;
  std::vector<const std::byte*> row;
  explicit Rows(std::uint32_t seed) : stored(std::size_t(count * 128)) {
    for (auto& number : stored) {
      seed = seed * 1664525u + 1013904223u;
      number = heed::Bf16::from_float(float(seed >> 8) * 0x1p-23f - 1);
    }
    for (Index k = 0; k < count; ++k) row.push_back(reinterpret_cast<const std::byte*>(stored.data() + k * 128));
  }
  [[nodiscard]] heed::KeyRows view() const { return {.row = row.data(), .count = count}; }
};

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void definition() {
  const auto sum = [](float start, std::uint32_t a, std::uint32_t b) {
    return heed::detail::dot_pairs(start, {a}, {b});
  };
  killer::expect(sum(0, 0x00003f80, 0x00000001) == 0, "definition", "a subnormal operand counts as 0");
  killer::expect(sum(0, 0x00000080, 0x00003f00) == 0, "definition", "a subnormal result counts as 0");
  // 2^60 + 1 - 2^60: 1 is lost if it is added second.
  killer::expect(sum(0x1p60f, 0xdd803f80, 0x3f803f80) == 1, "definition", "the upper number is added first");
  killer::expect(std::signbit(sum(-0.0f, 0, 0x80008000)), "definition", "a hidden value changes no sum");
}

void scores() {
  const Rows keys(1);
  std::vector<float> numbers(std::size_t(rows * width)), want(std::size_t(rows * 256)), got(want.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = std::sin(float(i));
  constexpr Index pairs = (width + 1) / 2;
  std::vector<heed::Bf16Pair> q(std::size_t(rows * pairs)), panel(std::size_t(pairs * 64));
  Definition::queries(numbers.data(), rows, width, q.data());
  Definition::score_rows<heed::Bf16>(q.data(), pairs, rows, keys.view(), width, 0.5f, want.data());
  Vectors::score_rows<heed::Bf16>(q.data(), pairs, rows, keys.view(), width, 0.5f, got.data());
  killer::expect(same(want, got), "scores", "rows in place");
  Vectors::pack_keys<heed::Bf16>(keys.view(), width, panel.data());
  Vectors::score_panel(q.data(), pairs, rows, panel.data(), width, count, 0.5f, got.data(), {});
  killer::expect(same(want, got), "scores", "packed panels");
}

void outputs() {
  const Rows values(2);
  std::vector<heed::Bf16Weight> p(std::size_t(rows * 256));
  std::vector<float> plain(p.size());
  for (std::size_t i = 0; i < p.size(); ++i) {
    plain[i] = std::abs(std::sin(float(i))) * 0x1p-8f;
    p[i].bits = heed::Bf16::from_float(plain[i]);
  }
  std::vector<float> out[2] = {std::vector<float>(std::size_t(rows * dims)),
                               std::vector<float>(std::size_t(rows * dims))};
  std::vector<heed::RowTarget> target[2];
  for (int i = 0; i < 2; ++i) {
    target[i].resize(std::size_t(rows));
    for (Index r = 0; r < rows; ++r) target[i][std::size_t(r)].out = out[i].data() + r * dims;
    for (auto& to : target[i]) to.normalise = 1;
  }
  const Interval odd{3, 60};  // begins inside a pair
  Definition::accumulate_rows<heed::Bf16>(p.data(), rows, values.view(), odd, 0, dims, target[0].data(), {});
  Vectors::accumulate_rows<heed::Bf16>(p.data(), rows, values.view(), odd, 0, dims, target[1].data(), {});
  killer::expect(same(out[0], out[1]), "outputs", "rows in place");
  std::vector<heed::Bf16Pair> panel(32 * 64);
  Vectors::pack_values<heed::Bf16>(values.view(), 0, dims, panel.data());
  Vectors::accumulate_panel(p.data(), rows, panel.data(), odd, 0, dims, target[1].data(), {}, {});
  killer::expect(same(out[0], out[1]), "outputs", "packed panels");

  heed::Scalar::accumulate_rows<heed::Bf16>(plain.data(), rows, values.view(), odd, 0, dims, target[0].data(), {});
  heed::DefaultBackend::accumulate_rows<heed::Bf16>(plain.data(), rows, values.view(), odd, 0, dims, target[1].data(),
                                                    {});
  killer::expect(same(out[0], out[1]), "outputs", "of math f32");
}

void weights() {
  std::vector<float> s(256), again;
  for (std::size_t i = 0; i < s.size(); ++i) s[i] = std::sin(float(i)) * 3;
  again = s;
  std::vector<heed::Bf16Weight> want(256), got(256);
  const heed::ChunkSum a = Definition::softmax(s.data(), 250, want.data());
  const heed::ChunkSum b = Vectors::softmax(again.data(), 250, got.data());
  killer::expect(a.sum == b.sum && std::memcmp(want.data(), got.data(), 512) == 0, "weights", "of vectors");
  double sum = 0, worst = 0;
  for (Index k = 0; k < 250; ++k) {
    const double weight = double(float(want[std::size_t(M::weight_place(k))]));
    sum += weight;
    worst = std::max(worst, std::abs(weight * 256 / std::exp(double(std::sin(float(k))) * 3 - double(a.max)) - 1));
  }
  killer::expect(std::abs(sum / double(a.sum) - 1) < 1e-6, "weights", "the sum is that of the rounded ones");
  killer::expect(worst < 0.01, "weights", "lie where weight_place() says");
}

}  // namespace

int main() {
  definition();
  scores();
  outputs();
  weights();
  return killer::failures == 0 ? 0 : 1;
}
