/// \file
/// What the handlers of ternary mechanisms share: results of every backend and layout, and comparisons of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <heed/exec/serial.hpp>
#include <heed/ternary/bit_linear.hpp>

#include "golden/handlers/cached_run.hpp"
#include "golden/kernels.hpp"

namespace heed_golden {

using Floats = std::vector<float>;
using Numbers = std::vector<double>;
using Trits = std::vector<std::int8_t>;
using Results = std::map<std::string, Floats>;

/// Results of `compute<Backend, Layout>()` for the chosen backend, and that everything else gives the same bits. How
/// keys and values are stored has no meaning here.
template <class Compute>
Results computed(const Setup& setup, const Compute& compute, Report& report) {
  std::vector<std::pair<std::string, Results>> all;
  heed::Backends::for_each([&]<class Backend>() {
    heed::TernaryLayouts::for_each([&]<class Layout>() {
      const bool first = std::is_same_v<Layout, heed::TernaryLayouts::First>;
      all.emplace_back(Backend::name + (first ? "" : std::string(", ") + Layout::name),
                       compute.template operator()<Backend, Layout>());
    });
  });
  const auto chosen =
      std::find_if(all.begin(), all.end(), [&](const auto& form) { return form.first == setup.backend; });
  if (chosen == all.end()) throw Unusable("backend '" + setup.backend + "' is not in this program");
  for (const auto& [form, results] : all) {
    for (const auto& [name, numbers] : chosen->second) {
      report.require(name + " has the same bits with " + form,
                     results.contains(name) && same_bits(results.at(name), numbers));
    }
  }
  return chosen->second;
}

/// Within 2e-5 of the largest number of its row; a row of zeros exactly.
inline void check_rows_near(const std::string& what, const Floats& got, const Numbers& want, Int width,
                            Report& report) {
  if (got.size() != want.size()) return report.fail(what + " has another size");
  Numbers a, b;
  for (std::size_t i = 0; i < want.size(); i += std::size_t(width)) {
    const std::span row = std::span(want).subspan(i, std::size_t(width));
    const double size = std::max(largest(row), 1e-300);
    for (std::size_t j = i; j < i + row.size(); ++j) {
      a.push_back(double(got[j]) / size);
      b.push_back(want[j] / size);
    }
  }
  report.near<double>(what + " by the largest of its row", a, b, 2e-5);
}

inline void check_exact(const std::string& what, const std::vector<Int>& want, const auto& got, Report& report) {
  std::size_t wrong = got.size() == want.size() ? 0 : 1;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) wrong += Int(got[i]) == want[i] ? 0 : 1;
  report.require(what + " exactly", wrong == 0);
}

template <class L>
Trits values(const heed::TernaryMatrix<L>& matrix) {
  Trits all(std::size_t(matrix.rows() * matrix.cols()));
  for (Int r = 0; r < matrix.rows(); ++r) {
    matrix.read_row(r, std::span(all).subspan(std::size_t(r * matrix.cols()), std::size_t(matrix.cols())));
  }
  return all;
}

inline void append(Floats& to, std::span<const float> from) { to.insert(to.end(), from.begin(), from.end()); }

/// y of rows x in calls of these sizes.
template <class Backend, class L>
Floats linear_in_calls(const heed::BitLinear<L>& linear, const Floats& x, const std::vector<Int>& calls) {
  heed::Workspace workspace;
  heed::SerialExecutor executor;
  Floats y(x.size() / std::size_t(linear.in()) * std::size_t(linear.out()));
  std::size_t at = 0;
  for (const Int count : calls) {
    const auto n = std::size_t(count);
    heed::check(heed::bit_linear<Backend>(
        linear, std::span(x).subspan(at * std::size_t(linear.in()), n * std::size_t(linear.in())),
        std::span(y).subspan(at * std::size_t(linear.out()), n * std::size_t(linear.out())), workspace, executor));
    at += n;
  }
  return y;
}

/// Which tokens are padding: attention_mask [tokens] is 0 there. Empty if the case has no such tensor.
struct Padding {
  std::vector<std::uint8_t> masked = {};
  Int left = 0;  ///< tokens of padding before the first other one

  /// Whether that is all of it: then the rest is a text of its own.
  [[nodiscard]] bool only_left() const {
    return left > 0 && std::count(masked.begin() + left, masked.end(), std::uint8_t{1}) == 0;
  }
  [[nodiscard]] std::vector<std::uint8_t> part(Int first, Int count) const {
    if (masked.empty()) return {};
    return {masked.begin() + first, masked.begin() + first + count};
  }
};
inline Padding read_padding(Case& one, Int tokens) {
  Padding padding;
  if (!one.has("attention_mask")) return padding;
  for (const Int seen : one.get<Int>("attention_mask", {tokens})) {
    if (seen != 0 && seen != 1) throw Unusable("attention_mask has " + std::to_string(seen) + ", must be 0 or 1");
    padding.masked.push_back(seen == 0 ? 1 : 0);
  }
  padding.left = std::find(padding.masked.begin(), padding.masked.end(), std::uint8_t{0}) - padding.masked.begin();
  return padding;
}

/// Calls as the case makes them, and others that must give the same bits.
using Calls = std::vector<std::pair<std::string, std::vector<Int>>>;
inline Calls all_calls(Case& one, Int tokens) {
  Calls all = other_call_sizes(tokens);
  all.emplace(all.begin(), "calls of the case", call_sizes(one, tokens));
  std::vector<Int> odd;
  for (Int left = tokens; left > 0; left -= odd.back()) odd.push_back(std::min<Int>(left, 1 + Int(odd.size()) % 5));
  all.emplace_back("calls of odd sizes", odd);
  return all;
}

}  // namespace heed_golden
