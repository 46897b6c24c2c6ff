/// \file
/// Drafter: what guesses ahead in a text.
#pragma once

#include <span>

#include <heed/speculative/accept.hpp>

namespace heed_examples {

/// Guesses what comes next in a text that it is told of.
class Drafter {
 public:
  virtual ~Drafter() = default;
  virtual void clear() = 0;
  /// These tokens are now part of the text.
  virtual void extend(std::span<const heed::Token> tokens) = 0;
  /// At most `count` tokens that may follow `token`, which follows the text.
  [[nodiscard]] virtual std::span<const heed::Token> draft(heed::Token token, heed::Index count) = 0;
};

}  // namespace heed_examples
