// expect: this mask dies before it is asked
#include <heed/attend.hpp>

struct Unique {
  explicit Unique(heed::Index) {}
  Unique(Unique&&) = default;  // trivial, and there is no copy constructor
  bool visible(heed::Index query, heed::Index key) const { return key <= query; }
  heed::Coverage coverage(heed::Interval, heed::Interval) const { return heed::Coverage::partial; }
};
heed::MaskRef mask() { return Unique{3}; }
