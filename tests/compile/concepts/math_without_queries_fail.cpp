// expect: Math.*queries
#include "compile/concepts/minimal.hpp"

struct Wrong : minimal::Math {
  template <class B>
  struct On : B {
    static heed::ChunkSum softmax(float* s, heed::Index count, float*) { return B::softmax(s, count); }
  };
};
const heed::Kernel& kernel() { return heed::kernel<heed::Scalar, heed::F32, heed::F32, Wrong>(); }
