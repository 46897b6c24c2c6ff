// xsimd's registers of 8 floats, where they are not the widest: the loops of AVX2 machines.
#if __has_include(<xsimd/xsimd.hpp>) && defined(__AVX512F__)
#include <heed/simd/xsimd.hpp>

#include "simd/function_laws.hpp"

namespace heed_test::xsimd_avx2_test {
namespace {

static_assert(heed::Xsimd<xsimd::avx2>::W == 8);
INSTANTIATE_TYPED_TEST_SUITE_P(Avx2, TileLaws, heed::Xsimd<xsimd::avx2>);
INSTANTIATE_TYPED_TEST_SUITE_P(Avx2, FunctionLaws, heed::Xsimd<xsimd::avx2>);

}  // namespace
}  // namespace heed_test::xsimd_avx2_test
#endif
