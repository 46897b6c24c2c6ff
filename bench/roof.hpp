/// \file
/// The roofline: how long a call takes if only the limits of the machine hold it up.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "limit.hpp"

namespace bench {

/// Operations of one kind of instruction. A multiply-add is two.
struct Operations {
  Limit limit = Limit::fma_f32;  ///< the peak of the instruction
  double count = 0;
};

/// What a call cannot avoid, whatever its loops. Exponentials, conversions and stores are not counted: no call reaches
/// its roof.
struct Work {
  Limit source = Limit::read_dram;     ///< the memory that its bytes come from
  double bytes = 0;                    ///< each is read once
  std::vector<Operations> operations;  ///< a part for each kind of instruction

  [[nodiscard]] double total_operations() const {
    double total = 0;
    for (const Operations& part : operations) total += part.count;
    return total;
  }
  /// The limits to measure.
  [[nodiscard]] std::vector<Limit> limits() const {
    std::vector<Limit> all = {source};
    for (const Operations& part : operations) all.push_back(part.limit);
    return all;
  }
  /// The source, a blank, and the instructions with + between: "read_dram dot_bf16+fma_f32". Without instructions: the
  /// source.
  [[nodiscard]] std::string limit_names() const {
    std::vector<Limit> named;
    std::string names = name(source);
    for (const Operations& part : operations) {
      if (part.count == 0 || std::ranges::count(named, part.limit) != 0) continue;
      names += (named.empty() ? " " : "+") + std::string(name(part.limit));
      named.push_back(part.limit);
    }
    return names;
  }
};

/// Seconds at the limits. Reading and arithmetic overlap, so the longer one counts.
struct Roof {
  double read = 0;  ///< bytes over bandwidth
  double math = 0;  ///< the sum, over the kinds of instructions, of operations over peak

  [[nodiscard]] double seconds() const { return std::max(read, math); }
};

/// `rate(limit)` is 1e9 bytes or operations a second; 0 if this build lacks the instruction, which then takes no time.
template <class Rate>
[[nodiscard]] Roof roof(const Work& work, const Rate& rate) {
  const auto seconds = [&](double amount, Limit limit) {
    const double each = rate(limit) * 1e9;
    return each > 0 ? amount / each : 0;
  };
  Roof roof{.read = seconds(work.bytes, work.source)};
  for (const Operations& part : work.operations) roof.math += seconds(part.count, part.limit);
  return roof;
}

}  // namespace bench
