// expect: AttentionMask.*visible
#include "compile/concepts/minimal.hpp"

struct NoVisible : minimal::Mask {
  void visible() const;
};
const NoVisible mask;
const heed::MaskRef ref(mask);
