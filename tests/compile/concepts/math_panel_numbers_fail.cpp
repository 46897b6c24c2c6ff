// expect: Math.*panel_numbers
#include "compile/concepts/minimal.hpp"

struct Wrong : minimal::Math {
  static constexpr heed::Index panel_numbers = 3;
};
const heed::Kernel& kernel() { return heed::kernel<heed::Scalar, heed::F32, heed::F32, Wrong>(); }
