// SimdBackend: what ships, and the least a user writes.
#include <heed/heed.hpp>

#include "compile/concepts/minimal.hpp"

static_assert(heed::SimdBackend<heed::Scalar>);
static_assert(heed::SimdBackend<heed::DefaultBackend>);
#if __has_include(<Eigen/Core>)
static_assert(heed::SimdBackend<heed::EigenPackets>);
#endif
#if __has_include(<xsimd/xsimd.hpp>)
static_assert(heed::SimdBackend<heed::Xsimd<>>);
#if defined(__SSE2__)
static_assert(heed::SimdBackend<heed::Xsimd<xsimd::sse2>>);
#endif
#endif

static_assert(heed::SimdBackend<minimal::Backend>);
heed::Status attend() { return minimal::attend<minimal::Backend>(); }
