/// \file
/// One line per benchmark: the median of its repetitions and their spread.
#pragma once

#include <benchmark/benchmark.h>

namespace bench {

class Table : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;
};

}  // namespace bench
