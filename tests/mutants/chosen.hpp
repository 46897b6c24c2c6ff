/// \file
/// The mutant that a killer with switches runs with: the number in the environment variable HEED_MUTANT, or none.
#pragma once

#include <cstdlib>

namespace killer {

inline const int chosen = [] {
  const char* const number = std::getenv("HEED_MUTANT");
  return number == nullptr ? 0 : std::atoi(number);
}();

}  // namespace killer

/// What the compiler computes, it computes without a mutant.
#define HEED_MUTANT(number) (!__builtin_is_constant_evaluated() && ::killer::chosen == (number))
