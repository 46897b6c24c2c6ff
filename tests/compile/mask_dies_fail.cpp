// expect: this mask dies before it is asked
#include <heed/attend.hpp>

struct Windows {
  heed::Index of[64] = {};  // a window per query: too large to be copied
  bool visible(heed::Index query, heed::Index key) const { return key <= query && query - key < of[query % 64]; }
  heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
};
template <class Source>
heed::Sequence<Source> sequence(const Source& keys) {
  return {.keys = &keys, .mask = Windows{}};
}
heed::MaskRef mask() { return Windows{}; }
