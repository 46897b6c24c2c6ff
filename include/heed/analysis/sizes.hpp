/// \file
/// Checks of a shape's sizes.
#pragma once

#include <initializer_list>

#include <heed/status.hpp>
#include <heed/types.hpp>

namespace heed::inline HEED_ABI::analysis {

/// A size and its name for messages.
struct NamedSize {
  const char* name = "";  ///< as the message calls it
  Index value = 0;        ///< to be checked
};

/// invalid_argument naming the first of `sizes` that is below `least`.
[[nodiscard]] inline Status check_sizes(Index least, std::initializer_list<NamedSize> sizes) {
  for (const NamedSize& size : sizes) {
    if (size.value < least) {
      return fail(StatusCode::invalid_argument, size.name, " is ", size.value, ", must be at least ", least);
    }
  }
  return {};
}

}  // namespace heed::inline HEED_ABI::analysis
