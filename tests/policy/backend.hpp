/// \file
/// The backend these tests run on: the fastest there is, with kernels from heed::kernels. That all backends agree is for
/// tests/laws. It is not heed::DefaultBackend, whose header reads Eigen's in every unit.
#pragma once

#include <heed/config.hpp>
#if HEED_HAS_XSIMD
#include <heed/compiled/xsimd.hpp>
#else
#include <heed/compiled/scalar.hpp>
#endif

namespace heed_test {
using heed::Index;
#if HEED_HAS_XSIMD
using Backend = heed::Xsimd<>;
#else
using Backend = heed::Scalar;
#endif
}  // namespace heed_test
