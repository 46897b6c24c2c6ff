/// \file
/// The vector types by which rows are encoded in this build: registers of every width, and those of xsimd and Eigen. A type
/// of vectors that a new backend brings is added here.
#pragma once

#include <algorithm>

#include <gtest/gtest.h>

#include <heed/heed.hpp>

namespace heed_test {

/// W floats, or as many as the instruction set has.
template <int W>
using Lanes = heed::detail::AnyLanes<std::min(W, heed::detail::native_lanes)>;

#if HEED_HAS_XSIMD
using XsimdLanes = heed::XsimdVector<>;
#else
using XsimdLanes = Lanes<16>;
#endif
#if HEED_HAS_EIGEN
using EigenLanes = heed::EigenVector;
#else
using EigenLanes = Lanes<16>;
#endif

using Vectors = testing::Types<Lanes<4>, Lanes<8>, Lanes<16>, XsimdLanes, EigenLanes>;

}  // namespace heed_test
