/// \file
/// Gaussian numbers by the gigabyte.
#pragma once

#include <cstdint>
#include <span>

#include <heed/types.hpp>

namespace bench {

using heed::Index;

/// Slices of one table of standard Gaussian numbers, each from another pseudo-random place: as fast as a copy, and rows
/// that start at different places of the table are as good as independent.
class Gaussians {
 public:
  static constexpr Index longest = Index{1} << 19;  ///< of a slice

  explicit Gaussians(std::uint64_t seed) : state_(seed) {}
  /// `count` numbers, at most `longest`. Valid for the life of the program.
  [[nodiscard]] std::span<const float> next(Index count);

 private:
  std::uint64_t state_;
};

}  // namespace bench
