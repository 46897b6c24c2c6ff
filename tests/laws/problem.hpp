/// \file
/// One sequence of random numbers, its answer, and how a kernel is asked for it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include <heed/exec/serial.hpp>
#include <heed/exec/thread_pool.hpp>

#include "laws/masks.hpp"
#include "laws/subject.hpp"
#include "oracle/bound.hpp"
#include "oracle/random.hpp"

namespace heed_test {

inline constexpr float infinity = std::numeric_limits<float>::infinity();
inline constexpr float nan = std::numeric_limits<float>::quiet_NaN();

struct Problem {
  AttentionShape shape;
  Index queries = 1;
  Index keys = 1;
  std::vector<float> q = {};  ///< [queries][heads][key_dim]
  std::vector<float> k = {};  ///< [keys][kv_heads][key_dim]
  std::vector<float> v = {};  ///< [keys][kv_heads][value_dim]; with shared rows what `k` says
  AnyMask mask = causal();
  float soft_cap = 0;
  std::vector<float> slopes = {}, sinks = {};
  std::vector<Index> query_positions = {};
  double deviation = 1;  ///< of the logits

  [[nodiscard]] heed::AttendOptions options() const {
    return {.soft_cap = soft_cap, .alibi_slopes = slopes, .sink_logits = sinks};
  }
  [[nodiscard]] Index k_row() const { return shape.kv_heads * shape.key_dim; }
  [[nodiscard]] Index v_row() const { return shape.kv_heads * shape.value_dim; }
  [[nodiscard]] Index q_row() const { return shape.heads * shape.key_dim; }
  [[nodiscard]] Index out_row() const { return shape.heads * shape.value_dim; }
};

inline std::ostream& operator<<(std::ostream& out, const Problem& p) {
  static constexpr const char* names[] = {"gqa", "mha", "mqa", "mfa", "shared_row", "mfa_kr", "mla", "mla_expanded"};
  return out << names[int(p.shape.mechanism)] << " heads " << p.shape.heads << "/" << p.shape.kv_heads << " dims "
             << p.shape.key_dim << "," << p.shape.value_dim << " queries " << p.queries << " keys " << p.keys
             << " mask " << p.mask.name() << (p.soft_cap > 0 ? " cap" : "") << (p.slopes.empty() ? "" : " alibi")
             << (p.sinks.empty() ? "" : " sinks") << (p.query_positions.empty() ? "" : " positions");
}

/// Values are the first value_dim numbers of each key row.
inline void share_rows(Problem& p) {
  if (!shares_rows(p.shape.mechanism)) return;
  p.v.clear();
  for (Index row = 0; row < p.keys * p.shape.kv_heads; ++row) {
    const auto from = p.k.begin() + row * p.shape.key_dim;
    p.v.insert(p.v.end(), from, from + p.shape.value_dim);
  }
}

/// Gaussian numbers with logits of standard deviation `deviation`.
[[nodiscard]] inline Problem gaussian(AttentionShape shape, Index queries, Index keys, std::uint64_t seed,
                                      double deviation = 1) {
  oracle::Random random(seed);
  if (shape.mechanism == Mechanism::mha) shape.kv_heads = shape.heads;
  if (has_one_kv_head(shape.mechanism)) shape.kv_heads = 1;
  if (shares_rows(shape.mechanism)) shape.value_dim = std::min(shape.value_dim, shape.key_dim);
  if (shape.mechanism == Mechanism::mfa || shape.mechanism == Mechanism::mfa_kr) shape.value_dim = shape.key_dim;
  shape.scale = float(deviation / std::sqrt(double(shape.key_dim)));
  Problem p{.shape = shape, .queries = queries, .keys = keys, .deviation = deviation};
  p.q = random.gaussians(queries * p.q_row());
  p.k = random.gaussians(keys * p.k_row());
  p.v = random.gaussians(keys * p.v_row());
  share_rows(p);
  return p;
}

/// One of these mechanisms in random widths up to 40, with fewer than `queries` queries and `keys` keys.
[[nodiscard]] inline Problem random_problem(oracle::Random& random, const std::vector<Mechanism>& all, Index queries,
                                            Index keys, std::uint64_t seed) {
  return gaussian({.mechanism = all[std::size_t(random.below(Index(all.size())))],
                   .heads = 4,
                   .kv_heads = 2,
                   .key_dim = 1 + random.below(40),
                   .value_dim = 1 + random.below(40)},
                  random.below(queries), random.below(keys), seed);
}

/// How rows of a codec are rounded.
[[nodiscard]] inline auto* rounding_of(const std::string& codec) {
  return codec == "bf16" ? oracle::round_to_bf16 : codec == "f16" ? oracle::round_to_f16 : +[](double x) { return x; };
}
[[nodiscard]] inline double rounded(double x, const std::string& codec) { return rounding_of(codec)(x); }
inline void round_all(std::vector<double>& numbers, const std::string& codec) {
  auto* const round = rounding_of(codec);
  for (double& x : numbers) x = round(x);
}

/// The answer for the numbers as `subject` stores them, in float64. `key_positions` may have holes.
[[nodiscard]] inline oracle::Answer answer(const Subject& subject, const Problem& p,
                                           std::vector<Index> key_positions = {}) {
  oracle::Problem o{.heads = p.shape.heads,
                    .kv_heads = p.shape.kv_heads,
                    .key_dim = p.shape.key_dim,
                    .value_dim = p.shape.value_dim,
                    .scale = p.shape.scale,
                    .q = oracle::doubles(p.q),
                    .k = oracle::doubles(p.k),
                    .v = oracle::doubles(p.v),
                    .visible = p.mask.visible(),
                    .soft_cap = p.soft_cap,
                    .slopes = oracle::doubles(p.slopes),
                    .sinks = oracle::doubles(p.sinks),
                    .query_positions = p.query_positions,
                    .key_positions = std::move(key_positions)};
  round_all(o.k, subject.key_codec());
  round_all(o.v, subject.value_codec());
  if (!subject.has_default_math()) {  // math::Bf16 rounds what is not bf16
    for (auto* const numbers : {&o.q, &o.k, &o.v}) round_all(*numbers, "bf16");
  }
  return oracle::attention(o);
}

/// oracle::worst_output() and oracle::worst_lse() with the bound of the subject's math. That of math::Bf16 is widened by the
/// rounding of keys that a preparation makes: tests/math has the bound itself.
/// \{
[[nodiscard]] inline double worst_output(const Subject& subject, std::span<const float> got, const oracle::Answer& want,
                                         double eps_out = oracle::eps32, double floor = 0) {
  if (subject.has_default_math()) return oracle::worst_output(got, want, eps_out, floor);
  if (got.size() != want.o.size()) return infinity;
  const std::size_t value_dim = want.lse.empty() ? 1 : want.o.size() / want.lse.size();
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double permitted =
        eps_out * std::abs(want.o[i]) + floor + (0x1p-6 + 0x1p-7 * want.logit_size[i / value_dim]) * want.abs_values[i];
    worst = std::max(worst, oracle::ratio(double(got[i]), want.o[i], permitted));
  }
  return worst;
}
[[nodiscard]] inline double worst_lse(const Subject& subject, std::span<const float> got, const oracle::Answer& want) {
  if (subject.has_default_math()) return oracle::worst_lse(got, want);
  if (got.size() != want.lse.size()) return infinity;
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double permitted = oracle::eps32 * 8 * std::abs(want.lse[i]) + 0x1p-7 * (1 + want.logit_size[i]);
    const bool empty = want.lse[i] == -oracle::infinity && got[i] == -infinity;
    worst = std::max(worst, empty ? 0 : oracle::ratio(double(got[i]), want.lse[i], permitted));
  }
  return worst;
}
/// \}

