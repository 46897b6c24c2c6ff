/// \file
/// The errors of one codec and math.
#pragma once

#include <cmath>
#include <span>
#include <type_traits>
#include <vector>

#include <heed/attend.hpp>
#include <heed/cache/kv_cache.hpp>
#include <heed/exec/serial.hpp>
#include <heed/policy/grouped.hpp>

#include "attention_work.hpp"
#include "check.hpp"
#include "errors/data.hpp"
#include "oracle/attention.hpp"
#include "oracle/random.hpp"

namespace bench {

/// Errors are relative: root of the mean square, over that of the right outputs.
struct Errors {
  double whole = 0;       ///< against attention over the numbers that were given
  double arithmetic = 0;  ///< against attention over the numbers that are stored
  double bound = 0;       ///< the worst of `arithmetic`, over what the math permits
};

[[nodiscard]] inline double relative_error(std::span<const float> got, const std::vector<double>& want) {
  double errors = 0, squares = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    errors += (double(got[i]) - want[i]) * (double(got[i]) - want[i]);
    squares += want[i] * want[i];
  }
  return std::sqrt(errors / squares);
}

/// A kind of data and the right answer for it: the same for every codec and math.
struct Case {
  Data data;
  Index dim = 0;
  oracle::Problem problem;
  oracle::Answer right;

  Case(const DataKind& kind, Index queries, Index keys, Index width)
      : data(make_data(kind, queries, keys, width, 1)), dim(width) {
    problem = {.key_dim = dim, .value_dim = dim, .scale = double(data.scale)};
    problem.q = oracle::doubles(data.q);
    problem.k = oracle::doubles(data.k);
    problem.v = oracle::doubles(data.v);
    problem.visible = [](oracle::Int, oracle::Int) { return true; };
    right = oracle::attention(problem);
  }
};

/// A case whose rows are stored in codec `C`, for every math.
template <class C>
class StoredCase {
 public:
  /// `of` must outlive this.
  explicit StoredCase(const Case& of)
      : case_(of),
        policy_{.num_heads = 1, .num_kv_heads = 1, .head_dim = of.dim, .scale = of.data.scale},
        cache_(heed::value_or_throw(heed::KvCache<heed::Gqa, C>::create(policy_, {.layers = 1, .capacity = keys()}))) {
    auto step = heed::value_or_throw(cache_.begin(heed::NumTokens(keys())));
    heed::check(step.write(0, 0, of.data.k));
    heed::check(step.write(0, 1, of.data.v));
    heed::check(step.commit());
    oracle::Problem stored = of.problem;
    stored.k = decoded(0);
    stored.v = decoded(1);
    right_of_stored_ = oracle::attention(stored);
  }

  /// The errors of a kernel. `corrupt` spoils an output.
  [[nodiscard]] Errors errors(const heed::Kernel& kernel, bool corrupt) const {
    const Data& data = case_.data;
    std::vector<float> out(data.q.size());
    heed::Workspace workspace;
    heed::SerialExecutor executor;
    // Queries of the last position see every key.
    const std::vector<Index> positions(data.q.size() / std::size_t(case_.dim), keys() - 1);
    const auto view = cache_.keys(0);
    const heed::Sequence<std::remove_const_t<decltype(view)>> sequence{
        .keys = &view, .q = data.q, .out = out, .query_positions = positions};
    heed::check(heed::attend_batch(kernel, policy_, std::span(&sequence, 1), workspace, executor));
    if (corrupt) out.back() += 1;
    return {relative_error(out, case_.right.o), relative_error(out, right_of_stored_.o),
            worst_error(out, right_of_stored_, error_bound(kernel, policy_))};
  }

 private:
  [[nodiscard]] Index keys() const { return Index(case_.data.k.size()) / case_.dim; }
  [[nodiscard]] std::vector<double> decoded(int stream) const {
    std::vector<float> numbers(case_.data.k.size());
    for (Index key = 0; key < keys(); ++key) {
      C::decode(cache_.keys(0).row_run(stream, 0, key, 1).data, case_.dim, numbers.data() + key * case_.dim);
    }
    return oracle::doubles(numbers);
  }

  const Case& case_;
  heed::Gqa policy_;
  heed::KvCache<heed::Gqa, C> cache_;
  oracle::Answer right_of_stored_;
};

}  // namespace bench
