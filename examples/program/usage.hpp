/// \file
/// What a program throws when its command line is wrong.
#pragma once

#include <stdexcept>

namespace heed_examples {

/// The command line asks for what cannot be, whatever the files hold.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace heed_examples