struct Output {
  std::vector<float> out, lse;

  /// The same bits.
  friend bool operator==(const Output& a, const Output& b) { return same(a.out, b.out) && same(a.lse, b.lse); }

 private:
  static bool same(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
  }
};

/// Pools live as long as the program: starting threads is slow.
[[nodiscard]] inline AnyExecutor workers(Index count) {
  static heed::SerialExecutor serial;
  static std::vector<std::unique_ptr<heed::ThreadPool>> pools;
  if (count <= 1) return AnyExecutor(serial);
  for (auto& pool : pools) {
    if (pool->workers() == count) return AnyExecutor(*pool);
  }
  pools.push_back(heed::value_or_throw(heed::ThreadPool::create(count)));
  return AnyExecutor(*pools.back());
}

/// What `subject` answers, on `keys`; NaN wherever it wrote nothing.
[[nodiscard]] inline Output run(const Subject& subject, const Problem& p, const Source& keys, Index threads = 1) {
  Output result{std::vector<float>(std::size_t(p.queries * p.out_row()), nan),
                std::vector<float>(std::size_t(p.queries * p.shape.heads), nan)};
  heed::Workspace workspace;
  const Call call{&keys, p.mask.ref(), p.q, result.out, result.lse, p.query_positions};
  const heed::Status status = subject.attend(p.shape, {&call, 1}, workspace, workers(threads), p.options());
  EXPECT_TRUE(status.ok()) << status.message() << " " << p;
  return result;
}

