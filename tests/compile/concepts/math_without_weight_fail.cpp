// expect: Math.*Weight
#include "compile/concepts/minimal.hpp"

struct Wrong {
  static constexpr const char* name = "without Weight";
  using Query = float;
  using Panel = float;
  static constexpr heed::Index query_numbers = 1;
  static constexpr heed::Index panel_numbers = 1;
  template <class B>
  using On = minimal::Math::On<B>;
};
const heed::Kernel& kernel() { return heed::kernel<heed::Scalar, heed::F32, heed::F32, Wrong>(); }
