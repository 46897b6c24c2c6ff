/// \file
/// Reference data for tests of the oracle: the cases of tests/golden, and comparisons that a NaN fails.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "oracle/attention.hpp"
#include "readers/safetensors.hpp"

namespace oracle::golden {

using heed_examples::Safetensors;

struct Case {
  std::string file;
  nlohmann::json config;

  [[nodiscard]] Safetensors open() const { return Safetensors::open(HEED_SOURCE_DIR "/tests/golden/" + file); }
};

inline std::vector<Case> cases_of(const std::vector<std::string>& mechanisms) {
  std::ifstream file(HEED_SOURCE_DIR "/tests/golden/index.json");
  const auto index = nlohmann::json::parse(file);
  std::vector<Case> found;
  for (const auto& entry : index.at("cases")) {
    const std::string mechanism = entry["mechanism"];
    if (std::find(mechanisms.begin(), mechanisms.end(), mechanism) != mechanisms.end()) {
      found.push_back({entry["file"], entry["config"]});
    }
  }
  return found;
}

/// The largest difference; a NaN is infinitely far from everything, an infinity 0 from itself.
inline double distance(const std::vector<double>& got, const std::vector<double>& want) {
  double worst = got.size() == want.size() ? 0 : infinity;
  for (std::size_t i = 0; i < got.size() && i < want.size(); ++i) {
    if (got[i] == want[i]) continue;
    const double error = std::abs(got[i] - want[i]);
    worst = std::max(worst, std::isnan(error) ? infinity : error);
  }
  return worst;
}

inline void expect_near(const std::vector<double>& got, const std::vector<double>& want, double tolerance,
                        const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  EXPECT_LE(distance(got, want), tolerance) << what;
}

}  // namespace oracle::golden
