// expect: HasFactors
#include <heed/cache/strided.hpp>

#include "compile/concepts/minimal.hpp"

struct NoFactor : minimal::Codec {
  static constexpr heed::Factors factors = heed::Factors::per_row;
};
heed::StridedSource<NoFactor>* source = nullptr;
