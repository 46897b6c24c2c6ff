// expect: deleted
#include <heed/heed.hpp>

heed::LandmarkMask mask() { return heed::value_or_throw(heed::RuleMask::create(heed::SlidingWindow{4}, {})).mask(); }
