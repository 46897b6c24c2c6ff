/// \file
/// Which optional libraries heed.hpp includes: those that are found, support the architecture, and are not switched
/// off.
///
/// HEED_NO_XSIMD and HEED_NO_EIGEN switch one off. Define them for the whole translation unit, before heed is included.
/// A header that has the library in its name includes it in any case.
#pragma once

/// 1 if heed.hpp includes the backend on xsimd, else 0.
///
/// The loops cast registers to GNU vectors of 4, 8 or 16 floats. Of xsimd's architectures only x86 and NEON allow that.
/// SVE and RVV registers are of another kind, and on other architectures xsimd has no batch of floats.
#if !defined(HEED_NO_XSIMD) && __has_include(<xsimd/xsimd.hpp>) && (defined(__SSE2__) || defined(__ARM_NEON))
#define HEED_HAS_XSIMD 1
#else
#define HEED_HAS_XSIMD 0
#endif

/// 1 if heed.hpp includes the backend on Eigen, else 0.
///
/// Eigen has packets for more architectures, but its order of elements on big-endian machines was never tried.
#if !defined(HEED_NO_EIGEN) && __has_include(<Eigen/Core>) && !defined(EIGEN_DONT_VECTORIZE) && \
    (defined(__SSE2__) || defined(__ARM_NEON))
#define HEED_HAS_EIGEN 1
#else
#define HEED_HAS_EIGEN 0
#endif
