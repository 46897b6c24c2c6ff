/// \file
/// The backend these tests run on: the fastest there is. That all backends agree is for tests/laws.
#pragma once

#include <heed/simd/scalar.hpp>
#if __has_include(<xsimd/xsimd.hpp>)
#include <heed/simd/xsimd.hpp>
#endif

namespace heed_test {
using heed::Index;
#if __has_include(<xsimd/xsimd.hpp>)
using Backend = heed::Xsimd<>;
#else
using Backend = heed::Scalar;
#endif
}  // namespace heed_test
