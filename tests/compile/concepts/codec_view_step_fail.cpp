// expect: factor_dims % .*view_step
#include <heed/cache/strided.hpp>

#include "compile/concepts/minimal.hpp"

// Loops step over blocks of 32 numbers.
struct LongSteps : minimal::Codec {
  static constexpr heed::Index view_step = 64;
};
heed::StridedSource<LongSteps>* source = nullptr;
