/// \file
/// What was compared in one case, and how it came out.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace heed_golden {

/// What a check compares with.
enum class Against {
  reference,  ///< the numbers of the case
  bound,      ///< the oracle; the error is in units of the error bound, and the tolerance 1
  fact,       ///< something that holds or not
};

/// One comparison; it passes if error <= tolerance, which a NaN never is.
struct Check {
  std::string what;
  double error = 0;
  double tolerance = 0;
  Against against = Against::reference;
  std::string where = {};

  [[nodiscard]] bool passed() const { return error <= tolerance; }
  /// Error over tolerance, for finding the worst.
  [[nodiscard]] double severity() const {
    if (error == 0) return 0;
    return passed() ? error / tolerance : std::numeric_limits<double>::infinity();
  }
};

class Report {
 public:
  /// Compares number by number; equal infinities agree, a NaN never does.
  template <class T>
  void near(const std::string& what, std::span<const T> got, std::span<const double> want, double tolerance) {
    Check check{what, 0, tolerance};
    if (got.size() != want.size()) {
      fail(what + ": " + std::to_string(got.size()) + " numbers against " + std::to_string(want.size()));
      return;
    }
    for (std::size_t i = 0; i < got.size(); ++i) {
      double error = double(got[i]) == want[i] ? 0 : std::abs(double(got[i]) - want[i]);
      if (!std::isfinite(error)) error = std::numeric_limits<double>::infinity();
      if (error > check.error) {
        check.error = error;
        check.where =
            "number " + std::to_string(i) + ": " + std::to_string(got[i]) + ", reference " + std::to_string(want[i]);
      }
    }
    checks_.push_back(std::move(check));
  }

  /// A ratio of error to bound, at most 1.
  void bound(const std::string& what, double ratio) { checks_.push_back({what, ratio, 1, Against::bound}); }
  void require(const std::string& what, bool holds) { checks_.push_back({what, holds ? 0.0 : 1.0, 0, Against::fact}); }
  void fail(const std::string& why) { require(why, false); }
  void note(const std::string& text) { notes_.push_back(text); }

  [[nodiscard]] bool passed() const {
    return !checks_.empty() && std::all_of(checks_.begin(), checks_.end(), [](const Check& c) { return c.passed(); });
  }
  [[nodiscard]] const std::vector<Check>& checks() const { return checks_; }
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }
  /// The check of this kind nearest to failing, or a failed one; nullptr if there is none.
  [[nodiscard]] const Check* worst(Against against) const {
    const Check* found = nullptr;
    for (const Check& check : checks_) {
      if (check.against != against) continue;
      if (found == nullptr || found->severity() < check.severity()) found = &check;
    }
    return found;
  }

 private:
  std::vector<Check> checks_;
  std::vector<std::string> notes_;
};

inline double largest(std::span<const double> numbers) {
  double most = 0;
  for (const double x : numbers) {
    if (std::isfinite(x)) most = std::max(most, std::abs(x));
  }
  return most;
}

}  // namespace heed_golden
