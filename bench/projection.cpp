#include "projection.hpp"

#include <heed/simd/backends.hpp>

// The fastest backend: the loops of the others are the same.
[[maybe_unused]] static const bool added = bench::add_projections<heed::Backends::First>();
