/// \file
/// The backends of this build.
#pragma once

#include <heed/config.hpp>
#include <heed/list.hpp>
#include <heed/simd/scalar.hpp>
#if HEED_HAS_EIGEN
#include <heed/simd/eigen.hpp>
#endif
#if HEED_HAS_XSIMD
#include <heed/simd/xsimd.hpp>
#endif

namespace heed::inline HEED_ABI {

/// Every backend that this translation unit can have: the fastest first, the definition last. A new backend is a line
/// here. The build reads the list: HEED_HAS_XSIMD goes with its component xsimd, and so on (cmake/HeedLists.cmake).
using Backends = List<
#if HEED_HAS_XSIMD
    Xsimd<>,
#endif
#if HEED_HAS_EIGEN
    EigenPackets,
#endif
    Scalar>;

/// The fastest backend this translation unit can have.
using DefaultBackend = Backends::First;

}  // namespace heed::inline HEED_ABI
