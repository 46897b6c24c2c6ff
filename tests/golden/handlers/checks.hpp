/// \file
/// Comparisons that every mechanism with a cache makes.
#pragma once

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "golden/case.hpp"
#include "golden/handlers/cached_run.hpp"
#include "golden/report.hpp"
#include "golden/tolerances.hpp"
#include "oracle/bound.hpp"
#include "oracle/random.hpp"

namespace heed_golden {

/// Positions of the tokens: the case's, or those from position_offset on.
inline std::vector<heed::Index> read_positions(Case& one, Int tokens) {
  const Int offset = one.config.get_or<Int>("position_offset", 0);
  if (one.has("positions")) return one.get<Int>("positions", {tokens});
  std::vector<heed::Index> positions(std::size_t(tokens), 0);
  std::iota(positions.begin(), positions.end(), offset);
  return positions;
}

inline Int farthest(const std::vector<heed::Index>& positions) {
  Int most = 0;
  for (const heed::Index p : positions) most = std::max(most, std::abs(p));
  return most;
}

/// The layer found the softmax scale of the case, to a unit in the last place of a float.
inline void check_scale(double got, double want, Report& report) {
  report.require("the softmax scale is " + std::to_string(want), std::abs(got - want) <= 0x1p-23 * want);
}

/// Every row came back as the stored type rounds it.
inline void check_rows(const std::string& what, const std::string& codec, const std::vector<float>& written,
                       const std::vector<float>& stored, Report& report) {
  std::size_t wrong = written.size() == stored.size() ? 0 : 1;
  for (std::size_t i = 0; i < std::min(written.size(), stored.size()); ++i) {
    const double x = written[i];
    const double want = codec == "bf16" ? oracle::round_to_bf16(x) : codec == "f16" ? oracle::round_to_f16(x) : x;
    wrong += double(stored[i]) == want ? 0 : 1;
  }
  report.require(what + " are read back as " + codec + " rounds them", wrong == 0);
}

/// A run against the oracle on the stored rows.
inline void check_against(const oracle::Answer& answer, const Run& run, const std::string& suffix, Report& report) {
  report.bound("o against the oracle on the stored rows" + suffix + ", in units of the bound",
               oracle::worst_output(run.o, answer));
  report.bound("lse against the oracle" + suffix + ", in units of the bound", oracle::worst_lse(run.lse, answer));
  report.require("every row is constant while cached" + suffix, run.rows_constant);
  report.require("every token was cached" + suffix, run.rows_complete);
}

inline void check_same(const std::string& what, const Run& a, const Run& b, Report& report) {
  report.require(what + " gives the same bits", same_bits(a.o, b.o) && same_bits(a.lse, b.lse) &&
                                                    same_bits(a.keys, b.keys) && same_bits(a.values, b.values));
}

/// Compares with results of the case that it may or may not have.
struct References {
  Case& one;
  Tolerances tolerance;
  Report& report;

  void plain(const std::string& name, const TensorShape& shape, const std::vector<double>& got) const {
    near(name, "", shape, got, [](const auto& want) { return Tolerances::plain(want); });
  }
  void rotated(const std::string& name, const TensorShape& shape, const std::vector<double>& got) const {
    near(name, "", shape, got, [this](const auto& want) { return tolerance.rotated(want); });
  }
  void rotated_by_float_angles(const std::string& name, const TensorShape& shape,
                               const std::vector<double>& got) const {
    near(name, "", shape, got, [this](const auto& want) { return tolerance.rotated_by_float_angles(want); });
  }
  void output(const std::string& name, const TensorShape& shape, const std::vector<float>& got,
              const std::string& how = "") const {
    near(name, how, shape, oracle::doubles(got), [this](const auto& want) { return tolerance.output(want); });
  }
  /// The same for a result that is computed here, in float64.
  void computed(const std::string& what, const std::vector<double>& want, const std::vector<float>& got) const {
    report.near<float>(what, got, want, Tolerances::plain(want));
  }

 private:
  void near(const std::string& name, const std::string& how, const TensorShape& shape, const std::vector<double>& got,
            const auto& permitted) const {
    const auto r = one.reference(name, shape);
    if (r) report.near<double>(r->name + how, got, r->numbers, permitted(r->numbers));
  }
};

/// Marks results that this run does not compare as looked at.
inline void skip_references(Case& one, std::initializer_list<const char*> names) {
  for (const std::string name : names) {
    for (const std::string& tensor : {name, name + "_f64"}) {
      if (one.has(tensor)) std::ignore = one.reference(name, one.shape(tensor));
    }
  }
}

}  // namespace heed_golden