/// The same by a plan.
[[nodiscard]] inline Output run_planned(const Subject& subject, const Problem& p, const Source& keys,
                                        Index threads = 1) {
  Output result{std::vector<float>(std::size_t(p.queries * p.out_row()), nan),
                std::vector<float>(std::size_t(p.queries * p.shape.heads), nan)};
  heed::Workspace workspace;
  const Call call{&keys, p.mask.ref(), p.q, result.out, result.lse, p.query_positions};
  const heed::Status status =
      subject.storage.attend_planned(subject.kernel, p.shape, {&call, 1}, workspace, workers(threads), p.options());
  EXPECT_TRUE(status.ok()) << status.message() << " " << p;
  return result;
}

/// A cache that holds the problem's keys.
[[nodiscard]] inline std::unique_ptr<Cache> filled(const Subject& subject, const Problem& p) {
  auto cache = subject.storage.cache(p.shape);
  if (p.keys > 0) cache->append(p.k, p.v);
  return cache;
}

/// The same from a cache.
[[nodiscard]] inline Output run(const Subject& subject, const Problem& p, Index threads = 1) {
  const auto cache = filled(subject, p);
  return run(subject, p, *cache->keys(), threads);
}

/// Worst |a - b| in units of eps32 sum_j p_j |v_j|; NaN counts as infinite.
[[nodiscard]] inline double distance(const std::vector<float>& a, const std::vector<float>& b,
                                     const oracle::Answer& sizes) {
  if (a.size() != b.size() || a.size() != sizes.abs_values.size()) return oracle::infinity;
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, oracle::units(a[i], b[i], sizes.abs_values[i]));
  return worst;
}

/// A law that holds for every kernel.
class Laws : public testing::TestWithParam<Subject> {
 protected:
  [[nodiscard]] static const Subject& subject() { return GetParam(); }
  [[nodiscard]] static bool slow() { return subject().name().starts_with("scalar"); }
  /// Mechanisms this kernel can be asked for.
  [[nodiscard]] static std::vector<Mechanism> mechanisms() { return mechanisms_of(subject().shares()); }
};

struct SubjectName {
  std::string operator()(const testing::TestParamInfo<Subject>& subject) const { return subject.param.name(); }
};

// One line per test file; a macro, because gtest registers suites by the name of a class in the file.
#define HEED_FOR_ALL_KERNELS(Suite) INSTANTIATE_TEST_SUITE_P(All, Suite, testing::ValuesIn(subjects()), SubjectName{})

}  // namespace heed_test
