#include "check.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "oracle/bound.hpp"

namespace bench {
namespace {

bool corrupt = false;
int failure_count = 0;

constexpr Index rows_checked = 3;

}  // namespace

Expected::Expected(const heed::AttentionLayout& layout, std::span<const float> q, Index num_keys, ReadRow read) {
  const Index heads = layout.num_heads, queries = Index(q.size()) / (heads * layout.key_width);
  for (Index i = 0; i < rows_checked; ++i) {
    const Index query = i * (queries - 1) / (rows_checked - 1);
    const Index head = (rows_checked - 1 - i) * (heads - 1) / (rows_checked - 1);
    const Index row = query * heads + head, kv_head = head / layout.heads_per_group();
    oracle::Problem problem{.key_dim = layout.key_width, .value_dim = layout.value_width, .scale = layout.scale};
    const auto q_row = q.subspan(std::size_t(row * layout.key_width), std::size_t(layout.key_width));
    problem.q.assign(q_row.begin(), q_row.end());
    problem.k.resize(std::size_t(num_keys * layout.key_width));
    problem.v.resize(std::size_t(num_keys * layout.value_width));
    for (Index key = 0; key < num_keys; ++key) {
      read(kv_head, key, problem.k.data() + key * layout.key_width, problem.v.data() + key * layout.value_width);
    }
    problem.query_positions = {num_keys - queries + query};
    rows_.push_back({row, oracle::attention(problem)});
  }
}

double worst_error(std::span<const float> got, const oracle::Answer& want, const ErrorBound& bound) {
  if (got.size() != want.o.size()) return oracle::infinity;
  const std::size_t width = want.o.size() / want.lse.size();
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double relative = bound.weights + bound.logits * (1 + want.logit_size[i / width]);
    const double permitted = eps32 * std::abs(want.o[i]) + relative * want.abs_values[i];
    worst = std::max(worst, oracle::ratio(got[i], want.o[i], permitted));
  }
  return worst;
}

double Expected::worst(std::span<const float> out, const ErrorBound& bound) const {
  double worst = rows_.empty() ? oracle::infinity : 0;
  for (const Row& row : rows_) {
    const std::size_t width = row.answer.o.size();
    const auto got = out.subspan(std::size_t(row.at) * width, width);
    std::vector<float> seen(got.begin(), got.end());
    if (corrupt) seen.back() += 1;
    worst = std::max(worst, worst_error(seen, row.answer, bound));
  }
  return worst;
}

bool check_answer(benchmark::State& state, double error, double& worst) {
  worst = error <= worst ? worst : error;
  if (worst <= 1) return true;
  count_failure();
  state.SkipWithError(("wrong answer: err_bound is " + std::to_string(worst) + ", must be at most 1").c_str());
  return false;
}

void corrupt_checks() { corrupt = true; }
bool corrupting() { return corrupt; }
void count_failure() { ++failure_count; }
int failures() { return failure_count; }

}  // namespace bench
