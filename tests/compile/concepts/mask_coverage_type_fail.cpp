// expect: AttentionMask.*coverage
#include "compile/concepts/minimal.hpp"

struct CoverageIsBool : minimal::Mask {
  bool coverage(heed::Interval, heed::Interval) const { return true; }
};
const CoverageIsBool mask;
const heed::MaskRef ref(mask);
