// xsimd's widest registers of this build.
#if __has_include(<xsimd/xsimd.hpp>)
#include <heed/simd/xsimd.hpp>

#include "simd/function_laws.hpp"

namespace heed_test::xsimd_test {
namespace {

static_assert(heed::SimdBackend<heed::Xsimd<>>);
INSTANTIATE_TYPED_TEST_SUITE_P(Xsimd, TileLaws, heed::Xsimd<>);
INSTANTIATE_TYPED_TEST_SUITE_P(Xsimd, FunctionLaws, heed::Xsimd<>);

}  // namespace
}  // namespace heed_test::xsimd_test
#endif
