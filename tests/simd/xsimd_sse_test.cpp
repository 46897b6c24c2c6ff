// xsimd's registers of 4 floats, where they are not the widest.
#if __has_include(<xsimd/xsimd.hpp>) && defined(__AVX__)
#include <heed/simd/xsimd.hpp>

#include "simd/function_laws.hpp"

namespace heed_test::xsimd_sse_test {
namespace {

static_assert(heed::Xsimd<xsimd::sse2>::W == 4);
INSTANTIATE_TYPED_TEST_SUITE_P(Sse2, TileLaws, heed::Xsimd<xsimd::sse2>);
INSTANTIATE_TYPED_TEST_SUITE_P(Sse2, FunctionLaws, heed::Xsimd<xsimd::sse2>);

}  // namespace
}  // namespace heed_test::xsimd_sse_test
#endif
