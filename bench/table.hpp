/// \file
/// One line per benchmark: the median of its repetitions and their spread.
#pragma once

#include <benchmark/benchmark.h>

#include <string>
#include <utility>
#include <vector>

namespace bench {

/// What a reader needs to judge the numbers: (name, text).
using Facts = std::vector<std::pair<std::string, std::string>>;

/// Google Benchmark's own header warns of how the library itself was built, which changes no figure: heed's loops are
/// compiled here. So the table has a header of its own.
class Table : public benchmark::BenchmarkReporter {
 public:
  explicit Table(Facts facts) : facts_(std::move(facts)) {}

  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;

 private:
  Facts facts_;
};

}  // namespace bench
