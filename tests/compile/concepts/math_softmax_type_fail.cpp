// expect: Math.*softmax
#include "compile/concepts/minimal.hpp"

struct Wrong : minimal::Math {
  template <class B>
  struct On : minimal::Math::On<B> {
    static float softmax(float*, heed::Index, float*) { return 0; }
  };
};
const heed::Kernel& kernel() { return heed::kernel<heed::Scalar, heed::F32, heed::F32, Wrong>(); }
