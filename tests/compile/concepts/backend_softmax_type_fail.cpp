// expect: SimdBackend.*softmax
#include "compile/concepts/minimal.hpp"

struct SumOnly : minimal::Backend {
  static float softmax(float*, heed::Index) { return 0; }
};
heed::Status attend() { return minimal::attend<SumOnly>(); }
