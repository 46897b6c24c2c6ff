#include "gaussian.hpp"

#include <vector>

#include "oracle/random.hpp"

namespace bench {
namespace {

constexpr Index table_size = 4 * Gaussians::longest;

const std::vector<float>& table() {
  static const std::vector<float> numbers = oracle::Random(1).gaussians(table_size);
  return numbers;
}

}  // namespace

std::span<const float> Gaussians::next(Index count) {
  state_ = state_ * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX generator; the high bits are good
  const Index first = Index((state_ >> 33) % std::uint64_t(table_size - count));
  return std::span(table()).subspan(std::size_t(first), std::size_t(count));
}

}  // namespace bench
