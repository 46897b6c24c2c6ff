// expect: only codecs without factors can be read
#include <heed/heed.hpp>

#include "compile/concepts/minimal.hpp"

// The kernel would leave these factors out.
struct WithFactors : minimal::Codec {
  static constexpr heed::Factors factors = heed::Factors::per_row;
  static float factor(const std::byte*, const std::byte*, heed::Index) { return 2; }
};
template class heed::detail::RowBlock<heed::Scalar, WithFactors, WithFactors>;
