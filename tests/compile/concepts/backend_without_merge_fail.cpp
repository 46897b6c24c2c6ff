// expect: SimdBackend.*merge
#include "compile/concepts/minimal.hpp"

struct NoMerge : minimal::Backend {
  static void merge();
};
heed::Status attend() { return minimal::attend<NoMerge>(); }
