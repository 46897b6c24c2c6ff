/// \file
/// All the test framework a killer needs: it must compile fast, once per mutant.
#pragma once

#include <cstdio>

namespace killer {

inline int failures = 0;

/// Prints the check's name if it fails; the table of mutants refers to these names.
inline void expect(bool ok, const char* check, const char* what) {
  if (ok) return;
  ++failures;
  std::printf("FAILED %s: %s\n", check, what);
}

}  // namespace killer
